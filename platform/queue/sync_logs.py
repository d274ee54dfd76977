"""Entries of syncs: list them, close those whose job ended without a word, forget old ones.

A sync writes down how it ended. One that was killed, cancelled or out of time could not, so its entry is closed by what
the job's record says: for whoever reads it at once, in the table in the course of a minute. Nothing is done about it
when a job ends, which is where it would cost something for every job.

While its job waits for another try after such an end, the entry is ``interrupted``: for whoever reads it as soon as the
worker is silent or dead, in the table when the job is taken back from it. The next attempt has it running again.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.statement import Lease, array, one_transaction, run
from jobplatform.queue.turns import leave_turn, take_turn

STATUSES = ("running", "completed", "failed", "cancelled", "interrupted")
#: Entries that one round closes, and deletes.
MOST = 1000
CHORE = "syncs"
EVERY = datetime.timedelta(minutes=1)
AGAIN = datetime.timedelta(seconds=1)

# An entry that says it runs, beside the record of its job. One that is deleted has ended too.
_OPEN = "l.status in ('running', 'interrupted')"
_OVER = f"{_OPEN} and (r.id is null or r.status is not null)"
_JOB = "left join jobplatform.job_records r on r.workspace_id = l.workspace_id and r.id = l.job_id"
#: How the last attempt came to nothing, of a job that waits for the next or whose worker is gone; null where none did.
_STOPPED = """
case
    when q.state = 2 then case
        when w.id is null
            or w.dead_at is not null
            or w.heartbeat_at < jobplatform.clock() - make_interval(secs => %(lease)s)
        then 'lost'
    end
    else (
        select case when a.outcome in ('lost', 'timeout', 'error') then a.outcome end
        from jobplatform.job_attempts a
        where a.workspace_id = l.workspace_id and a.job_id = l.job_id
        order by a.epoch desc
        limit 1
    )
end
"""
_LIVE = f"""
left join lateral (
    select {_STOPPED} as outcome
    from jobplatform.job_queue q
    left join jobplatform.workers w on w.id = q.worker_id
    where {_OPEN} and q.workspace_id = l.workspace_id and q.id = l.job_id
) stopped on true
"""
_STOP = "to_jsonb(('its last attempt ended as ' || stopped.outcome || ', and it is tried again')::text)"
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
    case
        when {_OVER} then {_STATUS}
        when {_OPEN} then case when stopped.outcome is null then 'running' else 'interrupted' end
        else l.status
    end,
    l.total_records, l.results::text,
    (case
        when {_OVER} then {_WITH_REASON}
        when l.status = 'running' and stopped.outcome is not null then l.errors || {_STOP}
        else l.errors
    end)::text,
    l.warnings::text, l.started_at,
    case when {_OVER} then coalesce(r.completed_at, jobplatform.clock()) else l.ended_at end
from jobplatform.sync_logs l
{_JOB}
{_LIVE}
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

# What of these was taken back from its worker is to be tried again, or has failed for good.
RESCUED = f"""
update jobplatform.sync_logs l
set status = case when r.status is null then 'interrupted' else {_STATUS} end,
    errors = case
        when r.status is not null then {_WITH_REASON}
        when l.status = 'running' then l.errors || to_jsonb('its worker was lost, and it is tried again'::text)
        else l.errors
    end,
    ended_at = r.completed_at
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
where l.workspace_id = u.workspace_id and l.job_id = u.id and {_OPEN}
"""

# In insert order, so the BRIN index leads to the old end.
FORGET = f"""
with old as materialized (
    select l.workspace_id, l.id
    from jobplatform.sync_logs l
    where l.started_at < jobplatform.clock() - make_interval(secs => %(after)s)
        and l.status not in ('running', 'interrupted')
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


@checks_arguments()
def get_sync_log(session: Session, workspace_id: uuid.UUID, log_id: uuid.UUID) -> SyncLogSeen | None:
    """The entry of that id, or None when the workspace has none."""
    visit(session, workspace_id)
    return next(_seen(run(session, ONE, lease=lease_seconds(), workspace_id=workspace_id, id=log_id)), None)


@checks_arguments()
def list_sync_logs(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, before: uuid.UUID | None = None
) -> list[SyncLogSeen]:
    """The workspace's syncs, newest first; ``before`` is the last id of the page before."""
    visit(session, workspace_id)
    asked = {"workspace_id": workspace_id, "limit": limit, "before": before}
    return list(_seen(run(session, NEWEST, lease=lease_seconds(), **asked)))


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


def note_rescued(session: Session, jobs: Sequence[Lease]) -> int:
    """Say of the syncs among these jobs, which were taken back from dead workers, that they were interrupted."""
    if not jobs:
        return 0
    return run(
        session,
        RESCUED,
        workspace_ids=array(job.workspace_id for job in jobs),
        ids=array(job.job_id for job in jobs),
    ).rowcount


def _seen(rows: Iterable[Any]) -> Iterator[SyncLogSeen]:
    for row in rows:
        # Read as text: what a driver makes of JSON depends on how its connection was set up.
        yield SyncLogSeen._make(json.loads(value) if name in _JSON else value for name, value in _named(row))


def _named(row: Any) -> Iterator[tuple[str, Any]]:
    return zip(SyncLogSeen._fields, row, strict=True)
