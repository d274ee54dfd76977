"""Workers: who is alive, and which attempts each of them is executing.

One heartbeat row a worker, not a job: a beat is one HOT update whatever runs. A worker that was silent for the length
of a lease is declared dead by any other, for good. If it only slept, it learns so from its next heartbeat and comes
back under a new id.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import CANCEL, ring_after_commit
from jobplatform.queue.statement import Lease, array, lease_arrays, run

# The sequence of a server that has taken over from another one may be behind that one's.
REGISTER = """
insert into jobplatform.workers (id, name, host, pid, version, queues, tasks, slots, versions)
overriding system value
values (
    nextval('jobplatform.workers_id_seq') + jobplatform.first_number() - 1,
    %(name)s, %(host)s, %(pid)s, %(version)s, %(queues)s::text[], %(tasks)s::text[], %(slots)s, %(versions)s::smallint[]
)
returning id
"""

DEREGISTER = "update jobplatform.workers set dead_at = jobplatform.clock() where id = %(worker_id)s and dead_at is null"

# Each beat names the attempts that are really executing; "all running rows of this worker" would keep alive what the
# worker has forgotten.
HEARTBEAT = """
with alive as (
    update jobplatform.workers
    set heartbeat_at = jobplatform.clock(), draining = %(draining)s
    where id = %(worker_id)s and dead_at is null
    returning drain_requested_at
),
changed as (
    select
        u.workspace_id, u.id, u.epoch, q.id is null as lost
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[]) as u(workspace_id, id, epoch)
    left join jobplatform.job_queue q
        on q.workspace_id = u.workspace_id
        and q.id = u.id
        and q.epoch = u.epoch
        and q.state + 0 = 2
        and q.worker_id = %(worker_id)s
    where q.id is null or q.cancel_requested_at is not null
)
select
    (select count(*) from alive), c.workspace_id::text, c.id::text, c.epoch, c.lost,
    (select drain_requested_at is not null from alive)
from (select) one
left join changed c on true
"""

SILENT = """
    from jobplatform.workers
    where dead_at is null and heartbeat_at < jobplatform.clock() - make_interval(secs => %(lease)s)
"""
BURY = f"""
update jobplatform.workers
set dead_at = jobplatform.clock()
where id = any(array(
    select id
    {SILENT.strip()}
    for update skip locked
))
returning id
"""


# Not `draining`: that is what the worker says of itself, with each of its heartbeats.
DRAIN = """
update jobplatform.workers
set drain_requested_at = coalesce(drain_requested_at, jobplatform.clock())
where id = %(worker_id)s and dead_at is null
"""


# Of one that is long gone its row is not there any more: see keep/retention.py.
PLACES = """
select id, host, pid from jobplatform.workers where id = any(%(ids)s::int[])
union all
select id, host, pid from jobplatform.past_workers where id = any(%(ids)s::int[])
"""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself when it starts."""

    name: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    slots: int
    versions: tuple[int, ...] = ()
    """The newest payload version of each of ``tasks`` that it can read; empty for all there will ever be."""


class Heartbeat(NamedTuple):
    """``alive`` is false for a worker that was declared dead: nothing it holds is its own any more.

    ``lost`` are attempts somebody else has by now (or that ended), ``cancelled`` those that somebody wants stopped.
    ``drain``: an operator wants this worker to finish what it runs, and stop.
    """

    alive: bool
    lost: list[Lease]
    cancelled: list[Lease]
    drain: bool = False


def register_worker(session: Session, info: WorkerInfo) -> int:
    """Register a worker and return its id, which no other process ever had or will have."""
    row = run(
        session,
        REGISTER,
        name=info.name,
        host=info.host,
        pid=info.pid,
        version=info.version,
        queues=list(info.queues),
        tasks=list(info.tasks),
        slots=info.slots,
        versions=list(info.versions),
    ).one()
    return int(row[0])


def deregister_worker(session: Session, worker_id: int) -> None:
    """Say that a worker has stopped. What it might still hold is rescued like a dead worker's."""
    run(session, DEREGISTER, worker_id=worker_id)


def heartbeat(session: Session, worker_id: int, held: Sequence[Lease], *, draining: bool = False) -> Heartbeat:
    """Renew a worker's leases, naming the attempts it really executes, and learn which of them to stop.

    An attempt whose finish is on its way may come back as lost: the finish's own answer decides then.
    """
    rows = run(session, HEARTBEAT, worker_id=worker_id, draining=draining, **lease_arrays(held)).all()
    changed = [(Lease(row[1], row[2], row[3]), row[4]) for row in rows if row[2] is not None]
    return Heartbeat(
        alive=rows[0][0] == 1,
        lost=[lease for lease, lost in changed if lost],
        cancelled=[lease for lease, lost in changed if not lost],
        drain=bool(rows[0][5]),
    )


@checks_arguments()
def drain_worker(session: Session, worker_id: int) -> bool:
    """Have a worker take nothing new, finish what it runs within its drain timeout, and stop; as SIGTERM does.

    It learns so from its next heartbeat, which comes at once where it hears the doorbell. Says whether there is such a
    worker, alive. Whatever supervises its process may start another one.
    """
    found = run(session, DRAIN, worker_id=worker_id).rowcount == 1
    if found:
        ring_after_commit(session, {CANCEL})
    return found


def places_of_workers(session: Session, ids: Iterable[int | None]) -> dict[int, str]:
    """Where workers run, or did: their host and process, as ``host:pid``. Nothing is asked where there are none."""
    known = {worker_id for worker_id in ids if worker_id is not None}
    if not known:
        return {}
    return {worker_id: f"{host}:{pid}" for worker_id, host, pid in run(session, PLACES, ids=array(known))}


def bury_workers(session: Session, lease: datetime.timedelta) -> list[int]:
    """Declare dead every worker that was silent for longer than ``lease``; for good. Commit before rescuing."""
    return [row[0] for row in run(session, BURY, lease=lease.total_seconds())]
