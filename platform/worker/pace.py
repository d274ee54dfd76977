"""How long jobs take, and what follows from it: how many go to a child at once, how many are claimed ahead. Pure."""

from typing import Final

# A child gets about 10 ms of work at a time and at most 200 jobs: with 50 jobs the drain of no-op jobs was halved, and
# 400 did not help. With 50 ms of work, what was claimed ahead made a quiet workspace's job wait 13 to 53 job lengths
# behind noisy neighbours instead of 3 to 7.
RUN_SECONDS: Final = 0.01
RUN_JOBS: Final = 200
#: A job that runs longer than this loses those that wait behind it to other children.
SLOW_SECONDS: Final = 0.05
# A workspace has its turn for a millisecond of work, or for eight jobs: with four instead of one a claim from 200
# workspaces is a fifth cheaper, and with eight a drain of theirs another twelfth faster; sixteen add nothing.
TURN_SECONDS: Final = 0.001
LONGEST_TURN: Final = 8
#: Behind jobs that run longer than this nothing waits that could run elsewhere.
LONG_SECONDS: Final = 0.25
# What a claim takes beside its jobs (a turn of the hub, the statement's own part) is spread over so many of them. Jobs
# that do nothing are drained a sixth faster than with 200 and 400; 600 and 1,200 add nothing.
CLAIM_JOBS: Final = 400
AHEAD_JOBS: Final = 800
WEIGHT: Final = 0.05
#: The weight of a job that took longer than expected.
ALARM: Final = 0.3


class Pace:
    """Moving means of the seconds a job takes, by task and over all jobs."""

    def __init__(self) -> None:
        self._by_task: dict[str, float] = {}
        self._overall: float | None = None
        self._cautious = 0.0

    def took(self, task: str, seconds: float) -> None:
        """Take a finished job into account."""
        mean = self._by_task.get(task)
        self._by_task[task] = seconds if mean is None else mean + WEIGHT * (seconds - mean)
        overall = self._overall
        self._overall = seconds if overall is None else overall + WEIGHT * (seconds - overall)
        self._cautious += (ALARM if seconds > self._cautious else WEIGHT) * (seconds - self._cautious)

    def run_length(self, task: str) -> int:
        """How many jobs of this task a child may be given; one while nothing is known about it."""
        mean = self._by_task.get(task)
        if mean is None:
            return 1
        return max(1, min(RUN_JOBS, int(RUN_SECONDS / max(mean, 1e-6))))

    @property
    def turn(self) -> int:
        """How many jobs a workspace should have its turn for."""
        if self._overall is None:
            return 1
        return max(1, min(LONGEST_TURN, int(TURN_SECONDS / max(self._overall, 1e-6))))

    def room(self, capacity: int, running: float = 0.0) -> int:
        """How many jobs to hold when `capacity` can run at a time: two runs for each, but no stock of long jobs.

        `running` is for how long most of them have been running. Jobs that turn out longer than the last ones make it
        small at once; it becomes large again only little by little.
        """
        if self._overall is None:
            return capacity
        return max(capacity, min(AHEAD_JOBS, _two_runs(capacity, max(self._cautious, running))))

    def keep(self, capacity: int, running: float = 0.0) -> int:
        """How many that were claimed already may wait: more than that was a mistake about how long they take.

        One for each that can run at a time is none, unless those run for long: handing back costs a write and a claim,
        and what a job paid of a rate is not paid back.
        """
        kept = 2 * _two_runs(capacity, max(self._overall or 0.0, running))
        return kept if running >= LONG_SECONDS else max(capacity, kept)


def _two_runs(capacity: int, seconds: float) -> int:
    return int(capacity * 2 * RUN_SECONDS / max(seconds, 1e-6))


def claim_size(room: int, held: int, working: int, capacity: int) -> int:
    """How many jobs to claim now, 0 for none yet.

    `held` counts everything between the claim and the saved result, `working` what is ready or given. A claim is worth
    its round trip when a third of the room is free, or when a slot would stand idle.
    """
    free = room - held
    if free >= max(1, min(room // 3, 100)) or (free > 0 and working < capacity):
        return min(free, CLAIM_JOBS)
    return 0
