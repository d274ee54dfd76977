"""What handlers themselves saw: a line in a file when an attempt begins and one when its handler is through.

A file opened for appending takes a line in one piece and keeps it whatever happens to the process or the database, so
it is evidence that neither of them can change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobplatform.queue import RunningJob

VARIABLE = "CHAOS_DIARY"


@dataclass(frozen=True, slots=True)
class Entry:
    """``word`` is ``begin`` or ``end``."""

    word: str
    task: str
    job_id: str
    epoch: int
    pid: int


@contextmanager
def noted(job: RunningJob) -> Iterator[None]:
    """Note the beginning of this attempt, and its end unless the handler was interrupted or killed."""
    _write("begin", job)
    yield
    _write("end", job)


def read_diary(path: Path) -> list[Entry]:
    entries = []
    for line in path.read_text().splitlines():
        word, task, job_id, epoch, pid = line.split()
        entries.append(Entry(word, task, job_id, int(epoch), int(pid)))
    return entries


def _write(word: str, job: RunningJob) -> None:
    # Opened each time: a handler's process may have been forked from one that had it open.
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{word} {job.task} {job.id} {job.epoch} {os.getpid()}\n".encode())
    finally:
        os.close(descriptor)
