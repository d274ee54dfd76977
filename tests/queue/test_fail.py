"""An attempt that ended badly: back to waiting, or over."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Failure,
    Lease,
    ProgressReport,
    cancel_job,
    fail_jobs,
    list_attempts,
    promote_jobs,
    report_progress,
)
from jobplatform.queue.safe_json import ERROR_LIMIT, TRACEBACK_LIMIT
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Look, Put


def a_failure(lease: Lease, **options: Any) -> Failure:
    return Failure(**{"lease": lease, "outcome": "error", "error_type": "ValueError", "message": "no", **options})


def fail(db: Session, lease: Lease, **options: Any) -> str | None:
    return fail_jobs(db, [a_failure(lease, **options)]).get(lease)


def test_a_failed_attempt_waits_for_the_next_one(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()

    assert fail(db, worker.lease(), delay=30) == "pending"

    job = look(job_id)
    assert (job.status, job.attempts, job.worker_id) == (Status.PENDING, 1, None)
    assert (job.error_type, job.error) == ("ValueError", "no")
    assert worker.claim() == []


def test_the_next_attempt_comes_after_the_delay_and_not_before(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    time.freeze()
    put()
    fail(db, worker.lease(), delay=30)

    time.passes(29)
    promote_jobs(db)
    assert worker.claim() == []

    time.passes(1)
    promote_jobs(db)
    (again,) = worker.claim()
    assert (again.attempt, again.lease.epoch) == (2, 2)


def test_without_a_delay_the_next_attempt_may_come_at_once(put: Put, db: Session, worker: Worker) -> None:
    put()
    fail(db, worker.lease(), delay=0)

    assert worker.claim()[0].attempt == 2


def test_a_job_out_of_attempts_has_failed(put: Put, db: Session, worker: Worker, look: Look, fact: Fact) -> None:
    job_id = put(max_attempts=2)

    assert fail(db, worker.lease()) == "pending"
    assert fail(db, worker.lease(), message="never") == "failed"

    job = look(job_id)
    assert (job.status, job.outcome, job.attempts, job.error) == (Status.FAILED, "error", 2, "never")
    assert job.completed_at is not None
    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_what_need_not_be_tried_again_fails_at_once(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()

    assert fail(db, worker.lease(), outcome="discarded", retry=False) == "failed"
    assert (look(job_id).status, look(job_id).outcome) == (Status.FAILED, "discarded")


def test_every_attempt_is_kept_with_its_own_error(put: Put, db: Session, worker: Worker, workspace_id: Any) -> None:
    job_id = put(max_attempts=3)
    for n in (1, 2, 3):
        fail(db, worker.lease(), message=f"error {n}", traceback=f"trace {n}", outcome="timeout" if n == 2 else "error")

    attempts = list_attempts(db, workspace_id, job_id)

    assert [(a.attempt, a.epoch, a.error, a.traceback, a.outcome, a.final) for a in attempts] == [
        (1, 1, "error 1", "trace 1", "error", False),
        (2, 2, "error 2", "trace 2", "timeout", False),
        (3, 3, "error 3", "trace 3", "error", True),
    ]
    assert {attempt.worker_id for attempt in attempts} == {worker.id}
    assert all(attempt.started_at and attempt.started_at <= attempt.ended_at for attempt in attempts)


def test_a_crash_gives_the_attempt_back_and_counts_by_itself(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()

    assert fail(db, worker.lease(), outcome="lost", crash=True) == "pending"
    assert (look(job_id).attempts, look(job_id).crash_count) == (0, 1)


def test_a_job_that_crashes_as_often_as_it_may_has_failed(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put(max_attempts=100)

    words = [fail(db, worker.lease(), outcome="lost", crash=True) for _ in range(3)]

    assert words == ["pending", "pending", "failed"]
    assert (look(job_id).status, look(job_id).outcome, look(job_id).crash_count) == (Status.FAILED, "lost", 3)


def test_a_failure_of_a_job_that_was_to_be_cancelled_cancels_it(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: Any
) -> None:
    job_id = put()
    lease = worker.lease()
    cancel_job(db, workspace_id, job_id)

    assert fail(db, lease) == "cancelled"
    assert (look(job_id).status, look(job_id).outcome) == (Status.CANCELLED, "cancelled")


def test_a_cancelled_attempt_ends_the_job_as_cancelled(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()

    assert fail(db, worker.lease(), outcome="cancelled") == "cancelled"
    assert look(job_id).status == Status.CANCELLED


def test_a_stale_worker_that_lost_its_lease_does_not_fail_the_job(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: Any
) -> None:
    job_id = put()
    old = worker.lease()
    fail(db, old)
    worker.lease()

    assert fail(db, old, retry=False) is None
    assert look(job_id).status == Status.RUNNING
    assert len(list_attempts(db, workspace_id, job_id)) == 1


def test_many_fail_at_once_and_each_in_its_own_way(put: Put, db: Session, worker: Worker) -> None:
    for _ in range(3):
        put()
    again, final, crashed = (job.lease for job in worker.claim(limit=3))
    lost = Lease(again.workspace_id, again.job_id, 99)

    answers = fail_jobs(
        db, [a_failure(again, delay=5), a_failure(final, retry=False), a_failure(crashed, crash=True), a_failure(lost)]
    )

    assert answers == {again: "pending", final: "failed", crashed: "pending"}


@pytest.mark.parametrize("text", ["a\0b", "\ud800", 'quotes " and \\ and {braces}', "NULL", "", "%s %(ids)s"])
def test_whatever_the_error_says_it_can_be_saved(put: Put, db: Session, worker: Worker, look: Look, text: str) -> None:
    job_id = put()

    assert fail(db, worker.lease(), message=text, error_type=text, traceback=text) == "pending"
    assert look(job_id).error == text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")


def test_an_endless_error_is_cut(put: Put, db: Session, worker: Worker, workspace_id: Any) -> None:
    job_id = put()

    fail(db, worker.lease(), message="m" * 100_000, traceback="t" * 100_000)

    (attempt,) = list_attempts(db, workspace_id, job_id)
    assert len(attempt.error or "") == ERROR_LIMIT
    assert len(attempt.traceback or "") == TRACEBACK_LIMIT


def test_an_outcome_that_does_not_exist_is_refused_before_it_is_written(put: Put, db: Session, worker: Worker) -> None:
    put()

    with pytest.raises(ValueError, match="bad luck"):
        fail(db, worker.lease(), outcome="bad luck")


def test_a_waiting_job_shows_the_progress_of_its_last_attempt(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    report_progress(db, [ProgressReport(lease, '{"current": 5}')])

    fail(db, lease, delay=10)

    assert look(job_id).progress == {"current": 5}


def test_a_guarded_job_that_failed_frees_its_key(put: Put, db: Session, worker: Worker) -> None:
    first = put(unique_key="sync", max_attempts=1)
    fail(db, worker.lease())

    assert put(unique_key="sync") != first


def test_nothing_to_fail_is_no_error(db: Session) -> None:
    assert fail_jobs(db, []) == {}
