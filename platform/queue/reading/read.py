"""Read: jobs as people and programs see them, always within one workspace."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict, Unpack

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, exists, func, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased, defer

from jobplatform.models import CHECKPOINT_PART, Job, JobAttempt, JobStep, QueueRow, Status, visit
from jobplatform.queue.callers import checks_arguments

#: Bytes of payloads, results and errors after which a page of jobs is full: all of it is in memory, several times.
LARGEST_PAGE: Final = 1 << 20


class JobsPage(NamedTuple):
    """Some jobs in their order, and whether ``more`` follow."""

    jobs: Sequence[Job]
    more: bool


@checks_arguments()
def get_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Job | None:
    """A job of this workspace as it is now, or None."""
    visit(session, workspace_id)
    statement = select(Job).where(Job.workspace_id == workspace_id, Job.id == job_id)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


class JobFilters(TypedDict, total=False):
    """What a list of jobs is narrowed to; None is no filter. ``before`` is the id of the last job seen: ids are UUIDv7,
    so their order is the order of creation and a page is stable under inserts.
    """

    before: uuid.UUID | None
    status: Status | str | None
    task: str | None
    queue: str | None
    parent_id: uuid.UUID | None
    batch_id: uuid.UUID | None
    created_after: datetime.datetime | None
    created_before: datetime.datetime | None


_FILTERS: Mapping[str, Callable[[Any], ColumnElement[bool]]] = {
    "before": lambda job_id: Job.id < job_id,
    "status": lambda status: _has_status(Status(status)),
    "task": lambda task: Job.job_type == task,
    "queue": lambda queue: Job.queue == queue,
    "parent_id": lambda job_id: Job.parent_id == job_id,
    "batch_id": lambda batch_id: Job.batch_id == batch_id,
    "created_after": lambda moment: Job.created_at > moment,
    "created_before": lambda moment: Job.created_at < moment,
}


@checks_arguments()
def list_jobs(
    session: Session,
    workspace_id: uuid.UUID,
    *,
    limit: int = 20,
    contents: bool = True,
    **filters: Unpack[JobFilters],
) -> Sequence[Job]:
    """The newest jobs of a workspace, newest first, by any of :class:`JobFilters`: they narrow the same walk down one
    index.

    Without ``contents`` payloads and results stay in the database, and to ask for them is an error.
    """
    visit(session, workspace_id)
    statement = _newest(workspace_id, limit, filters)
    if not contents:
        statement = statement.options(defer(Job.payload, raiseload=True), defer(Job.result, raiseload=True))
    return session.scalars(statement, execution_options={"populate_existing": True}).all()


@checks_arguments()
def page_jobs(session: Session, workspace_id: uuid.UUID, *, limit: int, **filters: Unpack[JobFilters]) -> JobsPage:
    """What :func:`list_jobs` finds with these filters, and fewer of them where they are large.

    The page ends with the job with which its payloads, results and errors reach :data:`LARGEST_PAGE`.
    """
    visit(session, workspace_id)
    # One more than asked for, to learn whether others follow.
    found = _newest(workspace_id, limit + 1, filters).add_columns(_size().label("size")).subquery("found")
    weighed = select(
        found,
        (func.sum(found.c.size).over(order_by=found.c.id.desc()) - found.c.size).label("before"),
        func.count().over().label("there"),
    ).subquery("weighed")
    job = aliased(Job, weighed)
    statement = select(job, weighed.c.there).where(weighed.c.before < LARGEST_PAGE).order_by(weighed.c.id.desc())
    rows = session.execute(statement, execution_options={"populate_existing": True}).all()
    shown = rows[:limit]
    return JobsPage([row[0] for row in shown], bool(shown) and rows[0].there > len(shown))


def _has_status(status: Status) -> ColumnElement[bool]:
    """The narrow table leads to jobs that have not ended; without it all that have would be walked past."""
    if status not in (Status.PENDING, Status.RUNNING):
        return Job.status == status.value
    is_live = exists().where(QueueRow.workspace_id == Job.workspace_id, QueueRow.id == Job.id)
    return and_(Job.status == status.value, is_live)


def _size() -> ColumnElement[int]:
    texts = (cast(Job.payload, Text), cast(Job.result, Text), cast(Job.progress, Text), Job.error)
    sizes = [func.coalesce(func.octet_length(text), 0) for text in texts]
    return sizes[0] + sizes[1] + sizes[2] + sizes[3]


def _newest(workspace_id: uuid.UUID, limit: int, filters: JobFilters) -> Select[Any]:
    if unknown := filters.keys() - _FILTERS.keys():
        raise TypeError(f"jobs cannot be filtered by {', '.join(sorted(unknown))}, only by {', '.join(_FILTERS)}")
    statement = select(Job).where(Job.workspace_id == workspace_id).order_by(Job.id.desc()).limit(limit)
    wanted = {name: value for name, value in filters.items() if value is not None}
    return statement.where(*(_FILTERS[name](value) for name, value in wanted.items()))


@checks_arguments()
def statuses_of(session: Session, workspace_id: uuid.UUID, job_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The status of each of these jobs of a workspace; what there is not is missing."""
    visit(session, workspace_id)
    statement = select(Job.id, Job.status).where(Job.workspace_id == workspace_id, Job.id.in_(job_ids))
    return {job_id: str(status) for job_id, status in session.execute(statement)}


@checks_arguments()
def list_attempts(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Sequence[JobAttempt]:
    """The attempts of a job that did not simply succeed, first to last."""
    visit(session, workspace_id)
    statement = (
        select(JobAttempt)
        .where(JobAttempt.workspace_id == workspace_id, JobAttempt.job_id == job_id)
        .order_by(JobAttempt.epoch)
    )
    return session.scalars(statement).all()


@checks_arguments()
def list_steps(
    session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, *, largest: int | None = None, parts: bool = False
) -> Sequence[JobStep]:
    """The steps of a job that are done, in the order in which they were; its checkpoint is the one without a name.
    With ``parts`` those of the checkpoint too, whose names begin with :data:`CHECKPOINT_PART`.

    A value of more than ``largest`` bytes stays in the database; ``{"leftOut": bytes}`` is in its place.
    """
    visit(session, workspace_id)
    value: ColumnElement[Any] = JobStep.__table__.c.value
    if largest is not None:
        size = func.octet_length(cast(value, Text))
        value = case((size > largest, func.jsonb_build_object("leftOut", size)), else_=value)
    statement = (
        select(JobStep.name, JobStep.epoch, JobStep.saved_at, type_coerce(value, JSONB))
        .where(JobStep.workspace_id == workspace_id, JobStep.job_id == job_id)
        .order_by(JobStep.saved_at, JobStep.name)
    )
    if not parts:
        statement = statement.where(func.left(JobStep.name, 1) != CHECKPOINT_PART)
    mine = {"workspace_id": workspace_id, "job_id": job_id}
    return [
        JobStep(**mine, name=name, epoch=epoch, saved_at=saved_at, value=found)
        for name, epoch, saved_at, found in session.execute(statement)
    ]
