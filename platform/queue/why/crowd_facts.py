"""Who is before a job, what runs, and how long jobs took lately.

    IN_LINE    the jobs of its workspace and queue that come before it, lane by lane
    OTHERS     the other workspaces on the ring of its queue
    RUNNING    what runs now, and since when
    RUN_TIMES  how long jobs took lately, where something is going on; ENDED_ANYWHERE, where that says nothing

None of them reads a whole table whatever the backlog: each walks an index, and no further than the limits below. Who
is on the ring is first looked for in a short stretch of it: that many jobs in a row take far fewer pages than a descent
to each workspace, and mostly there are no more.
Other workspaces are seen only on a Session that sees all.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import array, quick_maker, run
from jobplatform.queue.why.job_facts import JobFacts

#: Lanes of the workspace that are looked at, and jobs that are counted in each.
MOST_LANES = 64
MOST_BEFORE = 50_000
#: Workspaces on the ring that are looked at, and jobs that are counted in all of them.
MOST_WORKSPACES = 2_000
MOST_OF_OTHERS = 100_000
#: Jobs of the queue that are looked at one after the other, before the ring is walked instead.
IN_A_ROW = 20_000
MOST_RUNNING = 2_000
#: Workspaces whose run times are looked at, and the records that are read of each.
MOST_MEASURED = 24
RECORDS = 50
#: Where there are many of them, fewer of each, and at least so many: together they are as good a measure.
FEWEST_RECORDS = 25
RECORDS_IN_ALL = 600
#: Pages of records that are read where these workspaces have none of the task.
PAGES = 40


def _before(condition: str) -> str:
    """The jobs of a lane of which this holds, counted as far as it matters: a part of the index each time."""
    return f"""cross join lateral (
    select count(*) as jobs
    from (
        select
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = %(workspace_id)s and q.lane = lane.lane
            and {condition}
        limit {MOST_BEFORE}
    ) found
)"""


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
{_before("q.priority > %(priority)s")} higher
{_before("q.priority = %(priority)s and q.run_after < %(run_after)s")} earlier
{_before("q.priority = %(priority)s and q.run_after = %(run_after)s and q.id < %(job_id)s")} older
"""

# What is said of each of the others, and who of them does not count.
_OTHER = """
select
    other.id::text, other.jobs, other.endless, coalesce(w.weight, p.weight, 1), coalesce(w.max_running, p.max_running),
    extract(epoch from jobplatform.clock() - other.run_after)::float8
from other
left join jobplatform.workspace_limits w on w.workspace_id = other.id
left join jobplatform.plans p on p.name = w.plan
where other.id <> %(workspace_id)s
    and not exists (
        select
        from jobplatform.pauses p
        where p.kind = 'workspace' and p.key = other.id::text and (p.until is null or p.until > jobplatform.clock())
    )
"""
# Counted while they are read, and no further than there are workspaces to tell of. Nobody comes back where that takes
# more jobs than are looked at; then the ring is walked.
OTHERS_IN_A_ROW = f"""
with seen as materialized (
    select ready.workspace_id as id, count(*) as jobs, min(ready.run_after) as run_after
    from (
        select q.workspace_id, q.run_after
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s
        order by q.workspace_id
        limit {IN_A_ROW} + 1
    ) ready
    group by ready.workspace_id
    order by ready.workspace_id
    limit {MOST_WORKSPACES} + 1
),
other as materialized (
    select seen.id, seen.jobs, false as endless, seen.run_after
    from seen
    where (select sum(jobs) from seen) <= {IN_A_ROW}
)
{_OTHER}
"""
# Two index descents for each workspace: to the job that it starts next, and through so many of its jobs that all
# of them together are not too many.
OTHERS_ON_THE_RING = f"""
with recursive ring(id, run_after, nth) as (
    (
        select workspace_id, run_after, 1
        from jobplatform.job_queue
        where state = 1 and queue = %(queue)s
        order by workspace_id, lane, priority desc, run_after, id
        limit 1
    )
    union all
    select next.workspace_id, next.run_after, ring.nth + 1
    from ring
    cross join lateral (
        select q.workspace_id, q.run_after
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id > ring.id
        order by q.workspace_id, q.lane, q.priority desc, q.run_after, q.id
        limit 1
    ) next
    where ring.nth <= {MOST_WORKSPACES}
),
seen as materialized (
    select id, run_after, {MOST_OF_OTHERS} / count(*) over () as most from ring
),
other as (
    select seen.id, counted.jobs, counted.jobs >= seen.most as endless, seen.run_after
    from seen
    cross join lateral (
        select count(*) as jobs
        from (
            select
            from jobplatform.job_queue q
            where q.state = 1 and q.queue = %(queue)s and q.workspace_id = seen.id
            limit seen.most
        ) found
    ) counted
)
{_OTHER}
"""

RUNNING = f"""
select
    q.workspace_id::text, q.task, q.queue, q.worker_id = any(%(able)s::integer[]),
    extract(epoch from jobplatform.clock() - q.started_at)::float8, q.resource
from jobplatform.job_queue q
where q.state = 2
order by q.workspace_id, q.queue
limit {MOST_RUNNING}
"""

# Nothing is indexed by when it ended. But ids are in the order of creation, so what ended last is found where a
# workspace has got to: just before the newest job that it runs. And its newest records, where it has no backlog.
RUN_TIMES = """
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
            limit %(records)s::int
        )
        union
        (
            select r.id, r.task, r.status, r.started_at, r.completed_at
            from jobplatform.job_records r
            where r.workspace_id = w.id
            order by r.id desc
            limit %(records)s::int
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


class Lane(NamedTuple):
    """Jobs before ours in its workspace, of one task on one resource."""

    task: str
    resource: str | None
    before: int
    held: bool


class Other(NamedTuple):
    """Another workspace that has ready jobs in the queue; ``endless`` when there are more than were counted.

    ``waited``: the seconds that its oldest job has been ready, or one of its first ones on a long ring.
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
    resource: str | None = None


class Ended(NamedTuple):
    """An attempt that ended a job, from its claim to the end, in seconds since the epoch."""

    workspace_id: str
    task: str
    claimed_at: float
    ended_at: float


def read_line(
    session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, job: JobFacts, able: Sequence[int]
) -> list[Lane]:
    """The lanes of its workspace, and how much is before the job in each; ``able``: workers that could run it."""
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
    """Those that are there, as far as the ring is looked at."""
    for sql in (OTHERS_IN_A_ROW, OTHERS_ON_THE_RING):
        if rows := run(session, sql, workspace_id=workspace_id, queue=queue).all():
            return list(map(quick_maker(Other), rows))
    return []


def read_running(session: Session, able: Sequence[int]) -> list[Running]:
    """What those workers run."""
    return list(map(quick_maker(Running), run(session, RUNNING, able=array(able))))


def read_ended(session: Session, workspaces: Iterable[str]) -> list[Ended]:
    """What ended last in each of these, of which no more than :data:`MOST_MEASURED` are looked at."""
    measured = list(dict.fromkeys(workspaces))[:MOST_MEASURED]
    return list(
        map(quick_maker(Ended), run(session, RUN_TIMES, workspaces=array(measured), records=_records_of(len(measured))))
    )


def _records_of(workspaces: int) -> int:
    return min(RECORDS, max(FEWEST_RECORDS, RECORDS_IN_ALL // workspaces))


def read_ended_anywhere(session: Session) -> list[Ended]:
    """Some of what ended anywhere, whenever."""
    return [Ended(*row) for row in run(session, ENDED_ANYWHERE)]
