"""What jobs of the task ``marked`` write down about themselves: the file, and what can be read off it."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contenders.backlog import workspace

from jobplatform.queue import NewJob

LONG = datetime.timedelta(minutes=1)


@dataclass(frozen=True)
class Mark:
    """A job was started or has ended (``moment``), in which process and when."""

    pid: int
    key: str
    moment: str
    at: float


@dataclass(frozen=True)
class Marks:
    path: Path

    def job(self, key: str, how: str, milliseconds: int = 0, timeout: datetime.timedelta = LONG) -> NewJob:
        """A job that writes here. Tried once: a second attempt would look like a job that ran twice."""
        return NewJob(
            workspace_id=workspace("marked"),
            task="marked",
            payload={"key": key, "how": how, "ms": milliseconds, "marks": str(self.path)},
            timeout=timeout,
            max_attempts=1,
        )

    def read(self) -> list[Mark]:
        """Everything, in the order it happened."""
        return sorted((Mark(**json.loads(line)) for line in self.path.read_text().splitlines()), key=lambda m: m.at)

    def starts(self) -> list[Mark]:
        return [mark for mark in self.read() if mark.moment == "start"]

    def gaps(self) -> list[tuple[float, float]]:
        """(end, next start) of jobs that one process ran one after the other."""
        by_process: dict[int, list[Mark]] = defaultdict(list)
        for mark in self.read():
            by_process[mark.pid].append(mark)
        return [
            (before.at, after.at)
            for marks in by_process.values()
            for before, after in itertools.pairwise(marks)
            if (before.moment, after.moment) == ("end", "start")
        ]


@contextlib.contextmanager
def marks() -> Iterator[Marks]:
    with tempfile.NamedTemporaryFile(prefix="jobplatform-bench-") as file:
        yield Marks(Path(file.name))
