"""Claim: the next jobs for a worker's free slots, fair between workspaces, at a cost nobody's backlog changes.

The workspaces that have ready jobs form a ring, ordered by id. A claim walks a stretch of it from a cursor that the
worker keeps in memory: one index descent finds the next workspace (a loose index scan), a second takes its best jobs by
priority, then ``run_after``, then age. Each gets a share by its weight, and no more than its limits leave free. Nothing
is stored about ring, shares or limits, so nothing about them can drift, and an enqueue has nothing to share with
another. Rows that another claimer has locked are skipped.

Each claimed row gets ``epoch + 1`` (the fence, never reused), ``attempts + 1`` (a job that kills its worker must not
try for ever) and the worker's id. The statements are in ``claim_sql``.
"""

from __future__ import annotations

import operator
import random
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.claim_rung import Rung, claim_rung
from jobplatform.queue.claim_sql import CLAIM, CLAIM_ONE, LIMITED_CLAIM, WEIGHED_CLAIM, Weighing
from jobplatform.queue.statement import Lease, array, quick_maker, run

#: Jobs one claim may take.
LARGEST_CLAIM = 200
#: Workspaces a claim looks at, at least; few enough that a claim of one job stays under a hundred buffers.
FEWEST_WORKSPACES = 8
#: Workspaces a claim looks at, at most, when it goes on because it found nothing.
MOST_WORKSPACES = 512
#: Claims in a row that may find nothing before the worker goes back to its poll.
MOST_EMPTY_LOOKS = 64
#: Claims that weigh more than they have to, since last there was as much to weigh, before a simpler one is tried again.
WEIGHED_CLAIMS = 20

#: Code that does not say which versions it reads reads all of them.
NEWEST = 32_767

LAST = uuid.UUID(int=2**128 - 1)
#: A job that nobody has.
NO_RUNG = Rung("", str(uuid.UUID(int=0)))


class ClaimedJob(NamedTuple):
    """A job and the lease on its next attempt. ``payload`` is JSON text, as stored: nobody decodes it on the way.

    ``waited`` is for how many seconds it could have been claimed already. ``weight`` is its workspace's, for whoever
    accounts for the time it takes.
    """

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
    resource: str | None = None
    waited: float = 0.0
    weight: int = 1


class Ahead(NamedTuple):
    """Workspaces that have had more than their fair share, least first; the first ``fair`` of them not much more."""

    workspaces: Sequence[str] = ()
    fair: int = 0


NOBODY = Ahead()

_job = quick_maker(ClaimedJob)
_lease = quick_maker(Lease)


class Claim(NamedTuple):
    """What a claim got, and when to ask again.

    ``more``: at once. ``wait``: in so many seconds, because a rate, a closed bucket or a pause will let something run.
    ``held_back``: when a running job has ended, because a limit is reached. ``waiting`` are those of the workspaces
    ahead of their share that it saw with something ready; ``came_round``: every queue's ring has been gone round once.
    """

    jobs: list[ClaimedJob]
    more: bool
    wait: float | None = None
    held_back: bool = False
    waiting: Collection[str] = ()
    came_round: bool = False


