"""Fire: do what is due of schedules. Every worker does it, without a leader, and each tick is done once.

One transaction for a batch of due schedules:

    1. Take those that are due, of the tasks this worker knows; what another worker has taken is skipped.
    2. Decide by arithmetic what of each is done, and what its next tick is.
    3. Write a record of each tick. Its key is (workspace, schedule, tick): what is there already is not done again.
    4. Enqueue the jobs of the ticks that were new, and correct the records of those that came to something else.
    5. Move the schedules on.

A worker that dies in between leaves nothing of it. The row's lock keeps two workers apart, and the key of the record
keeps what was done done, whatever becomes of locks, clocks and backups.

Looking costs one statement, which asks the index for the tasks this worker knows: schedules that are not due, and those
of a task that nobody knows, cost nothing. What nobody knows stays due until somebody does.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, InvalidScheduleError, QuotaExceededError
from jobplatform.models import Schedule
from jobplatform.queue.due import Due, due_ticks
from jobplatform.queue.enqueue import Enqueued, NewJob, enqueue_jobs
from jobplatform.queue.recurrence import Rule, offset_in
from jobplatform.queue.schedules import ON_CONFLICT, offset_of, outcome_of, request_id_of, rule_of
from jobplatform.queue.seal import SealedPayload, sealed_form
from jobplatform.queue.statement import array, one_transaction, run, text_array

#: Jobs enqueued in one transaction: a lock on a due schedule is never held for long.
LARGEST_BATCH: Final = 500
#: After so long a rule that cannot be read here is looked at again.
AGAIN: Final = datetime.timedelta(minutes=5)

# A `limit` in each task's own look, so that a task with very many due schedules is not all locked at once.
DUE = """
select
    s.*,
    jobplatform.clock(),
    exists (
        select
        from jobplatform.pauses p
        where p.kind = 'workspace' and p.key = s.workspace_id::text
            and (p.until is null or p.until > jobplatform.clock())
    ),
    exists (select from jobplatform.workspace_keys k where k.workspace_id = s.workspace_id and k.encrypts),
    -- A worker that is stopped in the middle of this must not keep others from it for longer.
    set_config('idle_in_transaction_session_timeout', '10s', true)
