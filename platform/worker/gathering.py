"""Gathering: jobs that are for one call of a batch handler find each other here. Pure; owned by the ledger.

Together go jobs of one task, one workspace and one timeout, none of which was tried before: one that was is called by
itself, so that whatever made it fail costs its neighbours one attempt at most.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, islice
from math import inf
from typing import NamedTuple

from jobplatform.queue import ClaimedJob
from jobplatform.worker.attempt import Attempt

Key = tuple[str, str, float]


class CallSize(NamedTuple):
    """So many at most, after so many seconds at most."""

    size: int
    wait: float


class Gathering:
    """Those that wait here for others to be claimed; and who of those that wait for a child goes together."""

    def __init__(self) -> None:
        self.stretch = 1.0
        """How many jobs of those claimed last run at a time where otherwise one does."""
        self._sizes: Mapping[str, CallSize] = {}
        self._groups: dict[Key, list[Attempt]] = {}
        self._due: dict[Key, float] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __iter__(self) -> Iterator[Attempt]:
        """Those that wait to be more."""
        return chain.from_iterable(self._groups.values())

    def learn(self, sizes: Mapping[str, CallSize]) -> None:
        self._sizes = sizes

    def saw(self, jobs: Collection[ClaimedJob]) -> None:
        """Take in what a claim got: how many more are worth holding."""
        if self._sizes and jobs:
            sizes = (self._sizes[job.task].size if job.task in self._sizes else 1 for job in jobs)
            self.stretch = sum(sizes) / len(jobs)

    def goes_together(self, attempt: Attempt) -> bool:
        """Whether it may be called together with others."""
        return attempt.task in self._sizes and attempt.job.attempt == 1 and not attempt.is_suspect

    # -- waiting to be more ----------------------------------------------------------------------

    def add(self, attempt: Attempt, now: float) -> bool:
        """Have it wait for others, if its task says so. False if it need not."""
        if not self._sizes or not self.goes_together(attempt) or self._sizes[attempt.task].wait <= 0:
            return False
        key = _key(attempt)
        self._groups.setdefault(key, []).append(attempt)
        self._due.setdefault(key, now + self._sizes[attempt.task].wait)
        return True

    @property
    def due_at(self) -> float:
        """When the first of them have waited long enough."""
        return min(self._due.values(), default=inf)

    def take_due(self, now: float) -> list[Attempt]:
        """Those that are enough, and those that have waited long enough."""
        taken: list[Attempt] = []
        for key in list(self._groups):
            group = self._groups[key]
            if len(group) >= self._sizes[key[0]].size or self._due[key] <= now:
                taken += group
                self._drop(key)
        return taken

    def take_all(self) -> list[Attempt]:
        taken = list(self)
        self._groups.clear()
        self._due.clear()
        return taken

    def remove(self, attempt: Attempt) -> bool:
        key = _key(attempt)
        group = self._groups.get(key, [])
        if attempt not in group:
            return False
        group.remove(attempt)
        if not group:
            self._drop(key)
        return True

    def _drop(self, key: Key) -> None:
        del self._groups[key], self._due[key]

    # -- going to a child ------------------------------------------------------------------------

    def together(self, ready: "deque[Attempt]") -> list[Attempt]:
        """Take the first job out of `ready`, and those that go with it, if there are any; else nothing."""
        if not self._sizes or not ready or not self.goes_together(ready[0]):
            return []
        (task, workspace_id, timeout), size = _key(ready[0]), self._sizes[ready[0].task].size
        # Hundreds may wait, of many workspaces, and each call looks at them: what tells most of them apart comes first.
        with_first = (
            attempt
            for attempt in ready
            if attempt.lease.workspace_id == workspace_id
            and attempt.task == task
            and attempt.timeout == timeout
            and self.goes_together(attempt)
        )
        found = list(islice(with_first, size))
        if len(found) == 1:
            return []
        taken = set(map(id, found))
        others = [attempt for attempt in ready if id(attempt) not in taken]
        ready.clear()
        ready.extend(others)
        return found


def _key(attempt: Attempt) -> Key:
    return attempt.task, attempt.lease.workspace_id, attempt.timeout
