"""The snapshot watcher: looks at all jobs at once, again and again, for what must hold between rows at every moment.

One SELECT sees one snapshot, so what it finds was really so. Comparing the times of two events instead accuses a
correct queue of hundreds of violations.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from jobplatform.proof.changes import AT_ONCE
from jobplatform.proof.onlooker import as_role, connect
from jobplatform.proof.part import Part

LOOK = """
with waiting_or_running as materialized (
    select
        q.workspace_id, q.id, q.state, q.unique_key, q.queue, q.task, q.resource, q.worker_id,
        r.status, r.id is not null as recorded
    from jobplatform.job_queue q
    left join jobplatform.job_records r on r.workspace_id = q.workspace_id and r.id = q.id
),
"""

#: What runs and waits where; and, for each workspace, how many of its jobs nothing forbids to start: they are ready,
#: their limits have room, they take from no rate and are not paused. ``free`` are the slots of workers in good health.
CENSUS = """
paused as materialized (
    select kind, key from jobplatform.pauses where until is null or until > now()
),
in_workspace as materialized (
    select workspace_id, count(*) filter (where state = 2) as running, count(*) filter (where state < 2) as waiting
    from waiting_or_running
    group by workspace_id
),
in_queue as materialized (
    select queue, count(*) as running from waiting_or_running where state = 2 group by queue
),
of_task as materialized (
    select task, count(*) as running from waiting_or_running where state = 2 group by task
),
of_task_here as materialized (
    select workspace_id, task, count(*) as running
    from waiting_or_running
    where state = 2
    group by workspace_id, task
),
on_resource as materialized (
    select resource, count(*) as running
    from waiting_or_running
    where state = 2 and resource is not null
    group by resource
),
startable as materialized (
    select w.workspace_id, count(*) as number
    from waiting_or_running w
    join in_workspace using (workspace_id)
    left join in_queue using (queue)
    left join of_task using (task)
    left join of_task_here here using (workspace_id, task)
    left join jobplatform.workspace_limits l using (workspace_id)
    left join jobplatform.plans p on p.name = l.plan
    left join jobplatform.queue_limits ql using (queue)
    left join jobplatform.task_limits tl using (task)
    where w.state = 1 and w.resource is null and coalesce(l.rate_units, p.rate_units) is null
        and in_workspace.running < coalesce(l.max_running, p.max_running, 1000)
        and coalesce(in_queue.running, 0) < coalesce(ql.max_running, 1000)
        and coalesce(of_task.running, 0) < coalesce(tl.max_running, 1000)
        and coalesce(here.running, 0) < coalesce(tl.max_running_per_workspace, 1000)
        and not exists (
            select
            from paused
            where (kind, key) in (('queue', w.queue), ('task', w.task), ('workspace', w.workspace_id::text))
        )
    group by w.workspace_id
),
held as materialized (
    select paused.kind, count(*) as number
    from waiting_or_running w
    join paused
        on (kind, key) in (
            ('queue', w.queue), ('task', w.task), ('workspace', w.workspace_id::text), ('resource', w.resource)
        )
    where w.state = 1
    group by paused.kind
),
free as materialized (
    select coalesce(sum(greatest(0, worker.slots - (
        select count(*) from waiting_or_running r where r.state = 2 and r.worker_id = worker.id
    ))), 0) as number
    from jobplatform.workers worker
    where worker.dead_at is null and not worker.draining and worker.heartbeat_at > now() - interval '2 seconds'
),
census as (
    select jsonb_build_object(
        'snapshot', pg_current_snapshot()::text,
        'at', extract(epoch from clock_timestamp()),
        'workspace', (select jsonb_object_agg(workspace_id, running) from in_workspace where running > 0),
        'queue', (select jsonb_object_agg(queue, running) from in_queue),
        'task', (select jsonb_object_agg(task, running) from of_task),
        'here', (select jsonb_object_agg(workspace_id || ' ' || task, running) from of_task_here),
        'resource', (select jsonb_object_agg(resource, running) from on_resource),
        'waiting', (select jsonb_object_agg(workspace_id, waiting) from in_workspace where waiting > 0),
        'startable', (select jsonb_object_agg(workspace_id, number) from startable),
        'held', (select jsonb_object_agg(kind, number) from held),
        'free', (select number from free)
    ) as found
)
"""

LOOK += (
    CENSUS
    + """
