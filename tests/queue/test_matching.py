"""Many jobs are retried or cancelled by description: all of them, each once, nothing else."""

from __future__ import annotations

import datetime
import uuid

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Completion,
    Deed,
    Failure,
    Matching,
    act_on_some,
    complete_jobs,
    count_matching,
    fail_jobs,
    set_workspace_limits,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Look, Put
from tests.queue.plans import explain

HOUR = datetime.timedelta(hours=1)


def fail(db: Session, worker: Worker, count: int) -> None:
    leases = [job.lease for job in worker.claim(limit=count)]
    fail_jobs(db, [Failure(lease, "error", "E", "no", retry=False) for lease in leases])


def act_on_all(db: Session, deed: Deed, matching: Matching) -> list[int]:
    """Portion after portion; how many each did."""
    done, after = [], None
    while True:
        portion = act_on_some(db, deed, matching, after=after)
        done.append(len(portion.done))
        after = portion.after
        if after is None:
            return done


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobplatform.queue.by_hand.matching.MOST", 2)


@pytest.mark.usefixtures("small_portions")
def test_every_failed_job_is_retried_once_portion_by_portion(put: Put, db: Session, worker: Worker, look: Look) -> None:
    jobs = [put() for _ in range(5)]
    fail(db, worker, 5)

    assert count_matching(db, "retry", Matching()) == {"failed": 5}
    assert act_on_all(db, "retry", Matching()) == [2, 2, 1]
    assert {look(job).status for job in jobs} == {"pending"}
    assert count_matching(db, "retry", Matching()) == {}


def test_a_description_narrows_by_workspace_status_task_queue_and_time(
    put: Put, db: Session, worker: Worker, time: Time, workspace_id: uuid.UUID
) -> None:
    put()
    fail(db, worker, 1)
    time.passes(7200)
    put()
    fail(db, worker, 1)
    put(queue="letters")
    put(task="mail", delay=HOUR)

    def found(deed: Deed, **options: object) -> int:
        return sum(count_matching(db, deed, Matching(**options)).values())  # type: ignore[arg-type]

    assert (found("retry"), found("retry", since=HOUR), found("retry", status=Status.CANCELLED)) == (2, 1, 0)
    assert (found("retry", task="mail"), found("retry", queue="default")) == (0, 2)
    assert (found("retry", workspace_id=workspace_id), found("retry", workspace_id=uuid.uuid4())) == (2, 0)
    assert (found("cancel"), found("cancel", task="mail"), found("cancel", queue="letters")) == (2, 1, 1)
    assert (found("cancel", since=HOUR), found("cancel", status=Status.RUNNING)) == (2, 0)
    time.passes(7200)
    assert found("cancel", since=HOUR) == 0


def test_running_jobs_are_told_and_waiting_ones_end(put: Put, db: Session, worker: Worker, look: Look) -> None:
    first = put()
    worker.claim()
    second = put()

    portion = act_on_some(db, "cancel", Matching())

    assert len(portion.done) == 2
    assert (look(first).status, look(second).status) == ("running", "cancelled")
    assert look(first).cancel_requested_at is not None


def test_a_job_that_changed_since_it_was_counted_is_left(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    """What completed is not run twice, whatever was counted."""
    done = put()
    complete_jobs(db, [Completion(worker.lease())])

    portion = act_on_some(db, "retry", Matching(workspace_id))

    assert (portion.done, portion.left, look(done).status) == ([], {}, "completed")


def test_what_a_quota_has_no_room_for_is_left_and_counted(
    put: Put, db: Session, worker: Worker, engine: Engine, workspace_id: uuid.UUID
) -> None:
    for _ in range(3):
        put()
    fail(db, worker, 3)
    with Session(engine) as session:
        set_workspace_limits(session, workspace_id, {"max_pending": 1})
        session.commit()

        portion = act_on_some(session, "retry", Matching())
        session.commit()

    assert (len(portion.done), portion.left) == (1, {"quota": 2})


FAILED = """
insert into jobplatform.job_records
    (workspace_id, id, task, queue, payload, status, outcome, completed_at, epoch)
select md5((n % 100)::text)::uuid, ('018f' || lpad(to_hex(n), 28, '0'))::uuid, 'work', 'default', '{}', 4, 'error',
    now(), 1
from generate_series(1, 20000) n
"""


def test_a_portion_of_a_workspace_reads_nothing_of_the_others(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(FAILED))
        connection.execute(text("vacuum analyze jobplatform.job_records"))
    workspace_id = uuid.UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")

    with Session(engine) as session:
        # The first look at an engine asks whether row security counts for it; that is not what this is about.
        count_matching(session, "retry", Matching(workspace_id))

    plan = explain(engine, lambda session: act_on_some(session, "retry", Matching(workspace_id)))

    assert plan.sequential_scans == []
    assert 100 <= plan.rows_visited("job_records") <= 250
