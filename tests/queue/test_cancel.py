"""A waiting job ends at once; a running one is asked to."""

from __future__ import annotations

import datetime
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    CancelAnswer,
    Completion,
    Failure,
    Release,
    cancel_job,
    complete_jobs,
    fail_jobs,
    heartbeat,
    release_jobs,
)
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Look, Put

CLAIM = """
update jobplatform.job_queue set state = 2, epoch = 1, worker_id = 1, started_at = now() where id = :id
"""


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


def test_a_job_that_is_claimed_while_we_look_is_asked_to_stop(
    put: Put,
    session: Session,
    elsewhere: Elsewhere,
    workspace_id: uuid.UUID,
    look: Look,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobplatform.queue.by_hand.cancel.ROUNDS", 2)
    job_id = put()
    session.execute(text(CLAIM), {"id": job_id})
    cancelled = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.commit()

    assert cancelled.result() == CancelAnswer.REQUESTED
    assert look(job_id).cancel_requested_at is not None


def test_a_job_that_is_handed_back_while_we_look_is_cancelled(
    put: Put,
    session: Session,
    elsewhere: Elsewhere,
    workspace_id: uuid.UUID,
    look: Look,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobplatform.queue.by_hand.cancel.ROUNDS", 2)
    job_id = put()
    release_jobs(session, [Release(worker.lease())])
    cancelled = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.commit()

    assert cancelled.result() == CancelAnswer.CANCELLED
    assert look(job_id).status == Status.CANCELLED


def test_a_job_that_ends_while_we_look_has_finished(
    put: Put, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID, worker: Worker
) -> None:
    job_id = put()
    complete_jobs(session, [Completion(worker.lease())])
    cancelled = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.commit()

    assert cancelled.result() == CancelAnswer.FINISHED


def test_a_job_that_is_live_and_never_to_be_found_is_not_said_to_have_finished(
    put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    """What a storm of ends and retries looks like from here: live by its record, and no row when we come for it."""
    job_id = put()
    db.execute(text("delete from jobplatform.job_queue"))

    assert cancel_job(db, workspace_id, job_id) == CancelAnswer.BUSY


def test_a_cancel_that_is_rolled_back_never_happened(
    put: Put, session: Session, workspace_id: uuid.UUID, look: Look, worker: Worker
) -> None:
    job_id = put()
    cancel_job(session, workspace_id, job_id)
    session.rollback()

    assert look(job_id).status == Status.PENDING
    assert len(worker.claim()) == 1
