"""The tally: what this worker has done, in numbers that only rise. Kept by the hub, read by whoever asks at its port.

Nothing is kept for a job: each report of a child is two steps up in two lists. There is one set of numbers for each
task in each queue that has run here, and a worker runs only tasks and queues that it was started for.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from jobplatform.metrics import (
    BOUNDS,
    CONFLICTS,
    ENQUEUED,
    FINISHED,
    OTHER,
    REAPED,
    RETRIES,
    RUN,
    WAIT,
    Family,
    Histogram,
    Labels,
    Rows,
)
from jobplatform.queue import Happening

_KINDS: Final = {"enqueued": ENQUEUED, "conflict": CONFLICTS}


class Seconds:
    """How many durations were how long."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def as_histogram(self) -> Histogram:
        """A copy: the hub goes on counting."""
        return Histogram(list(self.counts), self.sum)


class Series:
    """The numbers of one task in one queue."""

    __slots__ = ("finished", "retries", "runs", "waits")

    def __init__(self) -> None:
        self.waits = Seconds()
        self.runs = Seconds()
        self.finished: Counter[str] = Counter()
        self.retries = 0


class Tally:
    """Counted by the hub, except for what is enqueued elsewhere in the process; whoever reads copies first."""

    def __init__(self) -> None:
        self.reaped = 0
        self._series: dict[Labels, Series] = {}
        self._happened: Counter[tuple[Family, Labels]] = Counter()
        self._lock = threading.Lock()
        self._queues: Collection[str] = ()
        self._tasks: Collection[str] = ()

    def know(self, queues: Collection[str], tasks: Collection[str]) -> None:
        """The names that may be told apart; all others are one."""
        self._queues, self._tasks = frozenset(queues), frozenset(tasks)

    # -- counting --------------------------------------------------------------------------------

    def ran(self, queue: str, task: str, waited: float, seconds: float) -> None:
        """An attempt is over, whatever will become of what it left."""
        series = self._series.get((queue, task)) or self._begin(queue, task)
        series.waits.add(waited)
        series.runs.add(seconds)

    def finished(self, queue: str, task: str, outcome: str) -> None:
        """A job has ended, and it is written down that it has."""
        series = self._series.get((queue, task)) or self._begin(queue, task)
        series.finished[outcome] += 1

    def retried(self, queue: str, task: str) -> None:
        series = self._series.get((queue, task)) or self._begin(queue, task)
        series.retries += 1

    def happened(self, happened: Mapping[Happening, int]) -> None:
        """What handlers have enqueued, or schedules: that is another thread."""
        with self._lock:
            for (kind, queue, task), count in happened.items():
                labels = (self._named(queue, self._queues), self._named(task, self._tasks))
                self._happened[_KINDS[kind], labels] += count

    def _begin(self, queue: str, task: str) -> Series:
        return self._series.setdefault((queue, task), Series())

    @staticmethod
    def _named(name: str, known: Collection[str]) -> str:
        return name if name in known else OTHER

    # -- reading, in any thread ------------------------------------------------------------------

    def families(self) -> list[tuple[Family, Rows]]:
        """All there is to tell, copied. Copying a dictionary is one step that no other thread comes between."""
        series, happened = dict(self._series), dict(self._happened)
        return [
            (ENQUEUED, {labels: count for (family, labels), count in happened.items() if family is ENQUEUED}),
            (CONFLICTS, {labels: count for (family, labels), count in happened.items() if family is CONFLICTS}),
            (FINISHED, _by_outcome(series)),
            (RETRIES, {labels: one.retries for labels, one in series.items()}),
            (REAPED, {(): self.reaped}),
            (WAIT, {labels: one.waits.as_histogram() for labels, one in series.items()}),
            (RUN, {labels: one.runs.as_histogram() for labels, one in series.items()}),
        ]


def _by_outcome(series: Mapping[Labels, Series]) -> Rows:
    return {
        (*labels, outcome): count for labels, one in series.items() for outcome, count in dict(one.finished).items()
    }
