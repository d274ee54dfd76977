"""Change: make, change and delete the rows that say what is enqueued when. Never commits."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidPayloadError, ScheduleNameTakenError, TooManySchedulesError
from jobplatform.models import PLATFORM_WORKSPACE, Schedule, visit
from jobplatform.queue.enqueue import NewJob
from jobplatform.queue.locks import PLACES_OF_SCHEDULES
from jobplatform.queue.schedules.find import time_now
from jobplatform.queue.schedules.plan import Plan, plan_of
from jobplatform.queue.schedules.recurrence import Rule
from jobplatform.queue.schedules.row import await_next, require_not_in_code
from jobplatform.queue.seal import sealed_form
from jobplatform.queue.statement import run
from jobplatform.queue.vault import is_encrypting, open_payload, seal_for_schedule

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

#: Schedules of one workspace.
MOST_SCHEDULES: Final = 500

_RULES = ("cron", "every_ms", "anchor", "run_at", "timezone")

# Two that are made at once must not both find the last place free: they take turns until their ends.
TAKE_TURNS = f"select pg_advisory_xact_lock({PLACES_OF_SCHEDULES}, hashtext(%(workspace_id)s::text))"
# In a statement of its own, which sees what the lock's last holder committed.
COUNT = """
select
    (select count(*) from jobplatform.schedules where workspace_id = %(workspace_id)s),
    exists (select from jobplatform.schedules where workspace_id = %(workspace_id)s and name = %(name)s),
    jobplatform.clock()
"""


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
    visit(session, workspace_id)
    columns = Plan(rule=rule, **options).columns(task, workspace_id)
    _require_what_is_named(session, task, workspace_id, columns["payload"])
    schedule_id = uuid7()
    if task.options.encrypted or is_encrypting(session, workspace_id):
        columns["payload"] = seal_for_schedule(session, workspace_id, schedule_id, columns["payload"])
    now = _take_place(session, workspace_id, columns["name"])
    made = Schedule(
        workspace_id=workspace_id, id=schedule_id, made_by=made_by, created_at=now, updated_at=now, **columns
    )
    if made.every_ms is not None and made.anchor is None:
        made.anchor = now
    await_next(made, now)
    session.add(made)
    session.flush()
    return made


def change_schedule(session: Session, schedule: Schedule, task: Task[Any, Any], **changes: Any) -> Schedule:
    """Change fields of a schedule's :class:`Plan`; what is not named stays. A new rule counts from now on.

    Raises what :func:`create_schedule` does, and :class:`ScheduleMadeInCodeError`.
    """
    require_not_in_code(schedule)
    sealed = sealed_form(schedule.payload) is not None
    before = replace(
        plan_of(schedule, changes.get("rule")), payload=open_payload(session, schedule.workspace_id, schedule.payload)
    )
    if _is_derived(schedule.unique_key, schedule.task):
        # Made from the payload by the task: it is to be made from the new one.
        before = replace(before, unique_key=None)
    columns = replace(before, **changes).columns(task, schedule.workspace_id)
    if "payload" in changes or task.name != schedule.task:
        # One that is there already may name what has gone since: then its ticks say so, and the rest can be changed.
        _require_what_is_named(session, task, schedule.workspace_id, columns["payload"])
    if sealed or task.options.encrypted or is_encrypting(session, schedule.workspace_id):
        columns["payload"] = seal_for_schedule(session, schedule.workspace_id, schedule.id, columns["payload"])
    if columns["name"] != schedule.name:
        _take_place(session, schedule.workspace_id, columns["name"], new=False)
    now = time_now(session)
    if columns.get("every_ms") is not None and columns["anchor"] is None:
        columns["anchor"] = schedule.anchor or now
    is_new_rule = any(getattr(schedule, name) != columns[name] for name in _RULES)
    is_new_place = schedule.spread_ms != columns["spread_ms"]
    # A tick may be under way, workspace by workspace. Those that it has not come to are not meant any more.
    is_called_off = schedule.fan_tick_at is not None and not columns["every_workspace"]
    for name, value in columns.items():
        setattr(schedule, name, value)
    schedule.updated_at = now
    if is_called_off:
        schedule.next_tick_at = schedule.next_run_at = schedule.fan_tick_at = schedule.fan_after = None
    if (is_new_rule or is_new_place or is_called_off) and schedule.paused_at is None:
        await_next(schedule, now)
    session.flush()
    return schedule


def delete_schedule(session: Session, schedule: Schedule) -> None:
    """Delete a schedule; jobs it has enqueued stay, and so do its ticks for as long as ticks are kept.

    Raises :class:`ScheduleMadeInCodeError` for one that the next worker would only make again.
    """
    require_not_in_code(schedule)
    session.delete(schedule)
    session.flush()


def _take_place(session: Session, workspace_id: uuid.UUID, name: str, *, new: bool = True) -> datetime.datetime:
    """See that there is room and the name is free, and keep both until the transaction's end."""
    run(session, TAKE_TURNS, workspace_id=workspace_id)
    count, taken, now = run(session, COUNT, workspace_id=workspace_id, name=name).one()
    if taken:
        raise ScheduleNameTakenError(name)
    if new and count >= MOST_SCHEDULES:
        raise TooManySchedulesError(MOST_SCHEDULES)
    return now  # type: ignore[no-any-return]  # the database's moment


def _require_what_is_named(session: Session, task: Task[Any, Any], workspace_id: uuid.UUID, payload: Any) -> None:
    """As at an enqueue: what a payload names, and is not there, is said to whoever asks, and not to a tick."""
    if task.payload.refuse is None:
        return
    job = NewJob(workspace_id=workspace_id, task=task.name, payload=payload)
    if refused := task.payload.refuse(session, [job]):
        raise InvalidPayloadError(list(refused.values()))


def _is_derived(key: str | None, task: str) -> bool:
    return key is not None and f"{key}:".startswith(f"{task}:")
