"""How long a job waited is told from the moment it was due on, by charts and stats alike."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Completion,
    Edge,
    Failure,
    NewJob,
    Release,
    close_batch,
    complete_jobs,
    count_endings,
    enqueue_jobs,
    fail_jobs,
    open_batch,
    pause,
    promote_jobs,
    queue_stats,
    release_jobs,
    resume,
    retry_job,
    settle_endings,
    succeed_jobs,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Look, Put

Waits = tuple[float | None, float | None]

IN_CHARTS = "select (sum(wait_ms) / 1000)::float8 from jobplatform.workspace_cells where task = 'mail' and wait >= 0"


@pytest.fixture(autouse=True)
def frozen(time: Time) -> None:
    time.freeze()


@pytest.fixture
def others(db: Session) -> Worker:
    """Who runs whatever is waited for."""
    return Worker(db)


@pytest.fixture
def worker(db: Session) -> Worker:
    """Who runs the job of which these tests are, the one of the task ``mail``."""
    return Worker(db, tasks=["mail"])


@pytest.fixture
def waited(db: Session, worker: Worker) -> Callable[[], Waits]:
    """The job begins now, and ends; how long it waited, as charts and as stats say."""

    def waited() -> Waits:
        complete_jobs(db, [Completion(worker.lease())])
        count_endings(db)
        (of_task,) = (part for part in queue_stats(db).tasks if part.name == "mail")
        return db.scalar(text(IN_CHARTS)), of_task.wait and of_task.wait.p50

    return waited


def mail(workspace_id: uuid.UUID, *after: NewJob | Edge, delay: float = 0) -> NewJob:
    return NewJob(workspace_id=workspace_id, task="mail", after=after, delay=datetime.timedelta(seconds=delay))


def complete(db: Session, others: Worker) -> None:
    complete_jobs(db, [Completion(others.lease())])
    settle(db)


def settle(db: Session) -> None:
    while settle_endings(db).notices:
        pass


def test_a_job_that_waited_for_another_has_waited_since_that_ended(
    db: Session, workspace_id: uuid.UUID, others: Worker, time: Time, waited: Callable[[], Waits], look: Look
) -> None:
    first = NewJob(workspace_id=workspace_id, task="work")
    second = mail(workspace_id, first)
    enqueue_jobs(db, [first, second])
    time.passes(600)
    complete(db, others)
    time.passes(5)

    assert waited() == (5, 5)
    assert look(second.id).run_after - look(second.id).created_at == datetime.timedelta(seconds=600)


def test_a_job_that_waited_for_a_batch_has_waited_since_that_ended(
    db: Session, workspace_id: uuid.UUID, others: Worker, time: Time, waited: Callable[[], Waits]
) -> None:
    batch = open_batch(db, workspace_id)
    member = NewJob(workspace_id=workspace_id, task="work", batch_id=batch)
    enqueue_jobs(db, [member, mail(workspace_id, Edge(batch, of_batch=True))])
    close_batch(db, workspace_id, batch)
    time.passes(600)
    complete(db, others)
    time.passes(5)

    assert waited() == (5, 5)


def test_a_job_that_waited_for_another_and_then_for_its_time_has_waited_since_its_time(
    db: Session, workspace_id: uuid.UUID, others: Worker, time: Time, waited: Callable[[], Waits]
) -> None:
    first = NewJob(workspace_id=workspace_id, task="work")
    enqueue_jobs(db, [first, mail(workspace_id, first, delay=600)])
    time.passes(60)
    complete(db, others)
    time.passes(540)
    promote_jobs(db)
    time.passes(5)

    assert waited() == (5, 5)


def test_a_job_that_was_called_off_and_brought_back_has_waited_since_then(
    db: Session, workspace_id: uuid.UUID, others: Worker, time: Time, waited: Callable[[], Waits]
) -> None:
    first = NewJob(workspace_id=workspace_id, task="work")
    second = mail(workspace_id, first)
    enqueue_jobs(db, [first, second])
    fail_jobs(db, [Failure(others.lease(), "error", "E", "no", retry=False)])
    settle(db)
    time.passes(600)
    retry_job(db, workspace_id, first.id)
    complete(db, others)
    time.passes(5)

    assert waited() == (5, 5)


def test_a_job_that_asked_to_be_run_later_has_waited_since_then(
    put: Put, db: Session, worker: Worker, time: Time, waited: Callable[[], Waits]
) -> None:
    put(task="mail")
    release_jobs(db, [Release(worker.lease(), delay=600)])
    time.passes(600)
    promote_jobs(db)
    time.passes(5)

    assert waited() == (5, 5)


def test_a_job_that_asks_to_be_run_later_at_its_second_attempt_was_due_when_it_was_first(
    put: Put, db: Session, worker: Worker, time: Time, waited: Callable[[], Waits], look: Look
) -> None:
    job_id = put(task="mail")
    due = look(job_id).run_after
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "again")])
    release_jobs(db, [Release(worker.lease(), delay=600)])
    time.passes(600)
    promote_jobs(db)

    assert waited() == (None, None)
    assert look(job_id).run_after == due


def test_a_job_that_is_handed_back_keeps_its_place_and_has_waited_all_the_while(
    put: Put, db: Session, worker: Worker, time: Time, waited: Callable[[], Waits]
) -> None:
    put(task="mail")
    time.passes(10)
    release_jobs(db, [Release(worker.lease(), unstarted=True)])
    time.passes(5)

    assert waited() == (15, 15)


def test_a_job_whose_first_process_crashed_says_nothing_of_waits(
    put: Put, db: Session, worker: Worker, waited: Callable[[], Waits]
) -> None:
    put(task="mail")
    fail_jobs(db, [Failure(worker.lease(), "lost", "ProcessCrashed", "signal SIGKILL", crash=True)])

    assert waited() == (None, None)


def test_a_pause_is_waited_through(put: Put, db: Session, time: Time, waited: Callable[[], Waits]) -> None:
    put(task="mail")
    pause(db, "task", "mail", reason="rest", actor="ann")
    time.passes(600)
    resume(db, "task", "mail")

    assert waited() == (600, 600)


def test_what_waits_for_the_running_job_of_its_key_waits_its_turn_from_its_own_time_on(
    put: Put, db: Session, worker: Worker, time: Time, waited: Callable[[], Waits]
) -> None:
    put(task="work", unique_key="k")
    first = Worker(db).lease()
    put(task="mail", unique_key="k", if_active="replace")
    time.passes(600)
    complete_jobs(db, [Completion(first)])
    succeed_jobs(db)

    assert waited() == (600, 600)
