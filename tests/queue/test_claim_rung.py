"""A worker that has nothing to do is woken for one job: it takes that one, where nothing has to be weighed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Claim,
    NewJob,
    Ring,
    Rung,
    claim_jobs,
    enqueue_jobs,
    pause,
    set_plan,
    set_queue_limit,
    set_task_limits,
    set_workspace_limits,
)
from jobplatform.queue.claim.weighing import Weighing
from tests.queue.actors import Worker
from tests.queue.conftest import Look, Put

Wake = Callable[..., Claim]


@pytest.fixture
def wake(worker: Worker, workspace_id: uuid.UUID) -> Wake:
    """Be woken for a job of the workspace, with room for three."""

    def wake(
        queue: str = "default",
        *,
        queues: Sequence[str] = ("default",),
        versions: dict[str, int] | None = None,
        alone: bool = False,
    ) -> Claim:
        return claim_jobs(
            worker.db,
            Ring(queues, 0.0),
            worker_id=worker.id,
            tasks=["work"],
            limit=3,
            versions=versions,
            rung=Rung(queue, str(workspace_id), alone),
        )

    return wake


@pytest.fixture
def rung_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual claim finds nothing, so that what is claimed was claimed at once."""
    nothing = (
        "select null::text, 0, 0, null::int[], null::float8, false, null, null::text"
        " where %(worker_id)s::int is not null"
    )
    for statement in ("CLAIM", "LIMITED_CLAIM", "WEIGHED_CLAIM"):
        monkeypatch.setattr(f"jobplatform.queue.claim.jobs.{statement}", nothing)


def test_the_job_is_claimed_as_by_the_usual_claim(put: Put, wake: Wake, worker: Worker, look: Look) -> None:
    at_once = put(payload={"a": 1}, request_id="r", trace_parent="t", max_attempts=5)
    (taken,) = wake().jobs
    as_usual = put(payload={"a": 1}, request_id="r", trace_parent="t", max_attempts=5)
    (other,) = worker.claim()

    assert (taken.lease.job_id, other.lease.job_id) == (str(at_once), str(as_usual))
    assert taken._replace(lease=other.lease, waited=other.waited) == other
    job = look(at_once)
    assert (job.status, job.worker_id, job.attempts, job.epoch) == (Status.RUNNING, worker.id, 1, 1)


def test_after_the_only_job_there_is_nothing_more_to_look_for(put: Put, wake: Wake) -> None:
    put()

    assert not wake().more


def test_it_takes_one_job_and_says_that_there_are_others(put: Put, wake: Wake) -> None:
    put()
    put()

    claim = wake()

    assert (len(claim.jobs), claim.more) == (1, True)


def test_others_are_those_of_all_queues_and_workspaces(put: Put, db: Session, wake: Wake) -> None:
    put(queue="second")
    put()
    assert wake(queues=("default", "second")).more

    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work")])
    put()
    assert wake().more


@pytest.mark.usefixtures("rung_only")
def test_a_job_that_must_be_alone_is_taken_if_it_is(put: Put, wake: Wake) -> None:
    put()

    assert len(wake(alone=True).jobs) == 1


@pytest.mark.usefixtures("rung_only")
@pytest.mark.parametrize("queue", ["default", "second"])
def test_a_job_that_must_be_alone_is_left_to_the_usual_claim_beside_others(
    put: Put, wake: Wake, db: Session, queue: str
) -> None:
    put()
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", queue=queue)])

    assert wake(queues=("default", "second"), alone=True).jobs == []


@pytest.mark.usefixtures("rung_only")
def test_of_several_the_one_that_is_first_by_priority_is_taken(put: Put, wake: Wake) -> None:
    put()
    first = put(priority=5)
    put()

    assert [job.lease.job_id for job in wake().jobs] == [str(first)]


def test_a_job_that_somebody_else_has_taken_is_looked_for_no_further(put: Put, wake: Wake, worker: Worker) -> None:
    put()
    worker.claim()

    claim = wake()

    assert (claim.jobs, claim.more) == ([], False)


