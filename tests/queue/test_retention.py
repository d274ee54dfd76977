"""Old jobs go, with everything that belongs to them, and nothing else goes."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Role, make_engine
from jobplatform.queue import (
    Completion,
    Failure,
    LogLine,
    append_log_lines,
    bury_workers,
    cancel_job,
    complete_jobs,
    fail_jobs,
    prune_jobs,
)
from jobplatform.queue.save_step import save_checkpoint, save_step
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Put

DAY = datetime.timedelta(days=1)
Prune = Callable[[], int]


@pytest.fixture
def prune(db: Session) -> Prune:
    return lambda: prune_jobs(db, completed_after=7 * DAY, failed_after=30 * DAY)


def test_a_completed_job_goes_after_its_time(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact
) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])

    time.passes(6.9 * DAY.total_seconds())
    assert prune() == 0

    time.passes(0.2 * DAY.total_seconds())
    assert prune() == 1
    assert fact("select count(*) from jobplatform.jobs") == 0


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_did_not_go_well_is_kept_longer(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, workspace_id: uuid.UUID, end: str
) -> None:
    job_id = put()
    if end == "failed":
        fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", retry=False)])
    else:
        cancel_job(db, workspace_id, job_id)

    time.passes(29 * DAY.total_seconds())
    assert prune() == 0

    time.passes(2 * DAY.total_seconds())
    assert prune() == 1


def test_a_job_takes_its_attempts_its_lines_and_its_steps_along(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact
) -> None:
    put()
    lease = worker.lease()
    append_log_lines(db, [LogLine(lease, 1, "info", "hello")])
    save_step(db, lease, "page-1", "null")
    save_checkpoint(db, lease, "1")
    fail_jobs(db, [Failure(lease, "error", "ValueError", "no", retry=False)])
    time.passes(31 * DAY.total_seconds())

    prune()

    assert fact("select count(*) from jobplatform.job_attempts") == 0
    assert fact("select count(*) from jobplatform.job_logs") == 0
    assert fact("select count(*) from jobplatform.job_steps") == 0


def test_a_live_job_is_kept_however_old_it_is(put: Put, worker: Worker, time: Time, prune: Prune, fact: Fact) -> None:
    put()
    put()
    worker.claim()
    time.passes(1000 * DAY.total_seconds())

    assert prune() == 0
    assert fact("select count(*) from jobplatform.jobs") == 2


def test_an_old_job_that_ended_today_is_kept(put: Put, db: Session, worker: Worker, time: Time, prune: Prune) -> None:
    put()
    time.passes(1000 * DAY.total_seconds())
    complete_jobs(db, [Completion(worker.lease())])

    assert prune() == 0


def test_many_go_in_portions(db: Session, prune: Prune) -> None:
    db.execute(
        text(
            "insert into jobplatform.job_records "
            "(workspace_id, id, task, queue, payload, status, outcome, created_at, completed_at) "
            "select gen_random_uuid(), gen_random_uuid(), 't', 'q', '{}', 3, 'ok', now() - interval '9 days', "
            "now() - interval '8 days' from generate_series(1, 1500)"
        )
    )

    assert [prune() for _ in range(3)] == [1000, 500, 0]


def test_one_pruner_at_a_time_is_enough(put: Put, db: Session, worker: Worker, time: Time, engine: Engine) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])
    time.passes(8 * DAY.total_seconds())

    with Session(engine) as first:
        assert prune_jobs(first, completed_after=7 * DAY, failed_after=30 * DAY) == 1
        assert prune_jobs(db, completed_after=7 * DAY, failed_after=30 * DAY) == 0


def test_a_dead_worker_is_kept_a_day(db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact) -> None:
    time.passes(60)
    bury_workers(db, datetime.timedelta(seconds=30))

    time.passes(0.9 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.workers") == 1

    time.passes(0.2 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.workers") == 0


def test_a_worker_s_role_has_every_right_that_retention_needs(login_url: Callable[..., str]) -> None:
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER, autocommit=True)

    with Session(engine) as session:
        pruned = prune_jobs(session, completed_after=7 * DAY, failed_after=30 * DAY)
    engine.dispose()

    assert pruned == 0
