"""What must hold before a schedule is written: room for it, a name that is free, and whatever its payload names."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidPayloadError, ScheduleNameTakenError, TooManySchedulesError
from jobplatform.queue.enqueue import NewJob
from jobplatform.queue.locks import PLACES_OF_SCHEDULES
from jobplatform.queue.statement import run

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

#: Schedules of one workspace.
MOST_SCHEDULES: Final = 500

# Two that are made at once must not both find the last place free: they take turns until their ends.
TAKE_TURNS = f"select pg_advisory_xact_lock({PLACES_OF_SCHEDULES}, hashtext(%(workspace_id)s::text))"
# In a statement of its own, which sees what the lock's last holder committed.
COUNT = """
select
    (select count(*) from jobplatform.schedules where workspace_id = %(workspace_id)s),
    exists (select from jobplatform.schedules where workspace_id = %(workspace_id)s and name = %(name)s),
    jobplatform.clock()
"""


def take_place(session: Session, workspace_id: uuid.UUID, name: str) -> datetime.datetime:
    """See that there is room for one more and the name is free, and keep both until the transaction's end.

    Answers with the moment it is there. Raises :class:`ScheduleNameTakenError` or :class:`TooManySchedulesError`.
    """
    count, now = _take_name(session, workspace_id, name)
    if count >= MOST_SCHEDULES:
        raise TooManySchedulesError(MOST_SCHEDULES)
    return now


def take_name(session: Session, workspace_id: uuid.UUID, name: str) -> None:
    """See that the name is free, and keep it until the transaction's end. Raises :class:`ScheduleNameTakenError`."""
    _take_name(session, workspace_id, name)


def require_what_is_named(session: Session, task: Task[Any, Any], workspace_id: uuid.UUID, payload: Any) -> None:
    """As at an enqueue: what a payload names, and is not there, is said to whoever asks, and not to a tick.

    Raises :class:`InvalidPayloadError`.
    """
    if task.payload.refuse is None:
        return
    job = NewJob(workspace_id=workspace_id, task=task.name, payload=payload)
    if refused := task.payload.refuse(session, [job]):
        raise InvalidPayloadError(list(refused.values()))


def _take_name(session: Session, workspace_id: uuid.UUID, name: str) -> tuple[int, datetime.datetime]:
    """How many schedules the workspace has, and when that was."""
    run(session, TAKE_TURNS, workspace_id=workspace_id)
    count, is_taken, now = run(session, COUNT, workspace_id=workspace_id, name=name).one()
    if is_taken:
        raise ScheduleNameTakenError(name)
    return count, now
