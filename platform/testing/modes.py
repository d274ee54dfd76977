"""Who runs the jobs of a test: nobody until the test says so, or whoever enqueues them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobplatform.queue import Tasks
from jobplatform.queue.tasks.registry import Mode
from jobplatform.testing.places import require_tasks


@contextmanager
def inline(tasks: Tasks) -> Iterator[Tasks]:
    """Within the block a job runs in this process, right after the transaction that enqueued it has committed."""
    with _mode(tasks, "sync"):
        yield tasks


@contextmanager
def manual(tasks: Tasks) -> Iterator[Tasks]:
    """Within the block jobs only wait, also where the application runs them as it enqueues them: the test says when,
    with :func:`drain`."""
    with _mode(tasks, "queue"):
        yield tasks


@contextmanager
def _mode(tasks: Tasks, mode: Mode) -> Iterator[None]:
    require_tasks(tasks)
    before, tasks.mode = tasks.mode, mode
    try:
        yield
    finally:
        tasks.mode = before
