"""A row and what it says: its rule, its place in its spread and the tick it waits for. No I/O."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final

from jobplatform.errors import ScheduleMadeInCodeError
from jobplatform.models import Schedule
from jobplatform.queue.schedules.recurrence import Cron, Every, Once, Rule, offset_in

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import Enqueued

#: The columns that say when. With none of these changed a schedule goes on to wait for the tick it waits for, which may
#: be due already.
WHEN: Final = ("cron", "every_ms", "anchor", "run_at", "timezone", "spread_ms")

_MILLISECOND = datetime.timedelta(milliseconds=1)


def rule_of(schedule: Schedule) -> Rule:
    """The rule of a row."""
    if schedule.cron is not None:
        return Cron(schedule.cron, schedule.timezone)
    if schedule.every_ms is not None:
        return Every(schedule.every_ms * _MILLISECOND, schedule.anchor or schedule.created_at)
    assert schedule.run_at is not None
    return Once(schedule.run_at)


def rule_columns(rule: Rule) -> dict[str, Any]:
    """A rule as columns. An interval whose anchor nobody named has none here: it is when the schedule is made."""
    columns: dict[str, Any] = {
        "cron": None,
        "every_ms": None,
        "anchor": None,
        "run_at": None,
        "timezone": rule.timezone,
    }
    if isinstance(rule, Cron):
        columns["cron"] = rule.line
    elif isinstance(rule, Every):
        columns["every_ms"] = rule.interval // _MILLISECOND
        columns["anchor"] = rule.anchor
    else:
        columns["run_at"] = rule.at
    return columns


def offset_of(schedule: Schedule) -> datetime.timedelta:
    """Its place in its spread. One for every workspace has none: its workspaces have."""
    if schedule.every_workspace:
        return datetime.timedelta(0)
    return offset_in(schedule.spread_ms * _MILLISECOND, schedule.workspace_id, schedule.id)


def request_id_of(schedule_id: object, tick: datetime.datetime) -> str:
    """What a scheduled job has as its request id: by whose tick it is there."""
    return f"schedule:{schedule_id}:{tick.astimezone(datetime.UTC).isoformat().replace('+00:00', 'Z')}"


def outcome_of(answer: Enqueued) -> str:
    """What a tick came to."""
    return "enqueued" if answer.created else "replaced" if answer.replaced else "deduplicated"


def await_next(schedule: Schedule, now: datetime.datetime, *, done: bool = False) -> None:
    """Wait for the first tick after now; for a single moment that was not ``done``, for that."""
    rule = rule_of(schedule)
    tick = (None if done else rule.at) if isinstance(rule, Once) else rule.next_after(now)
    schedule.next_tick_at = tick
    schedule.next_run_at = None if tick is None else tick + offset_of(schedule)
    schedule.fan_tick_at = schedule.fan_after = None


def require_not_in_code(schedule: Schedule) -> None:
    """Raises :class:`ScheduleMadeInCodeError` for one that the next worker would only make again."""
    if schedule.declared_by is not None:
        raise ScheduleMadeInCodeError(schedule.name)
