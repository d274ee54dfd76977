"""The parent: a job that a running handler enqueues knows which job asked for it.

What the handler's Session remembers is all there is to it, so whoever enqueues with that Session, however deep below
the handler, enqueues children. They carry on the request and the trace that the parent came from.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import NewJob

_KEY = "jobplatform.parent"


class Parent(NamedTuple):
    """The running job whose Session it is."""

    workspace_id: uuid.UUID
    job_id: uuid.UUID
    request_id: str | None
    trace_parent: str | None


def remember_parent(session: Session, parent: Parent | None) -> None:
    """Jobs that are enqueued with this Session are children of ``parent``; of nobody, after None."""
    session.info[_KEY] = parent


def parent_of(session: Session) -> Parent | None:
    """The running job whose Session this is."""
    parent: Parent | None = session.info.get(_KEY)
    return parent


def adopted(parent: Parent, jobs: Sequence[NewJob]) -> list[NewJob]:
    """The jobs as children of ``parent``. What they say themselves counts.

    Raises :class:`InvalidJobError` for one of another workspace: the database would refuse it, in its own words.
    """
    return [_adopted(parent, job) for job in jobs]


def traced(jobs: Sequence[NewJob], trace_parent: str | None) -> Sequence[NewJob]:
    """The jobs as parts of the trace that they are enqueued in, if there is one. What they say themselves counts."""
    if trace_parent is None:
        return jobs
    return [job if job.trace_parent else dataclasses.replace(job, trace_parent=trace_parent) for job in jobs]


def _adopted(parent: Parent, job: NewJob) -> NewJob:
    if job.workspace_id != parent.workspace_id:
        message = f"is not {parent.workspace_id}: a running job enqueues for its own workspace"
        raise InvalidJobError([Problem("/workspaceId", message)])
    return dataclasses.replace(
        job,
        parent_id=job.parent_id or parent.job_id,
        request_id=job.request_id or parent.request_id,
        trace_parent=job.trace_parent or parent.trace_parent,
    )
