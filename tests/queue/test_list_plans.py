"""What there are few of is found without walking past all the other jobs of a workspace, under row security too."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import NewJob, enqueue_jobs, list_jobs, list_webhook_jobs, page_jobs
from jobplatform.queue.hooks import deliveries as deliveries_module
from jobplatform.queue.hooks.deliveries import new_delivery
from tests.queue.plans import explain

ENDED = 10_000
FEW = 5

# Newer than what is enqueued.
RECORDS = """
insert into jobplatform.job_records (workspace_id, id, task, queue, payload, status, outcome, completed_at)
select :workspace_id, ('0fff' || lpad(to_hex(n), 28, '0'))::uuid, 'work', 'default', '{}', 3, 'ok', now()
from generate_series(1, :jobs) n
"""


@pytest.fixture
def parent_id() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture
def webhook_id() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture
def crowd(engine: Engine, workspace_id: uuid.UUID, parent_id: uuid.UUID, webhook_id: uuid.UUID) -> Engine:
    """A workspace with very many jobs that have ended, and a few that have not: children, and deliveries."""
    children = [NewJob(workspace_id=workspace_id, task="work", parent_id=parent_id) for _ in range(FEW)]
    deliveries = [new_delivery(workspace_id, to, {}) for to in (webhook_id, uuid.uuid4()) for _ in range(FEW)]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(RECORDS), {"workspace_id": workspace_id, "jobs": ENDED})
        enqueue_jobs(Session(connection), [*children, *deliveries])
        connection.execute(text("analyze jobplatform.job_records, jobplatform.job_queue"))
    return engine


@pytest.mark.parametrize("read", [list_jobs, page_jobs])
def test_the_children_of_a_job_are_listed_without_a_look_at_other_jobs(
    read: Callable[..., object], crowd: Engine, workspace_id: uuid.UUID, parent_id: uuid.UUID
) -> None:
    plan = explain(
        crowd,
        lambda session: read(session, workspace_id, limit=20, parent_id=parent_id),
        workspace_id=workspace_id,
    )

    assert plan.rows_visited("job_records") == FEW


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
def test_jobs_that_have_not_ended_are_listed_without_a_look_at_those_that_have(
    status: Status, crowd: Engine, workspace_id: uuid.UUID
) -> None:
    plan = explain(
        crowd, lambda session: page_jobs(session, workspace_id, limit=20, status=status), workspace_id=workspace_id
    )

    assert plan.rows_visited("job_records") < 4 * FEW


def test_the_deliveries_to_a_webhook_are_listed_without_a_look_at_what_delivers_nothing(
    crowd: Engine, workspace_id: uuid.UUID, webhook_id: uuid.UUID
) -> None:
    plan = explain(
        crowd, lambda session: list_webhook_jobs(session, workspace_id, webhook_id), workspace_id=workspace_id
    )

    assert plan.rows_visited("job_records") == 2 * FEW


def test_deliveries_to_a_webhook_are_looked_for_among_so_many(
    crowd: Engine, workspace_id: uuid.UUID, webhook_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries_module, "LOOK", FEW + 1)

    with Session(crowd) as session:
        found = list_webhook_jobs(session, workspace_id, webhook_id)

    assert len(found) == 1
