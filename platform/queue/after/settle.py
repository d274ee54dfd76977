"""Settle: count the jobs of batches that ended, and let go, call off or bring back what waited for them.

    1. Take notices: those of jobs in no batch, and those of batches that nobody else is counting. Whoever subscribed
       to these endings is told (:mod:`jobplatform.queue.hooks.tell_webhooks`).
    2. Count them into their batches. A closed batch whose jobs have all ended has ended, and subscribers are told.
    3. Ask jobs that somebody has come to wait for to say when they end.
    4. Find what waits for the jobs and batches of these notices, and hold it.
    5. Mark its edges with how that ended, *as it is now*: a notice says where to look, never what is true.
    6. Decide. All edges in its favour: let it go. One against: call it off. None against any more, after somebody
       retried what failed: bring it back. Whatever is called off or brought back leaves notices of its own.
    7. Go on with cancelling what was to be cancelled.

All of it is one transaction: a crash anywhere leaves the notices where they are, and nothing done. Any worker does it,
no leader; whoever is faster. What is locked by somebody else is not waited for, and is put back as a notice; so is what
is brought back while an open transaction asks for its key. A callback of a batch is a job that waits for the batch, so
it is fired exactly once because a job is let go only once.
"""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.models import FINAL_STATUSES, RunIf, State
from jobplatform.queue.after.settle_sql import (
    BRING_BACK,
    CALL_OFF,
    COUNT,
    DECIDE,
    FOLLOW,
    LET_GO,
    LOCK_BATCHES,
    LOCK_SUCCESSORS,
    MARK,
    MOST_BATCHES,
    MOST_NOTICES,
    MOST_OF_BATCHES,
    MOST_SINGLY,
    MOST_SUCCESSORS,
    NOT_FOLLOWED,
    NOT_NEEDED,
    PATIENCE,
    PATIENT_AGAIN,
    PREDECESSOR_FAILED,
    SCAN_BATCHES,
    SUCCESSORS,
    TAKE,
)
from jobplatform.queue.by_hand.cancel_many import cancel_members, cancel_places
from jobplatform.queue.doorbell import CANCEL, ring_after_commit, ring_for_jobs
from jobplatform.queue.enqueue import NewJob
from jobplatform.queue.enqueue.edges import note
from jobplatform.queue.hooks.tell_webhooks import Ending, tell_of_batches, tell_webhooks
from jobplatform.queue.patience import out_of_patience
from jobplatform.queue.statement import array, one_transaction, run, savepoint, text_array

#: Seconds after which to look again at what somebody else had locked.
LOOK_AGAIN = 0.2

Place: TypeAlias = tuple[str, str]
"""A workspace, and a job or batch of it."""

_COUNTERS = {3: "completed", 4: "failed", 5: "cancelled"}
_SIGNS = {"ended": 1, "reopened": -1}


class Released(NamedTuple):
    """A job that waits for nothing but its turn now; with ``later`` for its time."""

    workspace_id: str
    job_id: str
    queue: str
    task: str
    later: bool


class Settlement(NamedTuple):
    """What one round did. ``more``: there is more to do at once. ``wait``: look again in so many seconds."""

    notices: int = 0
    released: Sequence[Released] = ()
    called_off: int = 0
    more: bool = False
    wait: float | None = None


class Notice(NamedTuple):
    """A row of ``notices``, as :class:`jobplatform.models.Notice` explains it."""

    workspace_id: str
    id: int
    kind: str
    job_id: str | None
    batch_id: str | None
    status: int | None
    amount: int


class Verdict(NamedTuple):
    """What there is to know about a job that waits, or did. ``run_if`` and what follows: an edge that is against it."""

    workspace_id: str
    job_id: str
    state: int | None
    called_off: bool
    waits: bool
    run_if: str | None
    of_batch: bool | None
    after_id: str | None
    after_status: int | None

    @property
    def place(self) -> Place:
        return (self.workspace_id, self.job_id)


def settle_endings(session: Session, workspace_id: uuid.UUID | None = None) -> Settlement:
    """One round: a bounded number of notices, of all workspaces or of one, settled in one transaction of the caller's.

    The doorbell is rung for what became ready, and ``more`` says whether to call it again.
    """
    with one_transaction(session):
        batches, orphans = _batches_to_count(session, workspace_id)
        notices = _take(session, batches + orphans, workspace_id)
        if not notices:
            return Settlement()
        return _Round(session, notices, batches).settle()


