"""Overview: what an operator looks at to run many workspaces. Counts are counted, not kept."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.statement import run

# The ids of live jobs are found by jumping from workspace to workspace on the primary key: a page costs as many
# descents as it has workspaces, whatever their backlogs. What is counted is the backlogs of that page alone.
WORKSPACES = """
with recursive
live(id) as (
    (
        select workspace_id
        from jobplatform.job_queue
        where workspace_id > %(after)s::uuid
        order by workspace_id
        limit 1
    )
    union all
    select (
        select q.workspace_id
        from jobplatform.job_queue q
        where q.workspace_id > live.id
        order by q.workspace_id
        limit 1
    )
    from live
    where live.id is not null
),
known(id) as materialized (
    (select id from jobplatform.workspaces where id > %(after)s::uuid order by id limit %(limit)s)
    union
    (
        select workspace_id
        from jobplatform.workspace_limits
        where workspace_id > %(after)s::uuid
        order by workspace_id
        limit %(limit)s
    )
    union
    (select id from live where id is not null limit %(limit)s)
),
page as materialized (
    select id from known order by id limit %(limit)s
)
"""

ONE_WORKSPACE = """
with page as materialized (
    select %(workspace_id)s::uuid as id
    where exists (select from jobplatform.workspaces where id = %(workspace_id)s::uuid)
        or exists (select from jobplatform.workspace_limits where workspace_id = %(workspace_id)s::uuid)
        or exists (select from jobplatform.job_records where workspace_id = %(workspace_id)s::uuid)
)
"""

_COUNTS = """
select page.id, w.name, w.created_at, counted.ready, counted.scheduled, counted.blocked, counted.running
from page
left join jobplatform.workspaces w on w.id = page.id
cross join lateral (
    select
        count(*) filter (where q.state = 1) as ready,
        count(*) filter (where q.state = 0) as scheduled,
        count(*) filter (where q.state = -1) as blocked,
        count(*) filter (where q.state = 2) as running
    from jobplatform.job_queue q
    where q.workspace_id = page.id
) counted
order by page.id
"""

QUEUES = """
with counted as materialized (
    select
        q.queue,
        count(*) filter (where q.state = 1) as ready,
        count(*) filter (where q.state = 0) as scheduled,
        count(*) filter (where q.state = -1) as blocked,
        count(*) filter (where q.state = 2) as running,
        min(q.run_after) filter (where q.state = 1) as oldest
    from jobplatform.job_queue q
    group by q.queue
),
served as materialized (
    select unnest(queues) as queue, count(*) as workers
    from jobplatform.workers
    where dead_at is null
    group by 1
),
known(queue) as (
    select queue from counted
    union
    select queue from served
    union
    select queue from jobplatform.queue_limits
    union
    select key from jobplatform.pauses where kind = 'queue' and (until is null or until > jobplatform.clock())
)
select
    known.queue,
    coalesce(counted.ready, 0),
    coalesce(counted.scheduled, 0),
    coalesce(counted.blocked, 0),
    coalesce(counted.running, 0),
    extract(epoch from jobplatform.clock() - counted.oldest)::float8,
    coalesce(served.workers, 0),
    limits.max_running
from known
left join counted on counted.queue = known.queue
left join served on served.queue = known.queue
left join jobplatform.queue_limits limits on limits.queue = known.queue
order by known.queue
"""

# `running` is counted from the jobs: what a worker believes of itself may be a heartbeat old.
WORKERS = """
select
    w.id, w.name, w.host, w.pid, w.version, w.queues, w.tasks, w.slots, w.started_at, w.heartbeat_at, w.draining,
    w.drain_requested_at is not null,
    (select count(*) from jobplatform.job_queue q where q.state = 2 and q.worker_id = w.id)
from jobplatform.workers w
where w.dead_at is null
order by w.id
"""


class WorkspaceSeen(NamedTuple):
    """A workspace and its live jobs; ``blocked`` ones wait for others.

    Without name and moment: it has jobs or limits, and no row of its own.
    """

    id: uuid.UUID
    name: str | None
    created_at: datetime.datetime | None
    ready: int
    scheduled: int
    blocked: int
    running: int

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


class QueueSeen(NamedTuple):
    """A queue that has jobs, a worker, a limit or a pause."""

    queue: str
    ready: int
    scheduled: int
    blocked: int
    running: int
    oldest_ready_seconds: float | None
    workers: int
    max_running: int | None


class WorkerSeen(NamedTuple):
    """A worker that nobody has declared dead, and how many jobs it runs."""

    id: int
    name: str
    host: str
    pid: int
    version: str
    queues: list[str]
    tasks: list[str]
    slots: int
    started_at: datetime.datetime
    heartbeat_at: datetime.datetime
    draining: bool
    drain_requested: bool
    running: int


@checks_arguments()
def list_workspaces(session: Session, *, limit: int = 20, after: uuid.UUID | None = None) -> Sequence[WorkspaceSeen]:
    """Workspaces by id, those without a row of their own included. ``after`` is the id of the last one seen."""
    rows = run(session, WORKSPACES + _COUNTS, after=after or uuid.UUID(int=0), limit=limit)
    return [WorkspaceSeen(*row) for row in rows]


@checks_arguments()
def find_workspace(session: Session, workspace_id: uuid.UUID) -> WorkspaceSeen | None:
    """A workspace that has a row, limits, or jobs, be they long ended; else None."""
    row = run(session, ONE_WORKSPACE + _COUNTS, workspace_id=workspace_id).one_or_none()
    return WorkspaceSeen(*row) if row else None


def list_queues(session: Session) -> Sequence[QueueSeen]:
    """Every queue there is a sign of, by name."""
    return [QueueSeen(*row) for row in run(session, QUEUES)]


def list_workers(session: Session) -> Sequence[WorkerSeen]:
    """The workers that are alive, oldest first."""
    return [WorkerSeen(*row) for row in run(session, WORKERS)]
