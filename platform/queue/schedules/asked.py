"""What a due schedule asks for: its ticks, the job of each or why there is none, and where it goes from here."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, InvalidScheduleError
from jobplatform.models import Schedule
from jobplatform.queue.enqueue import NewJob
from jobplatform.queue.schedules.due import Due, due_ticks
from jobplatform.queue.schedules.plan import ON_CONFLICT
from jobplatform.queue.schedules.recurrence import Rule, offset_in
from jobplatform.queue.schedules.row import offset_of, request_id_of, rule_of
from jobplatform.queue.seal import SealedPayload, sealed_form
from jobplatform.queue.statement import run
from jobplatform.queue.tasks.own import is_own_task

#: After so long a rule that cannot be read here is looked at again.
AGAIN: Final = datetime.timedelta(minutes=5)

# Paused ones are left out: what repeats is not piled up for them.
WORKSPACES = """
select
    w.id,
    exists (select from jobplatform.workspace_keys k where k.workspace_id = w.id and k.encrypts)
from jobplatform.workspaces w
where w.id > %(after)s::uuid
    and not exists (
        select
        from jobplatform.pauses p
        where p.kind = 'workspace' and p.key = w.id::text and (p.until is null or p.until > jobplatform.clock())
    )
order by w.id
limit %(limit)s
"""

MISSED = "missed: nobody looked in time, and catch-up is {policy}"
TOO_LATE = "its job was to begin by {by}, which was over when a worker looked"
PAUSED = "the workspace is paused, and what repeats is not piled up"
IMPOSSIBLE = "no such job can be enqueued: {error}"
LONGEST_REASON = 500
OWN = "the task is the platform's own, and nobody else's to enqueue; delete the schedule"
ENCRYPTED = (
    "jobs of the workspace or task are encrypted and the schedule's payload is not; it is sealed when it is changed"
)

_NOBODY = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What a task gives to jobs whose schedule does not say otherwise."""

    queue: str = "default"
    priority: int = 0
    max_attempts: int = 3
    timeout: datetime.timedelta = datetime.timedelta(minutes=10)
    encrypted: bool = False
    if_active: str = "return"
    start_within: datetime.timedelta | None = None
    unique_for: datetime.timedelta | None = None

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> TaskDefaults:
        """Those of a task, by its entry in :meth:`Tasks.catalogue`."""
        return cls(
            queue=task["queue"],
            priority=task["priority"],
            max_attempts=task["retry"]["max_attempts"],
            timeout=datetime.timedelta(milliseconds=task["timeout_ms"]),
            encrypted=task["encrypted"],
            if_active=task["if_active"],
            start_within=_duration_of(task["start_within_ms"]),
            unique_for=None if task["unique_for"] is None else datetime.timedelta(seconds=task["unique_for"]),
        )


def _duration_of(milliseconds: int | None) -> datetime.timedelta | None:
    return None if milliseconds is None else datetime.timedelta(milliseconds=milliseconds)


@dataclass(slots=True)
class Tick:
    """A tick, the job it asks for (or None with a reason), and what came of it."""

    workspace_id: uuid.UUID
    schedule_id: uuid.UUID
    at: datetime.datetime
    job: NewJob | None = None
    outcome: str = "enqueued"
    reason: str | None = None
    job_id: uuid.UUID | None = None

    @property
    def key(self) -> tuple[uuid.UUID, uuid.UUID, datetime.datetime]:
        return self.workspace_id, self.schedule_id, self.at


class DueSchedule(NamedTuple):
    """A due schedule, and what is the matter with its workspace."""

    schedule: Schedule
    now: datetime.datetime
    workspace_paused: bool
    encrypting: bool


