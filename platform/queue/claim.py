"""Claim: the next jobs for a worker's free slots, fair between workspaces, at a cost nobody's backlog changes.

The workspaces that have ready jobs form a ring, ordered by id. A claim walks it from a cursor that the worker keeps
in memory: one index descent finds the next workspace (a loose index scan), a second takes that workspace's best jobs
by priority, then ``run_after``, then age. Nothing is stored about the ring, so nothing about it can drift, and an
enqueue has nothing to share with another. Rows that another claimer has locked are skipped.

Each claimed row gets ``epoch + 1`` (the fence, never reused), ``attempts + 1`` (a job that kills its worker must not
try for ever) and the worker's id.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import Lease, run

#: Jobs one claim may take. The literal 200 in CLAIM is the same number: with a parameter there, the planner assumes
#: a tenth of the table and turns to a sequential scan (92 ms instead of 5 ms at 100,000 ready jobs).
LARGEST_CLAIM = 200
#: Workspaces a claim looks at, at least; few enough that a claim of one job stays under a hundred buffers.
FEWEST_LANES = 8
#: Claims in a row that may find nothing before the worker goes back to its poll.
MOST_EMPTY_LOOKS = 64

LAST = uuid.UUID(int=2**128 - 1)

_COLUMNS = """
    u.workspace_id::text, u.id::text, u.epoch, u.queue, u.task, u.attempts, u.max_attempts, u.crash_count,
    u.timeout_ms, r.payload::text, r.payload_version, r.request_id, r.trace_parent
"""

_TAKE = """
    update jobplatform.job_queue q
    set state = 2,
        epoch = q.epoch + 1,
        attempts = q.attempts + 1,
        worker_id = %(worker_id)s,
        started_at = jobplatform.clock(),
        progress = null
"""

# In `lane`, `high` bounds the part of the ring still ahead: the last uuid before the wrap, the cursor after it. It has
# to be an index condition; as a filter the scan of the wrapped part would run to the end of the index. `wrapped` is
# not read off `high`: with the cursor on the last uuid of all, both parts have the same bound.
# `pick` hands over ctids: the rows are locked, so they cannot move, and a TID scan is the one plan that no statistics
# can turn into something else.
CLAIM = f"""
with recursive
lane(workspace_id, high, wrapped, place) as (
    (
        select first.workspace_id, first.high, first.wrapped, 1
        from (
            (
                select workspace_id, %(last)s::uuid as high, false as wrapped
                from jobplatform.job_queue
                where state = 1 and queue = %(queue)s and workspace_id > %(cursor)s::uuid
                order by workspace_id
                limit 1
            )
            union all
            (
                select workspace_id, %(cursor)s::uuid, true
                from jobplatform.job_queue
                where state = 1 and queue = %(queue)s and workspace_id <= %(cursor)s::uuid
                order by workspace_id
                limit 1
            )
        ) first
        limit 1
    )
    union all
    select next.workspace_id, next.high, next.wrapped, lane.place + 1
    from lane
    cross join lateral (
        (
            select workspace_id, lane.high, lane.wrapped
            from jobplatform.job_queue
            where state = 1 and queue = %(queue)s and workspace_id > lane.workspace_id and workspace_id <= lane.high
            order by workspace_id
            limit 1
        )
        union all
        (
            select workspace_id, %(cursor)s::uuid, true
            from jobplatform.job_queue
            where not lane.wrapped
                and state = 1 and queue = %(queue)s and workspace_id <= %(cursor)s::uuid
            order by workspace_id
            limit 1
        )
        limit 1
    ) next
    where lane.place < %(lanes)s
),
ring as materialized (
    select workspace_id, place, count(*) over () as lanes from lane
),
pick as materialized (
    select job.tid
    from (select * from ring order by place) l
    cross join lateral (
        select best.tid
        from (
            select q.ctid as tid
            from jobplatform.job_queue q
            where q.state = 1 and q.queue = %(queue)s and q.workspace_id = l.workspace_id and q.task = any(%(tasks)s)
            order by q.priority desc, q.run_after, q.id
            limit 200
            for update skip locked
        ) best
        limit (%(limit)s + l.lanes - 1) / l.lanes
    ) job
    limit %(limit)s
),
taken as (
    {_TAKE}
    where q.ctid = any(array(select tid from pick))
    returning q.*
)
select
    seen.last_workspace::text, seen.lanes, {_COLUMNS}
