"""How much there is to do, how it ends, and what failed."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Role, confine, make_engine
from jobplatform.queue import (
    Completion,
    Failure,
    cancel_job,
    complete_jobs,
    fail_jobs,
    failed_jobs,
    queue_size,
    queue_stats,
    retry_job,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put
from tests.queue.plans import explain_all

HOUR = datetime.timedelta(hours=1)


def fail_all(db: Session, worker: Worker) -> None:
    fail_jobs(db, [Failure(job.lease, "error", "E", "no", retry=False) for job in worker.claim(limit=50)])


def test_jobs_are_counted_by_status_by_queue_and_by_task(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    for _ in range(6):
        put()
    leases = [job.lease for job in worker.claim(limit=6)]
    complete_jobs(db, [Completion(lease) for lease in leases[:3]])
    fail_jobs(db, [Failure(leases[3], "error", "E", "no", retry=False)])
    cancel_job(db, workspace_id, put(queue="letters", task="mail"))
    put(queue="letters", task="mail", delay=HOUR)
    put(queue="letters")

    stats = queue_stats(db)

    assert stats.by_status == {"pending": 2, "running": 2, "completed": 3, "failed": 1, "cancelled": 1}
    assert stats.total.failure_rate == 0.25
    assert stats.total.per_minute == pytest.approx(4 / 60)
    assert [(part.name, part.ready, part.scheduled, part.running, part.completed) for part in stats.queues] == [
        ("default", 0, 0, 2, 3),
        ("letters", 1, 1, 0, 0),
    ]
    assert [(part.name, part.pending, part.failed, part.cancelled) for part in stats.tasks] == [
        ("mail", 1, 0, 1),
        ("work", 1, 1, 0),
    ]


def test_an_idle_queue_has_no_rates_and_no_times(db: Session) -> None:
    stats = queue_stats(db)

    assert stats.by_status == {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}
    assert (stats.total.failure_rate, stats.total.oldest_ready_seconds) == (None, None)
    assert (stats.total.wait, stats.total.run, stats.total.per_minute) == (None, None, 0)


def test_what_ended_before_the_last_hour_is_not_counted(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])
    put()
    fail_all(db, worker)
    time.passes(3601)

    assert queue_stats(db).total.completed == queue_stats(db).total.failed == 0
    assert queue_stats(db, within=2 * HOUR).total.completed == queue_stats(db, within=2 * HOUR).total.failed == 1


def test_times_of_waiting_and_running_are_told_in_percentiles(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    time.freeze()
    put()
    time.passes(30)
    lease = worker.lease()
    time.passes(10)
    complete_jobs(db, [Completion(lease)])

    stats = queue_stats(db)

    for part in (stats.total, stats.tasks[0]):
        assert part.wait is not None
        assert part.run is not None
        assert (part.wait.p50, part.run.p99) == (30, 10)


def test_a_long_queue_makes_stats_look_further_back(put: Put, db: Session, worker: Worker, time: Time) -> None:
    """What completes now was made as long ago as what still waits."""
    for _ in range(2):
        put()
    time.passes(6 * 3600)
    complete_jobs(db, [Completion(worker.claim()[0].lease)])

    stats = queue_stats(db)

    assert stats.reach_seconds > 7 * 3600
    assert stats.total.completed == 1


def test_a_workspace_s_stats_are_its_own(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    put()
    put()
    complete_jobs(db, [Completion(worker.claim()[0].lease)])

    assert queue_stats(db, workspace_id).by_status["completed"] == 1
    assert queue_stats(db, uuid.uuid4()).by_status == dict.fromkeys(queue_stats(db).by_status, 0)


def test_the_size_of_a_queue_is_what_is_pending_in_it(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    put()
    put(delay=HOUR)
    put(queue="letters")

    assert (queue_size(db, "default"), queue_size(db, "letters"), queue_size(db, "none")) == (2, 1, 0)
    assert (queue_size(db, "default", task="work"), queue_size(db, "default", task="mail")) == (2, 0)
    assert queue_size(db, "default", workspace_id=uuid.uuid4()) == 0
    assert queue_size(db, "default", workspace_id=workspace_id) == 2


# Failed jobs


@pytest.fixture
def five(put: Put, db: Session, worker: Worker, time: Time) -> list[uuid.UUID]:
    """Five jobs that failed over three days, the first one first."""
    found = []
    for hours in (0, 40, 20, 0.5, 0.1):
        time.passes(hours * 3600)
        found.append(put())
        fail_all(db, worker)
    return found


@pytest.mark.parametrize("everywhere", [False, True])
def test_failed_jobs_come_newest_first_page_by_page(
    five: list[uuid.UUID], db: Session, workspace_id: uuid.UUID, everywhere: bool
) -> None:
    where = None if everywhere else workspace_id
    seen, cursor = [], None
    while True:
        page = failed_jobs(db, where, limit=2, before=cursor)
        seen.append([job.id for job in page.jobs])
        cursor = page.next
        if cursor is None:
            break

    assert seen == [[five[4], five[3]], [five[2], five[1]], [five[0]]]


def test_a_job_that_failed_and_was_retried_is_not_failed_until_it_fails_again(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    fail_all(db, worker)
    retry_job(db, workspace_id, job_id)
    assert failed_jobs(db).jobs == []

    fail_all(db, worker)

    assert [job.id for job in failed_jobs(db).jobs] == [job_id]


def test_failed_jobs_of_one_task_or_workspace_are_those_alone(
    five: list[uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    assert len(failed_jobs(db, workspace_id, task="work").jobs) == 5
    assert failed_jobs(db, workspace_id, task="mail").jobs == []
    assert failed_jobs(db, uuid.uuid4()).jobs == []


def test_a_workspace_s_login_learns_nothing_of_another(
    five: list[uuid.UUID], login_url: Callable[..., str], workspace_id: uuid.UUID
) -> None:
    engine = make_engine(login_url(Role.API))
    with Session(engine) as session:
        confine(session, Role.API, uuid.uuid4())
        assert failed_jobs(session).jobs == []
        assert queue_stats(session).by_status["failed"] == 0
        assert queue_size(session, "default") == 0
    with Session(engine) as session:
        confine(session, Role.API, workspace_id)
        assert len(failed_jobs(session).jobs) == 5
    engine.dispose()


# What it costs


LOADED = """
insert into jobplatform.job_records
    (workspace_id, id, task, queue, payload, status, outcome, created_at, started_at, completed_at, attempts, epoch)
