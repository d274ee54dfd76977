"""A job as one line of a list."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobplatform.models import FINAL_STATUSES, Status
from jobplatform.queue.seal import CLOSED_TEXT, begins_sealed

ERROR_SHOWN: Final = 300

#: What is read of a record `r` and its queue row `q`, for a line.
LINE: Final = f"""
    r.workspace_id, r.id, r.task, r.queue, r.status, q.state, r.outcome, r.priority,
    coalesce(q.attempts, r.attempts), r.max_attempts, r.tags, r.created_at, coalesce(q.run_after, r.run_after),
    coalesce(q.started_at, r.started_at), r.completed_at, r.error_type, left(r.error, {ERROR_SHOWN * 4}),
    case when q.id is null then r.progress else q.progress end
"""


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a list. ``error`` is cut, and ``[sealed]`` for an encrypted job."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    task: str
    queue: str
    status: Status
    outcome: str | None
    priority: int
    attempts: int
    max_attempts: int
    tags: tuple[str, ...]
    created_at: datetime.datetime
    run_after: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    error_type: str | None
    error: str | None
    progress: Any | None


def line_of(row: Sequence[Any]) -> JobLine:
    """The line of a row that has the columns in that order."""
    (
        workspace_id, job_id, task, queue, status, state, outcome, priority, attempts, max_attempts, tags, created_at,
        run_after, started_at, completed_at, error_type, error, progress,
    ) = row  # fmt: skip
    return JobLine(
        workspace_id=workspace_id,
        id=job_id,
        task=task,
        queue=queue,
        status=status_of(status, state) or Status.PENDING,
        outcome=outcome,
        priority=priority,
        attempts=attempts,
        max_attempts=max_attempts,
        tags=tuple(tags),
        created_at=created_at,
        run_after=run_after,
        started_at=started_at,
        completed_at=completed_at,
        error_type=error_type,
        error=short_error(error),
        progress=progress,
    )


def status_of(final: int | None, state: int | None) -> Status | None:
    """A job's status, from what its record and its queue row say; None when there is neither."""
    if final is not None:
        return FINAL_STATUSES[final]
    if state is None:
        return None
    return Status.RUNNING if state == 2 else Status.PENDING


def short_error(error: str | None) -> str | None:
    """As much of an error as a list has room for."""
    if error is None:
        return None
    if begins_sealed(error):
        return CLOSED_TEXT
    return error if len(error) <= ERROR_SHOWN else error[: ERROR_SHOWN - 1] + "…"