from unnest(%(tasks)s::text[]) as known(task)
cross join lateral (
    select
        workspace_id, id, task, payload, payload_version, cron, every_ms, anchor, run_at, timezone,
        every_workspace, catch_up, spread_ms, queue, priority, max_attempts, timeout_ms, unique_key, if_active,
        resource, units, tags, created_at, paused_at, next_tick_at, fan_tick_at, fan_after
    from jobplatform.schedules
    where task = known.task and next_run_at <= jobplatform.clock()
    order by next_run_at
    limit 100
    for update skip locked
) s
order by s.next_tick_at
"""

# Seconds until the next one is due, of the tasks that are known; not more than 0 when one is.
NEXT_DUE = """
select extract(epoch from min(s.next_run_at) - jobplatform.clock())::float8
from unnest(%(tasks)s::text[]) as known(task)
cross join lateral (
    select next_run_at
    from jobplatform.schedules
    where task = known.task and next_run_at is not null
    order by next_run_at
    limit 1
) s
"""

RECORD_TICKS = """
insert into jobplatform.schedule_ticks (workspace_id, schedule_id, tick_at, outcome, reason, job_id)
select u.workspace_id, u.schedule_id, u.tick_at, u.outcome, u.reason, u.job_id
from unnest(
    %(workspace_ids)s::uuid[], %(schedule_ids)s::uuid[], %(ticks)s::timestamptz[], %(outcomes)s::text[],
    %(reasons)s::text[], %(job_ids)s::uuid[]
) as u(workspace_id, schedule_id, tick_at, outcome, reason, job_id)
order by 1, 2, 3
on conflict do nothing
returning workspace_id, schedule_id, tick_at
"""

CORRECT_TICKS = """
update jobplatform.schedule_ticks t
set outcome = u.outcome, reason = u.reason, job_id = u.job_id
from unnest(
    %(workspace_ids)s::uuid[], %(schedule_ids)s::uuid[], %(ticks)s::timestamptz[], %(outcomes)s::text[],
    %(reasons)s::text[], %(job_ids)s::uuid[]
) as u(workspace_id, schedule_id, tick_at, outcome, reason, job_id)
where t.workspace_id = u.workspace_id and t.schedule_id = u.schedule_id and t.tick_at = u.tick_at
"""

MOVE_ON = """
update jobplatform.schedules s
set next_tick_at = u.next_tick_at, next_run_at = u.next_run_at, fan_tick_at = u.fan_tick_at, fan_after = u.fan_after
from unnest(
    %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(next_ticks)s::timestamptz[], %(next_runs)s::timestamptz[],
    %(fan_ticks)s::timestamptz[], %(fan_afters)s::uuid[]
) as u(workspace_id, id, next_tick_at, next_run_at, fan_tick_at, fan_after)
where s.workspace_id = u.workspace_id and s.id = u.id
"""

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
PAUSED = "the workspace is paused, and what repeats is not piled up"
ENCRYPTED = (
    "jobs of the workspace or task are encrypted and the schedule's payload is not; it is sealed when it is changed"
)
FULL = "the workspace's quota of {limit} waiting jobs is full"

#: Outcomes by which there is something to start.
READY = ("enqueued", "replaced")

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
        )


class Fired(NamedTuple):
    """How many ticks were done, the workspaces that have jobs of them, and the seconds until the next is due."""

    ticks: int
    workspaces: Sequence[str]
    next_due: float | None


@dataclass(slots=True)
class _Tick:
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


class _Row(NamedTuple):
    """A due schedule, and what is the matter with its workspace."""

    schedule: Schedule
    now: datetime.datetime
    workspace_paused: bool
    encrypting: bool


class _Move(NamedTuple):
    """Where a schedule goes from here."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    next_tick: datetime.datetime | None
    next_run: datetime.datetime | None
    fan_tick: datetime.datetime | None = None
    fan_after: uuid.UUID | None = None


def fire_schedules(session: Session, known: Mapping[str, TaskDefaults]) -> Fired:
    """Do a batch of what is due, of the tasks that are ``known``. ``next_due`` is 0 when there may be more at once."""
    tasks = text_array(known)
    next_due = run(session, NEXT_DUE, tasks=tasks).scalar_one()
    if next_due is None or next_due > 0:
        return Fired(0, (), next_due)
    with one_transaction(session):
        asked, moves = _look(session, known, tasks)
        if not moves:
            # Another worker is at it, and a poll later it will be done with it.
            return Fired(0, (), None)
        ticks = _record(session, asked)
        _enqueue(session, ticks)
        _move_on(session, moves)
    return Fired(len(ticks), sorted({str(tick.workspace_id) for tick in ticks if tick.outcome in READY}), 0.0)


def _look(session: Session, known: Mapping[str, TaskDefaults], tasks: str) -> tuple[list[_Tick], list[_Move]]:
    """What is due, as far as it fits into one transaction. What does not stays due."""
    ticks: list[_Tick] = []
    moves: list[_Move] = []
    for row in _take_due(session, tasks):
        room = LARGEST_BATCH - len(ticks)
        if room <= 0:
            break
        asked, move = _look_at(session, row, known[row.schedule.task], room)
        ticks += asked
        moves.append(move)
    return ticks, moves


def _take_due(session: Session, tasks: str) -> Iterator[_Row]:
    for row in run(session, DUE, tasks=tasks).all():
        *columns, now, paused, encrypting, _ = row
        yield _Row(Schedule(**dict(zip(_COLUMNS, columns, strict=True))), now, paused, encrypting)


# -- what is to be done ------------------------------------------------------------------------------


def _look_at(session: Session, row: _Row, defaults: TaskDefaults, room: int) -> tuple[list[_Tick], _Move]:
    """The ticks of one schedule, and where it goes from here."""
    schedule = row.schedule
    try:
        rule = rule_of(schedule)
    except InvalidScheduleError:
        # Its time zone may be unknown here. Nothing of it is done or skipped, and nobody else has to wait for it.
        return [], _Move(schedule.workspace_id, schedule.id, schedule.next_tick_at, row.now + AGAIN)
    if schedule.every_workspace:
        return _fan_out(session, row, rule, defaults, room)
    due = _due(row, rule, room)
    ticks = [_tick(row, schedule.workspace_id, tick, defaults) for tick in due.ticks]
    return ticks + _missed(schedule, due), _next_move(schedule, due.next_tick)