select md5((n % 50)::text)::uuid, ('018f' || lpad(to_hex(n), 28, '0'))::uuid, 'work', 'default', '{"some": "payload"}',
    case when n % 20 = 0 then 4 else 3 end, case when n % 20 = 0 then 'error' else 'ok' end, at, at, at, 1, 1
from (select n, now() - (50000 - n) * interval '10 seconds' as at from generate_series(1, 50000) n) made
"""
ATTEMPTS = """
insert into jobplatform.job_attempts
    (workspace_id, job_id, epoch, attempt, started_at, ended_at, outcome, final, error_type, error)
select workspace_id, id, 1, 1, started_at, completed_at, 'error', true, 'E', 'no'
from jobplatform.job_records where status = 4
"""


@pytest.fixture
def history(engine: Engine) -> Engine:
    """Six days of history, 360 jobs an hour; the last two hours are a fiftieth of it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(LOADED.replace(":", "\\:")))
        connection.execute(text(ATTEMPTS))
        connection.execute(text("vacuum analyze jobplatform.job_records"))
        connection.execute(text("vacuum analyze jobplatform.job_attempts"))
    return engine


def test_the_numbers_of_the_last_hour_do_not_read_the_history(history: Engine) -> None:
    plans = explain_all(history, queue_stats)

    assert [plan for plan in plans if "job_records" in plan.sequential_scans] == []
    assert max(plan.rows_visited("job_records") for plan in plans) < 50_000 / 5


def test_a_page_of_failed_jobs_does_not_read_the_history(history: Engine) -> None:
    for workspace_id in (None, uuid.UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")):
        plans = explain_all(history, lambda session, w=workspace_id: failed_jobs(session, w))
        assert [plan for plan in plans if "job_records" in plan.sequential_scans] == []
        assert max(plan.rows_visited("job_records") for plan in plans) < 3_000