class Ring:
    """Where one worker is on the ring of workspaces, for each queue it serves. Memory only: losing it costs nothing.

    ``position`` (0 to 1) is where it starts. Workers that start evenly spaced are fair to each other from the first
    round on; at random they are after a few.
    """

    def __init__(self, queues: Sequence[str], position: float | None = None) -> None:
        start = random.random() if position is None else position
        self._cursors = {queue: uuid.UUID(int=min(int(start * 2**128), LAST.int)) for queue in queues}
        self._order = list(queues)
        self._on_the_way = set(queues)
        self._empty_looks = dict.fromkeys(queues, 0)
        self._weighing = dict.fromkeys(queues, Weighing.NOTHING)
        self._weighed_claims = dict.fromkeys(queues, 0)

    @property
    def queues(self) -> Sequence[str]:
        return self._order

    def next_queues(self) -> list[str]:
        """The queues in the order this claim should try them; the first one moves on each time."""
        self._order = self._order[1:] + self._order[:1]
        return self._order

    def cursor(self, queue: str) -> uuid.UUID:
        return self._cursors[queue]

    def move(self, queue: str, workspace_id: str) -> None:
        cursor = uuid.UUID(workspace_id)
        if cursor <= self._cursors[queue]:
            self._on_the_way.discard(queue)
        self._cursors[queue] = cursor

    def nobody(self, queue: str) -> None:
        """Nobody has anything ready in this queue: nobody waits there for this round to end."""
        self._on_the_way.discard(queue)

    def came_round(self) -> bool:
        """Whether all queues' rings have been gone round since this was last answered with yes."""
        if self._on_the_way:
            return False
        self._on_the_way.update(self._cursors)
        return True

    def workspaces(self, queue: str, wanted: int) -> int:
        """How many workspaces to look at: the further, the longer nothing was found."""
        window = max(wanted, FEWEST_WORKSPACES)
        # Four times as many after each look that found nothing.
        return max(window, min(MOST_WORKSPACES, window << 2 * min(self._empty_looks[queue], 4)))

    def look_further(self, queue: str, *, found: bool, stretch_ended: bool) -> bool:
        """Whether the rest of the ring is worth another look now.

        A stretch of workspaces whose ready jobs nobody here may take is passed over at once, but not for ever: after
        :data:`MOST_EMPTY_LOOKS` the next poll goes on from where this one stopped.
        """
        self._empty_looks[queue] = 0 if found or stretch_ended else self._empty_looks[queue] + 1
        return found or 0 < self._empty_looks[queue] <= MOST_EMPTY_LOOKS

    def weighs(self, queue: str) -> Weighing:
        """The most that there was to weigh in this queue a short while ago."""
        return self._weighing[queue]

    def weighed(self, queue: str, found: Weighing) -> None:
        """A claim found this to weigh."""
        if found < self._weighing[queue] and self._weighed_claims[queue] + 1 < WEIGHED_CLAIMS:
            self._weighed_claims[queue] += 1
        else:
            self._weighing[queue] = found
            self._weighed_claims[queue] = 0


def claim_jobs(
    session: Session,
    ring: Ring,
    *,
    worker_id: int,
    tasks: Sequence[str],
    limit: int,
    turn: int = 1,
    newcomers: Iterable[str] = (),
    ahead: Ahead = NOBODY,
    versions: Mapping[str, int] | None = None,
    rung: Rung | None = None,
) -> Claim:
    """Claim up to ``limit`` ready jobs of these ``tasks`` for this worker and move the ring on.

    ``turn`` is how many jobs a workspace has its turn for; more than one makes claims of very short jobs cheaper.
    ``newcomers`` are workspaces (ids) to look at before those whose turn it is on the ring; ``ahead`` are those that
    come after the others. Run it on an AUTOCOMMIT connection: a claim must be its own READ COMMITTED transaction. A job
    of an unknown task is left alone for a worker that knows it, and so is one whose payload is of a newer version than
    that of ``versions`` for its task. ``rung`` is what a worker was woken for that has nothing to do.
    """
    jobs: list[ClaimedJob] = []
    more, held_back, waits = False, False, []
    waiting: set[str] = set()
    values = {
        **_who(worker_id, tasks, versions),
        "newcomers": array(newcomers),
        "ahead": array(ahead.workspaces),
        "fair": ahead.fair,
        "last": LAST,
    }
    if rung is not None and not ring.weighs(rung.queue):
        only = claim_rung(session, rung, ring.queues, values)
        if only is not None:
            return Claim([_claimed(only.row)], more=only.others)
    for queue in ring.next_queues():
        room = min(limit, LARGEST_CLAIM) - len(jobs)
        if room <= 0:
            more = True
            break
        found = _claim_from(session, ring, queue, room, turn, ahead, values)
        jobs += found.jobs
        more = more or found.more
        held_back = held_back or found.held_back
        waits += [found.wait] if found.wait is not None else []
        waiting.update(found.waiting)
    return Claim(jobs, more, min(waits, default=None), held_back, waiting, ring.came_round())


