"""Create: make the row that says what is enqueued when. Never commits."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import PLATFORM_WORKSPACE, Schedule, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.schedules.conditions import require_what_is_named, take_place
from jobplatform.queue.schedules.plan import Plan
from jobplatform.queue.schedules.recurrence import Rule
from jobplatform.queue.schedules.row import await_next
from jobplatform.queue.vault import is_encrypting, seal_for_schedule

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task


@checks_arguments(InvalidScheduleError)
def create_schedule(
    session: Session,
    task: Task[Any, Any],
    rule: Rule,
    *,
    workspace_id: uuid.UUID = PLATFORM_WORKSPACE,
    made_by: str = "code",
    **options: Any,
) -> Schedule:
    """Make a schedule in the caller's transaction; its first tick is the first one after now.

    ``options`` are the fields of :class:`Plan`. Without a workspace it is platform-wide: its jobs are the platform's
    own, or with ``every_workspace`` one for each workspace that has a row and is not paused. Of an encrypted task, and
    in a workspace that has everything encrypted, the payload is sealed in the row. What a payload names has to be
    there, as at an enqueue. Raises :class:`InvalidScheduleError`, :class:`InvalidJobError`,
    :class:`ScheduleNameTakenError`, :class:`TooManySchedulesError` or :class:`KeyMissingError`; none of them has
    written anything.
    """
    columns = Plan(rule=rule, **options).columns(task, workspace_id)
    visit(session, workspace_id)
    require_what_is_named(session, task, workspace_id, columns["payload"])
    schedule_id = uuid7()
    if task.options.encrypted or is_encrypting(session, workspace_id):
        columns["payload"] = seal_for_schedule(session, workspace_id, schedule_id, columns["payload"])
    now = take_place(session, workspace_id, columns["name"])
    made = Schedule(
        workspace_id=workspace_id, id=schedule_id, made_by=made_by, created_at=now, updated_at=now, **columns
    )
    if made.every_ms is not None and made.anchor is None:
        made.anchor = now
    await_next(made, now)
    session.add(made)
    session.flush()
    return made
