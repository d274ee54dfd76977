"""The questions that are asked at night."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from jobplatform.models import Role, make_engine
from jobplatform.queue import (
    LISTENER,
    Completion,
    Every,
    Failure,
    RunningJob,
    Tasks,
    complete_jobs,
    create_schedule,
    fail_jobs,
    measure_levels,
    queue_health,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put


def codes(db: Session, workspace_id: uuid.UUID | None = None, **thresholds: object) -> list[str]:
    return [alert.code for alert in queue_health(db, workspace_id, **thresholds).alerts]  # type: ignore[arg-type]


def end(db: Session, worker: Worker, *, well: int, badly: int) -> None:
    leases = [job.lease for job in worker.claim(limit=well + badly)]
    complete_jobs(db, [Completion(lease) for lease in leases[:well]])
    fail_jobs(db, [Failure(lease, "error", "E", "no", retry=False) for lease in leases[well:]])


def test_an_idle_queue_is_healthy(db: Session, worker: Worker) -> None:
    health = queue_health(db)

    assert health.healthy
    assert (health.running, health.ready, health.scheduled, health.workers) == (0, 0, 0, 1)
    assert health.oldest_ready_seconds is None


def test_live_jobs_are_counted_by_what_they_do(put: Put, db: Session, worker: Worker) -> None:
    for _ in range(3):
        put()
    put(delay=datetime.timedelta(hours=1))
    worker.claim()

    health = queue_health(db)

    assert (health.running, health.ready, health.scheduled, health.pending) == (1, 2, 1, 3)


def test_everybody_may_know_who_hears_the_doorbell(login_url: Callable[..., str], direct_url: str) -> None:
    engine = make_engine(login_url(Role.API))
    with psycopg.connect(direct_url, application_name=LISTENER), Session(engine) as session:
        assert queue_health(session).listening == 1
    engine.dispose()


def test_the_last_hour_is_counted(put: Put, db: Session, worker: Worker, time: Time) -> None:
    for _ in range(5):
        put()
    end(db, worker, well=3, badly=2)

    recent = queue_health(db)
    time.passes(3601)
    later = queue_health(db)

    assert (recent.completed_last_hour, recent.failed_last_hour) == (3, 2)
    assert (later.completed_last_hour, later.failed_last_hour) == (0, 0)


def test_a_job_that_runs_too_long_is_stuck(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put()
    worker.claim()

    time.passes(14 * 60)
    assert "stuck" not in codes(db)

    time.passes(2 * 60)
    assert "stuck" in codes(db)


def test_a_high_rate_of_failures_is_an_alert(put: Put, db: Session, worker: Worker) -> None:
    for _ in range(10):
        put()
    end(db, worker, well=7, badly=3)

    assert codes(db) == ["failing"]
    assert codes(db, failure_rate=0.5) == []


def test_a_few_failures_make_no_rate(put: Put, db: Session, worker: Worker) -> None:
    for _ in range(4):
        put()
    end(db, worker, well=0, badly=4)

    assert codes(db) == []


def test_a_long_queue_is_an_alert(put: Put, db: Session, worker: Worker) -> None:
    for _ in range(4):
        put()

    assert codes(db, backlog=3) == ["backlog"]
    assert codes(db, backlog=4) == []


def test_ready_jobs_and_no_worker_is_an_alert(put: Put, db: Session) -> None:
    put()

    assert codes(db) == ["no_worker"]


def test_a_worker_that_is_silent_for_longer_than_its_lease_does_not_count(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    """From then on it may be declared dead, and nobody has to have done so."""
    put()
    time.passes(29)
    assert queue_health(db).workers == 1

    time.passes(2)

    assert queue_health(db).workers == 0
    assert codes(db) == ["no_worker"]


@pytest.mark.parametrize(("said", "workers"), [("120", 1), ("40", 0), ("nonsense", 0), ("nan", 0)])
def test_how_long_a_lease_is_says_the_setting(
    put: Put, db: Session, worker: Worker, time: Time, monkeypatch: pytest.MonkeyPatch, said: str, workers: int
) -> None:
    monkeypatch.setenv("JOBPLATFORM_LEASE_SECONDS", said)
    time.passes(50)

    assert (queue_health(db).workers, measure_levels(db).workers) == (workers, workers)


def test_a_job_that_a_dead_worker_left_running_is_an_alert_where_no_other_lives(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    put()
    worker.claim()
    assert codes(db) == []

    time.passes(31)

    (alert,) = queue_health(db).alerts
    assert alert.message == "1 job is running by its row and no worker is alive to take it back"


def test_a_task_that_no_living_worker_serves_is_an_alert(put: Put, db: Session, worker: Worker) -> None:
    put(task="new-task")

    health = queue_health(db)

    assert [alert.code for alert in health.alerts] == ["unserved"]
    assert health.unserved_tasks == ("new-task",)
    assert health.alerts[0].message == "no live worker serves the task new-task in the queue where it waits"


def test_a_queue_that_no_living_worker_serves_is_an_alert(put: Put, db: Session, worker: Worker) -> None:
    put(queue="letters")

    assert codes(db) == ["unserved"]


def test_the_oldest_ready_job_tells_how_long_jobs_wait(put: Put, db: Session, time: Time) -> None:
    put()
    time.passes(300)
    put()

    assert 300 <= (queue_health(db).oldest_ready_seconds or 0) < 360


def test_a_schedule_that_nobody_does_is_an_alert(
    db: Session, session: Session, workspace_id: uuid.UUID, time: Time
) -> None:
    tasks = Tasks()

    @tasks.task("unknown")
    def unknown(job: RunningJob, payload: dict[str, Any]) -> None: ...

    create_schedule(session, unknown, Every(datetime.timedelta(minutes=1)), workspace_id=workspace_id)
    session.commit()
    time.passes(100)
    assert codes(db) == []

    time.passes(30)

    assert codes(db) == codes(db, workspace_id) == ["overdue_schedules"]
    told = "1 schedule has been due for more than a minute; is there a worker that knows its task?"
    assert [alert.message for alert in queue_health(db).alerts] == [told]
    assert codes(db, uuid.uuid4()) == []


def test_one_workspace_is_not_alarmed_by_another(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    for _ in range(4):
        put()

    assert codes(db, uuid.uuid4(), backlog=3) == []
    assert codes(db, workspace_id, backlog=3) == ["backlog"]
