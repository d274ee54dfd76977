"""A job that was to run later takes its turn at once."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Completion,
    Failure,
    RunNowAnswer,
    cancel_job,
    complete_jobs,
    fail_jobs,
    run_job_now,
)
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Look, Put

LATER = datetime.timedelta(hours=1)


def test_a_scheduled_job_is_ready_at_once(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look
) -> None:
    job_id = put(delay=LATER)
    assert worker.claim() == []

    assert run_job_now(db, workspace_id, job_id) is RunNowAnswer.READY

    assert [job.lease.job_id for job in worker.claim()] == [str(job_id)]
    assert look(job_id).status == Status.RUNNING


def test_a_job_that_is_run_now_was_due_now_and_how_long_it_waited_is_counted_from_then(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look, time: Time
) -> None:
    job_id = put(delay=LATER)
    run_job_now(db, workspace_id, job_id)
    time.passes(10)
    complete_jobs(db, [Completion(worker.lease())])

    job = look(job_id)

    assert job.started_at is not None
    waited = job.started_at - job.run_after
    assert datetime.timedelta(seconds=10) <= waited < LATER


def test_a_job_that_is_run_now_for_its_next_attempt_was_due_when_it_was_first(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look, time: Time
) -> None:
    job_id = put()
    due = look(job_id).run_after
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", delay=3600)])
    time.passes(10)
    run_job_now(db, workspace_id, job_id)
    complete_jobs(db, [Completion(worker.lease())])

    assert look(job_id).run_after == due


def test_a_job_that_waits_for_its_next_attempt_is_tried_again_at_once(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    job_id = put()
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", delay=3600)])

    assert run_job_now(db, workspace_id, job_id) is RunNowAnswer.READY
    (claimed,) = worker.claim()
    assert claimed.lease.epoch == 2


def test_what_is_ready_runs_or_has_ended_stays_as_it_is(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, fact: Fact
) -> None:
    job_id = put()
    rows = "select array_agg(q.*::text) from jobplatform.job_queue q"
    before = fact(rows)

    assert run_job_now(db, workspace_id, job_id) is RunNowAnswer.READY
    assert fact(rows) == before
    worker.claim()
    assert run_job_now(db, workspace_id, job_id) is RunNowAnswer.RUNNING
    other = put()
    cancel_job(db, workspace_id, other)
    assert run_job_now(db, workspace_id, other) is RunNowAnswer.FINISHED


def test_a_job_of_another_workspace_is_unknown(put: Put, db: Session, fact: Fact) -> None:
    job_id = put(delay=LATER)

    assert run_job_now(db, uuid.uuid4(), job_id) is RunNowAnswer.UNKNOWN
    assert fact("select state from jobplatform.job_queue") == 0


def test_a_job_that_somebody_promotes_meanwhile_is_seen_as_it_is_then(
    put: Put, session: Session, workspace_id: uuid.UUID, elsewhere: Elsewhere, fact: Fact
) -> None:
    job_id = put(delay=LATER)
    session.execute(text("update jobplatform.job_queue set state = 1, run_after = now(), resource = resource"))
    hastened = elsewhere.start_and_wait_for_lock(lambda other: run_job_now(other, workspace_id, job_id))

    session.commit()

    assert hastened.result() is RunNowAnswer.READY
    assert fact("select count(*) from jobplatform.job_queue where state = 1") == 1
