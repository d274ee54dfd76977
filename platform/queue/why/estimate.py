"""Estimate: when a job that waits will start, from what is before it and how long jobs took lately. Pure.

    1. Of its own workspace, so many jobs come first.
    2. Meanwhile the others get their fair shares of slot time: by weight, and no more than they have or may run.
    3. All those are put on the slots, one after the other, each where one gets free first; then it is ours.
    4. The same is done for each limit of its own, as if that were the number of slots, and for each rate.
    5. The latest of these moments counts.

It knows nothing of jobs that will be enqueued later, and takes each job for as long as its task's average.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jobplatform.queue.why.crowd_facts import (
    MOST_WORKSPACES,
    Ended,
    Lane,
    Other,
    Running,
)
from jobplatform.queue.why.hold_facts import Holds, WorkerFacts
from jobplatform.queue.why.job_facts import JobFacts

#: Jobs that are put on slots one by one; the rest of a longer line is divided.
MOST_PLACED = 2_000
#: What a job that runs longer than usual is expected to go on for, in parts of the usual.
OVERDUE = 0.1
#: Usual times after which a job is not a late one of its kind but one of another kind. Of such a one nothing is known
#: but that it goes on; what has lasted for so long is expected to last as long again.
UNLIKE = 2
#: On average a workspace's next turn on the ring is half a turn away.
HALF_A_TURN = 0.5
#: A workspace that just rang is looked at out of turn, one claim in so many: see the worker's newcomers.
NEWCOMER_WAITS = 4
#: For how many seconds it counts as one.
NEW_SECONDS = 1.0
#: Seconds that the shortest job takes.
SHORTEST = 1e-4
#: How often the others' shares are computed anew when limits bound some of them.
ROUNDS = 6


class Contender(NamedTuple):
    """Another workspace in the line: jobs that are ready, how long they take, its weight and its limit.

    Or so many ``workspaces`` of which all this is the same: of a long ring most are alike, and each is asked several
    times for what it starts meanwhile.
    """

    ready: float
    seconds: float
    weight: int = 1
    max_running: int | None = None
    workspaces: int = 1


@dataclass(frozen=True, slots=True)
class Slots:
    """When each slot gets free, in seconds from now. ``share``: the part of them that works for this line."""

    free_in: Sequence[float]
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class InTurn:
    """A job starts when the others had their turns: ``others`` jobs of theirs, on average of ``seconds``."""

    wait: float
    others: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """``wait`` in seconds from now, None when nothing is known; ``others``: jobs of others that start before."""

    wait: float | None
    others: int


class RunTimes:
    """Means of what was measured: of a task in a workspace, else of the task anywhere, else of the workspace, else of
    everything there is. ``slots`` are those of one worker."""

    def __init__(self, ended: Sequence[Ended], slots: int) -> None:
        self._sums: dict[object, tuple[float, int]] = {}
        for claim in _by_claim(ended):
            for one, seconds in _measured(claim, slots):
                self._add(one, seconds)

    def of(self, workspace_id: str, task: str) -> float | None:
        return self._first((workspace_id, task), ("task", task), workspace_id, None)

    def of_workspace(self, workspace_id: str) -> float | None:
        return self._first(workspace_id, None)

    def _add(self, one: Ended, seconds: float) -> None:
        for key in ((one.workspace_id, one.task), ("task", one.task), one.workspace_id, None):
            total, jobs = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + seconds, jobs + 1)

    def _first(self, *keys: object) -> float | None:
        for key in keys:
            if key in self._sums:
                seconds, jobs = self._sums[key]
                # Nothing takes no time at all, and nobody wants to divide by it.
                return max(seconds / jobs, SHORTEST)
        return None


def _by_claim(ended: Iterable[Ended]) -> Iterable[list[Ended]]:
    """What one claim took has one moment; each in the order in which it ended."""
    claims: dict[float, list[Ended]] = defaultdict(list)
    for one in sorted(ended, key=lambda one: one.ended_at):
        claims[one.claimed_at].append(one)
    return claims.values()


def _measured(claim: Sequence[Ended], slots: int) -> Iterable[tuple[Ended, float]]:
    """How long the jobs of one claim ran.

    A worker claims short jobs ahead, more at once than it has slots. Those waited in it until others had ended, and the
    first of them until those of the claim before: what counts is the time since a slot got free.
    """
    if not 0 < slots < len(claim):
        return [(one, one.ended_at - one.claimed_at) for one in claim]
    return [(one, one.ended_at - before.ended_at) for one, before in zip(claim[slots:], claim, strict=False)]


def start_in(free_in: Sequence[float], before: float, seconds: float) -> float:
    """When the job after ``before`` others, of ``seconds`` each, starts on slots that get free in these times.

    After so many and a part of one it starts as much later as it would after one more, by that part: how a sum was
    rounded makes no job of difference.
    """
    if not free_in:
        return math.inf
    slots = list(free_in)
    heapq.heapify(slots)
    placed = min(int(before), MOST_PLACED)
    for _ in range(placed):
        heapq.heapreplace(slots, slots[0] + seconds)
    first, rest = slots[0], before - placed
    if placed == MOST_PLACED:
        return first + rest * seconds / len(slots)
    heapq.heapreplace(slots, first + seconds)
    return first + rest * (slots[0] - first)


def in_turn(
    slots: Slots,
    before: float,
    seconds: float,
    *,
    weight: int = 1,
    others: Sequence[Contender] = (),
    most_of_others: float = math.inf,
) -> InTurn:
    """When a job starts whose workspace has ``before`` jobs before it, of ``seconds`` each, and others want slots too.

    A turn is slot time by weight: while our workspace gets what its jobs take, another gets as much for as much weight.
    """
    served = (before + HALF_A_TURN) * seconds / weight
    found = InTurn(math.inf, 0.0, seconds)
    for _ in range(ROUNDS):
        counts = [_started(other, served, found.wait) for other in others]
        count = min(sum(counts), most_of_others)
        taken = sum(jobs * other.seconds for jobs, other in zip(counts, others, strict=True))
        total = before + count
        mean = (before * seconds + (taken * count / sum(counts) if count else 0.0)) / total if total else seconds
        wait = start_in(slots.free_in, total / slots.share, mean)
        if math.isclose(wait, found.wait):
            break
        found = InTurn(wait, count, mean)
    return found


def under_limit(running: Sequence[float], limit: int, before: float, seconds: float) -> float:
    """When a job starts of whose kind no more than ``limit`` run at a time, with ``before`` of them before it.

    ``running`` is in how many seconds each of those ends that run.
    """
    ends = sorted(running)
    # After a limit was lowered the first ones that end make no room.
    counted = ends[len(ends) - limit :] if len(ends) > limit else ends
    return start_in([0.0] * (limit - len(counted)) + counted, before, seconds)


def under_rate(tokens: float, per_second: float, needed: float) -> float:
    """When a bucket that fills at this rate has given ``needed``, of which it has ``tokens`` now."""
    return max(0.0, needed - tokens) / per_second


@dataclass(frozen=True, slots=True)
class Crowd:
    """What is in line, at work and measured, for one job."""

    line: Sequence[Lane]
    others: Sequence[Other]
    running: Sequence[Running]
    ended: Sequence[Ended]


def estimate(workspace_id: str, job: JobFacts, holds: Holds, workers: WorkerFacts, crowd: Crowd) -> Estimate:
    """When the job starts if nothing holds it but those before it, its limits and its rates."""
    times = RunTimes(crowd.ended, workers.most_slots)
    seconds = times.of(workspace_id, job.task)
    moving = _moving(job, crowd.line)
    before = sum(lane.before for lane in moving)
    if seconds is None:
        # Nothing has ever ended here. Free slots and nobody before it need no run times to be understood, nor do rates.
        idle = not crowd.others and before == 0 and len(_here(crowd.running)) < workers.slots
        return Estimate(max([0.0, *_paced(job, holds, moving)]) if idle and not _is_held(holds) else None, 0)
    mean = _mean_of_lanes(workspace_id, moving, times) or seconds
    most_of_others = _before_newcomer(job, crowd) if _is_newcomer(job, holds, before) else math.inf
    turn = in_turn(
        _slots(crowd.running, workers, times),
        before,
        mean,
        weight=holds.weight,
        others=_contenders(crowd.others, times),
        most_of_others=most_of_others,
    )
    waits = [turn.wait, *_limited(workspace_id, job, holds, crowd, times, turn), *_paced(job, holds, moving)]
    # A ring that was not seen to its end may be far longer.
    known = math.isfinite(most_of_others) or len(crowd.others) < MOST_WORKSPACES
    longest = max(waits)
    return Estimate(longest if known and math.isfinite(longest) else None, round(turn.others))


def _limited(
    workspace_id: str, job: JobFacts, holds: Holds, crowd: Crowd, times: RunTimes, turn: InTurn
) -> Iterable[float]:
    moving = _moving(job, crowd.line)
    before, of_task = (sum(lane.before for lane in lanes) for lanes in (moving, _of_task(moving, job.task)))
    mean = _mean_of_lanes(workspace_id, moving, times) or turn.seconds
    seconds = times.of(workspace_id, job.task) or turn.seconds
    running = crowd.running
    if holds.workspace_limit is not None:
        here = [one for one in running if one.workspace_id == workspace_id]
        yield under_limit(_ends(here, times), holds.workspace_limit, before, mean)
    if holds.queue_limit is not None:
        queued = [one for one in running if one.queue == job.queue]
        yield under_limit(_ends(queued, times), holds.queue_limit, before + turn.others, turn.seconds)
    if holds.task_limit is not None:
        # Of what others will start, as much is of this task as of what they run now.
        theirs = [one for one in running if one.workspace_id != workspace_id]
        part = sum(one.task == job.task for one in theirs) / len(theirs) if theirs else 1.0
        tasked = [one for one in running if one.task == job.task]
        yield under_limit(_ends(tasked, times), holds.task_limit, of_task + turn.others * part, seconds)
    if holds.resource_limit is not None:
        # The same of the resource, whatever the tasks that use it.
        theirs = [one for one in running if one.workspace_id != workspace_id]
        part = sum(one.resource == job.resource for one in theirs) / len(theirs) if theirs else 0.0
        using = [one for one in running if one.resource == job.resource]
        on_it = [lane for lane in moving if lane.resource == job.resource]
        first = sum(lane.before for lane in on_it) + turn.others * part
        mean_of_users = _mean_of_lanes(workspace_id, on_it, times) or seconds
        yield under_limit(_ends(using, times), holds.resource_limit, first, mean_of_users)
    if holds.task_limit_here is not None:
        both = [one for one in running if one.task == job.task and one.workspace_id == workspace_id]
        yield under_limit(_ends(both, times), holds.task_limit_here, of_task, seconds)


def _moving(job: JobFacts, line: Sequence[Lane]) -> list[Lane]:
    """Those before it that move when it does: what holds its own task ends for all of that."""
    return [lane for lane in line if not lane.held or lane.task == job.task]


def _paced(job: JobFacts, holds: Holds, moving: Sequence[Lane]) -> Iterable[float]:
    if (rate := holds.workspace_rate) is not None:
        yield under_rate(rate.tokens, rate.per_second, sum(lane.before for lane in moving) + 1)
    if (rate := holds.resource_rate) is not None:
        # Those before it on the same resource are taken to use as many units as it does.
        jobs = sum(lane.before for lane in moving if lane.resource == job.resource) + 1
        yield under_rate(rate.tokens, rate.per_second, jobs * min(job.units, rate.burst))


def _is_held(holds: Holds) -> bool:
    limits = (
        (holds.workspace_limit, holds.running_here),
        (holds.queue_limit, holds.running_in_queue),
        (holds.task_limit, holds.running_of_task),
        (holds.task_limit_here, holds.running_of_task_here),
        (holds.resource_limit, holds.running_of_resource),
    )
    return any(limit is not None and running >= limit for limit, running in limits)


def _is_newcomer(job: JobFacts, holds: Holds, before: float) -> bool:
    if before or holds.running_here or job.run_after is None:
        return False
    return (job.now - job.run_after).total_seconds() < NEW_SECONDS


def _before_newcomer(job: JobFacts, crowd: Crowd) -> float:
    """How many jobs of others are started before a newcomer's at most: those who rang before it are newcomers too."""
    waited = (job.now - job.run_after).total_seconds() if job.run_after else 0.0
    at_work = {one.workspace_id for one in crowd.running}
    earlier = sum(waited <= other.waited < NEW_SECONDS and other.workspace_id not in at_work for other in crowd.others)
    return NEWCOMER_WAITS * (earlier + 1)


