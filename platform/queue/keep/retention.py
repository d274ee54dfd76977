"""Retention: delete old final jobs, with their attempts and log lines, a small batch at a time.

    1. Take the turn: one process at a time, once a minute for the whole platform.
    2. Go on where the last one stopped, for a few thousand pages of the records, and delete up to 1,000 due jobs there.
    3. Leave the place for the next one; at the end of the table begin again at its first page.

A place and not a moment, because nothing leads to what is due: it depends on the task, the workspace and the moment of
the end, and an index on the end would cost every finish. Nor does the order of insertion: the room of deleted jobs is
given to new ones. So each round reads a fixed number of pages and remembers where it was. Jobs that are kept for years
are passed once in each tour of the table, and never stand in the way of what is behind them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import KEPT_HOURS
from jobplatform.queue.allowed import require_durations
from jobplatform.queue.by_hand.needed import NEEDED, WITH_THEM, forget_batches
from jobplatform.queue.hooks.forget_deliveries import forget_deliveries
from jobplatform.queue.keep.forget_periods import forget_periods
from jobplatform.queue.limits.breaker import BREAKER
from jobplatform.queue.statement import one_transaction, run
from jobplatform.queue.turns import leave_turn, take_turn

#: Pages of 8 kB that one round reads, and jobs that it deletes. A tour of 10 million jobs (2.4 GB) takes 72 rounds.
PAGES = 4096
MOST = 1000
CHORE = "prune"
EVERY = datetime.timedelta(minutes=1)
#: After a round that deleted as much as it may.
AGAIN = datetime.timedelta(seconds=1)
#: For how long the circuit breaker's pauses are kept after their end.
REMEMBERED = "5 minutes"
#: For how long the level of a resource is kept that is not used.
LEVELS_KEPT = "30 days"
#: The database itself lets nobody delete younger lines of the audit log.
SHORTEST_AUDIT = datetime.timedelta(days=30)

# Where somebody keeps jobs longer or shorter. The most specific that says something wins; see how_long.py.
_KEEPS = """
left join jobplatform.task_retention t on t.task = r.task
left join jobplatform.workspace_retention w on w.workspace_id = r.workspace_id and w.task = ''
left join jobplatform.workspace_retention wt on wt.workspace_id = r.workspace_id and wt.task = r.task
"""
_DUE = f"""
r.ctid >= %(first)s::tid
and r.ctid < %(last)s::tid
and r.completed_at < jobplatform.clock() - case r.status
    when 3 then coalesce(
        wt.completed, w.completed, t.completed, t.declared_completed, make_interval(secs => %(completed_after)s)
    )
    when 4 then coalesce(
        wt.failed, w.failed, t.failed, t.declared_failed, make_interval(secs => %(failed_after)s)
    )
    else coalesce(
        wt.cancelled, wt.failed, w.cancelled, w.failed, t.cancelled, t.failed, t.declared_cancelled, t.declared_failed,
        make_interval(secs => %(failed_after)s)
    )
