"""A job that goes back, by its worker's own will or because its worker does not know it."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Completion,
    Lease,
    Release,
    cancel_job,
    complete_jobs,
    list_attempts,
    promote_jobs,
    release_jobs,
    release_unknown_jobs,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Look, Put


def test_a_released_job_can_be_claimed_at_once_with_all_its_attempts(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()

    assert release_jobs(db, [Release(lease)]) == {lease}

    assert (look(job_id).status, look(job_id).attempts, look(job_id).started_at) == (Status.PENDING, 0, None)
    assert worker.claim()[0].attempt == 1


def test_a_released_job_keeps_its_place_in_the_order(put: Put, db: Session, worker: Worker) -> None:
    first, _second = put(), put()
    lease = worker.claim(limit=1)[0].lease
    release_jobs(db, [Release(lease)])

    assert worker.claim(limit=1)[0].lease.job_id == str(first)


def test_a_snoozed_job_comes_back_after_its_delay(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put()
    release_jobs(db, [Release(worker.lease(), delay=60)])

    promote_jobs(db)
    assert worker.claim() == []

    time.passes(60)
    promote_jobs(db)
    assert worker.claim()[0].attempt == 1


def test_a_release_is_no_failed_attempt(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    job_id = put()
    release_jobs(db, [Release(worker.lease())])

    assert list_attempts(db, workspace_id, job_id) == []


def test_the_old_lease_is_worth_nothing_after_a_release(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    old = worker.lease()
    release_jobs(db, [Release(old)])
    new = worker.lease()

    assert complete_jobs(db, [Completion(old)]) == set()
    assert release_jobs(db, [Release(old)]) == set()
    assert (look(job_id).status, new.epoch) == (Status.RUNNING, 2)


def test_a_cancel_that_came_in_the_meantime_is_not_lost(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    lease = worker.lease()
    cancel_job(db, workspace_id, job_id)

    release_jobs(db, [Release(lease)])

    assert (look(job_id).status, look(job_id).attempts) == (Status.CANCELLED, 0)


def test_nothing_to_release_is_no_error(db: Session) -> None:
    assert release_jobs(db, []) == set()


# Reconcile


def test_a_claim_whose_answer_was_lost_is_handed_back(put: Put, db: Session, worker: Worker, look: Look) -> None:
    known, forgotten = put(), put()
    leases = {job.lease.job_id: job.lease for job in worker.claim(limit=2)}

    assert release_unknown_jobs(db, worker.id, [leases[str(known)]]) == 1

    assert look(known).status == Status.RUNNING
    assert (look(forgotten).status, look(forgotten).attempts) == (Status.PENDING, 0)


def test_a_worker_that_knows_nothing_hands_back_everything_of_its_own(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    mine, others = put(), put(task="other")
    worker.lease()
    Worker(db, tasks=["other"]).lease()

    assert release_unknown_jobs(db, worker.id, []) == 1

    assert (look(mine).status, look(others).status) == (Status.PENDING, Status.RUNNING)


def test_knowing_an_older_attempt_of_a_job_is_not_knowing_this_one(put: Put, db: Session, worker: Worker) -> None:
    put()
    old = worker.lease()
    release_jobs(db, [Release(old)])
    worker.lease()

    assert release_unknown_jobs(db, worker.id, [old]) == 1


def test_a_worker_that_knows_all_its_jobs_hands_back_none(put: Put, db: Session, worker: Worker) -> None:
    put()

    assert release_unknown_jobs(db, worker.id, [worker.lease()]) == 0


def test_a_forgotten_job_that_was_to_be_cancelled_is_cancelled(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    worker.lease()
    cancel_job(db, workspace_id, job_id)

    release_unknown_jobs(db, worker.id, [Lease(str(workspace_id), str(uuid.uuid4()), 1)])

    assert look(job_id).status == Status.CANCELLED