class _Round:
    """One round's work on its notices, step by step."""

    def __init__(self, session: Session, notices: Sequence[Notice], batches: Sequence[Place]) -> None:
        self.session = session
        self.notices = notices
        self.batches = set(batches)
        self.again: set[Place] = set()
        self.waits = False
        self.more = len(notices) >= MOST_NOTICES
        self.released: list[Released] = []
        self.called_off = 0

    def settle(self) -> Settlement:
        self._tell_webhooks()
        self._count()
        self._follow()
        self._decide(self._hold_successors())
        self._cancel()
        note(self.session, [(workspace_id, "look", job_id, None, 0) for workspace_id, job_id in self.again])
        self._ring()
        wait = LOOK_AGAIN if self.again or self.waits else None
        return Settlement(len(self.notices), self.released, self.called_off, self.more, wait)

    # Before anything is brought back: the records say how they ended

    def _tell_webhooks(self) -> None:
        endings = [
            Ending(notice.id, notice.workspace_id, notice.job_id, notice.status)
            for notice in self.notices
            if notice.kind == "ended" and notice.job_id is not None and notice.status is not None
        ]
        self._enqueued(tell_webhooks(self.session, endings))

    def _enqueued(self, jobs: Iterable[NewJob]) -> None:
        for job in jobs:
            self.released.append(Released(str(job.workspace_id), str(job.id), job.queue, job.task, later=False))

    # Steps 2 and 3

    def _count(self) -> None:
        deltas: dict[Place, dict[str, int]] = {place: defaultdict(int) for place in self.batches}
        for notice in self.notices:
            place = (notice.workspace_id, notice.batch_id or "")
            if place in deltas:
                deltas[place]["added"] += notice.amount
                if notice.kind in _SIGNS and notice.status is not None:
                    deltas[place][_COUNTERS[notice.status]] += _SIGNS[notice.kind]
        if deltas:
            counts = {name: array(delta[name] for delta in deltas.values()) for name in ("added", *_COUNTERS.values())}
            rows = run(self.session, COUNT, **_places(deltas), **counts).all()
            self._enqueued(tell_of_batches(self.session, [(row[0], row[1]) for row in rows if row[2]]))

    def _follow(self) -> None:
        looked = self._to_look_at()
        if looked and run(self.session, FOLLOW, **_places(looked)).rowcount < len(looked):
            self.again |= {(row[0], row[1]) for row in run(self.session, NOT_FOLLOWED, **_places(looked))}

    def _to_look_at(self) -> set[Place]:
        """The jobs that somebody has come to wait for, or that are to be decided about once more."""
        return {
            (notice.workspace_id, notice.job_id)
            for notice in self.notices
            if notice.kind == "look" and notice.job_id is not None
        }

    # Steps 4 and 5

    def _hold_successors(self) -> set[Place]:
        """The jobs to decide about: what waits for something of these notices, and what is to be looked at again."""
        events = self.batches | {
            (notice.workspace_id, notice.job_id)
            for notice in self.notices
            if notice.job_id is not None and notice.kind != "cancel"
        }
        if not events:
            return set()
        edges = [tuple(row) for row in run(self.session, SUCCESSORS, **_places(events))]
        if len(edges) >= MOST_SUCCESSORS:
            # What is marked in this round is not found in the next.
            self._look_again(events)
        wanted = self._to_look_at() | {(edge[0], edge[1]) for edge in edges}
        held = {(row[0], row[1]) for row in run(self.session, LOCK_SUCCESSORS, **_places(wanted))} if wanted else set()
        # Somebody else decides about the others just now, and may not have seen what we have.
        self._look_again({(edge[0], edge[2]) for edge in edges if (edge[0], edge[1]) not in held})
        self._mark([edge for edge in edges if (edge[0], edge[1]) in held])
        self.more = self.more or (len(edges) >= MOST_SUCCESSORS and bool(held))
        return held

    def _look_again(self, events: set[Place]) -> None:
        """At what waits for these jobs and batches."""
        self.waits = self.waits or bool(events)
        self.again |= events - self.batches
        note(
            self.session,
            [(workspace_id, "look", None, batch_id, 0) for workspace_id, batch_id in events & self.batches],
        )

    def _mark(self, edges: Sequence[Sequence[Any]]) -> None:
        if edges:
            run(
                self.session,
                MARK,
                workspace_ids=array(edge[0] for edge in edges),
                ids=array(edge[1] for edge in edges),
                after_ids=array(edge[2] for edge in edges),
            )

    # Step 6

    def _decide(self, held: Collection[Place]) -> None:
        if not held:
            return
        verdicts = [Verdict(*row) for row in run(self.session, DECIDE, **_places(held))]
        blocked = [verdict for verdict in verdicts if verdict.state == State.BLOCKED]
        self._call_off([verdict for verdict in blocked if verdict.run_if is not None])
        self._let_go({verdict.place for verdict in blocked if verdict.run_if is None and not verdict.waits})
        self._bring_back(
            [verdict for verdict in verdicts if verdict.state is None and verdict.called_off and verdict.run_if is None]
        )

    def _let_go(self, places: Collection[Place]) -> None:
        if places:
            rows = run(self.session, LET_GO, **_places(places)).all()
            self.released += _released(rows)
            self.again |= set(places) - {(row[0], row[1]) for row in rows}

    def _call_off(self, verdicts: Sequence[Verdict]) -> None:
        if verdicts:
            reasons = [_reason(verdict) for verdict in verdicts]
            rows = run(
                self.session,
                CALL_OFF,
                **_places([verdict.place for verdict in verdicts]),
                error_types=text_array(reason[0] for reason in reasons),
                errors=text_array(reason[1] for reason in reasons),
            ).all()
            self.called_off += len(rows)
            self.again |= {verdict.place for verdict in verdicts} - {(row[0], row[1]) for row in rows}
            self.more = self.more or any(row[2] for row in rows)

    def _bring_back(self, verdicts: Sequence[Verdict]) -> None:
        if not verdicts:
            return
        rows = _bring_back(self.session, verdicts)
        back = [row for row in rows if row[2] is not None]
        self.released += _released(row for row in back if row[4] != State.BLOCKED)
        self.again |= {verdict.place for verdict in verdicts} - {(row[0], row[1]) for row in rows}
        self.more = self.more or any(row[5] for row in back)

    # Step 7, and the bell

    def _cancel(self) -> None:
        answers = cancel_places(
            self.session,
            [
                (notice.workspace_id, notice.job_id)
                for notice in self.notices
                if notice.kind == "cancel" and notice.job_id is not None and notice.batch_id is None
            ],
        )
        for notice in self.notices:
            if notice.kind == "cancel" and notice.batch_id is not None and notice.job_id is not None:
                answers += cancel_members(self.session, notice.workspace_id, notice.batch_id, notice.job_id)
                self.more = True
        if "requested" in answers:
            ring_after_commit(self.session, {CANCEL})
        self.more = self.more or "cancelled" in answers
        self.waits = self.waits or "busy" in answers

    def _ring(self) -> None:
        ready = [job for job in self.released if not job.later]
        if ready:
            ring_for_jobs(
                self.session,
                {job.queue for job in ready},
                {uuid.UUID(job.workspace_id) for job in ready},
            )


