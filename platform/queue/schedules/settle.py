"""Settle: what is declared in code becomes rows, and goes when the code is gone. Rows that people made are not touched.

Several versions of an application run at once while it is deployed, and several applications may share a database. So:

1. A declaration belongs to where its tasks are (``module:attribute``). Only workers with the same one change it.
2. A worker that starts writes down what its code declares, unless that is what the row had *before*, and a worker
   with the newer declaration still runs: an old version that restarts in the middle of a deployment changes nothing.
3. While it runs, each worker renews what is as its code says. What nobody has renewed for two minutes is of a version
   that is gone: then who runs puts its own back, or removes what its code does not know.

So a schedule changes once when a new version comes and never goes back and forth; and after any mixture of versions it
is as the one says that is left.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.models import Schedule
from jobplatform.queue.schedules.declare import Declared, plain
from jobplatform.queue.schedules.row import WHEN, await_next
from jobplatform.queue.statement import array, one_transaction, run, text_array

#: A worker says this often that what it declares is still declared.
RENEW_SECONDS: Final = 30.0
#: Longer than a few of those, and shorter than anybody's wait for a deployment.
GONE_SECONDS: Final = 120.0

FOUND = """
select
    workspace_id, id, name, declared_by, fingerprint, replaced_fingerprint, paused_at, cron, every_ms, anchor, run_at,
    timezone, spread_ms,
    coalesce(declared_at < jobplatform.clock() - make_interval(secs => %(gone)s), false),
    coalesce(declared_at < jobplatform.clock() - make_interval(secs => %(renew)s), false),
    jobplatform.clock()
from jobplatform.schedules
where declared_by = %(source)s
    or (workspace_id, name) in (select * from unnest(%(workspace_ids)s::uuid[], %(names)s::text[]))
"""

# Whoever looks does not lock, so each of these says once more what it has seen.
RENEW = """
update jobplatform.schedules s
set declared_at = jobplatform.clock()
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(fingerprints)s::text[]) as u(workspace_id, id, fingerprint)
where s.workspace_id = u.workspace_id and s.id = u.id and s.fingerprint = u.fingerprint
"""
REMOVE = """
delete from jobplatform.schedules
where workspace_id = %(workspace_id)s and id = %(id)s and fingerprint = %(fingerprint)s
    and declared_at < jobplatform.clock() - make_interval(secs => %(gone)s)
"""
# The columns of a declaration come as one document: they are the table's own, by name.
CREATE = """
insert into jobplatform.schedules (
    workspace_id, id, made_by, declared_by, fingerprint, declared_at, next_tick_at, next_run_at,
    name, task, payload, payload_version, cron, every_ms, anchor, run_at, timezone, every_workspace, catch_up,
    spread_ms, queue, priority, max_attempts, timeout_ms, start_within_ms, unique_key, if_active, resource, units,
    tags
)
select
    %(workspace_id)s, %(id)s, 'code', %(source)s, %(fingerprint)s, jobplatform.clock(), %(next_tick)s, %(next_run)s,
    d.name, d.task, coalesce(d.payload, 'null'), d.payload_version, d.cron, d.every_ms, d.anchor, d.run_at,
    d.timezone, d.every_workspace, d.catch_up, d.spread_ms, d.queue, d.priority, d.max_attempts, d.timeout_ms,
    d.start_within_ms, d.unique_key, d.if_active, d.resource, d.units, d.tags
from jsonb_populate_record(null::jobplatform.schedules, %(columns)s::jsonb) d
on conflict do nothing
"""
CHANGE = """
update jobplatform.schedules s
set fingerprint = %(fingerprint)s, replaced_fingerprint = s.fingerprint, declared_at = jobplatform.clock(),
    updated_at = jobplatform.clock(),
    next_tick_at = case when %(waits_on)s then s.next_tick_at else %(next_tick)s end,
    next_run_at = case when %(waits_on)s then s.next_run_at else %(next_run)s end,
    fan_tick_at = case when %(waits_on)s then s.fan_tick_at end,
    fan_after = case when %(waits_on)s then s.fan_after end,
    task = d.task, payload = coalesce(d.payload, 'null'), payload_version = d.payload_version, cron = d.cron,
    every_ms = d.every_ms, anchor = d.anchor, run_at = d.run_at, timezone = d.timezone,
    every_workspace = d.every_workspace, catch_up = d.catch_up, spread_ms = d.spread_ms, queue = d.queue,
    priority = d.priority, max_attempts = d.max_attempts, timeout_ms = d.timeout_ms,
    start_within_ms = d.start_within_ms, unique_key = d.unique_key, if_active = d.if_active, resource = d.resource,
    units = d.units, tags = d.tags