end
and not {NEEDED}
"""

PRUNE = f"""
with due as materialized (
    select r.ctid as tid
    from jobplatform.job_records r
    {_KEEPS}
    where {_DUE}
    limit {MOST}
    for update of r skip locked
),
deleted as (
    delete from jobplatform.job_records
    where ctid = any(array(select tid from due))
    returning workspace_id, id, ctid
),
{WITH_THEM}
select count(*), max((ctid::text::point)[0])::bigint from deleted
"""

COUNT = f"""
select r.status, count(*)
from jobplatform.job_records r
{_KEEPS}
where {_DUE}
group by r.status
"""

SIZE = "select pg_relation_size('jobplatform.job_records') / current_setting('block_size')::bigint"

# A dead worker is kept a day, for whoever asks what happened in the night; and then where it ran, for whoever looks at
# one of its jobs. The others have less to look through.
FORGET_WORKERS = """
with gone as (
    delete from jobplatform.workers w
    where w.dead_at < jobplatform.clock() - interval '1 day'
        and not exists (select from jobplatform.job_queue q where q.state = 2 and q.worker_id = w.id)
    returning w.id, w.name, w.host, w.pid, w.dead_at
)
insert into jobplatform.past_workers (id, name, host, pid, dead_at)
select id, name, host, pid, dead_at
from gone
on conflict do nothing
"""

# As long as any job is kept: nothing leads from a worker to the jobs that name it. The oldest have the lowest ids.
FORGET_PAST_WORKERS = f"""
delete from jobplatform.past_workers
where id = any(array(
    select oldest.id
    from (select id, dead_at from jobplatform.past_workers order by id limit {MOST}) oldest
    where oldest.dead_at < jobplatform.clock() - (
        select max(kept.longest)
        from (
            select greatest(make_interval(secs => %(completed_after)s), make_interval(secs => %(failed_after)s))
            union all
            select greatest(completed, failed, cancelled, declared_completed, declared_failed, declared_cancelled)
            from jobplatform.task_retention
            union all
            select greatest(completed, failed, cancelled) from jobplatform.workspace_retention
        ) kept(longest)
    )
))
"""

# One that is over pauses nothing, and still has every claim look for pauses. The circuit breaker's are kept for a
# while: how long the last one was says how long the next one is, and to find out that nothing is better takes time.
# Whoever has one locked pauses anew, or resumes, at this moment, and may come to wait for another of them.
FORGET_PAUSES = f"""
delete from jobplatform.pauses
where ctid = any(array(
    select ctid
    from jobplatform.pauses
    where until < jobplatform.clock() - case when actor = '{BREAKER}' then interval '{REMEMBERED}' else interval '0' end
    for update skip locked
))
"""

# Of a resource that nobody has used for so long nobody knows any more how much it takes. One that is locked is in use.
FORGET_LEVELS = f"""
delete from jobplatform.resource_levels
where resource = any(array(
    select resource
    from jobplatform.resource_levels
    where used_at < jobplatform.clock() - interval '{LEVELS_KEPT}'
    limit {MOST}
    for update skip locked
))
"""

# By their keys: a worker may not see the rest of them.
FORGET_ANSWERS = f"""
delete from jobplatform.kept_answers a
using (
    select workspace_id, caller, key
    from jobplatform.kept_answers
    where created_at < jobplatform.clock() - interval '{KEPT_HOURS} hours'
    limit {MOST}
) old
where a.workspace_id = old.workspace_id and a.caller = old.caller and a.key = old.key
"""

# By their keys, as above. There are few: what the same person begins again takes the place of what they left.
FORGET_AUTHORIZATIONS = f"""
delete from jobplatform.connection_authorizations a
using (
    select workspace_id, state_hash
    from jobplatform.connection_authorizations
    where expires_at < jobplatform.clock()
    limit {MOST}
) old
where a.workspace_id = old.workspace_id and a.state_hash = old.state_hash
"""

# Lines are numbered as they are written, so the oldest are the first: when they are not due, none is.
FORGET_AUDIT = f"""
delete from jobplatform.audit_log
where id = any(array(
    select oldest.id
    from (select id, at from jobplatform.audit_log order by id limit {MOST}) oldest
    where oldest.at < jobplatform.clock() - make_interval(secs => %(audit_after)s)
))
"""


class Keeps(NamedTuple):
    """How long jobs are kept where no task and no workspace says otherwise, and lines of the audit log.

    ``failed_after`` counts for cancelled jobs too. Without ``audit_after`` nothing of the audit log is deleted.
    """

    completed_after: datetime.timedelta
    failed_after: datetime.timedelta
    audit_after: datetime.timedelta | None = None

    def as_seconds(self) -> dict[str, float]:
        return {
            "completed_after": self.completed_after.total_seconds(),
            "failed_after": self.failed_after.total_seconds(),
        }


class Pruned(NamedTuple):
    """What a round deleted, and the page where the next one goes on; ``done`` when this was the last of the table."""

    jobs: int
    next_page: int
    done: bool


def prune_jobs(
    session: Session,
    *,
    completed_after: datetime.timedelta,
    failed_after: datetime.timedelta,
    audit_after: datetime.timedelta | None = None,
    now: bool = True,
) -> int:
    """Delete up to 1,000 jobs that ended longer ago than they are kept, and say how many went.

    ``failed_after`` counts for cancelled jobs too; what tasks and workspaces say of their own comes before both. 0 from
    one call means that nothing was due in the part of the table it looked at, or that another process is at it; 1,000
    that there may be more. With ``now=False`` it does nothing until a minute after the last round of any process.
    """
    require_durations(completed_after=completed_after, failed_after=failed_after, audit_after=audit_after)
    keeps = Keeps(completed_after, failed_after, audit_after)
    with one_transaction(session):
        turn = take_turn(session, CHORE, now=now)
        if turn is None:
            return 0
        most_forgotten = max(forget_the_past(session, keeps), forget_deliveries(session), forget_periods(session))
        forget_batches(session, max(completed_after, failed_after))
        pruned = prune_pages(session, keeps, turn.position)
        again = max(pruned.jobs, most_forgotten) >= MOST
        leave_turn(session, turn, 0 if pruned.done else pruned.next_page, AGAIN if again else EVERY)
    return pruned.jobs


def prune_pages(session: Session, keeps: Keeps, first_page: int) -> Pruned:
    """Delete due jobs of the pages from ``first_page`` on. A table that has become shorter is begun anew."""
    size = count_pages(session)
    first = first_page if first_page < size else 0
    last = min(size, first + PAGES)
    jobs, page = run(session, PRUNE, **_pages(first, last), **keeps.as_seconds()).one()
    if jobs >= MOST:
        return Pruned(jobs, page, done=False)
    return Pruned(jobs, last, done=last >= size)


def forget_the_past(session: Session, keeps: Keeps) -> int:
    """Delete workers long dead, pauses that are over, kept answers, consent that never came, and old lines of the audit
    log; says how many lines."""
    run(session, FORGET_WORKERS)
    run(session, FORGET_PAST_WORKERS, **keeps.as_seconds())
    run(session, FORGET_PAUSES)
    run(session, FORGET_LEVELS)
    run(session, FORGET_ANSWERS)
    run(session, FORGET_AUTHORIZATIONS)
    if keeps.audit_after is None:
        return 0
    after = max(keeps.audit_after, SHORTEST_AUDIT)
    return run(session, FORGET_AUDIT, audit_after=after.total_seconds()).rowcount


def count_due(session: Session, keeps: Keeps) -> Iterator[dict[str, int]]:
    """How many jobs are due, by status, for one part of the table after the other. Reads all of it, deletes nothing."""
    names = {3: "completed", 4: "failed", 5: "cancelled"}
    for first in range(0, count_pages(session), PAGES):
        rows = run(session, COUNT, **_pages(first, first + PAGES), **keeps.as_seconds())
        yield {names[status]: count for status, count in rows}


def count_pages(session: Session) -> int:
    """How long the table of records is."""
    return int(run(session, SIZE).scalar_one())


def _pages(first: int, last: int) -> dict[str, str]:
    return {"first": f"({first},0)", "last": f"({last},0)"}
