"""Whether anything is left for a worker that leaves when nothing is: what it may run counts, now or within a moment."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Completion,
    Every,
    NewJob,
    ResourceNote,
    RunningJob,
    TaskDefaults,
    Tasks,
    complete_jobs,
    create_schedule,
    enqueue_jobs,
    fire_schedules,
    is_anything_left,
    note_resources,
    pause,
    promote_jobs,
    set_queue_limit,
    set_rate_limit,
    set_resource_limit,
    set_task_limits,
    set_workspace_limits,
    settle_endings,
    succeed_jobs,
)
from jobplatform.queue.chores.leftover import LANES
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Put
from tests.queue.plans import explain

HOUR = datetime.timedelta(hours=1)
RESOURCE = "hubspot:4711"

Left = Callable[..., bool]


@pytest.fixture
def left(db: Session) -> Left:
    """What a worker is told that knows the task ``work``, and serves the queue ``default``."""

    def left(**options: Any) -> bool:
        return is_anything_left(db, **{"queues": ["default"], "tasks": ["work"], **options})

    return left


def test_what_is_ready_is_left_until_it_is_claimed(left: Left, put: Put, worker: Worker) -> None:
    before = left()
    put()
    ready = left()

    worker.lease()

    assert (before, ready, left()) == (False, True, False)


def test_of_other_queues_and_tasks_nothing_is_left(left: Left, put: Put) -> None:
    put(queue="slow")
    put(task="other")

    assert not left()
    assert left(queues=["default", "slow"])
    assert left(tasks=["work", "other"])


def test_what_newer_code_has_written_is_left_for_newer_code(left: Left, put: Put) -> None:
    put(payload_version=2)

    assert not left(versions={"work": 1})
    assert left(versions={"work": 2})


def test_what_is_scheduled_is_left_when_its_time_has_come(left: Left, put: Put, time: Time, db: Session) -> None:
    put(delay=HOUR)
    before = left()

    time.passes(3601)

    assert (before, left()) == (False, True)
    promote_jobs(db)
    assert left()


def test_what_somebody_is_just_claiming_is_left(left: Left, put: Put, worker: Worker, elsewhere: Elsewhere) -> None:
    """Who claims it may die before it has it."""
    put()
    theirs = Worker(elsewhere.session)
    theirs.lease()

    assert left()
    elsewhere.session.rollback()
    assert worker.claim()


@pytest.mark.parametrize(
    ("kind", "key"), [("queue", "default"), ("task", "work"), ("workspace", None), ("resource", RESOURCE)]
)
def test_what_is_paused_is_not_left(
    left: Left, put: Put, db: Session, time: Time, workspace_id: uuid.UUID, kind: str, key: str | None
) -> None:
    put(resource=RESOURCE)
    until = datetime.datetime.now(datetime.UTC) + HOUR
    pause(db, kind, key or str(workspace_id), reason="a look", actor="ann", until=until)
    paused = left()

    time.passes(3601)

    assert (paused, left()) == (False, True)


def test_beside_what_is_paused_another_one_is_left(left: Left, put: Put, db: Session) -> None:
    put(resource=RESOURCE)
    pause(db, "resource", RESOURCE, reason="a look", actor="ann")
    put()

    assert left()


def test_what_uses_a_closed_resource_is_not_left(left: Left, put: Put, db: Session, time: Time) -> None:
    put(resource=RESOURCE)
    note_resources(db, [ResourceNote(RESOURCE, worked=False, closed_for=60.0)])
    closed = left()

    time.passes(61)

    assert (closed, left()) == (False, True)


def test_a_backlog_that_may_not_run_is_passed_over_at_once(
    engine: Engine, db: Session, put: Put, workspace_id: uuid.UUID
) -> None:
    """Some of it is unknown here, some paused, some of a queue that may run nothing."""
    kinds = [{"task": "other"}, {"resource": RESOURCE}, {"queue": "slow"}]
    enqueue_jobs(
        db, [NewJob(workspace_id=workspace_id, **{"task": "work", **kind}) for kind in kinds for _ in range(1_000)]
    )
    db.execute(text("analyze jobplatform.job_queue"))
    pause(db, "resource", RESOURCE, reason="a look", actor="ann")
    set_queue_limit(db, "slow", 0)
    db.commit()

    plan = explain(engine, lambda session: is_anything_left(session, queues=["default", "slow"], tasks=["work"]))

    assert plan.sequential_scans == []
    assert plan.rows_visited("job_queue") <= len(kinds)


@pytest.mark.parametrize("lanes", [LANES - 1, LANES, LANES + 1])
def test_what_is_behind_very_many_lanes_of_others_is_left(
    left: Left, db: Session, workspace_id: uuid.UUID, lanes: int
) -> None:
    others = [NewJob(workspace_id=workspace_id, task="other", resource=f"hubspot:{number}") for number in range(lanes)]
    enqueue_jobs(db, [*others, *others])
    before = left()

    # The last workspace of all, and so the last lane.
    enqueue_jobs(db, [NewJob(workspace_id=uuid.UUID(int=2**128 - 1), task="work")])

    assert (before, left()) == (False, True)


LIMITS: dict[str, Callable[[Session, uuid.UUID, int], object]] = {
    "queue": lambda db, _, most: set_queue_limit(db, "default", most),
    "task": lambda db, _, most: set_task_limits(db, "work", {"max_running": most}),
    "task in a workspace": lambda db, _, most: set_task_limits(db, "work", {"max_running_per_workspace": most}),
    "workspace": lambda db, workspace_id, most: set_workspace_limits(db, workspace_id, {"max_running": most}),
    "resource": lambda db, _, most: set_resource_limit(db, RESOURCE, most),
    "kind of resource": lambda db, _, most: set_resource_limit(db, "hubspot:*", most),
}


@pytest.mark.parametrize("of", LIMITS)
def test_what_a_limit_holds_back_is_left_unless_it_lets_nothing_run(
    left: Left, put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, of: str
) -> None:
    LIMITS[of](db, workspace_id, 1)
    db.commit()
    put(resource=RESOURCE)
    put(resource=RESOURCE)
    worker.claim()
    assert worker.claim() == []
    held_back = left()

    LIMITS[of](db, workspace_id, 0)
    db.commit()

    assert (held_back, left()) == (True, False)


def test_what_a_rate_holds_back_is_left(left: Left, put: Put, db: Session, worker: Worker) -> None:
    set_rate_limit(db, RESOURCE, {"units": 1, "period_ms": 3_600_000, "burst": 1})
    db.commit()
    put(resource=RESOURCE)
    put(resource=RESOURCE)
    worker.claim()

    assert worker.claim() == []
    assert left()


def test_what_waits_for_a_running_job_is_left_when_that_has_ended(
    left: Left, put: Put, db: Session, worker: Worker
) -> None:
    first = put()
    put(after=[first])
    settle_endings(db)
    lease = worker.lease()
    running = left()

    complete_jobs(db, [Completion(lease)])
    ended = left()
    while settle_endings(db).notices:
        pass

    assert (running, ended, left()) == (False, True, True)
    assert worker.claim()
    assert not left()


def test_what_waits_for_the_running_job_of_its_key_is_left_when_that_has_ended(
    left: Left, put: Put, db: Session, worker: Worker
) -> None:
    put(unique_key="k")
    lease = worker.lease()
    put(unique_key="k", if_active="replace")
    while settle_endings(db).notices:
        pass
    running = left()

    complete_jobs(db, [Completion(lease)])
    ended = left()
    while settle_endings(db).notices:
        pass
    succeed_jobs(db)

    assert (running, ended) == (False, True)
    assert worker.claim()
    assert not left()


def test_what_a_schedule_is_due_for_is_left(
    left: Left, db: Session, session: Session, worker: Worker, time: Time, workspace_id: uuid.UUID
) -> None:
    tasks = Tasks()

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    create_schedule(session, work, Every(HOUR), name="hourly", workspace_id=workspace_id)
    session.commit()
    before = left()

    time.passes(2 * 3600)
    due = left()
    fire_schedules(db, {"work": TaskDefaults()})

    assert (before, due, left()) == (False, True, True)
    assert worker.claim()
    assert not left()
