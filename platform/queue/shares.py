"""Shares: who is ahead of a fair share of this worker's slot time. Pure; one object a worker, in its memory.

Turns on the ring are fair by the number of jobs. A workspace whose jobs run a hundred times longer than others' would
still take a hundred times the slots, so a worker also accounts for time, by virtual time as in weighted fair queueing
(Demers, Keshav, Shenker 1989):

    level    how much time per unit of weight everybody who wanted some has been served so far
    account  how much a workspace has been served, as a position on the same scale

A workspace that comes (back) starts at the level: not having asked for anything earns no credit, and having used slots
that nobody else wanted costs none. (A few jobs' worth of credit is kept: so far behind is, between two of its turns,
also who always has something to claim.) A claim takes first from those who are not above the level, then from the
others in the order of their accounts; from one that is *heavy*, above the level by more than a job or two, only what is
left.

A job is charged when it is claimed, with what such jobs took lately, and corrected when it has ended.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from jobplatform.queue.claim import Ahead, ClaimedJob

#: How far above the level is not heavy yet, in jobs of average length.
SLACK_JOBS = 2.0
#: How far below it an account may be, in the same measure.
CREDIT_JOBS = 5.0
#: Workspaces a claim is told about. Where more are above the level, those furthest up are what matters.
MOST_AHEAD = 200
#: Accounts that are kept; where there are more, those furthest up.
MOST_ACCOUNTS = 20_000
#: How many (workspace, task) pairs' run times are remembered.
MOST_MEANS = 20_000
#: The weight of the newest run time in the mean.
NEWEST = 0.2


_whose: Callable[[ClaimedJob], tuple[str, str, int]] = attrgetter("lease.workspace_id", "task", "weight")


@dataclass(slots=True)
class Account:
    weight: int
    served: float


class Shares:
    """The accounts of the workspaces that this worker has served lately."""

    def __init__(self) -> None:
        self._level = 0.0
        self._accounts: dict[str, Account] = {}
        self._weights = 0
        self._until_prune = 0
        self._means: dict[tuple[str, str], float] = {}
        self._task_means: dict[str, float] = {}
        self._mean_charge = 0.0
        self._ended: list[tuple[ClaimedJob, float, float | None]] = []

    def claimed(self, job: ClaimedJob) -> float:
        """Charge a workspace for a job that was just claimed. Returns the charge in seconds, for :meth:`ended`."""
        return self.all_claimed([job])[0]

    def all_claimed(self, jobs: Iterable[ClaimedJob]) -> list[float]:
        """The same for all jobs of a claim."""
        self._settle()
        charges: list[float] = []
        owed: dict[tuple[str, int], float] = defaultdict(float)
        for workspace_id, task, weight in map(_whose, jobs):
            mean = self._means.get((workspace_id, task))
            seconds = self._task_means.get(task, 0.0) if mean is None else mean
            charges.append(seconds)
            owed[workspace_id, weight] += seconds
        self._charge(owed)
        return charges

    def ended(self, job: ClaimedJob, charged: float, seconds: float | None) -> None:
        """Correct the charge by what the job really took; None when it did not run at all.

        That is done when somebody next asks: thousands of jobs a second end, and a few dozen claims ask.
        """
        self._ended.append((job, charged, seconds))

    def ahead(self) -> Ahead:
        """Who is above the level, for a claim to take from in this order."""
        self._settle()
        level, heavy = self._level, self._level + SLACK_JOBS * self._mean_charge
        above = [(account.served, id_) for id_, account in self._accounts.items() if account.served > level]
        above = sorted(above if len(above) <= MOST_AHEAD else heapq.nlargest(MOST_AHEAD, above))
        return Ahead([id_ for _, id_ in above], sum(served <= heavy for served, _ in above))

    def is_behind(self, workspace_id: str) -> bool:
        """Whether a workspace has had less than its fair share, or nothing lately."""
        self._settle()
        account = self._accounts.get(workspace_id)
        return account is None or account.served <= self._level

    def only_these_want(self, workspaces: Iterable[str]) -> None:
        """Only these had something to claim. If all of them are above the level, the others have all they want, and
        the level goes on from the lowest of these.
        """
        self._settle()
        accounts = [self._accounts.get(id_) for id_ in workspaces]
        lowest = min((account.served if account else self._level for account in accounts), default=self._level)
        if lowest > self._level:
            self._level = lowest
            self._prune()

    @property
    def _floor(self) -> float:
        """No account is lower than this: more than that behind is only who has not asked."""
        return self._level - CREDIT_JOBS * self._mean_charge

    def _charge(self, owed: Mapping[tuple[str, int], float]) -> None:
        """Charge workspaces, each with its weight, for what they were given together.

        Together, because each charge moves the level: a workspace that is charged after another one must not be taken
        for somebody who had not asked while that one was served.
        """
        floor = self._floor
        for (workspace_id, weight), seconds in owed.items():
            account = self._account(workspace_id, weight)
            account.served = max(account.served, floor) + seconds / weight
        # A correction may be negative, and then takes back what the charge had moved.
        self._level += sum(owed.values()) / max(1, self._weights)
        self._until_prune -= len(owed)
        if self._until_prune <= 0:
            self._prune()

    def _account(self, workspace_id: str, weight: int) -> Account:
        account = self._accounts.get(workspace_id)
        if account is None:
            account = self._accounts[workspace_id] = Account(weight, self._level)
            self._weights += weight
        elif account.weight != weight:
            self._weights += weight - account.weight
            account.weight = weight
        return account

    def _settle(self) -> None:
        """Take in what has ended since somebody asked: all of a workspace's jobs of one task together."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        groups: dict[tuple[str, str, int], list[tuple[float, float | None]]] = defaultdict(list)
        for job, charged, seconds in ended:
            groups[_whose(job)].append((charged, seconds))
        owed: dict[tuple[str, int], float] = defaultdict(float)
        for (workspace_id, task, weight), jobs in groups.items():
            took = [seconds for _, seconds in jobs if seconds is not None]
            self._learn(workspace_id, task, weight, took)
            owed[workspace_id, weight] += sum(took) - sum(charged for charged, _ in jobs)
        self._charge(owed)

    def _learn(self, workspace_id: str, task: str, weight: int, took: Sequence[float]) -> None:
        if not took:
            return
        key = (workspace_id, task)
        if key not in self._means and len(self._means) >= MOST_MEANS:
            self._means.clear()
        self._means[key] = _moved(self._means.get(key), took, NEWEST)
        self._task_means[task] = _moved(self._task_means.get(task), took, NEWEST)
        self._mean_charge = _moved(self._mean_charge, [seconds / weight for seconds in took], 0.05)

    def _prune(self) -> None:
        """Forget those whom the level has left behind: for them it is as if they had never been here."""
        floor = self._floor
        kept = [(id_, account) for id_, account in self._accounts.items() if account.served > floor]
        if len(kept) > MOST_ACCOUNTS:
            kept = heapq.nlargest(MOST_ACCOUNTS // 2, kept, key=lambda item: item[1].served)
        self._accounts = dict(kept)
        self._weights = sum(account.weight for account in self._accounts.values())
        self._until_prune = max(16, len(self._accounts))


def _moved(mean: float | None, values: Sequence[float], newest: float) -> float:
    """A moving mean after further values; it begins at the first one."""
    moved = values[0] if mean is None else mean
    for value in values:
        moved += newest * (value - moved)
    return moved
