"""Promote: scheduled jobs whose time has come become ready."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

#: Jobs of one round.
LARGEST_PROMOTION = 1000

PROMOTE = f"""
with due as (
    update jobplatform.job_queue q
    set state = 1,
        resource = q.resource
    where ctid = any(array(
        select ctid
        from jobplatform.job_queue
        where state = 0 and run_after <= jobplatform.clock()
        order by run_after
        limit {LARGEST_PROMOTION}
        for update skip locked
    ))
    returning queue, workspace_id
)
select
    array(select distinct queue from due),
    array(select distinct workspace_id::text from due limit 100),
    (select count(*) from due),
    (
        select extract(epoch from run_after - jobplatform.clock())::float8
        from jobplatform.job_queue
        where state = 0 and run_after > jobplatform.clock()
        order by run_after
        limit 1
    )
"""


class Promoted(NamedTuple):
    """The queues that have new ready jobs and some of the workspaces they are of, whether more are due, and the
    seconds until the next one is.
    """

    queues: set[str]
    workspaces: list[str]
    more: bool
    next_due: float | None


def promote_jobs(session: Session) -> Promoted:
    """Make up to 1,000 due jobs ready. Every worker does it; rows that another one has are skipped."""
    queues, workspaces, count, next_due = run(session, PROMOTE).one()
    return Promoted(set(queues), workspaces, count >= LARGEST_PROMOTION, next_due)
