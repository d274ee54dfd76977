"""Entries of syncs: list them, close those whose job ended without a word, forget old ones.

A sync writes down how it ended. One that was killed, cancelled or out of time could not, so its entry is closed by what
the job's record says: for whoever reads it at once, in the table in the course of a minute. Nothing is done about it
when a job ends, which is where it would cost something for every job.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import visit
from jobplatform.queue.statement import one_transaction, run
from jobplatform.queue.turns import leave_turn, take_turn

STATUSES = ("running", "completed", "failed", "cancelled")
#: Entries that one round closes, and deletes.
MOST = 1000
CHORE = "syncs"
EVERY = datetime.timedelta(minutes=1)
AGAIN = datetime.timedelta(seconds=1)

# An entry that says it runs, beside the record of its job. One that is deleted has ended too.
_OVER = "l.status = 'running' and (r.id is null or r.status is not null)"
_JOB = "left join jobplatform.job_records r on r.workspace_id = l.workspace_id and r.id = l.job_id"
_STATUS = "case r.status when 3 then 'completed' when 5 then 'cancelled' else 'failed' end"
_REASON = """
case
    when r.id is null then 'its job was deleted before it said how it ended'
    when r.status = 3 then null
    when r.status = 5 then 'its job was cancelled'
    else 'its job ended as failed (' || r.outcome || ')'
end
"""
_WITH_REASON = f"l.errors || coalesce(to_jsonb(({_REASON})::text), '[]'::jsonb)"

_SEEN = f"""
select
    l.id, l.job_id, l.reference, l.mode,
    case when {_OVER} then {_STATUS} else l.status end,
    l.total_records, l.results::text,
    (case when {_OVER} then {_WITH_REASON} else l.errors end)::text,
    l.warnings::text, l.started_at,
    case when {_OVER} then coalesce(r.completed_at, jobplatform.clock()) else l.ended_at end
from jobplatform.sync_logs l
{_JOB}
where l.workspace_id = %(workspace_id)s
"""
ONE = _SEEN + " and l.id = %(id)s"
NEWEST = (
    _SEEN
    + """
    and (%(before)s::uuid is null or l.id < %(before)s::uuid)
order by l.id desc
limit %(limit)s
"""
)

#: Those of its columns that are JSON.
_JSON = ("results", "errors", "warnings")

CLOSE = f"""
with over as materialized (
    select
        l.workspace_id, l.id, {_STATUS} as status, {_WITH_REASON} as errors,
        coalesce(r.completed_at, jobplatform.clock()) as ended_at
    from jobplatform.sync_logs l
    {_JOB}
    where {_OVER}
    limit {MOST}
    for update of l skip locked
)
update jobplatform.sync_logs l
set status = over.status, errors = over.errors, ended_at = over.ended_at
from over
where l.workspace_id = over.workspace_id and l.id = over.id
"""

# In insert order, so the BRIN index leads to the old end.
FORGET = f"""
with old as materialized (
    select l.workspace_id, l.id
    from jobplatform.sync_logs l
    where l.started_at < jobplatform.clock() - make_interval(secs => %(after)s) and l.status <> 'running'
    limit {MOST}
    for update skip locked
)
delete from jobplatform.sync_logs l
using old
where l.workspace_id = old.workspace_id and l.id = old.id
"""


class SyncLogSeen(NamedTuple):
    """One sync and what came of it, as it is now."""

    id: uuid.UUID
    job_id: uuid.UUID
    reference: str | None
    mode: str
    status: str
    total_records: int
    results: list[dict[str, Any]]
    errors: list[str]
    warnings: list[str]
    started_at: datetime.datetime
    ended_at: datetime.datetime | None


class Tended(NamedTuple):
    """How many entries a round closed and deleted; ``more``: there may be others."""

    closed: int = 0
    forgotten: int = 0

    @property
    def more(self) -> bool:
        return max(self) >= MOST


def get_sync_log(session: Session, workspace_id: uuid.UUID, log_id: uuid.UUID) -> SyncLogSeen | None:
    """The entry of that id, or None when the workspace has none."""
    visit(session, workspace_id)
    return next(_seen(run(session, ONE, workspace_id=workspace_id, id=log_id)), None)


def list_sync_logs(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, before: uuid.UUID | None = None
) -> list[SyncLogSeen]:
    """The workspace's syncs, newest first; ``before`` is the last id of the page before."""
    visit(session, workspace_id)
    return list(_seen(run(session, NEWEST, workspace_id=workspace_id, limit=limit, before=before)))


def tend_sync_logs(session: Session, *, after: datetime.timedelta, now: bool = True) -> Tended:
    """Close entries whose job has ended, and delete those that began longer ago than ``after``: up to 1,000 of each.

    With ``now=False`` it does nothing until a minute after the last round of any process.
    """
    with one_transaction(session):
        turn = take_turn(session, CHORE, now=now)
        if turn is None:
            return Tended()
        tended = Tended(run(session, CLOSE).rowcount, run(session, FORGET, after=after.total_seconds()).rowcount)
        leave_turn(session, turn, 0, AGAIN if tended.more else EVERY)
    return tended


def _seen(rows: Iterable[Any]) -> Iterator[SyncLogSeen]:
    for row in rows:
        # Read as text: what a driver makes of JSON depends on how its connection was set up.
        yield SyncLogSeen._make(json.loads(value) if name in _JSON else value for name, value in _named(row))


def _named(row: Any) -> Iterator[tuple[str, Any]]:
    return zip(SyncLogSeen._fields, row, strict=True)
