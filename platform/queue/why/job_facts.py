"""The job that is asked about, what it waits for, and what a retry of it would meet.

JOB     the job itself, and the moment
WAITS   what it waits for, if it is blocked
HOLDER  the job of its key that it waits for, if it is to take the place of one
RETRY   who has its key now, and whether there is room
"""

from __future__ import annotations

import datetime
import uuid
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

JOB = """
select
    r.status, r.task, r.queue, r.resource, r.units, r.unique_key,
    coalesce(q.attempts, r.attempts), r.max_attempts, coalesce(q.crash_count, r.crash_count), r.error_type,
    r.completed_at, q.state, r.priority, q.run_after, q.started_at, q.cancel_requested_at, jobplatform.clock(),
    r.payload_version, q.start_by, extract(epoch from jobplatform.clock() - w.heartbeat_at)::float8,
    coalesce(q.state < 2 and q.epoch > 0 and q.progress ->> 'waitsFor' = 'key', false),
    coalesce(q.state < 2 and q.epoch > 0 and q.progress ->> 'waitsFor' = 'source', false), q.progress ->> 'message'
from jobplatform.job_records r
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
left join jobplatform.workers w on w.id = q.worker_id
where r.workspace_id = %(workspace_id)s and r.id = %(job_id)s
"""

# Of what one job waits for; the first few are enough to say what is in its way, and how many more there are.
WAITS = """
select
    e.after_id, e.of_batch, e.run_if,
    case
        when e.of_batch then (
            select case when b.closed_at is null then 'open' else 'running' end
            from jobplatform.batches b
            where b.workspace_id = e.workspace_id and b.id = e.after_id
        )
        else (select j.status from jobplatform.jobs j where j.workspace_id = e.workspace_id and j.id = e.after_id)
    end,
    (select b.total from jobplatform.batches b where b.workspace_id = e.workspace_id and b.id = e.after_id),
    (
        select b.completed + b.failed + b.cancelled
        from jobplatform.batches b
        where b.workspace_id = e.workspace_id and b.id = e.after_id
    ),
    count(*) over ()
from jobplatform.job_edges e
where e.workspace_id = %(workspace_id)s and e.job_id = %(job_id)s and e.after_status is null
order by e.number
limit 10
"""

# One that is to take the place of another is known by the mark before its key. There is a row for each that waits.
HOLDER = """
select holder.id, holder.state, holder.started_at
from jobplatform.job_queue q
left join jobplatform.job_queue holder
    on holder.workspace_id = q.workspace_id and holder.unique_key = substr(q.unique_key, 2)
where q.workspace_id = %(workspace_id)s and q.id = %(job_id)s and left(q.unique_key, 1) = chr(30)
"""

# The quota is for what a retry would meet; what waits is counted no further than that.
RETRY = """
select
    (
        select holder.id
        from jobplatform.job_queue holder
        where holder.workspace_id = %(workspace_id)s and holder.unique_key = %(unique_key)s::text
    ),
    l.quota,
    (
        select count(*)
        from (
            select
            from jobplatform.job_queue q
            where q.workspace_id = %(workspace_id)s and q.state + 0 < 2 and l.quota is not null
                and q.task <> 'jobplatform.webhook'
            limit l.quota
        ) found
    )
from (select) one
left join (
    select coalesce(w.max_pending, p.max_pending) as quota
    from jobplatform.workspace_limits w
    left join jobplatform.plans p on p.name = w.plan
    where w.workspace_id = %(workspace_id)s
) l on true
"""


class JobFacts(NamedTuple):
    """The job. Without a ``state`` it has ended. ``now`` is the database's. ``silent_seconds`` are of the worker that
    has it; ``lacked_key``: it is sealed, and the worker that had it last could not open it; ``told_to_wait``: what it
    asks told its last attempt to come back later, and ``said`` is what that attempt said at last."""

    status: int | None
    task: str
    queue: str
    resource: str | None
    units: int
    unique_key: str | None
    attempts: int
    max_attempts: int
    crash_count: int
    error_type: str | None
    completed_at: datetime.datetime | None
    state: int | None
    priority: int
    run_after: datetime.datetime | None
    started_at: datetime.datetime | None
    cancel_requested_at: datetime.datetime | None
    now: datetime.datetime
    payload_version: int = 1
    start_by: datetime.datetime | None = None
    silent_seconds: float | None = None
    lacked_key: bool = False
    told_to_wait: bool = False
    said: str | None = None


class WaitFacts(NamedTuple):
    """Something it waits for, and how many things it waits for in all. The counts are a batch's."""

    after_id: uuid.UUID
    of_batch: bool
    run_if: str
    status: str | None
    jobs: int | None
    ended: int | None
    waits: int


class HolderFacts(NamedTuple):
    """The job that has the key of one that waits to take its place; nothing but None once it has ended."""

    job_id: uuid.UUID | None
    state: int | None
    started_at: datetime.datetime | None


class RetryFacts(NamedTuple):
    """What a retry by hand would meet."""

    guard_holder: uuid.UUID | None
    quota: int | None
    waiting: int


def read_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> JobFacts | None:
    """The job itself; None where the workspace has none of that id."""
    row = run(session, JOB, workspace_id=workspace_id, job_id=job_id).one_or_none()
    return JobFacts(*row) if row else None


def read_waits(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> list[WaitFacts]:
    """The jobs that it waits for."""
    return [WaitFacts(*row) for row in run(session, WAITS, workspace_id=workspace_id, job_id=job_id)]


def read_holder(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> HolderFacts | None:
    """Whom it waits for under its key; None when it waits for nobody's."""
    row = run(session, HOLDER, workspace_id=workspace_id, job_id=job_id).one_or_none()
    return HolderFacts(*row) if row else None


def read_retry(session: Session, workspace_id: uuid.UUID, unique_key: str | None) -> RetryFacts:
    """Who has its key now, and whether its workspace has room for one more."""
    return RetryFacts(*run(session, RETRY, workspace_id=workspace_id, unique_key=unique_key).one())
