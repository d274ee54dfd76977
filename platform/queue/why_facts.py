"""What there is to know about a job that waits: the statements behind :mod:`jobplatform.queue.why`, and their answers.

    JOB        the job itself, and the moment
    WAITS      what it waits for, if it is blocked
    HOLDER     the job of its key that it waits for, if it is to take the place of one
    HOLDS      what its workspace, queue, task and resource may do, and what of that they do already
    PAUSES     what of these is paused
    WORKERS    who could run it, with how many slots
    IN_LINE    the jobs of its workspace and queue that come before it, lane by lane
    OTHERS     the other workspaces on the ring of its queue
    RUNNING    what runs now, and since when
    RUN_TIMES  how long jobs took lately, where something is going on; ENDED_ANYWHERE, where that says nothing

None of them reads a whole table whatever the backlog: each walks an index, and no further than the limits below.
Those about workers and other workspaces answer with all there are only on a Session that sees all workspaces.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import array, run

#: Lanes of the workspace that are looked at, and jobs that are counted in each.
MOST_LANES = 64
MOST_BEFORE = 50_000
#: Workspaces on the ring that are looked at, and jobs that are counted in all of them.
MOST_WORKSPACES = 2_000
MOST_OF_OTHERS = 100_000
MOST_RUNNING = 2_000
#: Workspaces whose run times are looked at, and the records that are read of each.
MOST_MEASURED = 24
RECORDS = 50
#: Pages of records that are read where these workspaces have none of the task.
PAGES = 40
#: A worker that was silent for longer is as good as dead.
SILENT = "1 minute"

JOB = """
select
    r.status, r.task, r.queue, r.resource, r.units, r.unique_key,
    coalesce(q.attempts, r.attempts), r.max_attempts, coalesce(q.crash_count, r.crash_count), r.error_type,
    r.completed_at, q.state, r.priority, q.run_after, q.started_at, q.cancel_requested_at, jobplatform.clock(),
    r.payload_version
from jobplatform.job_records r
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
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

# A bucket without a row is full. The tokens are those of this moment, as a claim would find them.
HOLDS = """
with running as materialized (
    select
        count(*) filter (where q.workspace_id = %(workspace_id)s) as here,
        count(*) filter (where q.queue = %(queue)s) as of_queue,
        count(*) filter (where q.task = %(task)s) as of_task,
        count(*) filter (where q.task = %(task)s and q.workspace_id = %(workspace_id)s) as of_task_here
    from jobplatform.job_queue q
    where q.state = 2
),
own as materialized (
    select
        coalesce(w.weight, p.weight, 1) as weight,
        coalesce(w.max_running, p.max_running) as max_running,
        case when w.rate_units is null then p.rate_units else w.rate_units end as rate_units,
        case when w.rate_units is null then p.rate_period_ms else w.rate_period_ms end as rate_period_ms
    from (select) one
    left join jobplatform.workspace_limits w on w.workspace_id = %(workspace_id)s
    left join jobplatform.plans p on p.name = w.plan
),
rate as materialized (
    select l.units, l.period_ms, l.burst
    from jobplatform.rate_limits l
    where l.resource in (%(resource)s::text, split_part(%(resource)s::text, ':', 1) || ':*')
    order by l.resource = %(resource)s::text desc
    limit 1
)
select
    own.weight,
    own.max_running, running.here,
    queued.max_running, running.of_queue,
    tasked.max_running, running.of_task,
    tasked.max_running_per_workspace, running.of_task_here,
    own.rate_units, own.rate_period_ms, own.rate_units,
    least(
        own.rate_units,
        coalesce(
            paced.tokens + greatest(0, extract(epoch from jobplatform.clock() - paced.filled_at)::float8)
                * own.rate_units * 1000.0::float8 / own.rate_period_ms,
            own.rate_units
        )
    )::float8,
    rate.units, rate.period_ms, rate.burst,
    least(
        rate.burst,
        coalesce(
            metered.tokens + greatest(0, extract(epoch from jobplatform.clock() - metered.filled_at)::float8)
                * rate.units * 1000.0::float8 / rate.period_ms,
            rate.burst
        )
    )::float8,
    case when metered.closed_until > jobplatform.clock() then metered.closed_until end
from running
cross join own
left join rate on true
left join jobplatform.queue_limits queued on queued.queue = %(queue)s
left join jobplatform.task_limits tasked on tasked.task = %(task)s
left join jobplatform.buckets paced on paced.kind = 'workspace' and paced.key = %(workspace_id)s::uuid::text
left join jobplatform.buckets metered on metered.kind = 'resource' and metered.key = %(resource)s::text
"""