def _fan_out(session: Session, row: _Row, rule: Rule, defaults: TaskDefaults, room: int) -> tuple[list[_Tick], _Move]:
    """A tick for each of the next workspaces. The last of them is remembered, so the next batch goes on from there."""
    schedule, ticks = row.schedule, []
    tick, after, next_tick = schedule.fan_tick_at, schedule.fan_after or _NOBODY, schedule.next_tick_at
    if tick is None:
        due = _due(row, rule, 1)
        ticks += _missed(schedule, due)
        if not due.ticks:
            return ticks, _next_move(schedule, due.next_tick)
        tick, next_tick = due.ticks[0], due.next_tick
        ticks.append(_Tick(schedule.workspace_id, schedule.id, tick, outcome="fanned_out"))
    found = run(session, WORKSPACES, after=after, limit=room).all()
    ticks += [_tick(row, workspace_id, tick, defaults, encrypting=sealed) for workspace_id, sealed in found]
    if len(found) < room:
        return ticks, _next_move(schedule, next_tick)
    return ticks, _Move(schedule.workspace_id, schedule.id, next_tick, row.now, tick, found[-1][0])


def _due(row: _Row, rule: Rule, room: int) -> Due:
    schedule = row.schedule
    assert schedule.next_tick_at is not None
    return due_ticks(rule, schedule.catch_up, schedule.next_tick_at, row.now - offset_of(schedule), most=room)


def _missed(schedule: Schedule, due: Due) -> list[_Tick]:
    if due.missed is None:
        return []
    reason = MISSED.format(policy=schedule.catch_up)
    return [_Tick(schedule.workspace_id, schedule.id, due.missed, outcome="skipped", reason=reason)]


def _tick(
    row: _Row, workspace_id: uuid.UUID, at: datetime.datetime, defaults: TaskDefaults, *, encrypting: bool | None = None
) -> _Tick:
    schedule = row.schedule
    tick = _Tick(workspace_id, schedule.id, at)
    sealed = sealed_form(schedule.payload) is not None
    if (row.encrypting or encrypting or defaults.encrypted) and not sealed:
        return _skipped(tick, ENCRYPTED)
    if row.workspace_paused and schedule.run_at is None:
        return _skipped(tick, PAUSED)
    try:
        tick.job = _job(schedule, workspace_id, at, defaults)
    except InvalidJobError as error:
        return _skipped(tick, f"no such job can be enqueued: {error}"[:500])
    tick.job_id = tick.job.id
    return tick


def _job(schedule: Schedule, workspace_id: uuid.UUID, at: datetime.datetime, defaults: TaskDefaults) -> NewJob:
    spread = datetime.timedelta(milliseconds=schedule.spread_ms)
    return NewJob(
        workspace_id=workspace_id,
        task=schedule.task,
        payload=_payload(schedule),
        payload_version=schedule.payload_version,
        queue=schedule.queue or defaults.queue,
        priority=defaults.priority if schedule.priority is None else schedule.priority,
        max_attempts=schedule.max_attempts or defaults.max_attempts,
        timeout=defaults.timeout
        if schedule.timeout_ms is None
        else datetime.timedelta(milliseconds=schedule.timeout_ms),
        # All workspaces have the tick at once, and each its own place in the spread.
        run_after=at + offset_in(spread, workspace_id, schedule.id) if schedule.every_workspace and spread else None,
        unique_key=schedule.unique_key,
        if_active=defaults.if_active if schedule.if_active is None else ON_CONFLICT[schedule.if_active],  # type: ignore[arg-type]  # both are what NewJob takes
        resource=schedule.resource,
        units=schedule.units,
        tags=tuple(schedule.tags),
        request_id=request_id_of(schedule.id, at),
    )