def prepare_claims(
    session: Session,
    ring: Ring,
    *,
    worker_id: int,
    tasks: Sequence[str],
    versions: Mapping[str, int] | None = None,
) -> None:
    """Have the server plan on this connection how a worker that is woken claims: its first job would wait for that.

    Twice, because the driver prepares what it sees for the second time (see :func:`jobplatform.models.make_engine`).
    """
    for _ in range(2):
        claim_rung(session, NO_RUNG, ring.queues, _who(worker_id, tasks, versions))


def claim_job(session: Session, *, worker_id: int, workspace_id: uuid.UUID, job_id: uuid.UUID) -> ClaimedJob | None:
    """Claim this one job if it is ready, whatever the limits; None when it is not ready (any more)."""
    row = run(session, CLAIM_ONE, worker_id=worker_id, workspace_id=workspace_id, id=job_id).one_or_none()
    return _claimed(row) if row else None


def _who(worker_id: int, tasks: Sequence[str], versions: Mapping[str, int] | None) -> dict[str, Any]:
    """Who claims, as the statements are told."""
    return {
        "worker_id": worker_id,
        "tasks": list(tasks),
        "versions": array((versions or {}).get(task, NEWEST) for task in tasks),
    }


def _claim_from(
    session: Session, ring: Ring, queue: str, limit: int, turn: int, ahead: Ahead, values: dict[str, Any]
) -> Claim:
    workspaces = ring.workspaces(queue, -(-limit // turn))
    values = values | {
        "queue": queue,
        "cursor": ring.cursor(queue),
        "workspaces": workspaces,
        "limit": limit,
        "pivot": random.getrandbits(64) - 2**63,
    }
    rows = _ask(session, ring, queue, values)
    last_workspace, seen, _, leads, wait, held_back = rows[0][:6]
    taken = [row[7:] for row in rows if row[7] is not None]
    if last_workspace is None:
        ring.nobody(queue)
    elif next_cursor := _last_taken(taken) if len(taken) == limit else last_workspace:
        ring.move(queue, next_cursor)
    stretch_ended = (seen or 0) < workspaces
    more = ring.look_further(queue, found=bool(taken), stretch_ended=stretch_ended)
    waiting = {ahead.workspaces[lead - 1] for lead in leads or ()}
    return Claim(_in_turns([_claimed(row) for row in taken]), more, wait, held_back, waiting)


def _in_turns(jobs: list[ClaimedJob]) -> list[ClaimedJob]:
    """The jobs in the order in which they should start: workspaces by turns and weights, each one's in its own order.

    Otherwise all that one of them got in a large claim would be before what the next one got.
    """
    had: dict[str, float] = {}
    turns = []
    for job in jobs:
        workspace_id = job.lease.workspace_id
        had[workspace_id] = had.get(workspace_id, 0.0) + 1 / job.weight
        turns.append(had[workspace_id])
    return [jobs[number] for number in sorted(range(len(jobs)), key=turns.__getitem__)]


def _last_taken(rows: Sequence[Sequence[Any]]) -> str | None:
    """The workspace furthest along the ring that had its turn; None when only newcomers had one."""
    last: Sequence[Any] = max(rows, key=operator.itemgetter(-1))
    return str(last[0]) if last[-1] > 0 else None


def _ask(session: Session, ring: Ring, queue: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
    """The statement that weighs no more than there was to weigh lately; another one when there turns out to be more."""
    weighed = ring.weighs(queue)
    while True:
        rows = run(session, _statement(weighed), **values).all()
        found = Weighing(rows[0][2])
        if found <= weighed:
            ring.weighed(queue, found)
            return rows
        weighed = found


def _statement(weighing: Weighing) -> str:
    match weighing:
        case Weighing.NOTHING:
            return CLAIM
        case Weighing.WORKSPACES:
            return LIMITED_CLAIM
        case Weighing.LANES:
            return WEIGHED_CLAIM


def _claimed(row: Sequence[Any]) -> ClaimedJob:
    return _job((_lease(row[:3]), *row[3:-1]))
