"""Limits of queues. See rows.py for what holds for every change."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, refuse
from jobplatform.models import QueueLimits
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.limits.rows import upsert, value_problems, word_problem
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.waking import wake_workers


def list_queue_limits(session: Session) -> Sequence[QueueLimits]:
    """Every limited queue, by name."""
    return session.scalars(select(QueueLimits).order_by(QueueLimits.queue)).all()


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limit of queue", "queue")
def set_queue_limit(session: Session, queue: str, max_running: int | None) -> None:
    """How many jobs of a queue run at a time, everywhere; None for no limit."""
    values = {"max_running": max_running}
    refuse(InvalidLimitError, [word_problem(queue, "queue"), *value_problems(values, QueueLimits)])
    if max_running is None:
        session.execute(delete(QueueLimits).where(QueueLimits.queue == queue))
    else:
        upsert(session, QueueLimits, {"queue": queue}, values)
    wake_workers(session, queue)
