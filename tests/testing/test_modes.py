"""Who runs the jobs: whoever enqueues them, or nobody until the test says so."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.orm import Session

from jobplatform.queue import RunningJob, Tasks
from jobplatform.testing import all_enqueued, drain, inline, manual


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def tasks(ran: list[str]) -> Tasks:
    tasks = Tasks()

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, str]) -> None:
        ran.append("work")

    return tasks


def enqueue(tasks: Tasks, session: Session, workspace_id: uuid.UUID) -> None:
    """The application's own code, which knows nothing of modes."""
    tasks["work"].enqueue(session, workspace_id=workspace_id)
    session.commit()


def test_inline_a_job_runs_when_its_transaction_commits_and_afterwards_none_does(
    tasks: Tasks, ran: list[str], session: Session, workspace_id: uuid.UUID
) -> None:
    with inline(tasks):
        enqueue(tasks, session, workspace_id)
    assert ran == ["work"]

    enqueue(tasks, session, workspace_id)
    assert ran == ["work"]


def test_manually_nothing_runs_before_the_test_says_so(
    tasks: Tasks, ran: list[str], session: Session, workspace_id: uuid.UUID
) -> None:
    tasks.mode = "sync"

    with manual(tasks):
        enqueue(tasks, session, workspace_id)
        assert (ran, len(all_enqueued(session))) == ([], 1)
        drain(session, tasks)
    assert ran == ["work"]
    enqueue(tasks, session, workspace_id)
    assert ran == ["work", "work"]


def test_the_mode_comes_back_after_an_error(tasks: Tasks) -> None:
    with pytest.raises(ZeroDivisionError), inline(tasks):
        raise ZeroDivisionError
    assert tasks.mode == "queue"
