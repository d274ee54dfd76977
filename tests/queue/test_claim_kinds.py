"""Whatever can hold a job back is known to each of the statements that claim one.

Three of them weigh less than everything, and have to leave a job that they cannot judge to the next. A new limit that
only one of them knows would be exceeded by the others.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import Executable, Table, insert
from sqlalchemy.orm import Session

from jobplatform.models import (
    Base,
    Bucket,
    Pause,
    PauseKind,
    Plan,
    QueueLimits,
    RateLimit,
    ResourceLimits,
    TaskLimits,
    WorkspaceLimits,
    clock,
)
from jobplatform.queue import NewJob, Ring, Rung, claim_jobs, enqueue_jobs
from jobplatform.queue.claim.ring import WEIGHED_CLAIMS
from jobplatform.queue.claim.weighing import Weighing
from jobplatform.queue.limits.breaker import FAILURES_IN_A_ROW
from tests.queue.actors import Worker

OURS = uuid.UUID(int=1)
RESOURCE = "crm:1"
RATE = {"rate_units": 1, "rate_period_ms": 3_600_000}

OUR_PLAN = insert(WorkspaceLimits).values(workspace_id=OURS, plan="none")
EMPTY = insert(Bucket).values(kind="workspace", key=str(OURS), tokens=0, filled_at=clock())
EMPTY_RESOURCE = insert(Bucket).values(kind="resource", key=RESOURCE, tokens=0, filled_at=clock())

#: What of a row says that nothing may start, and rows that do.
HOLDS_BACK: dict[str, Sequence[Executable]] = {
    "workspace_limits.max_running": [insert(WorkspaceLimits).values(workspace_id=OURS, max_running=0)],
    "workspace_limits.rate_units": [insert(WorkspaceLimits).values(workspace_id=OURS, **RATE), EMPTY],
    "plans.max_running": [insert(Plan).values(name="none", max_running=0), OUR_PLAN],
    "plans.rate_units": [insert(Plan).values(name="none", **RATE), OUR_PLAN, EMPTY],
    "queue_limits.max_running": [insert(QueueLimits).values(queue="default", max_running=0)],
    "task_limits.max_running": [insert(TaskLimits).values(task="work", max_running=0)],
    "task_limits.max_running_per_workspace": [insert(TaskLimits).values(task="work", max_running_per_workspace=0)],
    "rate_limits.units": [
        insert(RateLimit).values(resource=RESOURCE, units=1, period_ms=3_600_000, burst=1),
        EMPTY_RESOURCE,
    ],
    "resource_limits.max_running": [insert(ResourceLimits).values(resource=RESOURCE, max_running=0)],
}
#: Those that only jobs with a resource meet.
OF_RESOURCES = ("rate_limits", "resource_limits")
#: What says something else, or the rest of the same.
HOLDS_NOTHING_BACK = {
    "workspace_limits": {"workspace_id", "plan", "weight", "max_pending", "shed", "rate_period_ms", "updated_at"},
    "plans": {"name", "weight", "max_pending", "shed", "rate_period_ms"},
    "queue_limits": {"queue"},
    "task_limits": {"task", "code_max_running", "code_max_running_per_workspace"},
    "rate_limits": {"resource", "period_ms", "burst"},
    "resource_limits": {"resource", "code_max_running", "declared_by", "min_running", "code_min_running"},
}
#: What accounts of sources allow is asked by handlers, while they run.
OF_OTHER_THINGS = {"source_limits"}
PAUSED = {
    PauseKind.QUEUE: "default",
    PauseKind.TASK: "work",
    PauseKind.WORKSPACE: str(OURS),
    PauseKind.RESOURCE: RESOURCE,
}


def jobs_claimed(db: Session, worker: Worker, resource: str | None) -> list[int]:
    """How many jobs are claimed by each statement: by the one for a rung job first, by the plain one, and so on."""
    enqueue_jobs(db, [NewJob(workspace_id=OURS, task="work", resource=resource)])
    claimed = []
    for rung, weighing in ((Rung("default", str(OURS)), Weighing.NOTHING), *((None, each) for each in Weighing)):
        ring = Ring(["default"], 0.0)
        ring.weighed("default", weighing)
        claim = claim_jobs(db, ring, worker_id=worker.id, tasks=["work"], limit=1, rung=rung)
        claimed.append(len(claim.jobs))
    return claimed


@pytest.mark.parametrize("kind", HOLDS_BACK)
def test_a_limit_is_known_to_every_statement_that_claims(db: Session, worker: Worker, kind: str) -> None:
    for row in HOLDS_BACK[kind]:
        db.execute(row)

    assert jobs_claimed(db, worker, RESOURCE if kind.startswith(OF_RESOURCES) else None) == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", PauseKind)
def test_a_pause_is_known_to_every_statement_that_claims(db: Session, worker: Worker, kind: PauseKind) -> None:
    db.execute(insert(Pause).values(kind=kind, key=PAUSED[kind], reason="", actor="ann"))

    assert jobs_claimed(db, worker, RESOURCE if kind is PauseKind.RESOURCE else None) == [0, 0, 0, 0]


def test_a_closed_bucket_is_known_to_every_statement_that_claims(db: Session, worker: Worker) -> None:
    db.execute(EMPTY_RESOURCE.values(closed_until=clock() + datetime.timedelta(hours=1)))

    assert jobs_claimed(db, worker, RESOURCE) == [0, 0, 0, 0]


def test_a_resource_on_trial_is_known_to_every_statement_that_claims(db: Session, worker: Worker) -> None:
    db.execute(EMPTY_RESOURCE.values(failures=FAILURES_IN_A_ROW))

    assert [jobs_claimed(db, worker, RESOURCE) for _ in range(2)] == [[1, 0, 0, 0], [0, 0, 0, 0]]


def test_what_is_held_back_by_nothing_is_claimed_by_the_first_that_is_asked(db: Session, worker: Worker) -> None:
    assert jobs_claimed(db, worker, None) == [1, 0, 0, 0]


def test_no_column_of_a_limit_is_forgotten_here() -> None:
    tables: dict[str, Table] = dict(Base.metadata.tables.items())

    for name, others in HOLDS_NOTHING_BACK.items():
        limits = {kind.removeprefix(f"{name}.") for kind in HOLDS_BACK if kind.startswith(f"{name}.")}
        assert set(tables[f"jobplatform.{name}"].columns.keys()) == limits | others
    of_jobs = {table.name for table in tables.values() if table.name == "plans" or table.name.endswith("_limits")}
    assert set(HOLDS_NOTHING_BACK) == of_jobs - OF_OTHER_THINGS


def test_a_limit_on_a_task_that_is_not_met_is_nothing_to_weigh(db: Session, worker: Worker) -> None:
    """Every worker that can tell webhooks declares one."""
    db.execute(insert(TaskLimits).values(task="elsewhere", max_running=0))
    enqueue_jobs(db, [NewJob(workspace_id=OURS, task="work")])

    claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)

    assert worker.ring.weighs("default") is Weighing.NOTHING


def test_what_was_weighed_is_weighed_for_a_while_and_then_no_more(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=OURS, max_running=50))
    enqueue_jobs(db, [NewJob(workspace_id=OURS, task="work")])
    levels = []
    for _ in range(WEIGHED_CLAIMS + 1):
        claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)
        levels.append(worker.ring.weighs("default"))

    assert levels == [Weighing.WORKSPACES] * WEIGHED_CLAIMS + [Weighing.NOTHING]