PAUSES = """
select kind, key, reason, actor, until
from jobplatform.pauses
where (until is null or until > jobplatform.clock())
    and (
        kind = 'queue' and key = %(queue)s
        or kind = 'task' and key = %(task)s
        or kind = 'workspace' and key = %(workspace_id)s::uuid::text
        or kind = 'resource' and key = %(resource)s::text
    )
order by array_position(array['workspace', 'queue', 'task', 'resource'], kind)
"""

# `share` is what of a worker's slots is for this queue: it goes to its queues in turn, as far as they have ready jobs.
WORKERS = f"""
with live as materialized (
    select
        w.id, w.slots, w.draining,
        %(queue)s = any(w.queues) as serves,
        %(task)s = any(w.tasks)
            and %(version)s::integer <= coalesce(w.versions[array_position(w.tasks, %(task)s)], 32767) as knows,
        (
            select count(*)
            from unnest(w.queues) other
            where other <> %(queue)s
                and exists (select from jobplatform.job_queue q where q.state = 1 and q.queue = other)
        ) as busy_queues
    from jobplatform.workers w
    where w.dead_at is null and w.heartbeat_at > jobplatform.clock() - interval '{SILENT}'
)
select
    count(*),
    count(*) filter (where serves),
    count(*) filter (where knows),
    count(*) filter (where serves and knows and draining),
    coalesce(sum(slots) filter (where serves and knows and not draining), 0)::integer,
    coalesce(max(slots) filter (where serves and knows and not draining), 0)::integer,
    coalesce(sum(slots / (1.0 + busy_queues)) filter (where serves and knows and not draining), 0)::float8,
    coalesce(array_agg(id) filter (where serves and knows and not draining), '{{}}')
from live
"""

# Each lane costs one index descent to find and three to count in. `held`: its jobs are not in the way of others,
# because nothing starts them for now.
IN_LINE = f"""
with recursive lane(lane, task, resource, nth) as (
    (
        select lane, task, resource, 1
        from jobplatform.job_queue
        where state = 1 and queue = %(queue)s and workspace_id = %(workspace_id)s
        order by lane
        limit 1
    )
    union all
    select next.lane, next.task, next.resource, lane.nth + 1
    from lane
    cross join lateral (
        select q.lane, q.task, q.resource
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = %(workspace_id)s and q.lane > lane.lane
        order by q.lane
        limit 1
    ) next
    where lane.nth < {MOST_LANES}
),
pause as materialized (
    select kind, key from jobplatform.pauses where until is null or until > jobplatform.clock()
),
known as materialized (
    select distinct unnest(w.tasks) as task
    from jobplatform.workers w
    where w.id = any(%(able)s::integer[])
)
select
    lane.task,
    lane.resource,
    higher.jobs + earlier.jobs + older.jobs,
    lane.task in (select key from pause where kind = 'task')
        or lane.task not in (select task from known)
        or coalesce(
            lane.resource in (
                select key from pause where kind = 'resource'
                union all
                select key from jobplatform.buckets where kind = 'resource' and closed_until > jobplatform.clock()
            ),
            false
        )
from lane
cross join lateral (
    select count(*) as jobs
    from (
        select
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = %(workspace_id)s and q.lane = lane.lane
            and q.priority > %(priority)s
        limit {MOST_BEFORE}
    ) found
) higher
cross join lateral (
    select count(*) as jobs
    from (
        select
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = %(workspace_id)s and q.lane = lane.lane
            and q.priority = %(priority)s and q.run_after < %(run_after)s
        limit {MOST_BEFORE}
    ) found
) earlier
cross join lateral (
    select count(*) as jobs
    from (
        select
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = %(workspace_id)s and q.lane = lane.lane
            and q.priority = %(priority)s and q.run_after = %(run_after)s and q.id < %(job_id)s
        limit {MOST_BEFORE}
    ) found
) older
"""

