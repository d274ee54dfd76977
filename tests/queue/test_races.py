"""Two who want the same job at once: one transaction is held open and the other is looked at, in both orders."""

from __future__ import annotations

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
    claim_jobs,
    complete_jobs,
    deregister_worker,
    fail_jobs,
    release_jobs,
    release_unknown_jobs,
    rescue_jobs,
)
from jobplatform.queue.attempts import rescue
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Look, Put

# Claim and cancel


def test_a_job_that_is_being_cancelled_is_not_claimed(
    put: Put, session: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    assert cancel_job(session, workspace_id, job_id) == CancelAnswer.CANCELLED

    assert worker.claim() == []
    session.commit()

    assert worker.claim() == []
    assert look(job_id).status == Status.CANCELLED


def test_a_cancel_that_meets_a_claim_waits_and_asks_the_running_job_to_stop(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    claim_jobs(session, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)
    cancel = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.commit()

    assert cancel.result() == CancelAnswer.REQUESTED
    assert look(job_id).cancel_requested_at is not None


def test_a_cancel_that_meets_a_claim_which_is_rolled_back_cancels_the_waiting_job(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    claim_jobs(session, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)
    cancel = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.rollback()

    assert cancel.result() == CancelAnswer.CANCELLED
    assert look(job_id).status == Status.CANCELLED


# Complete and cancel


def test_a_completion_that_meets_a_cancel_request_waits_and_completes(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    assert cancel_job(session, workspace_id, job_id) == CancelAnswer.REQUESTED
    complete = elsewhere.start_and_wait_for_lock(lambda other: complete_jobs(other, [Completion(lease)]))

    session.commit()

    assert complete.result() == {lease}
    assert look(job_id).status == Status.COMPLETED


def test_a_cancel_that_meets_a_completion_waits_and_finds_the_job_finished(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    complete_jobs(session, [Completion(worker.lease())])
    cancel = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.commit()

    assert cancel.result() == CancelAnswer.FINISHED
    assert look(job_id).status == Status.COMPLETED


# Fail, release and cancel


def test_a_failure_that_meets_a_cancel_request_ends_the_job_as_cancelled(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    cancel_job(session, workspace_id, job_id)
    fail = elsewhere.start_and_wait_for_lock(lambda other: fail_jobs(other, [Failure(lease, "error", "E", "no")]))

    session.commit()

    assert fail.result() == {lease: "cancelled"}
    assert look(job_id).status == Status.CANCELLED


@pytest.mark.parametrize("back", ["failed", "released"])
def test_a_cancel_that_meets_a_job_on_its_way_back_cancels_the_waiting_job(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, workspace_id: uuid.UUID, look: Look, back: str
) -> None:
    job_id = put()
    lease = worker.lease()
    if back == "failed":
        fail_jobs(session, [Failure(lease, "error", "E", "no")])
    else:
        release_jobs(session, [Release(lease)])
    cancel = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))

    session.commit()

    assert cancel.result() == CancelAnswer.CANCELLED
    assert look(job_id).status == Status.CANCELLED


# Rescue and claim


def test_a_job_that_a_living_worker_takes_while_a_rescue_looks_is_not_rescued_from_that_one(
    put: Put,
    db: Session,
    session: Session,
    elsewhere: Elsewhere,
    worker: Worker,
    look: Look,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dead one's last words may come when it has been declared dead."""
    job_id = put()
    lease = worker.lease()
    deregister_worker(db, worker.id)
    waits = "where (select count(pg_advisory_xact_lock(1)::text)) > 0 and q.state = 2"
    monkeypatch.setattr(rescue, "RESCUE", rescue.RESCUE.replace("where q.state = 2", waits, 1))
    session.execute(text("select pg_advisory_xact_lock(1)"))
    rescued = elsewhere.start_and_wait_for_lock(rescue_jobs)
    release_jobs(db, [Release(lease)])
    living = Worker(db)
    taken = living.lease()

    session.commit()

    assert rescued.result() == []
    assert (look(job_id).worker_id, look(job_id).crash_count) == (living.id, 0)
    assert complete_jobs(db, [Completion(taken)]) == {taken}


# Complete and rescue


def test_a_completion_that_meets_a_rescue_waits_and_is_not_accepted(
    put: Put, db: Session, session: Session, elsewhere: Elsewhere, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    deregister_worker(db, worker.id)
    assert len(rescue_jobs(session)) == 1
    complete = elsewhere.start_and_wait_for_lock(lambda other: complete_jobs(other, [Completion(lease)]))

    session.commit()

    assert complete.result() == set()
    assert look(job_id).status == Status.PENDING


def test_a_rescue_that_meets_a_completion_leaves_the_job_alone(
    put: Put, db: Session, session: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    deregister_worker(db, worker.id)
    assert complete_jobs(session, [Completion(lease)]) == {lease}

    assert rescue_jobs(db) == []
    session.commit()

    assert rescue_jobs(db) == []
    assert look(job_id).status == Status.COMPLETED


# Complete and reconcile; complete twice


def test_a_reconciliation_that_meets_a_completion_leaves_the_job_alone(
    put: Put, db: Session, session: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    complete_jobs(session, [Completion(worker.lease())])

    assert release_unknown_jobs(db, worker.id, []) == 0
    session.commit()

    assert look(job_id).status == Status.COMPLETED


def test_of_two_completions_of_one_lease_one_is_accepted(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    first = complete_jobs(session, [Completion(lease, "1")])
    second = elsewhere.start_and_wait_for_lock(lambda other: complete_jobs(other, [Completion(lease, "2")]))

    session.commit()

    assert (first, second.result()) == ({lease}, set())
    assert look(job_id).result == 1


def test_a_failure_that_meets_a_completion_is_not_accepted(
    put: Put, session: Session, elsewhere: Elsewhere, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    complete_jobs(session, [Completion(lease)])
    fail = elsewhere.start_and_wait_for_lock(lambda other: fail_jobs(other, [Failure(lease, "error", "E", "no")]))

    session.commit()

    assert fail.result() == {}
    assert (look(job_id).status, look(job_id).error) == (Status.COMPLETED, None)


# Claim and release


def test_a_job_given_back_while_another_claim_looks_is_claimed_by_one(
    put: Put, session: Session, db: Session, worker: Worker
) -> None:
    put()
    lease = worker.lease()
    release_jobs(session, [Release(lease)])

    assert Worker(db).claim() == []
    session.commit()

    assert len(Worker(db).claim()) == 1
    assert worker.claim() == []