select 'uniqueness', min(id::text), workspace_id || ' has ' || count(*) || ' unfinished jobs with key ' || unique_key
from waiting_or_running
where unique_key is not null
group by workspace_id, unique_key
having count(*) > 1
union all
select 'pairs', id::text, 'queue row of a ' || case when recorded then 'finished' else 'missing' end || ' record'
from waiting_or_running
where not recorded or status is not null
union all
select 'pairs', r.id::text, 'unfinished record without a queue row'
from jobplatform.job_records r
left join waiting_or_running w on w.workspace_id = r.workspace_id and w.id = r.id
where r.status is null and w.id is null
union all
select 'running', null, (select count(*) from waiting_or_running where state = 2)::text
union all
select 'census', null, found::text
from census
"""
)


class Snapshot(NamedTuple):
    """Which transactions a look saw: those below ``first`` and those below ``next`` that were not running."""

    first: int
    next: int
    running: frozenset[int]

    @classmethod
    def parse(cls, written: str) -> Snapshot:
        first, following, running = written.split(":")
        return cls(int(first), int(following), frozenset(map(int, filter(None, running.split(",")))))

    def sees(self, transaction: int) -> bool:
        return transaction < self.next and transaction not in self.running


@dataclass(frozen=True, slots=True)
class Census:
    """One look at what ran and waited; see :data:`CENSUS`. ``running`` is by kind of limit and then by key. ``blind``
    are the seconds since the look before, if the database could not be asked meanwhile: nor could the workers.
    """

    at: float
    snapshot: Snapshot
    running: Mapping[str, Mapping[str, int]]
    waiting: Mapping[str, int]
    startable: Mapping[str, int]
    held: Mapping[str, int]
    free: int
    blind: float = 0.0


@dataclass(slots=True)
class Seen:
    """What the looks found: (job, what) for the rules ``uniqueness`` and ``pairs``, and a census each.

    ``later`` is added to the time of the following looks: a stage has no time to wait. ``missed``: looks that failed
    since the last one that did not.
    """

    looks: int = 0
    most_running: int = 0
    uniqueness: list[tuple[str, str]] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    censuses: list[Census] = field(default_factory=list)
    later: float = 0.0
    missed: int = 0


def look(connection: psycopg.Connection[Any], seen: Seen) -> None:
    """One look."""
    for rule, job_id, what in connection.execute(LOOK):
        if rule == "running":
            seen.most_running = max(seen.most_running, int(what))
        elif rule == "census":
            seen.censuses.append(_census(json.loads(what), seen))
        elif (job_id, what) not in getattr(seen, rule):
            getattr(seen, rule).append((job_id, what))
    seen.looks += 1
    seen.missed = 0


def _census(found: dict[str, Any], seen: Seen) -> Census:
    at = found["at"] + seen.later
    return Census(
        at=at,
        snapshot=Snapshot.parse(found["snapshot"]),
        running={kind: found[kind] or {} for kind in AT_ONCE},
        waiting=found["waiting"] or {},
        startable=found["startable"] or {},
        held=found["held"] or {},
        free=found["free"],
        blind=at - seen.censuses[-1].at if seen.missed and seen.censuses else 0.0,
    )


class Watcher(Part):
    """Looks every ``pause`` seconds until told to stop; a restart of the server only interrupts it."""

    def __init__(self, url: str, stop: threading.Event, pause: float) -> None:
        super().__init__("watcher", stop)
        self.url = url
        self.pause = pause
        self.seen = Seen()

    def live(self) -> None:
        while not self.stop.is_set():
            try:
                self._look_until_disconnected()
            except psycopg.OperationalError:
                self.seen.missed += 1
            self.stop.wait(self.pause)

    def _look_until_disconnected(self) -> None:
        with connect(self.url) as connection:
            while not self.stop.wait(self.pause):
                with as_role(connection):
                    look(connection, self.seen)
