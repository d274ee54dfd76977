"""A failed or cancelled job gets another chance, by hand."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import JobRecord, QueueRow, Status
from jobplatform.queue import (
    Completion,
    Failure,
    NewJob,
    RetryAnswer,
    RetryKind,
    cancel_job,
    complete_jobs,
    delete_jobs,
    enqueue_job,
    fail_jobs,
    list_attempts,
    retry_job,
)
from jobplatform.queue.attempts.ending import AS_RECORDED
from jobplatform.testing import wait_until
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Look, Put

IN_THE_WAY = """
insert into jobplatform.job_queue
    (workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, followed)
select workspace_id, id, queue, task, 1, 0, 3, 600000, now(), false from jobplatform.job_records where id = :id
"""


@pytest.fixture
def failed(put: Put, db: Session, worker: Worker) -> uuid.UUID:
    """A job that failed for good, at its first attempt."""
    job_id = put(unique_key="sync", max_attempts=2)
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", retry=False)])
    return job_id


@pytest.fixture
def third(engine: Engine) -> Iterator[Elsewhere]:
    third = Elsewhere(engine)
    yield third
    third.close()


def test_a_failed_job_becomes_pending_with_all_its_attempts_ahead(
    failed: uuid.UUID, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    assert retry_job(db, workspace_id, failed) == RetryAnswer(RetryKind.RETRIED)

    job = look(failed)
    assert (job.status, job.attempts, job.crash_count, job.outcome) == (Status.PENDING, 0, 0, None)
    assert (job.error, job.completed_at, job.started_at, job.progress) == (None, None, None, None)


def test_a_cancelled_job_can_be_retried(put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker) -> None:
    job_id = put()
    cancel_job(db, workspace_id, job_id)

    assert retry_job(db, workspace_id, job_id).kind == RetryKind.RETRIED
    assert worker.lease().job_id == str(job_id)


def test_a_retried_job_never_reuses_an_epoch(
    failed: uuid.UUID, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    retry_job(db, workspace_id, failed)

    assert worker.lease().epoch == 2


def test_a_retried_job_keeps_the_history_of_its_attempts(
    failed: uuid.UUID, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    retry_job(db, workspace_id, failed)
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "again", retry=False)])

    assert [attempt.error for attempt in list_attempts(db, workspace_id, failed)] == ["no", "again"]


def test_a_retried_job_uses_its_resource_again(put: Put, db: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    job_id = put(resource="hubspot:4711", units=7)
    cancel_job(db, workspace_id, job_id)

    retry_job(db, workspace_id, job_id)

    assert fact("select resource || ' ' || units from jobplatform.job_queue") == "hubspot:4711 7"


def test_a_retried_job_has_all_of_its_record_but_what_begins_anew() -> None:
    shared = {column.name for column in QueueRow.__table__.columns if column.name in JobRecord.__table__.columns}

    anew = {"run_after", "attempts", "crash_count", "progress", "started_at", "worker_id"}
    assert shared - set(AS_RECORDED.split(", ")) == anew


def test_a_retried_job_is_guarded_again(failed: uuid.UUID, db: Session, workspace_id: uuid.UUID, put: Put) -> None:
    retry_job(db, workspace_id, failed)

    assert put(unique_key="sync") == failed


def test_a_retry_finds_that_another_job_holds_the_key(
    failed: uuid.UUID, put: Put, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    holder = put(unique_key="sync")

    assert retry_job(db, workspace_id, failed) == RetryAnswer(RetryKind.DUPLICATE, holder)
    assert look(failed).status == Status.FAILED


def test_a_job_that_has_not_ended_is_live(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    assert retry_job(db, workspace_id, put()).kind == RetryKind.LIVE


def test_a_job_that_went_well_is_not_run_twice(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look
) -> None:
    job_id = put()
    complete_jobs(db, [Completion(worker.lease())])

    assert retry_job(db, workspace_id, job_id).kind == RetryKind.COMPLETED
    assert look(job_id).status == Status.COMPLETED


def test_the_job_of_another_workspace_is_unknown(failed: uuid.UUID, db: Session) -> None:
    assert retry_job(db, uuid.uuid4(), failed).kind == RetryKind.UNKNOWN


def test_a_job_that_ends_again_at_every_look_is_not_said_to_be_live(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    """What a storm of retries and ends looks like from here: failed by its record, and its row in the way when we come
    with ours."""
    job_id = put()
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "no", retry=False)])
    db.execute(text(IN_THE_WAY), {"id": job_id})

    assert retry_job(db, workspace_id, job_id) == RetryAnswer(RetryKind.BUSY)


def test_of_two_retries_at_once_one_is_told_that_the_job_is_live(
    failed: uuid.UUID, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID, worker: Worker
) -> None:
    assert retry_job(session, workspace_id, failed).kind == RetryKind.RETRIED
    second = elsewhere.start_and_wait_for_lock(lambda other: retry_job(other, workspace_id, failed))

    session.commit()

    assert second.result().kind == RetryKind.LIVE
    assert len(worker.drain()) == 1


def test_two_who_come_to_one_job_of_a_key_while_another_of_it_is_being_retried_do_not_wait_in_a_circle(
    failed: uuid.UUID,
    put: Put,
    db: Session,
    session: Session,
    elsewhere: Elsewhere,
    workspace_id: uuid.UUID,
    worker: Worker,
    look: Look,
) -> None:
    """Whoever retries all that failed in one transaction comes to one job of a key after the other."""
    second = put(unique_key="sync")
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", retry=False)])
    retry_job(session, workspace_id, failed)
    beside = elsewhere.start_and_wait_for_lock(lambda other: retry_job(other, workspace_id, second))

    assert retry_job(session, workspace_id, second) == RetryAnswer(RetryKind.DUPLICATE, failed)

    session.commit()
    assert beside.result() == RetryAnswer(RetryKind.DUPLICATE, failed)
    assert look(second).status == Status.FAILED


def test_whoever_was_told_that_a_job_is_live_is_not_in_the_way_of_its_end(
    failed: uuid.UUID,
    session: Session,
    elsewhere: Elsewhere,
    third: Elsewhere,
    workspace_id: uuid.UUID,
    worker: Worker,
    look: Look,
) -> None:
    """They may have asked in a transaction that goes on."""
    told, may_commit = threading.Event(), threading.Event()

    def retry_and_go_on(other: Session) -> RetryKind:
        kind = retry_job(other, workspace_id, failed).kind
        told.set()
        may_commit.wait()
        return kind

    retry_job(session, workspace_id, failed)
    second = elsewhere.start_and_wait_for_lock(retry_and_go_on)
    session.commit()
    wait_until(told.is_set, what="the second to be told")
    ended = third.start(lambda other: complete_jobs(other, [Completion(worker.lease())]))
    wait_until(third.is_done_or_blocked, what="the job to end, or its end to wait")
    had_to_wait = not ended.done()
    may_commit.set()

    assert (second.result(), had_to_wait) == (RetryKind.LIVE, False)
    assert look(failed).status == Status.COMPLETED


def test_a_job_that_was_retried_and_cancelled_meanwhile_is_retried_as_it_is_then(
    failed: uuid.UUID, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID, worker: Worker, fact: Fact
) -> None:
    retry_job(session, workspace_id, failed)
    second = elsewhere.start_and_wait_for_lock(lambda other: retry_job(other, workspace_id, failed))
    cancel_job(session, workspace_id, failed)

    session.commit()

    assert second.result().kind == RetryKind.RETRIED
    endings = fact("select past_endings from jobplatform.job_records")
    assert [ending["status"] for ending in endings] == ["failed", "cancelled"]
    assert worker.lease().epoch == 2


def test_a_job_that_is_deleted_while_it_is_retried_is_unknown(
    failed: uuid.UUID, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID, fact: Fact
) -> None:
    delete_jobs(session, [(workspace_id, failed)])
    second = elsewhere.start_and_wait_for_lock(lambda other: retry_job(other, workspace_id, failed))

    session.commit()

    assert second.result().kind == RetryKind.UNKNOWN
    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_a_job_is_retried_without_waiting_for_somebody_who_enqueues_one_that_waits_for_it(
    failed: uuid.UUID, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", after=[failed]))
    retried = elsewhere.start(lambda other: retry_job(other, workspace_id, failed).kind)
    wait_until(elsewhere.is_done_or_blocked, what="the retry to be done, or to wait")
    had_to_wait = not retried.done()

    session.commit()

    assert (retried.result(), had_to_wait) == (RetryKind.RETRIED, False)