# One index descent for each workspace, and then so many of its jobs that all of them together are not too many.
OTHERS = f"""
with recursive ring(id, nth) as (
    (
        select workspace_id, 1
        from jobplatform.job_queue
        where state = 1 and queue = %(queue)s
        order by workspace_id
        limit 1
    )
    union all
    select
        (
            select q.workspace_id
            from jobplatform.job_queue q
            where q.state = 1 and q.queue = %(queue)s and q.workspace_id > ring.id
            order by q.workspace_id
            limit 1
        ),
        ring.nth + 1
    from ring
    where ring.id is not null and ring.nth <= {MOST_WORKSPACES}
),
other as materialized (
    select ring.id, {MOST_OF_OTHERS} / count(*) over () as most
    from ring
    where ring.id is not null
        and ring.id <> %(workspace_id)s
        and not exists (
            select
            from jobplatform.pauses p
            where p.kind = 'workspace' and p.key = ring.id::text
                and (p.until is null or p.until > jobplatform.clock())
        )
)
select
    other.id::text, counted.jobs, counted.jobs >= other.most, coalesce(w.weight, p.weight, 1),
    coalesce(w.max_running, p.max_running),
    extract(epoch from jobplatform.clock() - first.run_after)::float8
from other
cross join lateral (
    select count(*) as jobs
    from (
        select
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = other.id
        limit other.most
    ) found
) counted
cross join lateral (
    select q.run_after
    from jobplatform.job_queue q
    where q.state = 1 and q.queue = %(queue)s and q.workspace_id = other.id
    order by q.lane, q.priority desc, q.run_after, q.id
    limit 1
) first
left join jobplatform.workspace_limits w on w.workspace_id = other.id
left join jobplatform.plans p on p.name = w.plan
"""

RUNNING = f"""
select
    q.workspace_id::text, q.task, q.queue, q.worker_id = any(%(able)s::integer[]),
    extract(epoch from jobplatform.clock() - q.started_at)::float8
from jobplatform.job_queue q
where q.state = 2
order by q.workspace_id, q.queue
limit {MOST_RUNNING}
"""

# Nothing is indexed by when it ended. But ids are in the order of creation, so what ended last is found where a
# workspace has got to: just before the newest job that it runs. And its newest records, where it has no backlog.
RUN_TIMES = f"""
select
    w.id::text, ended.task, extract(epoch from ended.started_at)::float8, extract(epoch from ended.completed_at)::float8
from unnest(%(workspaces)s::uuid[]) as w(id)
cross join lateral (
    select r.task, r.started_at, r.completed_at
    from (
        (
            select r.id, r.task, r.status, r.started_at, r.completed_at
            from jobplatform.job_records r
            where r.workspace_id = w.id
                and r.id <= (
                    select q.id
                    from jobplatform.job_queue q
                    where q.state = 2 and q.workspace_id = w.id
                    order by q.id desc
                    limit 1
                )
            order by r.id desc
            limit {RECORDS}
        )
        union
        (
            select r.id, r.task, r.status, r.started_at, r.completed_at
            from jobplatform.job_records r
            where r.workspace_id = w.id
            order by r.id desc
            limit {RECORDS}
        )
    ) r
    where r.status in (3, 4) and r.started_at is not null
) ended
"""

# A few pages by chance, of a table of any size. It is what there is when none of these workspaces ever ran such a job.
ENDED_ANYWHERE = f"""
select
    r.workspace_id::text, r.task, extract(epoch from r.started_at)::float8, extract(epoch from r.completed_at)::float8
from jobplatform.job_records r
    tablesample system (
        least(100, {100 * PAGES}.0 / greatest(1, pg_relation_size('jobplatform.job_records') / 8192))
    )
where r.status in (3, 4) and r.started_at is not null
order by r.completed_at desc
limit {4 * RECORDS}
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
    """The job. Without a ``state`` it has ended. ``now`` is the database's."""

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


class PauseFacts(NamedTuple):
    kind: str
    key: str
    reason: str
    actor: str
    until: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class RateFacts:
    """``units`` in each ``period_ms``, in a bucket that holds ``burst`` and has ``tokens`` now."""

    units: int
    period_ms: int
    burst: int
    tokens: float

    @property
    def per_second(self) -> float:
        return self.units * 1000 / self.period_ms


@dataclass(frozen=True, slots=True)
class Holds:
    """Limits (None: there is none), and what they count. ``closed_until`` is the resource's."""

    weight: int = 1
    workspace_limit: int | None = None
    running_here: int = 0
    queue_limit: int | None = None
    running_in_queue: int = 0
    task_limit: int | None = None
    running_of_task: int = 0
    task_limit_here: int | None = None
    running_of_task_here: int = 0
    workspace_rate: RateFacts | None = None
    resource_rate: RateFacts | None = None
    closed_until: datetime.datetime | None = None