def _started(other: Contender, served: float, within: float) -> float:
    """How many jobs another workspace, or those like it, start while ours gets ``served`` seconds for each weight."""
    jobs = min(other.ready, served * other.weight / other.seconds)
    if other.max_running is not None and math.isfinite(within):
        jobs = min(jobs, other.max_running * within / other.seconds)
    return jobs * other.workspaces


def _contenders(others: Sequence[Other], times: RunTimes) -> list[Contender]:
    alike = Counter(
        (
            math.inf if other.endless else other.ready,
            times.of_workspace(other.workspace_id),
            other.weight,
            other.max_running,
        )
        for other in others
    )
    return [
        Contender(ready, seconds or SHORTEST, weight, max_running, workspaces)
        for (ready, seconds, weight, max_running), workspaces in alike.items()
    ]


def _slots(running: Sequence[Running], workers: WorkerFacts, times: RunTimes) -> Slots:
    """More run than there are slots where short jobs were claimed ahead: those wait inside a worker, and come first."""
    usual = [_usual(one, times) for one in running if one.here]
    if len(usual) <= workers.slots:
        free_in = _ends(_here(running), times) + [0.0] * (workers.slots - len(usual))
    else:
        free_in = [seconds / 2 for seconds in usual[: workers.slots]]
        heapq.heapify(free_in)
        for seconds in usual[workers.slots :] if free_in else ():
            heapq.heapreplace(free_in, free_in[0] + seconds)
    return Slots(free_in, workers.share / workers.slots if workers.slots else 1.0)


def _here(running: Sequence[Running]) -> list[Running]:
    return [one for one in running if one.here]


def _ends(running: Sequence[Running], times: RunTimes) -> list[float]:
    return [_left(one.seconds, _usual(one, times)) for one in running]


def _usual(one: Running, times: RunTimes) -> float:
    return times.of(one.workspace_id, one.task) or SHORTEST


def _left(elapsed: float, usual: float) -> float:
    return max(usual - elapsed, usual * OVERDUE, elapsed - usual * UNLIKE)


def _of_task(lanes: Sequence[Lane], task: str) -> list[Lane]:
    return [lane for lane in lanes if lane.task == task]


def _mean_of_lanes(workspace_id: str, lanes: Sequence[Lane], times: RunTimes) -> float | None:
    jobs = sum(lane.before for lane in lanes)
    if not jobs:
        return None
    return sum(lane.before * (times.of(workspace_id, lane.task) or 0.0) for lane in lanes) / jobs
