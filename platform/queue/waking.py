"""Waking: ring for every queue that a live worker serves, when a change may let any job start."""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobplatform.queue.doorbell import ring_after_commit
from jobplatform.queue.statement import run

SERVED = "select distinct unnest(queues) from jobplatform.workers where dead_at is null"


def wake_workers(session: Session, queue: str | None = None) -> None:
    """Let idle workers look at once after the commit: those of ``queue``, or all.

    Which queues have jobs of a workspace, a task or a resource is not looked up: a worker that looks in vain costs one
    claim, and there are few queues.
    """
    queues = [queue] if queue is not None else [row[0] for row in run(session, SERVED)]
    if queues:
        ring_after_commit(session, {f"q:{name}" for name in queues})