class WorkerFacts(NamedTuple):
    """Live workers: how many, and the slots of those that could run the job.

    ``draining`` are those that could if they were not stopping. ``most_slots`` has the largest of them; ``share`` is
    what is left of the slots when other queues of these workers get their turns.
    """

    live: int = 0
    serving: int = 0
    knowing: int = 0
    draining: int = 0
    slots: int = 0
    most_slots: int = 0
    share: float = 0.0
    able: Sequence[int] = ()


class Lane(NamedTuple):
    """Jobs before ours in its workspace, of one task on one resource."""

    task: str
    resource: str | None
    before: int
    held: bool


class Other(NamedTuple):
    """Another workspace that has ready jobs in the queue; ``endless`` when there are more than were counted.

    ``waited``: the seconds that one of its first jobs has been ready.
    """

    workspace_id: str
    ready: int
    endless: bool
    weight: int
    max_running: int | None
    waited: float


class Running(NamedTuple):
    """A job that runs. ``here``: on a worker that could run ours."""

    workspace_id: str
    task: str
    queue: str
    here: bool
    seconds: float


class Ended(NamedTuple):
    """An attempt that ended a job, from its claim to the end, in seconds since the epoch."""

    workspace_id: str
    task: str
    claimed_at: float
    ended_at: float


class RetryFacts(NamedTuple):
    """What a retry by hand would meet."""

    guard_holder: uuid.UUID | None
    quota: int | None
    waiting: int


def read_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> JobFacts | None:
    row = run(session, JOB, workspace_id=workspace_id, job_id=job_id).one_or_none()
    return JobFacts(*row) if row else None


def read_waits(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> list[WaitFacts]:
    return [WaitFacts(*row) for row in run(session, WAITS, workspace_id=workspace_id, job_id=job_id)]


def read_holder(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> HolderFacts | None:
    """Whom it waits for under its key; None when it waits for nobody's."""
    row = run(session, HOLDER, workspace_id=workspace_id, job_id=job_id).one_or_none()
    return HolderFacts(*row) if row else None


def read_holds(session: Session, workspace_id: uuid.UUID, job: JobFacts) -> Holds:
    row = run(session, HOLDS, **_where(workspace_id, job)).one()
    return replace(
        Holds(*row[:9]),
        workspace_rate=_rate(*row[9:13]),
        resource_rate=_rate(*row[13:17]),
        closed_until=row[17],
    )


def read_pauses(session: Session, workspace_id: uuid.UUID, job: JobFacts) -> list[PauseFacts]:
    return [PauseFacts(*row) for row in run(session, PAUSES, **_where(workspace_id, job))]


def read_workers(session: Session, job: JobFacts) -> WorkerFacts:
    return WorkerFacts(*run(session, WORKERS, queue=job.queue, task=job.task, version=job.payload_version).one())


def read_line(
    session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, job: JobFacts, able: Sequence[int]
) -> list[Lane]:
    rows = run(
        session,
        IN_LINE,
        workspace_id=workspace_id,
        job_id=job_id,
        queue=job.queue,
        priority=job.priority,
        run_after=job.run_after,
        able=array(able),
    )
    return [Lane(*row) for row in rows]


def read_others(session: Session, workspace_id: uuid.UUID, queue: str) -> list[Other]:
    return [Other(*row) for row in run(session, OTHERS, workspace_id=workspace_id, queue=queue)]


def read_running(session: Session, able: Sequence[int]) -> list[Running]:
    return [Running(*row) for row in run(session, RUNNING, able=array(able))]


def read_ended(session: Session, workspaces: Iterable[str]) -> list[Ended]:
    """What ended last in each of these, of which no more than :data:`MOST_MEASURED` are looked at."""
    measured = list(dict.fromkeys(workspaces))[:MOST_MEASURED]
    return [Ended(*row) for row in run(session, RUN_TIMES, workspaces=array(measured))]


def read_ended_anywhere(session: Session) -> list[Ended]:
    """Some of what ended anywhere, whenever."""
    return [Ended(*row) for row in run(session, ENDED_ANYWHERE)]


def read_retry(session: Session, workspace_id: uuid.UUID, unique_key: str | None) -> RetryFacts:
    return RetryFacts(*run(session, RETRY, workspace_id=workspace_id, unique_key=unique_key).one())


def _where(workspace_id: uuid.UUID, job: JobFacts) -> dict[str, object]:
    return {"workspace_id": workspace_id, "queue": job.queue, "task": job.task, "resource": job.resource}


def _rate(units: int | None, period_ms: int | None, burst: int | None, tokens: float | None) -> RateFacts | None:
    if units is None or period_ms is None or burst is None or tokens is None:
        return None
    return RateFacts(units, period_ms, burst, tokens)