def _batches_to_count(session: Session, only: uuid.UUID | None) -> tuple[list[Place], list[Place]]:
    """Batches that have notices, locked; and those that are not there any more, of which notices were left."""
    found = _scan(session, uuid.UUID(int=0), only)
    if len(found) >= MOST_BATCHES:
        # Many: begin anywhere, so that some that are locked for long cannot be in the way of all behind them.
        found = _scan(session, uuid.UUID(int=random.getrandbits(128)), only) or found
    there = [(row[0], row[1]) for row in found if row[2]]
    gone = [(row[0], row[1]) for row in found if not row[2]]
    if not there:
        return [], gone
    return [(row[0], row[1]) for row in run(session, LOCK_BATCHES, **_places(there))], gone


def _scan(session: Session, start: uuid.UUID, only: uuid.UUID | None) -> Sequence[Sequence[Any]]:
    return run(session, SCAN_BATCHES, workspace_id=start, batch_id=uuid.UUID(int=0), only=only).all()


def _take(session: Session, batches: Sequence[Place], only: uuid.UUID | None) -> list[Notice]:
    rows = run(
        session,
        TAKE,
        workspace_ids=array(place[0] for place in batches),
        batch_ids=array(place[1] for place in batches),
        most=MOST_NOTICES,
        most_of_each=MOST_OF_BATCHES // max(1, len(batches)),
        only=only,
    )
    return [Notice(*row) for row in rows]


def _bring_back(session: Session, verdicts: Sequence[Verdict]) -> Sequence[Sequence[Any]]:
    """What :data:`BRING_BACK` says of these, or of some of them where somebody is in the way of one."""
    rows = _bring_back_at_once(session, verdicts)
    if rows is not None:
        return rows
    some = random.sample(verdicts, min(len(verdicts), MOST_SINGLY)) if len(verdicts) > 1 else ()
    return [row for verdict in some for row in _bring_back_at_once(session, [verdict]) or ()]


def _bring_back_at_once(session: Session, verdicts: Sequence[Verdict]) -> Sequence[Sequence[Any]] | None:
    """None when somebody asked for the key of one of them before, and has not committed."""
    try:
        with savepoint(session):
            before = run(session, PATIENCE).one()[0]
            rows = run(
                session,
                BRING_BACK,
                **_places([verdict.place for verdict in verdicts]),
                blocked=array(verdict.waits for verdict in verdicts),
            ).all()
            run(session, PATIENT_AGAIN, before=before)
            return rows
    except DBAPIError as error:
        if not out_of_patience(error):
            raise
        return None


def _places(places: Collection[Place]) -> dict[str, str]:
    return {"workspace_ids": array(place[0] for place in places), "ids": array(place[1] for place in places)}


def _released(rows: Iterable[Sequence[Any]]) -> Iterator[Released]:
    for row in rows:
        yield Released(row[0], row[1], row[2], row[3], later=row[4] == State.SCHEDULED)


def _reason(verdict: Verdict) -> tuple[str, str]:
    """Why it is called off, as its record will say."""
    what = "batch" if verdict.of_batch else "job"
    if verdict.run_if == RunIf.FAILED:
        return NOT_NEEDED, f"{what} {verdict.after_id} completed, and this was to run only if it did not"
    if verdict.of_batch:
        return PREDECESSOR_FAILED, f"not all jobs of batch {verdict.after_id} completed"
    if verdict.after_status is None:
        return PREDECESSOR_FAILED, f"{what} {verdict.after_id} did not complete"
    how = FINAL_STATUSES[verdict.after_status]
    return PREDECESSOR_FAILED, f"{what} {verdict.after_id} ended as {how}, and this was to run only if it completed"
