"""What goes with a record that is deleted, and what is left alone because somebody who has not ended needs it."""

from __future__ import annotations

import datetime

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

#: Of a record `r`: a live job waits for it, or may ask for its result; or it is of a batch that has not ended, or that
#: somebody who waited for it may still ask about.
NEEDED = """(
    exists (
        select
        from jobplatform.job_edges e
        join jobplatform.job_queue q on q.workspace_id = e.workspace_id and q.id = e.job_id
        where e.workspace_id = r.workspace_id and e.after_id = r.id
    )
    or r.batch_id is not null and exists (
        select
        from jobplatform.batches b
        where b.workspace_id = r.workspace_id and b.id = r.batch_id
            and (
                b.ended_at is null
                or exists (
                    select
                    from jobplatform.job_edges e
                    join jobplatform.job_queue q on q.workspace_id = e.workspace_id and q.id = e.job_id
                    where e.workspace_id = b.workspace_id and e.after_id = b.id
                )
            )
    )
)"""

#: The CTEs by which whatever was kept of jobs goes with their records, which are those of ``deleted``.
WITH_THEM = """attempts as (
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
),
edges as (
    delete from jobplatform.job_edges e
    using deleted d
    where e.workspace_id = d.workspace_id and e.job_id = d.id
)"""

FORGET_BATCHES = """
delete from jobplatform.batches
where ctid = any(array(
    select b.ctid
    from jobplatform.batches b
    where b.ended_at < jobplatform.clock() - make_interval(secs => %(after)s)
        and not exists (
            select from jobplatform.job_records r where r.workspace_id = b.workspace_id and r.batch_id = b.id
        )
        and not exists (
            select
            from jobplatform.job_edges e
            join jobplatform.job_queue q on q.workspace_id = e.workspace_id and q.id = e.job_id
            where e.workspace_id = b.workspace_id and e.after_id = b.id
        )
    limit 1000
    for update skip locked
))
"""


def forget_batches(session: Session, after: datetime.timedelta) -> None:
    """Delete batches that ended so long ago and of which no job is kept any more."""
    run(session, FORGET_BATCHES, after=after.total_seconds())
