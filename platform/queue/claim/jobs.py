"""Claim up to so many jobs: the one that the worker was woken for, or from its queues one after the other."""

from __future__ import annotations

import operator
import random
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.claim.claimed_job import ClaimedJob, claimed
from jobplatform.queue.claim.limited import LIMITED_CLAIM
from jobplatform.queue.claim.plain import CLAIM
from jobplatform.queue.claim.ring import LAST, Ring
from jobplatform.queue.claim.rung import Rung, claim_rung
from jobplatform.queue.claim.weighed import WEIGHED_CLAIM
from jobplatform.queue.claim.weighing import Weighing
from jobplatform.queue.statement import array, run

#: Jobs one claim may take.
LARGEST_CLAIM = 400

#: Code that does not say which versions it reads reads all of them.
NEWEST = 32_767

#: A job that nobody has.
NO_RUNG = Rung("", str(uuid.UUID(int=0)))


class Ahead(NamedTuple):
    """Workspaces that have had more than their fair share, least first; the first ``fair`` of them not much more."""

    workspaces: Sequence[str] = ()
    fair: int = 0


NOBODY = Ahead()


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
            return Claim([claimed(only.row)], more=only.others)
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
    return Claim(_in_turns([claimed(row) for row in taken]), more, wait, held_back, waiting)


def _in_turns(jobs: list[ClaimedJob]) -> list[ClaimedJob]:
    """The jobs in the order in which they should start: workspaces by turns and weights, each one's in its own order.

    Otherwise all that one of them got in a large claim would be before what the next one got.
    """
    if not jobs or jobs[0].lease.workspace_id == jobs[-1].lease.workspace_id:
        return jobs  # They come workspace by workspace, so they are all of one.
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
