"""An attempt that ended well, and what becomes of a completion that comes too late."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import Completion, ProgressReport, complete_jobs, report_progress
from tests.queue.actors import Worker
from tests.queue.conftest import Fact, Look, Put


def test_a_completed_job_keeps_its_result_and_its_numbers(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    lease = worker.lease()

    assert complete_jobs(db, [Completion(lease, '{"n": 1}')]) == {lease}

    job = look(job_id)
    assert (job.status, job.outcome, job.result) == (Status.COMPLETED, "ok", {"n": 1})
    assert (job.attempts, job.epoch, job.error) == (1, 1, None)
    assert job.completed_at is not None
    assert job.started_at is not None
    assert job.completed_at >= job.started_at


def test_a_completed_job_is_no_longer_in_the_queue(put: Put, db: Session, worker: Worker, fact: Fact) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])

    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_a_skipped_job_is_completed_and_says_so(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()

    complete_jobs(db, [Completion(worker.lease(), outcome="skipped")])

    assert (look(job_id).status, look(job_id).outcome) == (Status.COMPLETED, "skipped")


def test_the_last_progress_is_kept(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    lease = worker.lease()
    report_progress(db, [ProgressReport(lease, '{"current": 9}')])

    complete_jobs(db, [Completion(lease)])

    assert look(job_id).progress == {"current": 9}


def test_completing_twice_changes_nothing_the_second_time(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    lease = worker.lease()
    complete_jobs(db, [Completion(lease, "1")])

    assert complete_jobs(db, [Completion(lease, "2")]) == set()
    assert look(job_id).result == 1


def test_many_are_completed_at_once_and_each_gets_its_own_result(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    ids = [put(payload={"n": n}) for n in range(30)]
    claimed = worker.claim(limit=30)

    held = complete_jobs(db, [Completion(job.lease, job.payload) for job in claimed])

    assert held == {job.lease for job in claimed}
    assert [look(job_id).result["n"] for job_id in ids] == list(range(30))


def test_one_lost_lease_does_not_keep_the_others_from_completing(put: Put, db: Session, worker: Worker) -> None:
    put()
    put()
    good, bad = (job.lease for job in worker.claim(limit=2))
    lost = bad._replace(epoch=bad.epoch + 1)

    assert complete_jobs(db, [Completion(good), Completion(lost)]) == {good}


def test_a_lease_on_a_job_of_another_workspace_completes_nothing(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()

    assert complete_jobs(db, [Completion(lease._replace(workspace_id=str(uuid.uuid4())))]) == set()
    assert look(job_id).status == Status.RUNNING


def test_nothing_to_complete_is_no_error(db: Session) -> None:
    assert complete_jobs(db, []) == set()
