"""Edges: what a job waits for, written down when it is enqueued.

A job that waits is blocked until ``settle`` lets it go. What it waits for is told to say so when it ends (it is
``followed``). A job of the same call is told by the very statement that makes it. One that exists already is not
touched here: to lock its row for as long as the caller's transaction takes would hide it from workers, or keep one
from finishing it. A notice asks to look at it instead, once all this is committed.
"""

from __future__ import annotations

import dataclasses
import graphlib
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import RunIf
from jobplatform.queue.after.notices import ask_to_settle
from jobplatform.queue.statement import array, run, text_array

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import NewJob

#: What one job may wait for. A batch may have any number of jobs, and is one thing to wait for.
MOST_EDGES = 1_000

NO_JOB = "is not a job of this workspace"
NO_BATCH = "is not a batch of this workspace"
CLOSED_BATCH = "is a batch that is closed: nothing can be added to it"

# Held until the caller's transaction ends: retention deletes none of these, and a batch is not closed meanwhile.
# Neither lock is in the way of a job's end or of counting it, which change no key.
HOLD_JOBS = """
select r.workspace_id, r.id
from jobplatform.job_records r
where (r.workspace_id, r.id) in (
    select * from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[])
)
order by r.workspace_id, r.id
for key share
"""
HOLD_BATCHES = """
select b.workspace_id, b.id, b.closed_at is not null
from jobplatform.batches b
where (b.workspace_id, b.id) in (
    select * from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[])
)
order by b.workspace_id, b.id
for key share
"""

LINK = """
insert into jobplatform.job_edges (workspace_id, job_id, after_id, number, of_batch, run_if)
select *
from unnest(
    %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(after_ids)s::uuid[], %(numbers)s::smallint[],
    %(of_batches)s::bool[], %(run_ifs)s::text[]
)
on conflict do nothing
"""
NOTE = """
insert into jobplatform.notices (workspace_id, kind, job_id, batch_id, amount)
select *
from unnest(
    %(workspace_ids)s::uuid[], %(kinds)s::text[], %(ids)s::uuid[], %(batch_ids)s::uuid[], %(amounts)s::int[]
)
"""

Place: TypeAlias = tuple[uuid.UUID, uuid.UUID]
"""A workspace, and something of it."""


class HasId(Protocol):
    """A job that is to be made, or one that was read, or a batch."""

    @property
    def id(self) -> uuid.UUID: ...


class HasJobId(Protocol):
    """What an enqueue answered."""

    @property
    def job_id(self) -> uuid.UUID: ...


Predecessor: TypeAlias = "uuid.UUID | HasId | HasJobId"


@dataclass(frozen=True, slots=True)
class Edge:
    """What a job waits for, and when it runs then.

    ``after`` is a job of the same workspace (one that exists, or one of the same call) or a batch; of a bare id
    ``of_batch`` says which. ``run_if`` is ``completed`` (it is cancelled as soon as that cannot be any more), ``ended``
    (it runs however that ended) or ``failed`` (it runs only if that did not complete).
    """

    after: Predecessor
    run_if: RunIf | str = RunIf.COMPLETED
    of_batch: bool = False

    @property
    def after_id(self) -> uuid.UUID:
        """The id of the job or batch."""
        if isinstance(self.after, uuid.UUID):
            return self.after
        # An answer of an enqueue is a tuple, and has no id of its own.
        found: Any = self.after
        after_id: uuid.UUID = found.job_id if hasattr(found, "job_id") else found.id
        return after_id

    @property
    def is_of_batch(self) -> bool:
        return self.of_batch or bool(getattr(self.after, "is_batch", False))


def edges_of(after: Sequence[Edge | Predecessor]) -> tuple[Edge, ...]:
    """As edges; a bare job or batch is one that has to complete."""
    return tuple(one if isinstance(one, Edge) else Edge(one) for one in after)


def problems_of_edges(after: Sequence[Edge | Predecessor]) -> Iterator[Problem]:
    """What is wrong with them before anybody knows which jobs there are."""
    said: object = after
    if isinstance(said, str):
        yield Problem("/after", "must be a list of jobs or batches, and is a single text")
        return
    if len(after) > MOST_EDGES:
        yield Problem("/after", f"must be at most {MOST_EDGES}; a batch of any size is one")
    seen: set[uuid.UUID] = set()
    for number, edge in enumerate(edges_of(after)):
        if _leads_nowhere(edge.after):
            yield Problem(f"/after/{number}", f"is neither a job nor a batch, nor the id of one: {edge.after!r:.100}")
            continue
        if edge.run_if not in tuple(RunIf):
            yield Problem(f"/after/{number}/runIf", f"must be one of: {', '.join(RunIf)}")
        if edge.after_id in seen:
            yield Problem(f"/after/{number}", "is named twice")
        seen.add(edge.after_id)


def _leads_nowhere(after: object) -> bool:
    found = getattr(after, "job_id", None) or getattr(after, "id", after)
    return not isinstance(found, uuid.UUID)


def chain(*steps: NewJob | Sequence[NewJob]) -> list[NewJob]:
    """These jobs, each waiting for the one before it, for one call of ``enqueue_many``.

    A step may be several jobs: they run side by side, and the next step waits for all of them.
    """
    made: list[NewJob] = []
    before: tuple[uuid.UUID, ...] = ()
    if problems := [Problem(f"/{number}", text) for number, step in enumerate(steps) if (text := _step_problem(step))]:
        raise InvalidJobError(problems)
    for step in steps:
        jobs = [
            dataclasses.replace(job, after=(*job.after, *before))
            for job in (step if isinstance(step, Sequence) else [step])
        ]
        made += jobs
        before = tuple(job.id for job in jobs) or before
    return made


