"""Reading jobs for an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.guard import current_principal
from jobplatform.api.answers import page
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import require_found, unavailable
from jobplatform.models import Job
from jobplatform.queue import get_job, list_waits, page_jobs, places_of_workers, reveal


def reader_sees_sealed() -> bool:
    """A workspace reads what is its own, if this process has the key. An operator sees that it is there."""
    principal = current_principal()
    return not (principal.is_operator or principal.sees_as_operator)


def read_page(workspace_id: UUID, query: dict[str, Any], **filters: Any) -> Response:
    """One page of a workspace's jobs. ``query`` is what :class:`JobsQuerySchema` loads."""
    limit, before = query.pop("limit"), query.pop("cursor")
    filters.update(query)
    filters["task"] = filters.pop("job_type", filters.get("task"))
    with mounted().reading() as session:
        found = page_jobs(session, workspace_id, limit=limit, before=before, **filters)
        _complete(session, workspace_id, found.jobs)
    return page(found)


def read_job(workspace_id: UUID, job_id: UUID) -> Job:
    """A job as it is now; the problem of an unknown one when the workspace has none of this id."""
    with mounted().reading() as session:
        return read_job_in(session, workspace_id, job_id)


def read_job_in(session: Session, workspace_id: UUID, job_id: UUID) -> Job:
    """The same in a transaction that goes on."""
    job = get_job(session, workspace_id, job_id)
    _complete(session, workspace_id, [job] if job else [])
    return require_found(job)


def read_existing(workspace_id: UUID, job_id: UUID) -> Job:
    """A job that the queue has just named. Only retention or a person can have removed it since."""
    with mounted().reading() as session:
        job = get_job(session, workspace_id, job_id)
        _complete(session, workspace_id, [job] if job else [])
    if job is None:
        raise unavailable("The job that was there already is gone by now; try again.", retry_after=1)
    return job


def _complete(session: Session, workspace_id: UUID, jobs: Sequence[Job]) -> None:
    """What the view does not have: sealed values, opened for who may read them, what each job waits for, and where its
    worker ran."""
    reveal(session, jobs, to_reader=reader_sees_sealed())
    waits = list_waits(session, workspace_id, [job.id for job in jobs]) if jobs else {}
    places = places_for_reader(session, (job.last_worker_id for job in jobs))
    for job in jobs:
        job.waits = waits.get(job.id, [])  # type: ignore[attr-defined]  # an answer's, not the model's
        job.worker = places.get(job.last_worker_id or 0)  # type: ignore[attr-defined]  # the same


def places_for_reader(session: Session, worker_ids: Iterable[int | None]) -> dict[int, str]:
    """Where workers run, for an operator. What our machines are called is no workspace's business."""
    return places_of_workers(session, worker_ids) if current_principal().is_operator else {}