def test_when_the_job_is_gone_the_usual_claim_goes_on(db: Session, wake: Wake) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work")])

    assert len(wake().jobs) == 1


LIMITS: dict[str, Callable[[Session, uuid.UUID], object]] = {
    "the workspace": lambda db, workspace_id: set_workspace_limits(db, workspace_id, {"max_running": 100}),
    "its rate": lambda db, workspace_id: set_workspace_limits(
        db, workspace_id, {"rate_units": 100, "rate_period_ms": 1000}
    ),
    "the queue": lambda db, _: set_queue_limit(db, "default", 100),
    "a task": lambda db, _: set_task_limits(db, "work", {"max_running": 100}),
    "a pause": lambda db, _: pause(db, "task", "another", reason="r", actor="a"),
}


@pytest.mark.usefixtures("rung_only")
@pytest.mark.parametrize("limit", LIMITS)
def test_where_something_is_limited_or_paused_the_usual_claim_decides(
    put: Put, db: Session, wake: Wake, workspace_id: uuid.UUID, limit: str
) -> None:
    put()
    LIMITS[limit](db, workspace_id)
    db.commit()

    assert wake().jobs == []


@pytest.mark.usefixtures("rung_only")
def test_a_limit_on_another_task_is_nothing_to_weigh(put: Put, db: Session, wake: Wake) -> None:
    put()
    set_task_limits(db, "another", {"max_running": 0})
    db.commit()

    assert len(wake().jobs) == 1


@pytest.mark.usefixtures("rung_only")
def test_where_the_plan_of_the_workspace_has_a_limit_the_usual_claim_decides(
    put: Put, db: Session, wake: Wake, workspace_id: uuid.UUID
) -> None:
    set_plan(db, "gold", {"max_running": 100})
    set_workspace_limits(db, workspace_id, {"plan": "gold"})
    db.commit()
    put()

    assert wake().jobs == []


@pytest.mark.usefixtures("rung_only")
@pytest.mark.parametrize(
    "jobs",
    [[{"resource": "crm:1"}], [{}, {"task": "other"}], [{}, {"resource": "crm:1"}], [{"task": "unknown"}]],
    ids=["a resource", "two tasks", "two lanes", "an unknown task"],
)
def test_a_workspace_with_more_than_plain_jobs_is_left_to_the_usual_claim(
    put: Put, wake: Wake, jobs: list[dict[str, str]]
) -> None:
    for options in jobs:
        put(**options)

    assert wake().jobs == []


@pytest.mark.usefixtures("rung_only")
def test_a_payload_that_this_worker_cannot_read_is_left_alone(put: Put, wake: Wake) -> None:
    put(payload_version=3)

    assert wake(versions={"work": 2}).jobs == []
    assert len(wake(versions={"work": 3}).jobs) == 1


@pytest.mark.usefixtures("rung_only")
def test_the_weight_of_the_workspace_is_known(put: Put, db: Session, wake: Wake, workspace_id: uuid.UUID) -> None:
    set_workspace_limits(db, workspace_id, {"weight": 7})
    db.commit()
    put()

    assert [job.weight for job in wake().jobs] == [7]


def test_a_row_that_another_claimer_has_locked_is_passed_over(put: Put, engine: Engine, wake: Wake) -> None:
    first, second = put(), put()
    with engine.begin() as other:
        other.execute(text("select from jobplatform.job_queue where id = :id for update"), {"id": first})

        assert [job.lease.job_id for job in wake().jobs] == [str(second)]


def test_where_something_was_weighed_lately_it_is_not_tried(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    ring = Ring(["default"], 0.0)
    ring.weighed("default", Weighing.WORKSPACES)
    put()
    put()

    claim = claim_jobs(db, ring, worker_id=worker.id, tasks=["work"], limit=3, rung=Rung("default", str(workspace_id)))

    assert len(claim.jobs) == 2
