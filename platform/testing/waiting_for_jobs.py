"""Wait for a job that somebody else runs."""

from __future__ import annotations

import uuid

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from jobplatform.models import FINAL_STATUSES, Job, Status
from jobplatform.queue import Enqueued
from jobplatform.testing.places import Place, commit, engine_of
from jobplatform.testing.waiting import wait_until
from jobplatform.wording import plural


def wait_for(
    where: Place,
    job: Enqueued | Job | uuid.UUID,
    *,
    status: Status | str | None = None,
    seconds: float = 30,
) -> Job:
    """Wait until a worker has ended this job, or until it has a ``status``, and return it as it is then.

    A Session is committed first. Fails at once when the job has ended with another status than asked for.
    """
    job_id = _id_of(job)
    commit(where)
    wanted = {*FINAL_STATUSES.values()} if status is None else {Status(status)}

    def look() -> Job | None:
        found = _look(engine_of(where), job_id)
        if found.status in wanted:
            return found
        assert found.status not in FINAL_STATUSES.values(), f"the job ended otherwise: {_described(found)}"
        return None

    try:
        found = wait_until(look, what=f"job {job_id} to be {' or '.join(sorted(wanted))}", seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; {_described(_look(engine_of(where), job_id))}") from None
    assert found is not None
    return found


def _id_of(job: object) -> uuid.UUID:
    found = job.job_id if isinstance(job, Enqueued) else getattr(job, "id", job)
    if not isinstance(found, uuid.UUID):
        raise TypeError(f"a job, its id or the answer of an enqueue is asked for, and this is a {type(job).__name__}")
    return found


def _look(engine: Engine, job_id: uuid.UUID) -> Job:
    with Session(engine) as session:
        found = session.scalars(select(Job).where(Job.id == job_id)).one_or_none()
        assert found is not None, f"there is no job {job_id}; was it committed?"
        session.expunge(found)
        return found


def _described(job: Job) -> str:
    said = f"{job.job_type} {job.id} is {job.status} after {plural(job.attempts, 'attempt')}"
    return f"{said}, last error {job.error_type}: {job.error}" if job.error_type else said
