"""What could hold a job that is ready.

HOLDS    what its workspace, queue, task and resource may do, and what of that they do already
PAUSES   what of these is paused
WORKERS  who could run it, with how many slots; all there are only on a Session that sees all workspaces
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.limits.breaker import FAILURES_IN_A_ROW, TRIES
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.statement import run
from jobplatform.queue.why.job_facts import JobFacts

#: Jobs of the same workspace that are named when they keep another from a resource.
MOST_HOLDERS = 3

# A bucket without a row is full. The tokens are those of this moment, as a claim would find them.
HOLDS = f"""
with running as materialized (
    select
        count(*) filter (where q.workspace_id = %(workspace_id)s) as here,
        count(*) filter (where q.queue = %(queue)s) as of_queue,
        count(*) filter (where q.task = %(task)s) as of_task,
        count(*) filter (where q.task = %(task)s and q.workspace_id = %(workspace_id)s) as of_task_here,
        count(*) filter (where q.resource = %(resource)s::text) as of_resource,
        (
            array_agg(q.id order by q.started_at, q.id) filter (
                where q.resource = %(resource)s::text and q.workspace_id = %(workspace_id)s
            )
        )[:{MOST_HOLDERS}] as holders,
        count(*) filter (where q.resource = %(resource)s::text and {TRIES}) as trying
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
),
shared as materialized (
    select
        case
            when l.min_running is null then l.max_running
            else jobplatform.level_of_resource(%(resource)s::text, l.min_running, l.max_running)
        end as max_running,
        l.min_running as least, l.max_running as most
    from jobplatform.resource_limits l
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
    case when metered.closed_until > jobplatform.clock() then metered.closed_until end,
    coalesce(metered.failures, 0), coalesce(metered.failures, 0) >= {FAILURES_IN_A_ROW} and running.trying > 0,
    shared.max_running, running.of_resource, coalesce(running.holders, '{{}}'),
    case when shared.max_running is not null then shared.least end, shared.most
from running
cross join own
left join rate on true
left join shared on true
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
WORKERS = """
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
    where w.dead_at is null and w.heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
)
select
    count(*),
    count(*) filter (where serves),
    count(*) filter (where knows),
    count(*) filter (where serves and knows and draining),
    coalesce(sum(slots) filter (where serves and knows and not draining), 0)::integer,
    coalesce(max(slots) filter (where serves and knows and not draining), 0)::integer,
    coalesce(sum(slots / (1.0 + busy_queues)) filter (where serves and knows and not draining), 0)::float8,
    coalesce(array_agg(id) filter (where serves and knows and not draining), '{}')
from live
"""


class PauseFacts(NamedTuple):
    """A pause that holds the job back; ``able``: workers that would run it otherwise."""

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
    """Limits (None: there is none), and what they count. The resource is ``on_trial`` while a job finds out whether it
    works again; ``holders`` are some of the workspace's own jobs that run on it. Where its limit is adaptive, what it
    is now is between ``resource_least`` and ``resource_most``."""

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
    failures: int = 0
    on_trial: bool = False
    resource_limit: int | None = None
    running_of_resource: int = 0
    holders: Sequence[uuid.UUID] = ()
    resource_least: int | None = None
    resource_most: int | None = None


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


def read_holds(session: Session, workspace_id: uuid.UUID, job: JobFacts) -> Holds:
    """What limits, rates and resources leave free for the job."""
    row = run(session, HOLDS, **_where(workspace_id, job)).one()
    return replace(
        Holds(*row[:9]),
        workspace_rate=_rate(*row[9:13]),
        resource_rate=_rate(*row[13:17]),
        closed_until=row[17],
        failures=row[18],
        on_trial=row[19],
        resource_limit=row[20],
        running_of_resource=row[21],
        holders=tuple(row[22]),
        resource_least=row[23],
        resource_most=row[24],
    )


def read_pauses(session: Session, workspace_id: uuid.UUID, job: JobFacts) -> list[PauseFacts]:
    """The pauses that hold the job back."""
    return [PauseFacts(*row) for row in run(session, PAUSES, **_where(workspace_id, job))]


def read_workers(session: Session, job: JobFacts) -> WorkerFacts:
    """Which live workers could run the job."""
    kind = {"queue": job.queue, "task": job.task, "version": job.payload_version}
    return WorkerFacts(*run(session, WORKERS, lease=lease_seconds(), **kind).one())


def _where(workspace_id: uuid.UUID, job: JobFacts) -> dict[str, object]:
    return {"workspace_id": workspace_id, "queue": job.queue, "task": job.task, "resource": job.resource}


def _rate(units: int | None, period_ms: int | None, burst: int | None, tokens: float | None) -> RateFacts | None:
    if units is None or period_ms is None or burst is None or tokens is None:
        return None
    return RateFacts(units, period_ms, burst, tokens)
