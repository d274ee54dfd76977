"""Unseen: what another transaction did to a key since this one began, where this one will never see it.

Under READ COMMITTED the next statement sees it. Under REPEATABLE READ none does, and PostgreSQL refuses the statement
rather than go by what it may not show. Whoever asked is told so in our words, with the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobplatform.errors import EnqueueConflictError
from jobplatform.models import SUCCESSOR
from jobplatform.queue.enqueue.new_job import NewJob
from jobplatform.queue.statement import run

_CANNOT_SERIALIZE = "40001"


def run_for(session: Session, jobs: Sequence[NewJob], sql: str, **parameters: Any) -> CursorResult[*tuple[Any, ...]]:
    """Run a statement about the keys of ``jobs``. Raises :class:`EnqueueConflictError` when it is refused for one."""
    try:
        return run(session, sql, **parameters)
    except OperationalError as error:
        keyed = [job for job in jobs if job.unique_key is not None]
        if keyed and getattr(error.orig, "sqlstate", None) == _CANNOT_SERIALIZE:
            raise conflict_over(keyed) from error
        raise


def conflict_over(jobs: Sequence[NewJob]) -> EnqueueConflictError:
    """What to say when it is not known who holds the key of one of these jobs."""
    first, *others = dict.fromkeys((job.workspace_id, (job.unique_key or "").removeprefix(SUCCESSOR)) for job in jobs)
    return EnqueueConflictError(first[1], first[0], others=len(others))
