"""Shares: who is ahead of a fair share of this worker's slot time, and who is behind. Pure; one object a worker, in its
memory.

Turns on the ring are fair by the number of jobs. A workspace whose jobs run a hundred times longer than others' would
still take a hundred times the slots, so a worker also accounts for time. The accounts are those of weighted fair
queueing (Demers, Keshav, Shenker 1989), the clock is that of deficit round robin (Shreedhar, Varghese 1995):

    level    how much time per unit of weight everybody who wanted some has been served so far
    account  how much a workspace has been served, as a position on the same scale
    round    once round the ring: whoever wants something has been met

A claim meets a workspace when it takes something from it, or sees that one that is ahead has something ready. At the
end of a round the level rises by what was given in it, divided by the weights of those who were met in it. So it is
those who want something now that decide how fast it rises: whoever has gone is met no more, and whoever has come
counts from the round in which it is met. Nothing has to be known about a backlog but that there is one.

A workspace that comes (back) starts at the level: not having asked for anything earns no credit, and having used slots
that nobody else wanted costs none. What those that it finds have claimed and will only have while it waits is not in
the level, so they come after it by so much. (A few jobs' worth of credit is kept: so far behind is, between two of its
turns, also who always has something to claim.) A claim takes first from those who are not above the level, then from
the others in the order of their accounts; from one that is *heavy*, above the level by more than a job or two, only
what is left. One that is *late*, as far below the level, is looked at before its turn: a turn of one short job is not
much where the others' are long.

A job is charged when it is claimed, with what such jobs took lately, and corrected when it has ended. To that comes for
how long slots stand idle until a claim is answered, for each job that it brings; the same for all, as it was lately.
Where claims take longer than jobs that is most of what there is to share: without it, jobs that take no time would
leave their workspace behind for ever, and have nearly every turn.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from jobplatform.queue.claim import Ahead, ClaimedJob

#: How far from the level is not heavy yet, or not late, in jobs of average length.
SLACK_JOBS = 2.0
#: How far below it an account may be, in the same measure and in what the level rises by in a round.
CREDIT_JOBS = 5.0
CREDIT_ROUNDS = 2.0
#: Of what a workspace has claimed and not had yet, what is still to come: jobs that run are half over on average.
TO_COME = 0.5
#: Workspaces a claim is told about. Where there are more than that, turns are far apart: then only those are named that
#: are above the level by more than a turn, which is one as far above it as the credit goes below.
MOST_AHEAD = 200
#: Workspaces a claim is to look at because they are late.
MOST_LATE = 4
#: Where there are more accounts than a claim is told about, those furthest off are looked for after so many charges, as
#: a part of all accounts: a round charges each of them once.
LOOK_AFTER = 1 / 8
#: Accounts that are kept; where there are more, those furthest up.
MOST_ACCOUNTS = 20_000
#: How many (workspace, task) pairs' run times are remembered.
MOST_MEANS = 20_000
#: The weight of the newest run time in the mean, and that of the newest claim.
NEWEST = 0.2
NEWEST_CLAIM = 0.05


_whose: Callable[[ClaimedJob], tuple[str, str, int]] = attrgetter("lease.workspace_id", "task", "weight")


@dataclass(slots=True)
class Account:
    """``met`` is the last round in which it was; ``wants`` is off while it is not known whether it still wants some.

    ``held`` are the seconds it was charged for jobs that are not over: a part of what it has been served.
    """

    weight: int
    served: float
    met: int = -1
    wants: bool = False
    held: float = 0.0

    @property
    def had(self) -> float:
        """Where it would be if it got nothing of what is still to come."""
        return self.served - self.held * TO_COME / self.weight


def _served(item: tuple[str, Account]) -> float:
    return item[1].served


class Shares:
    """The accounts of the workspaces that this worker has served lately."""

    def __init__(self) -> None:
        self._level = 0.0
        self._accounts: dict[str, Account] = {}
        self._round = 0
        self._given = 0.0
        self._met = 0
        self._met_before = 1
        self._rise = 0.0
        self._until_prune = 0
        self._until_look = 0
        self._furthest: Collection[tuple[str, Account]] = ()
        self._means: dict[tuple[str, str], float] = {}
        self._task_means: dict[str, float] = {}
        self._mean_charge = 0.0
        self._mean_idle = 0.0
        self._mean_claim = 1.0
        self._ended: list[tuple[ClaimedJob, float, float | None]] = []

    def claimed(
        self,
        jobs: Collection[ClaimedJob],
        *,
        waiting: Collection[str] = (),
        came_round: bool = False,
        stood_idle: float = 0.0,
    ) -> list[float]:
        """Charge workspaces for the jobs of a claim. Returns the charges in seconds, for :meth:`ended`.

        ``waiting`` are those ahead of their share that had something ready; with ``came_round`` a round has ended.
        ``stood_idle`` are the seconds of slots that waited for the claim's answer.
        """
        self._settle()
        if jobs:
            self._mean_idle = _moved(self._mean_idle, [stood_idle], NEWEST_CLAIM)
            self._mean_claim = _moved(self._mean_claim, [len(jobs)], NEWEST_CLAIM)
        whose = list(map(_whose, jobs))
        counts = Counter(whose)
        charge = {of: self._expected(*of[:2]) for of in counts}
        wait = self._wait
        owed: dict[tuple[str, int], float] = defaultdict(float)
        for of, count in counts.items():
            workspace_id, _, weight = of
            owed[workspace_id, weight] += count * (charge[of] + wait)
        self._only_these_want({workspace_id for workspace_id, _ in owed}.union(waiting))
        self._charge(owed)
        for of, count in counts.items():
            self._hold(of[0], count * charge[of])
        self._meet(workspace_id for workspace_id, _ in owed)
        self._meet(waiting)
        if came_round:
            self._end_round()
        return [charge[of] for of in whose]

    def ended(self, job: ClaimedJob, charged: float, seconds: float | None) -> None:
        """Correct the charge by what the job really took; None when it did not run at all.

        That is done when somebody next asks: thousands of jobs a second end, and a few dozen claims ask.
        """
        self._ended.append((job, charged, seconds))

    def ahead(self) -> Ahead:
        """Who is above the level, for a claim to take from in this order."""
        self._settle()
        heavy = self._level + self._slack
        least = self._level if len(self._accounts) <= MOST_AHEAD else self._level + self._credit
        above = sorted((account.served, id_) for id_, account in self._far_off() if account.served > least)
        above = above[-MOST_AHEAD:]
        return Ahead([id_ for _, id_ in above], sum(served <= heavy for served, _ in above))

    def late(self, most: int) -> list[str]:
        """Up to so many of those below the level by more than a job or two, the furthest last, for a claim to look at.

        One that nothing comes of is not named again before it is met on the ring: it may have gone.
        """
        self._settle()
        late = self._level - self._slack
        below = [(id_, account) for id_, account in self._far_off() if account.wants and account.served < late]
        below = heapq.nsmallest(min(most, MOST_LATE), below, key=_served)
        for _, account in below:
            account.wants = False
        return [id_ for id_, _ in reversed(below)]

    def is_behind(self, workspace_id: str) -> bool:
        """Whether a workspace has had less than its fair share, or nothing lately."""
        self._settle()
        account = self._accounts.get(workspace_id)
        return account is None or account.served <= self._level

    @property
    def _typical(self) -> float:
        """What a job is charged with, of a workspace with the usual weight."""
        return self._mean_charge + self._wait

    @property
    def _wait(self) -> float:
        """For how long a slot stands idle for each job that a claim brings."""
        return self._mean_idle / self._mean_claim

    @property
    def _slack(self) -> float:
        return SLACK_JOBS * self._typical

    @property
    def _credit(self) -> float:
        """At least what a round or two are worth: nobody has had more than a turn between two of its turns."""
        return max(CREDIT_JOBS * self._typical, CREDIT_ROUNDS * self._rise)

    @property
    def _floor(self) -> float:
        """No account is lower than this: more than that behind is only who has not asked."""
        return self._level - self._credit

    def _only_these_want(self, workspaces: Iterable[str]) -> None:
        """Only these had something to claim. If all of them are above the level, the others have all they want, and
        the level goes on from the lowest of these.
        """
        accounts = [self._accounts.get(id_) for id_ in workspaces]
        lowest = min((account.had if account else self._level for account in accounts), default=self._level)
        if lowest > self._level:
            # What was given so far is in their accounts, and must not raise the level once more.
            self._level, self._given = lowest, 0.0

    def _charge(self, owed: Mapping[tuple[str, int], float]) -> None:
        """Charge workspaces, each with its weight, for what they were given."""
        floor = self._floor
        for (workspace_id, weight), seconds in owed.items():
            account = self._account(workspace_id, weight)
            account.served = max(account.served, floor) + seconds / weight
        self._given += sum(owed.values())
        if self._given < 0:
            # More was taken back than was given since: the level has risen by that already.
            self._level += self._given / self._met_before
            self._given = 0.0
        self._until_look -= len(owed)
        self._until_prune -= len(owed)
        if self._until_prune <= 0:
            self._prune()

    def _hold(self, workspace_id: str, seconds: float) -> None:
        """A workspace was charged so much more, or less, for jobs that are not over. What is to come of them does not
        raise the level yet.
        """
        if account := self._accounts.get(workspace_id):
            before, account.held = account.held, max(0.0, account.held + seconds)
            self._given -= (account.held - before) * TO_COME

    def _account(self, workspace_id: str, weight: int) -> Account:
        account = self._accounts.get(workspace_id)
        if account is None:
            account = self._accounts[workspace_id] = Account(weight, self._level)
        account.weight = weight
        return account

    def _meet(self, workspaces: Iterable[str]) -> None:
        """These want something: each counts once a round, however often it is met."""
        for workspace_id in workspaces:
            if account := self._accounts.get(workspace_id):
                account.wants = True
                if account.met != self._round:
                    account.met = self._round
                    self._met += account.weight

    def _end_round(self) -> None:
        self._met_before = self._met or self._met_before
        rise = self._given / self._met_before
        self._level += rise
        # A round in which little was given does not take the credit at once that the one before has left.
        self._rise = max(rise, self._rise / 2)
        self._given, self._met = 0.0, 0
        self._round += 1

    def _far_off(self) -> Collection[tuple[str, Account]]:
        """The accounts that are furthest from the level, in both directions; all of them where there are few."""
        if len(self._accounts) <= MOST_AHEAD:
            return self._accounts.items()
        if self._until_look <= 0:
            self._until_look = int(len(self._accounts) * LOOK_AFTER)
            lowest = heapq.nsmallest(MOST_AHEAD, self._accounts.items(), key=_served)
            self._furthest = [*lowest, *heapq.nlargest(MOST_AHEAD, self._accounts.items(), key=_served)]
        return self._furthest

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
            charged = sum(charged for charged, _ in jobs)
            self._learn(workspace_id, task, weight, took)
            self._hold(workspace_id, -charged)
            owed[workspace_id, weight] += sum(took) - charged
        self._charge(owed)

    def _expected(self, workspace_id: str, task: str) -> float:
        """What jobs of a workspace's task took lately, in seconds; those of the task where it had none."""
        mean = self._means.get((workspace_id, task))
        return self._task_means.get(task, 0.0) if mean is None else mean

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
        floor, lately = self._floor, self._round - 1
        kept = [item for item in self._accounts.items() if item[1].served > floor or item[1].met >= lately]
        if len(kept) > MOST_ACCOUNTS:
            kept = heapq.nlargest(MOST_ACCOUNTS // 2, kept, key=_served)
        self._accounts = dict(kept)
        self._until_prune = max(16, len(self._accounts))
        self._until_look = 0


def _moved(mean: float | None, values: Sequence[float], newest: float) -> float:
    """A moving mean after further values; it begins at the first one."""
    moved = values[0] if mean is None else mean
    for value in values:
        moved += newest * (value - moved)
    return moved
