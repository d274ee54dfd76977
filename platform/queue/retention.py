"""Retention: delete old final jobs, with their attempts and log lines, a small batch at a time."""

from __future__ import annotations

import datetime

from sqlalchemy.orm import Session

from jobplatform.models import KEPT_HOURS
from jobplatform.queue.statement import run

# Records are in insert order, so the BRIN index on created_at leads to the old end of the table; nothing is indexed by
# the moment of completion, which would cost every finish. One pruner at a time is enough, and the lock is only tried.
PRUNE = """
with turn as materialized (
    select pg_try_advisory_xact_lock(7246180002) as ours
),
old as materialized (
    select r.ctid as tid
    from jobplatform.job_records r
    where (select ours from turn)
        and r.created_at < jobplatform.clock() - make_interval(secs => least(%(completed_after)s, %(failed_after)s))
        and r.completed_at < jobplatform.clock() - make_interval(
            secs => case when r.status = 3 then %(completed_after)s else %(failed_after)s end
        )
    limit 1000
    for update skip locked
),
deleted as (
    delete from jobplatform.job_records
    where ctid = any(array(select tid from old))
    returning workspace_id, id
),
attempts as (
    delete from jobplatform.job_attempts a
    using deleted d
    where a.workspace_id = d.workspace_id and a.job_id = d.id
),
lines as (
    delete from jobplatform.job_logs l
    using deleted d
    where l.workspace_id = d.workspace_id and l.job_id = d.id
),
steps as (
    delete from jobplatform.job_steps s
    using deleted d
    where s.workspace_id = d.workspace_id and s.job_id = d.id
)
select count(*) from deleted
"""

# A dead worker is kept a day, for whoever asks what happened in the night.
FORGET_WORKERS = """
delete from jobplatform.workers w
where w.dead_at < jobplatform.clock() - interval '1 day'
    and not exists (select from jobplatform.job_queue q where q.state = 2 and q.worker_id = w.id)
"""

# One that is over pauses nothing, and still has every claim look for pauses.
FORGET_PAUSES = "delete from jobplatform.pauses where until < jobplatform.clock()"

# By their keys: a worker may not see the rest of them.
FORGET_ANSWERS = f"""
delete from jobplatform.kept_answers a
using (
    select workspace_id, caller, key
    from jobplatform.kept_answers
    where created_at < jobplatform.clock() - interval '{KEPT_HOURS} hours'
    limit 1000
) old
where a.workspace_id = old.workspace_id and a.caller = old.caller and a.key = old.key
"""


def prune_jobs(session: Session, *, completed_after: datetime.timedelta, failed_after: datetime.timedelta) -> int:
    """Delete up to 1,000 jobs that ended longer ago than their status is kept, and say how many went.

    ``failed_after`` counts for cancelled jobs too. 0 from one call means that nothing is due (or that another process
    is at it); 1,000 that there may be more.
    """
    run(session, FORGET_WORKERS)
    run(session, FORGET_PAUSES)
    run(session, FORGET_ANSWERS)
    parameters = {
        "completed_after": completed_after.total_seconds(),
        "failed_after": failed_after.total_seconds(),
    }
    return int(run(session, PRUNE, **parameters).scalar_one())
