"""Batches: a set of jobs that is counted together, and what is to run when they have ended.

A batch is open until somebody closes it; as long as it is, anybody may add to it, its own running jobs too. It ends
when it is closed and all its jobs have ended. What is to run then are jobs that wait for it, made together with it.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import FINAL_STATUSES, State, Status, visit
from jobplatform.queue.after.notices import ask_to_settle
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.enqueue.edges import note
from jobplatform.queue.safe_json import text_problem
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.statement import run

LONGEST_NAME = 200

OPEN = """
insert into jobplatform.batches (workspace_id, id, name)
values (%(workspace_id)s, %(id)s, %(name)s)
on conflict do nothing
"""

# Not a mere update: who adds to it holds it, and what is added is to be known before it is closed.
HOLD = """
select closed_at is not null
from jobplatform.batches
where workspace_id = %(workspace_id)s and id = %(id)s
for update
"""
CLOSE = """
update jobplatform.batches set closed_at = jobplatform.clock() where workspace_id = %(workspace_id)s and id = %(id)s
"""

# What is counted and what is yet to be, in one snapshot: exact, whenever it was settled last. Running ones are few.
COUNTS = """
select
    b.workspace_id, b.id, b.name, b.created_at, b.closed_at, b.cancelled_at, b.ended_at,
    b.total + unsettled.added,
    b.completed + unsettled.completed,
    b.failed + unsettled.failed,
    b.cancelled + unsettled.cancelled,
    (
        select count(*)
        from jobplatform.job_queue q
        join jobplatform.job_records r on r.workspace_id = q.workspace_id and r.id = q.id
        where q.workspace_id = b.workspace_id and q.state = 2 and r.batch_id = b.id
    )
from jobplatform.batches b
cross join lateral (
    select
        coalesce(sum(n.amount), 0)::int as added,
        coalesce(sum(signed.one) filter (where n.status = 3), 0)::int as completed,
        coalesce(sum(signed.one) filter (where n.status = 4), 0)::int as failed,
        coalesce(sum(signed.one) filter (where n.status = 5), 0)::int as cancelled
    from jobplatform.notices n
    cross join lateral (select case n.kind when 'ended' then 1 when 'reopened' then -1 else 0 end as one) signed
    where n.workspace_id = b.workspace_id and n.batch_id = b.id
) unsettled
"""
ONE = COUNTS + "where b.workspace_id = %(workspace_id)s and b.id = %(id)s"
NEWEST = (
    COUNTS
    + """
where b.workspace_id = %(workspace_id)s
    and (%(before)s::uuid is null or b.id < %(before)s::uuid)
    and (not %(live_only)s::bool or b.ended_at is null)
order by b.id desc
limit %(limit)s
"""
)

CALLBACKS = """
select e.job_id, r.task, e.run_if, r.status, q.state
from jobplatform.job_edges e
join jobplatform.job_records r on r.workspace_id = e.workspace_id and r.id = e.job_id
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
where e.workspace_id = %(workspace_id)s and e.after_id = %(id)s
order by e.job_id
limit 100
"""

# The batch a job belongs to, or else the one it waited for.
OF_JOB = """
select coalesce(
    r.batch_id,
    (
        select e.after_id
        from jobplatform.job_edges e
        where e.workspace_id = r.workspace_id and e.job_id = r.id and e.of_batch
        order by e.number
        limit 1
    )
)
from jobplatform.job_records r
where r.workspace_id = %(workspace_id)s and r.id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch as it is now. The counts are exact: each job is in one of them, at every moment."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    name: str | None
    created_at: datetime.datetime
    closed_at: datetime.datetime | None
    cancelled_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    total: int
    completed: int
    failed: int
    cancelled: int
    running: int

    @property
    def is_batch(self) -> bool:
        """So that an edge knows what it leads to."""
        return True

    @property
    def ended(self) -> int:
        return self.completed + self.failed + self.cancelled

    @property
    def pending(self) -> int:
        """What waits: for its turn, its time or other jobs."""
        return self.total - self.ended - self.running

    @property
    def percent(self) -> int:
        """How much of it has ended; 100 means all, and nothing less."""
        if not self.total:
            return 100 if self.closed_at else 0
        return self.ended * 100 // self.total

    @property
    def status(self) -> str:
        """``open`` (more may be added), ``running``, or how it ended: ``completed`` when all of its jobs did, else
        ``failed``, or ``cancelled`` when somebody cancelled the batch."""
        if self.ended_at is None:
            return "running" if self.closed_at else "open"
        if self.completed == self.total:
            return "completed"
        return "cancelled" if self.cancelled_at else "failed"


