"""A waiting job ends at once; a running one is asked to."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import CancelAnswer, Completion, Failure, cancel_job, complete_jobs, fail_jobs, heartbeat
from tests.queue.actors import Worker
from tests.queue.conftest import Fact, Look, Put


def test_a_ready_job_is_cancelled_at_once(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look, worker: Worker, fact: Fact
) -> None:
    job_id = put()

    assert cancel_job(db, workspace_id, job_id) == CancelAnswer.CANCELLED

    job = look(job_id)
    assert (job.status, job.outcome, job.attempts) == (Status.CANCELLED, "cancelled", 0)
    assert job.completed_at is not None
    assert worker.claim() == []
    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_a_scheduled_job_is_cancelled_at_once(put: Put, db: Session, workspace_id: uuid.UUID, look: Look) -> None:
    job_id = put(delay=datetime.timedelta(hours=1))

    assert cancel_job(db, workspace_id, job_id) == CancelAnswer.CANCELLED
    assert look(job_id).status == Status.CANCELLED


def test_a_job_that_waits_for_its_next_attempt_keeps_what_happened(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", delay=60)])

    cancel_job(db, workspace_id, job_id)

    job = look(job_id)
    assert (job.status, job.attempts, job.epoch, job.error) == (Status.CANCELLED, 1, 1, "no")


def test_a_running_job_is_asked_to_stop_and_goes_on_until_it_does(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    lease = worker.lease()

    assert cancel_job(db, workspace_id, job_id) == CancelAnswer.REQUESTED

    assert look(job_id).status == Status.RUNNING
    assert look(job_id).cancel_requested_at is not None
    assert heartbeat(db, worker.id, [lease]).cancelled == [lease]


def test_asking_again_keeps_the_moment_of_the_first_request(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    worker.lease()
    cancel_job(db, workspace_id, job_id)
    asked_at = look(job_id).cancel_requested_at

    assert cancel_job(db, workspace_id, job_id) == CancelAnswer.REQUESTED
    assert look(job_id).cancel_requested_at == asked_at


def test_a_job_that_completes_all_the_same_is_completed(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    lease = worker.lease()
    cancel_job(db, workspace_id, job_id)

    assert complete_jobs(db, [Completion(lease)]) == {lease}
    assert look(job_id).status == Status.COMPLETED


def test_a_job_that_has_ended_cannot_be_cancelled(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    complete_jobs(db, [Completion(worker.lease())])

    assert cancel_job(db, workspace_id, job_id) == CancelAnswer.FINISHED
    assert look(job_id).status == Status.COMPLETED


def test_the_job_of_another_workspace_is_unknown(put: Put, db: Session, look: Look) -> None:
    job_id = put()

    assert cancel_job(db, uuid.uuid4(), job_id) == CancelAnswer.UNKNOWN
    assert look(job_id).status == Status.PENDING


def test_a_job_that_never_was_is_unknown(db: Session, workspace_id: uuid.UUID) -> None:
    assert cancel_job(db, workspace_id, uuid.uuid4()) == CancelAnswer.UNKNOWN


def test_a_cancelled_job_frees_its_key(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    first = put(unique_key="sync")
    cancel_job(db, workspace_id, first)

    assert put(unique_key="sync") != first


def test_a_cancel_that_is_rolled_back_never_happened(
    put: Put, session: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    cancel_job(session, workspace_id, job_id)
    session.rollback()

    assert look(job_id).status == Status.PENDING
    assert len(worker.claim()) == 1
