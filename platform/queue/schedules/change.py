"""Change the row that says what is enqueued when. Never commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.schedules.conditions import require_what_is_named, take_name
from jobplatform.queue.schedules.find import time_now
from jobplatform.queue.schedules.plan import Plan, plan_of
from jobplatform.queue.schedules.row import WHEN, await_next, require_not_in_code
from jobplatform.queue.seal import sealed_form
from jobplatform.queue.vault import is_encrypting, open_payload, seal_for_schedule

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task


@checks_arguments(InvalidScheduleError)
def change_schedule(session: Session, schedule: Schedule, task: Task[Any, Any], **changes: Any) -> Schedule:
    """Change fields of a schedule's :class:`Plan`; what is not named stays. A new rule counts from now on.

    Raises what :func:`create_schedule` does, and :class:`ScheduleMadeInCodeError`.
    """
    require_not_in_code(schedule)
    columns = _changed_columns(session, schedule, task, changes)
    if columns["name"] != schedule.name:
        take_name(session, schedule.workspace_id, columns["name"])
    now = time_now(session)
    if columns.get("every_ms") is not None and columns["anchor"] is None:
        columns["anchor"] = schedule.anchor or now
    is_at_other_times = any(getattr(schedule, name) != columns[name] for name in WHEN)
    # A tick may be under way, workspace by workspace. Those that it has not come to are not meant any more.
    is_called_off = schedule.fan_tick_at is not None and not columns["every_workspace"]
    for name, value in columns.items():
        setattr(schedule, name, value)
    schedule.updated_at = now
    if is_called_off:
        schedule.next_tick_at = schedule.next_run_at = schedule.fan_tick_at = schedule.fan_after = None
    if (is_at_other_times or is_called_off) and schedule.paused_at is None:
        await_next(schedule, now)
    session.flush()
    return schedule


def _changed_columns(
    session: Session, schedule: Schedule, task: Task[Any, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The row's columns with the changes, its payload sealed where that is asked for or was so before."""
    columns = replace(_plan_before(session, schedule, changes), **changes).columns(task, schedule.workspace_id)
    if "payload" in changes or task.name != schedule.task:
        # One that is there already may name what has gone since: then its ticks say so, and the rest can be changed.
        require_what_is_named(session, task, schedule.workspace_id, columns["payload"])
    is_sealed = sealed_form(schedule.payload) is not None
    if is_sealed or task.options.encrypted or is_encrypting(session, schedule.workspace_id):
        columns["payload"] = seal_for_schedule(session, schedule.workspace_id, schedule.id, columns["payload"])
    return columns


def _plan_before(session: Session, schedule: Schedule, changes: Mapping[str, Any]) -> Plan:
    before = plan_of(schedule, changes.get("rule"))
    before = replace(before, payload=open_payload(session, schedule.workspace_id, schedule.payload))
    if _is_derived(schedule.unique_key, schedule.task):
        # Made from the payload by the task: it is to be made from the new one.
        return replace(before, unique_key=None)
    return before


def _is_derived(key: str | None, task: str) -> bool:
    return key is not None and f"{key}:".startswith(f"{task}:")