class Callback(NamedTuple):
    """A job that waits for a batch, or did."""

    job_id: uuid.UUID
    task: str
    run_if: str
    status: Status


@checks_arguments()
def open_batch(
    session: Session, workspace_id: uuid.UUID, name: str | None = None, *, batch_id: uuid.UUID | None = None
) -> uuid.UUID:
    """Open a batch in the caller's transaction and answer with its id. Raises :class:`InvalidJobError` for its name.

    With a ``batch_id`` of the caller's, repeating a call whose outcome is unknown makes no second batch.
    """
    if name is not None and (problem := _problem_of_name(name)):
        raise InvalidJobError([Problem("/name", problem)])
    visit(session, workspace_id)
    batch_id = batch_id or uuid7()
    run(session, OPEN, workspace_id=workspace_id, id=batch_id, name=name)
    return batch_id


@checks_arguments()
@says_what_it_cannot_see
def close_batch(session: Session, workspace_id: uuid.UUID, batch_id: uuid.UUID) -> bool:
    """Let nothing more be added; the batch ends with its last job. False when the workspace has no such batch.

    Waits for transactions that are adding to it. To close it again changes nothing.
    """
    visit(session, workspace_id)
    is_closed = run(session, HOLD, workspace_id=workspace_id, id=batch_id).scalar_one_or_none()
    if is_closed is None:
        return False
    if not is_closed:
        run(session, CLOSE, workspace_id=workspace_id, id=batch_id)
        note(session, [(workspace_id, "look", None, batch_id, 0)])
        ask_to_settle(session)
    return True


@checks_arguments()
def get_batch(session: Session, workspace_id: uuid.UUID, batch_id: uuid.UUID) -> BatchSeen | None:
    """A batch of this workspace as it is now, or None."""
    visit(session, workspace_id)
    row = run(session, ONE, workspace_id=workspace_id, id=batch_id).one_or_none()
    return BatchSeen(*row) if row else None


@checks_arguments()
def list_batches(
    session: Session,
    workspace_id: uuid.UUID,
    *,
    live_only: bool = False,
    limit: int = 20,
    before: uuid.UUID | None = None,
) -> list[BatchSeen]:
    """The newest batches of a workspace, newest first. ``before`` is the id of the last one seen."""
    visit(session, workspace_id)
    parameters = {"workspace_id": workspace_id, "before": before, "live_only": live_only, "limit": limit}
    return [BatchSeen(*row) for row in run(session, NEWEST, **parameters)]


@checks_arguments()
def list_callbacks(session: Session, workspace_id: uuid.UUID, batch_id: uuid.UUID) -> list[Callback]:
    """The jobs that wait for a batch, or did; up to a hundred."""
    visit(session, workspace_id)
    rows = run(session, CALLBACKS, workspace_id=workspace_id, id=batch_id)
    return [Callback(row[0], row[1], row[2], _status(row[3], row[4])) for row in rows]


@checks_arguments()
def batch_of_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> BatchSeen | None:
    """The batch that a job belongs to, or else the one it waited for."""
    visit(session, workspace_id)
    batch_id = run(session, OF_JOB, workspace_id=workspace_id, id=job_id).scalar_one_or_none()
    return None if batch_id is None else get_batch(session, workspace_id, batch_id)


def _status(final: int | None, state: int | None) -> Status:
    if final is not None:
        return FINAL_STATUSES[final]
    return Status.RUNNING if state == State.RUNNING else Status.PENDING


def _problem_of_name(name: str) -> str | None:
    if problem := text_problem(name):
        return problem
    return None if 0 < len(name) <= LONGEST_NAME else f"must have 1 to {LONGEST_NAME} characters"