def _payload(schedule: Schedule) -> Any:
    """As it stands in the row: nobody here could open what is sealed, and its jobs can."""
    return schedule.payload if sealed_form(schedule.payload) is None else SealedPayload(json.dumps(schedule.payload))


def _skipped(tick: _Tick, reason: str) -> _Tick:
    tick.outcome, tick.reason, tick.job, tick.job_id = "skipped", reason, None, None
    return tick


def _next_move(schedule: Schedule, tick: datetime.datetime | None) -> _Move:
    """Over, or paused since somebody said "run now": then there is nothing to wait for."""
    if schedule.paused_at is not None:
        tick = None
    run_at = None if tick is None else tick + offset_of(schedule)
    return _Move(schedule.workspace_id, schedule.id, tick, run_at)


# -- doing it ----------------------------------------------------------------------------------------


def _record(session: Session, ticks: Sequence[_Tick]) -> list[_Tick]:
    """Those of the ticks that nobody has done before."""
    new = {tuple(row) for row in run(session, RECORD_TICKS, **_columns(ticks))}
    return [tick for tick in ticks if tick.key in new]


def _enqueue(session: Session, ticks: Sequence[_Tick]) -> None:
    """Enqueue their jobs, whatever becomes of one: a full quota keeps nothing from the others."""
    asked = [tick for tick in ticks if tick.job is not None]
    corrected: list[_Tick] = []
    while asked:
        try:
            corrected += _answered(asked, enqueue_jobs(session, [tick.job for tick in asked if tick.job]))
            break
        except QuotaExceededError as error:
            # Nothing was enqueued. The others again without this workspace, and its own one by one, as far as they fit.
            full = error.workspace_id
            for tick in (tick for tick in asked if tick.workspace_id == full):
                corrected += _enqueue_one(session, tick)
            asked = [tick for tick in asked if tick.workspace_id != full]
    if corrected:
        run(session, CORRECT_TICKS, **_columns(corrected))


def _enqueue_one(session: Session, tick: _Tick) -> list[_Tick]:
    assert tick.job is not None
    try:
        return _answered([tick], enqueue_jobs(session, [tick.job]))
    except QuotaExceededError as error:
        return [_skipped(tick, FULL.format(limit=error.limit))]


def _answered(ticks: Sequence[_Tick], answers: Sequence[Enqueued]) -> list[_Tick]:
    """Those that met an unfinished job with their guard, which is now named; it may be theirs by now."""
    met = []
    for tick, answer in zip(ticks, answers, strict=True):
        if not answer.created:
            tick.outcome, tick.job_id = outcome_of(answer), answer.job_id
            met.append(tick)
    return met


def _move_on(session: Session, moves: Sequence[_Move]) -> None:
    run(
        session,
        MOVE_ON,
        workspace_ids=array(move.workspace_id for move in moves),
        ids=array(move.id for move in moves),
        next_ticks=[move.next_tick for move in moves],
        next_runs=[move.next_run for move in moves],
        fan_ticks=[move.fan_tick for move in moves],
        fan_afters=_ids(move.fan_after for move in moves),
    )


def _columns(ticks: Sequence[_Tick]) -> dict[str, Any]:
    return {
        "workspace_ids": array(tick.workspace_id for tick in ticks),
        "schedule_ids": array(tick.schedule_id for tick in ticks),
        "ticks": [tick.at for tick in ticks],
        "outcomes": text_array(tick.outcome for tick in ticks),
        "reasons": text_array(tick.reason for tick in ticks),
        "job_ids": _ids(tick.job_id for tick in ticks),
    }


def _ids(values: Iterable[uuid.UUID | None]) -> str:
    return array("null" if value is None else value for value in values)


#: The columns of DUE, in its order.
_COLUMNS = (
    "workspace_id", "id", "task", "payload", "payload_version", "cron", "every_ms", "anchor", "run_at", "timezone",
    "every_workspace", "catch_up", "spread_ms", "queue", "priority", "max_attempts", "timeout_ms", "unique_key",
    "if_active", "resource", "units", "tags", "created_at", "paused_at", "next_tick_at", "fan_tick_at", "fan_after",
)  # fmt: skip