def _step_problem(step: object) -> str | None:
    jobs = step if isinstance(step, list | tuple) else [step]
    strange = next((job for job in jobs if not hasattr(job, "after")), jobs)
    return None if strange is jobs else f"is a {type(strange).__name__}, and neither a job nor a list of jobs"


def hold_what_they_wait_for(session: Session, jobs: Sequence[NewJob]) -> list[NewJob]:
    """These jobs as they are to be written: blocked where they wait, followed where somebody waits for them.

    What they wait for and what they belong to is held until the transaction ends. Raises :class:`InvalidJobError` for
    what does not exist in a job's workspace, for a batch that is closed, and for jobs that wait for each other.
    """
    _refuse_circles(jobs)
    here = {(job.workspace_id, job.id) for job in jobs}
    asked_jobs = {place for job in jobs for place in _places(job, of_batch=False)} - here
    asked_batches = {place for job in jobs for place in _places(job, of_batch=True)}
    asked_batches |= {(job.workspace_id, job.batch_id) for job in jobs if job.batch_id is not None}
    held = here | {(row[0], row[1]) for row in _hold(session, HOLD_JOBS, asked_jobs)}
    batches = {(row[0], row[1]): bool(row[2]) for row in _hold(session, HOLD_BATCHES, asked_batches)}
    problems = [(job.id, problem) for job in jobs for problem in _missing(job, held, batches)]
    if problems:
        raise InvalidJobError([problem for _, problem in problems], [job_id for job_id, _ in problems])
    followed = {place for job in jobs for place in _places(job, of_batch=False)}
    return [
        dataclasses.replace(
            job,
            blocked=job.blocked or bool(job.after),
            followed=job.followed or job.batch_id is not None or (job.workspace_id, job.id) in followed,
        )
        for job in jobs
    ]


def link(session: Session, jobs: Sequence[NewJob], existing: Mapping[int, uuid.UUID]) -> None:
    """Write the edges of the jobs that were made, and what there is to settle about them.

    ``existing`` has those that were not made, with the job that is there instead: whoever waits for one of them waits
    for that.
    """
    created = [job for job in jobs if job.id.int not in existing]
    rows = [
        (job.workspace_id, job.id, existing.get(edge.after_id.int, edge.after_id), number, edge)
        for job in created
        for number, edge in enumerate(edges_of(job.after))
    ]
    if rows:
        run(
            session,
            LINK,
            workspace_ids=array(row[0] for row in rows),
            ids=array(row[1] for row in rows),
            after_ids=array(row[2] for row in rows),
            numbers=array(row[3] for row in rows),
            of_batches=array(row[4].is_of_batch for row in rows),
            run_ifs=text_array(str(row[4].run_if) for row in rows),
        )
    made = {(job.workspace_id, job.id) for job in created}
    looks = {((row[0], row[2]), row[4].is_of_batch) for row in rows if (row[0], row[2]) not in made}
    added = Counter((job.workspace_id, job.batch_id) for job in created if job.batch_id is not None)
    notices: list[tuple[object, ...]] = [
        (place[0], "look", None, place[1], 0) if of_batch else (place[0], "look", place[1], None, 0)
        for place, of_batch in looks
    ]
    notices += [(workspace_id, "added", None, batch_id, count) for (workspace_id, batch_id), count in added.items()]
    note(session, notices)
    if looks:
        ask_to_settle(session)


def note(session: Session, notices: Sequence[Sequence[object]]) -> None:
    """Write notices: workspace, kind, job, batch and amount of each."""
    if notices:
        workspace_ids, kinds, ids, batch_ids, amounts = zip(*notices, strict=True)
        run(
            session,
            NOTE,
            workspace_ids=array(workspace_ids),
            kinds=array(kinds),
            ids=_array_or_null(ids),
            batch_ids=_array_or_null(batch_ids),
            amounts=array(amounts),
        )


def _places(job: NewJob, *, of_batch: bool) -> Iterator[Place]:
    for edge in edges_of(job.after):
        if edge.is_of_batch is of_batch:
            yield job.workspace_id, edge.after_id


def _refuse_circles(jobs: Sequence[NewJob]) -> None:
    """Only among jobs of one call can there be any: what exists waits for nothing that is made later."""
    waits = {job.id: {edge.after_id for edge in edges_of(job.after)} for job in jobs if job.after}
    try:
        graphlib.TopologicalSorter(waits).prepare()
    except graphlib.CycleError as error:
        names = {job.id: job.task for job in jobs}
        circle = " → ".join(f"{names.get(job_id)} ({job_id})" for job_id in reversed(error.args[1]))
        problem = Problem("/after", f"goes round in a circle: {circle}")
        raise InvalidJobError([problem], [error.args[1][0]]) from None


def _hold(session: Session, statement: str, places: Collection[Place]) -> Sequence[Sequence[Any]]:
    if not places:
        return ()
    return run(
        session,
        statement,
        workspace_ids=array(place[0] for place in places),
        ids=array(place[1] for place in places),
    ).all()


def _missing(job: NewJob, held: Collection[Place], batches: Mapping[Place, bool]) -> Iterator[Problem]:
    """Something of another workspace is missing like something that nobody ever made."""
    if job.batch_id is not None:
        closed = batches.get((job.workspace_id, job.batch_id))
        if closed is None or closed:
            yield Problem("/batchId", NO_BATCH if closed is None else CLOSED_BATCH)
    for number, edge in enumerate(edges_of(job.after)):
        place = (job.workspace_id, edge.after_id)
        if place not in (batches if edge.is_of_batch else held):
            yield Problem(f"/after/{number}", NO_BATCH if edge.is_of_batch else NO_JOB)


def _array_or_null(values: Iterable[object]) -> str:
    return array("null" if value is None else value for value in values)