from jsonb_populate_record(null::jobplatform.schedules, %(columns)s::jsonb) d
where s.workspace_id = %(workspace_id)s and s.id = %(id)s and s.fingerprint = %(before)s
"""


class Settled(NamedTuple):
    """The names of what was made, changed and removed, and of what cannot be made because others have the name."""

    made: Sequence[str] = ()
    changed: Sequence[str] = ()
    removed: Sequence[str] = ()
    taken: Sequence[str] = ()

    def __bool__(self) -> bool:
        return any(self)


class _Row(NamedTuple):
    workspace_id: uuid.UUID
    id: uuid.UUID
    name: str
    declared_by: str | None
    fingerprint: str | None
    replaced_fingerprint: str | None
    paused_at: datetime.datetime | None
    cron: str | None
    every_ms: int | None
    anchor: datetime.datetime | None
    run_at: datetime.datetime | None
    timezone: str
    spread_ms: int
    is_gone: bool
    to_renew: bool
    now: datetime.datetime


def settle_schedules(session: Session, source: str, declared: Iterable[Declared], *, starting: bool = False) -> Settled:
    """Bring the rows of ``source`` to what is declared. ``starting``: this worker's code is new here."""
    wanted = {(one.workspace_id, one.name): one for one in declared}
    with one_transaction(session):
        found = {(row.workspace_id, row.name): row for row in _find(session, source, wanted)}
        taken = [key for key in wanted if key in found and found[key].declared_by != source]
        ours = {key: row for key, row in found.items() if row.declared_by == source}
        made = [key for key in wanted if key not in found and _create(session, source, wanted[key])]
        changed = [
            key
            for key, row in ours.items()
            if key in wanted and _is_to_change(row, wanted[key], starting) and _change(session, row, wanted[key])
        ]
        removed = [key for key, row in ours.items() if key not in wanted and row.is_gone and _remove(session, row)]
        _renew(session, [row for key, row in ours.items() if key in wanted and _is_as_declared(row, wanted[key])])
    return Settled(*(tuple(name for _, name in keys) for keys in (made, changed, removed, taken)))


def _find(session: Session, source: str, wanted: Iterable[tuple[uuid.UUID, str]]) -> list[_Row]:
    keys = list(wanted)
    rows = run(
        session,
        FOUND,
        source=source,
        workspace_ids=array(workspace_id for workspace_id, _ in keys),
        names=text_array(name for _, name in keys),
        gone=GONE_SECONDS,
        renew=RENEW_SECONDS / 2,
    )
    return [_Row(*row) for row in rows]


def _is_as_declared(row: _Row, declared: Declared) -> bool:
    return row.fingerprint == declared.fingerprint


def _is_to_change(row: _Row, declared: Declared, starting: bool) -> bool:
    if _is_as_declared(row, declared):
        return False
    return row.is_gone or (starting and row.replaced_fingerprint != declared.fingerprint)


def _create(session: Session, source: str, declared: Declared) -> bool:
    """Nothing when another worker, which starts at the same time, was faster."""
    schedule_id, now = uuid7(), _now(session)
    columns = dict(declared.columns)
    if columns["every_ms"] is not None and columns["anchor"] is None:
        columns["anchor"] = plain(now)
    made = run(session, CREATE, source=source, **_values(declared, schedule_id, columns, now))
    return made.rowcount == 1


def _change(session: Session, row: _Row, declared: Declared) -> bool:
    columns = dict(declared.columns)
    if columns["every_ms"] is not None and columns["anchor"] is None:
        columns["anchor"] = plain(row.anchor or row.now)
    values = _values(declared, row.id, columns, row.now)
    if row.paused_at is not None:
        # A person has paused it, and only a person resumes it.
        values["next_tick"] = values["next_run"] = None
    waits_on = all(plain(getattr(row, name)) == columns[name] for name in WHEN)
    return run(session, CHANGE, before=row.fingerprint, waits_on=waits_on, **values).rowcount == 1


def _remove(session: Session, row: _Row) -> bool:
    place = {"workspace_id": row.workspace_id, "id": row.id, "fingerprint": row.fingerprint}
    return run(session, REMOVE, gone=GONE_SECONDS, **place).rowcount == 1


def _renew(session: Session, rows: Sequence[_Row]) -> None:
    due = [row for row in rows if row.to_renew]
    if due:
        run(
            session,
            RENEW,
            workspace_ids=array(row.workspace_id for row in due),
            ids=array(row.id for row in due),
            fingerprints=text_array(row.fingerprint for row in due),
        )


def _values(
    declared: Declared, schedule_id: uuid.UUID, columns: dict[str, Any], now: datetime.datetime
) -> dict[str, Any]:
    moments = {name: datetime.datetime.fromisoformat(columns[name]) for name in ("anchor", "run_at") if columns[name]}
    schedule = Schedule(workspace_id=declared.workspace_id, id=schedule_id, **{**columns, **moments})
    await_next(schedule, now)
    return {
        "workspace_id": declared.workspace_id,
        "id": schedule_id,
        "fingerprint": declared.fingerprint,
        "columns": json.dumps(columns),
        "next_tick": schedule.next_tick_at,
        "next_run": schedule.next_run_at,
    }


def _now(session: Session) -> datetime.datetime:
    moment: datetime.datetime = run(session, "select jobplatform.clock()").scalar_one()
    return moment