from (
    select
        (select workspace_id from ring order by place desc limit 1) as last_workspace,
        (select count(*) from ring) as lanes
) seen
left join (
    taken u
    join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
    join ring on ring.workspace_id = u.workspace_id
) on true
order by ring.place, u.priority desc, u.run_after, u.id
"""

CLAIM_ONE = f"""
with u as (
    {_TAKE}
    where q.workspace_id = %(workspace_id)s and q.id = %(id)s and q.state = 1
    returning q.*
)
select {_COLUMNS}
from u
join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
"""


class ClaimedJob(NamedTuple):
    """A job and the lease on its next attempt. ``payload`` is JSON text, as stored: nobody decodes it on the way."""

    lease: Lease
    queue: str
    task: str
    attempt: int
    max_attempts: int
    crash_count: int
    timeout_ms: int
    payload: str
    payload_version: int
    request_id: str | None
    trace_parent: str | None


class Claim(NamedTuple):
    """What a claim got, and whether asking again at once may get more."""

    jobs: list[ClaimedJob]
    more: bool


class Ring:
    """Where one worker is on the ring of workspaces, for each queue it serves. Memory only: losing it costs nothing.

    ``position`` (0 to 1) is where it starts. Workers that start evenly spaced are fair to each other from the first
    round on; at random they are after a few.
    """

    def __init__(self, queues: Sequence[str], position: float | None = None) -> None:
        start = random.random() if position is None else position
        self._cursors = {queue: uuid.UUID(int=min(int(start * 2**128), LAST.int)) for queue in queues}
        self._order = list(queues)
        self._empty_looks = dict.fromkeys(queues, 0)

    def next_queues(self) -> list[str]:
        """The queues in the order this claim should try them; the first one moves on each time."""
        self._order = self._order[1:] + self._order[:1]
        return self._order

    def cursor(self, queue: str) -> uuid.UUID:
        return self._cursors[queue]

    def move(self, queue: str, workspace_id: str) -> None:
        self._cursors[queue] = uuid.UUID(workspace_id)

    def look_further(self, queue: str, *, found: bool, stretch_ended: bool) -> bool:
        """Whether the rest of the ring is worth another look now.

        A stretch of workspaces whose ready jobs nobody here may take is passed over at once, but not for ever: after
        :data:`MOST_EMPTY_LOOKS` the next poll goes on from where this one stopped.
        """
        self._empty_looks[queue] = 0 if found or stretch_ended else self._empty_looks[queue] + 1
        return found or 0 < self._empty_looks[queue] <= MOST_EMPTY_LOOKS


def claim_jobs(session: Session, ring: Ring, *, worker_id: int, tasks: Sequence[str], limit: int) -> Claim:
    """Claim up to ``limit`` ready jobs of these ``tasks`` for this worker and move the ring on.

    Run it on an AUTOCOMMIT connection: a claim must be its own READ COMMITTED transaction. A job of an unknown task
    is left alone for a worker that knows it.
    """
    jobs: list[ClaimedJob] = []
    more = False
    for queue in ring.next_queues():
        room = min(limit, LARGEST_CLAIM) - len(jobs)
        if room <= 0:
            more = True
            break
        found, again = _claim_from(session, ring, queue, worker_id, tasks, room)
        jobs += found
        more = more or again
    return Claim(jobs, more)


def claim_job(session: Session, *, worker_id: int, workspace_id: uuid.UUID, job_id: uuid.UUID) -> ClaimedJob | None:
    """Claim this one job if it is ready; None when it is not (any more)."""
    row = run(session, CLAIM_ONE, worker_id=worker_id, workspace_id=workspace_id, id=job_id).one_or_none()
    return _claimed(row) if row else None


def _claim_from(
    session: Session, ring: Ring, queue: str, worker_id: int, tasks: Sequence[str], limit: int
) -> tuple[list[ClaimedJob], bool]:
    lanes = max(limit, FEWEST_LANES)
    rows = run(
        session,
        CLAIM,
        queue=queue,
        cursor=ring.cursor(queue),
        last=LAST,
        lanes=lanes,
        tasks=list(tasks),
        limit=limit,
        worker_id=worker_id,
    ).all()
    last_workspace, seen = (rows[0][0], rows[0][1]) if rows else (None, 0)
    jobs = [_claimed(row[2:]) for row in rows if row[2] is not None]
    if len(jobs) == limit:
        ring.move(queue, jobs[-1].lease.workspace_id)
    elif last_workspace is not None:
        ring.move(queue, last_workspace)
    return jobs, ring.look_further(queue, found=bool(jobs), stretch_ended=seen < lanes)


def _claimed(row: Sequence[Any]) -> ClaimedJob:
    return ClaimedJob(Lease(row[0], row[1], row[2]), *row[3:])