class Move(NamedTuple):
    """Where a schedule goes from here."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    next_tick: datetime.datetime | None
    next_run: datetime.datetime | None
    fan_tick: datetime.datetime | None = None
    fan_after: uuid.UUID | None = None


def look_at(session: Session, row: DueSchedule, defaults: TaskDefaults, room: int) -> tuple[list[Tick], Move]:
    """The ticks of one schedule, and where it goes from here."""
    schedule = row.schedule
    try:
        rule = rule_of(schedule)
    except InvalidScheduleError:
        # Its time zone may be unknown here. Nothing of it is done or skipped, and nobody else has to wait for it.
        return [], Move(schedule.workspace_id, schedule.id, schedule.next_tick_at, row.now + AGAIN)
    if schedule.every_workspace:
        return _fan_out(session, row, rule, defaults, room)
    due = _due(row, rule, room)
    ticks = [_tick(row, schedule.workspace_id, tick, defaults) for tick in due.ticks]
    return ticks + _missed(schedule, due), _next_move(schedule, due.next_tick)


def _fan_out(
    session: Session, row: DueSchedule, rule: Rule, defaults: TaskDefaults, room: int
) -> tuple[list[Tick], Move]:
    """A tick for each of the next workspaces. The last of them is remembered, so the next batch goes on from there."""
    schedule, ticks = row.schedule, []
    tick, after, next_tick = schedule.fan_tick_at, schedule.fan_after or _NOBODY, schedule.next_tick_at
    if tick is None:
        due = _due(row, rule, 1)
        ticks += _missed(schedule, due)
        if not due.ticks:
            return ticks, _next_move(schedule, due.next_tick)
        tick, next_tick = due.ticks[0], due.next_tick
        ticks.append(Tick(schedule.workspace_id, schedule.id, tick, outcome="fanned_out"))
    found = run(session, WORKSPACES, after=after, limit=room).all()
    ticks += [_tick(row, workspace_id, tick, defaults, encrypting=sealed) for workspace_id, sealed in found]
    if len(found) < room:
        return ticks, _next_move(schedule, next_tick)
    return ticks, Move(schedule.workspace_id, schedule.id, next_tick, row.now, tick, found[-1][0])


def _due(row: DueSchedule, rule: Rule, room: int) -> Due:
    schedule = row.schedule
    assert schedule.next_tick_at is not None
    return due_ticks(rule, schedule.catch_up, schedule.next_tick_at, row.now - offset_of(schedule), most=room)


def _missed(schedule: Schedule, due: Due) -> list[Tick]:
    if due.missed is None:
        return []
    reason = MISSED.format(policy=schedule.catch_up)
    return [Tick(schedule.workspace_id, schedule.id, due.missed, outcome="skipped", reason=reason)]


def _tick(
    row: DueSchedule,
    workspace_id: uuid.UUID,
    at: datetime.datetime,
    defaults: TaskDefaults,
    *,
    encrypting: bool | None = None,
) -> Tick:
    schedule = row.schedule
    tick = Tick(workspace_id, schedule.id, at)
    if is_own_task(schedule.task):
        return skipped(tick, OWN)
    sealed = sealed_form(schedule.payload) is not None
    if (row.encrypting or encrypting or defaults.encrypted) and not sealed:
        return skipped(tick, ENCRYPTED)
    if row.workspace_paused and schedule.run_at is None:
        return skipped(tick, PAUSED)
    if (by := _begin_by(row, workspace_id, at)) is not None and by <= row.now:
        return skipped(tick, TOO_LATE.format(by=f"{by.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"))
    try:
        tick.job = _job(row, workspace_id, at, defaults)
    except InvalidJobError as error:
        return skipped(tick, IMPOSSIBLE.format(error=error)[:LONGEST_REASON])
    tick.job_id = tick.job.id
    return tick


def _job(row: DueSchedule, workspace_id: uuid.UUID, at: datetime.datetime, defaults: TaskDefaults) -> NewJob:
    schedule = row.schedule
    return NewJob(
        workspace_id=workspace_id,
        task=schedule.task,
        payload=_payload(schedule),
        payload_version=schedule.payload_version,
        queue=schedule.queue or defaults.queue,
        priority=defaults.priority if schedule.priority is None else schedule.priority,
        max_attempts=schedule.max_attempts or defaults.max_attempts,
        timeout=_duration_of(schedule.timeout_ms) or defaults.timeout,
        start_within=_duration_of(schedule.start_within_ms) or defaults.start_within,
        run_after=_run_after(row, workspace_id, at),
        unique_key=schedule.unique_key,
        unique_for=None if schedule.unique_key is None else defaults.unique_for,
        if_active=defaults.if_active if schedule.if_active is None else ON_CONFLICT[schedule.if_active],  # type: ignore[arg-type]  # both are what NewJob takes
        resource=schedule.resource,
        units=schedule.units,
        tags=tuple(schedule.tags),
        request_id=request_id_of(schedule.id, at),
    )


def _run_after(row: DueSchedule, workspace_id: uuid.UUID, at: datetime.datetime) -> datetime.datetime | None:
    """When the job is due; None for now.

    Its term counts from there. By the schedule's own word that is the tick's place, however late somebody looks. By its
    task's it is now when that place is over: what is caught up with has all of its time, like any other job.
    """
    place = _place(row.schedule, workspace_id, at)
    return place if place > row.now or row.schedule.start_within_ms is not None else None


def _begin_by(row: DueSchedule, workspace_id: uuid.UUID, at: datetime.datetime) -> datetime.datetime | None:
    """By the schedule's own word. What its task says counts from when the job is enqueued, and is not over by then."""
    within = _duration_of(row.schedule.start_within_ms)
    return None if within is None else _place(row.schedule, workspace_id, at) + within


def _place(schedule: Schedule, workspace_id: uuid.UUID, at: datetime.datetime) -> datetime.datetime:
    """A tick's place in the spread. All workspaces of one for each have the tick at once, and places of their own."""
    if not schedule.every_workspace:
        return at + offset_of(schedule)
    return at + offset_in(datetime.timedelta(milliseconds=schedule.spread_ms), workspace_id, schedule.id)


def _payload(schedule: Schedule) -> Any:
    """As it stands in the row: nobody here could open what is sealed, and its jobs can."""
    return schedule.payload if sealed_form(schedule.payload) is None else SealedPayload(json.dumps(schedule.payload))


def skipped(tick: Tick, reason: str) -> Tick:
    """The same tick, without a job, and why it has none."""
    tick.outcome, tick.reason, tick.job, tick.job_id = "skipped", reason, None, None
    return tick


def _next_move(schedule: Schedule, tick: datetime.datetime | None) -> Move:
    """Over, or paused since somebody said "run now": then there is nothing to wait for."""
    if schedule.paused_at is not None:
        tick = None
    run_at = None if tick is None else tick + offset_of(schedule)
    return Move(schedule.workspace_id, schedule.id, tick, run_at)
