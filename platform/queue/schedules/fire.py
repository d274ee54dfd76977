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

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.errors import JobPlatformError, QuotaExceededError
from jobplatform.models import Schedule
from jobplatform.queue.enqueue import Enqueued, enqueue_jobs
from jobplatform.queue.patience import out_of_patience, wait_briefly
from jobplatform.queue.schedules.asked import (
    IMPOSSIBLE,
    LONGEST_REASON,
    DueSchedule,
    Move,
    TaskDefaults,
    Tick,
    look_at,
    skipped,
)
from jobplatform.queue.schedules.row import outcome_of
from jobplatform.queue.statement import array, one_transaction, run, text_array
from jobplatform.wording import plural

#: Jobs enqueued in one transaction: a lock on a due schedule is never held for long.
LARGEST_BATCH: Final = 500

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
        every_workspace, catch_up, spread_ms, queue, priority, max_attempts, timeout_ms, start_within_ms,
        unique_key, if_active, resource, units, tags, created_at, paused_at, next_tick_at, fan_tick_at, fan_after
    from jobplatform.schedules
    where task = known.task and next_run_at <= jobplatform.clock()
        and (%(alone)s::uuid is null or id = %(alone)s::uuid)
    order by next_run_at
    limit 100
    for update skip locked
) s
order by s.next_tick_at
"""

# For when they cannot all be done at once.
SOME_DUE = """
select id::text
from jobplatform.schedules
where task = any(%(tasks)s::text[]) and next_run_at <= jobplatform.clock()
order by random()
limit 20
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

FULL = "the workspace's quota of {waiting} is full"

#: Outcomes by which there is something to start.
READY = ("enqueued", "replaced")


class Fired(NamedTuple):
    """How many ticks were done, the workspaces that have jobs of them, and the seconds until the next is due."""

    ticks: int
    workspaces: Sequence[str]
    next_due: float | None


def fire_schedules(session: Session, known: Mapping[str, TaskDefaults]) -> Fired:
    """Do a batch of what is due, of the tasks that are ``known``. ``next_due`` is 0 when there may be more at once.

    On a connection that commits each statement nothing is waited for that somebody else has locked, a guard's key or a
    quota: a schedule that needs it stays due, and the others are done.
    """
    tasks = text_array(known)
    next_due = run(session, NEXT_DUE, tasks=tasks).scalar_one()
    if next_due is None or next_due > 0:
        return Fired(0, (), next_due)
    try:
        return _fire(session, known, tasks)
    except DBAPIError as error:
        if not out_of_patience(error):
            raise
    return _fire_singly(session, known, tasks)


def _fire_singly(session: Session, known: Mapping[str, TaskDefaults], tasks: str) -> Fired:
    """One of them needs what somebody has locked. It stays due, and is tried again a poll later."""
    fired: list[Fired] = []
    for (schedule_id,) in run(session, SOME_DUE, tasks=tasks).all():
        try:
            fired.append(_fire(session, known, tasks, schedule_id))
        except DBAPIError as error:
            if not out_of_patience(error):
                raise
    return Fired(sum(one.ticks for one in fired), sorted({name for one in fired for name in one.workspaces}), None)


def _fire(session: Session, known: Mapping[str, TaskDefaults], tasks: str, alone: str | None = None) -> Fired:
    """One transaction: all that are due, or one alone."""
    with one_transaction(session) as ours:
        if ours:
            wait_briefly(session)
        asked, moves = _look(session, known, tasks, alone)
        if not moves:
            # Another worker is at it, and a poll later it will be done with it.
            return Fired(0, (), None)
        ticks = _record(session, asked)
        _enqueue(session, ticks)
        _move_on(session, moves)
    return Fired(len(ticks), sorted({str(tick.workspace_id) for tick in ticks if tick.outcome in READY}), 0.0)


def _look(
    session: Session, known: Mapping[str, TaskDefaults], tasks: str, alone: str | None
) -> tuple[list[Tick], list[Move]]:
    """What is due, as far as it fits into one transaction. What does not stays due."""
    ticks: list[Tick] = []
    moves: list[Move] = []
    for row in _take_due(session, tasks, alone):
        room = LARGEST_BATCH - len(ticks)
        if room <= 0:
            break
        asked, move = look_at(session, row, known[row.schedule.task], room)
        ticks += asked
        moves.append(move)
    return ticks, moves


def _take_due(session: Session, tasks: str, alone: str | None) -> Iterator[DueSchedule]:
    for row in run(session, DUE, tasks=tasks, alone=alone).all():
        *columns, now, paused, encrypting, _ = row
        yield DueSchedule(Schedule(**dict(zip(_COLUMNS, columns, strict=True))), now, paused, encrypting)


# -- doing it --------------------------------------------------------------------------------------


def _record(session: Session, ticks: Sequence[Tick]) -> list[Tick]:
    """Those of the ticks that nobody has done before."""
    new = {tuple(row) for row in run(session, RECORD_TICKS, **_columns(ticks))}
    return [tick for tick in ticks if tick.key in new]


def _enqueue(session: Session, ticks: Sequence[Tick]) -> None:
    """Enqueue their jobs, whatever becomes of one: a full quota keeps nothing from the others, nor does a job that
    cannot be.
    """
    asked = [tick for tick in ticks if tick.job is not None]
    corrected: list[Tick] = []
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
        except JobPlatformError:
            # Nothing was enqueued, and which of them it was is found out one by one.
            for tick in asked:
                corrected += _enqueue_one(session, tick)
            break
    if corrected:
        run(session, CORRECT_TICKS, **_columns(corrected))


def _enqueue_one(session: Session, tick: Tick) -> list[Tick]:
    assert tick.job is not None
    try:
        return _answered([tick], enqueue_jobs(session, [tick.job]))
    except QuotaExceededError as error:
        return [skipped(tick, FULL.format(waiting=plural(error.limit, "waiting job")))]
    except JobPlatformError as error:
        return [skipped(tick, IMPOSSIBLE.format(error=error)[:LONGEST_REASON])]


def _answered(ticks: Sequence[Tick], answers: Sequence[Enqueued]) -> list[Tick]:
    """Those that met a job with their guard, which is now named; it may be theirs by now."""
    met = []
    for tick, answer in zip(ticks, answers, strict=True):
        if not answer.created:
            tick.outcome, tick.job_id = outcome_of(answer), answer.job_id
            met.append(tick)
    return met


def _move_on(session: Session, moves: Sequence[Move]) -> None:
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


def _columns(ticks: Sequence[Tick]) -> dict[str, Any]:
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
    "every_workspace", "catch_up", "spread_ms", "queue", "priority", "max_attempts", "timeout_ms",
    "start_within_ms", "unique_key", "if_active", "resource", "units", "tags", "created_at", "paused_at",
    "next_tick_at", "fan_tick_at", "fan_after",
)  # fmt: skip
