"""A transaction with a snapshot of its own cannot change what somebody else has changed since, and is told so."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobplatform.errors import UnseenChangeError
from jobplatform.queue import (
    Every,
    JobChange,
    NewJob,
    RunningJob,
    Tasks,
    cancel_batch,
    cancel_job,
    cancel_tree,
    change_job,
    change_schedule,
    close_batch,
    create_schedule,
    enqueue_job,
    find_schedule,
    hold_job,
    open_batch,
    retry_job,
    run_job_now,
)

Verb = Callable[[Session, uuid.UUID, uuid.UUID], Any]


def change(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Any:
    return change_job(session, workspace_id, job_id, JobChange(priority=5))


@pytest.fixture
def job_id(session: Session, workspace_id: uuid.UUID) -> uuid.UUID:
    job = NewJob(workspace_id=workspace_id, task="work", delay=datetime.timedelta(hours=1))
    enqueue_job(session, job)
    session.commit()
    return job.id


def begin(engine: Engine, level: str) -> Session:
    """A transaction that has looked, and goes on seeing what it saw."""
    session = Session(engine.execution_options(isolation_level=level))
    session.execute(text("select count(*) from jobplatform.jobs"))
    return session


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(
    ("verb", "before", "meanwhile"),
    [
        (cancel_job, None, change),
        (cancel_tree, None, change),
        (change, None, run_job_now),
        (run_job_now, None, change),
        (hold_job, None, change),
        (retry_job, cancel_job, retry_job),
    ],
    ids=["cancel_job", "cancel_tree", "change_job", "run_job_now", "hold_job", "retry_job"],
)
def test_what_was_done_to_a_job_behind_a_snapshot_is_said_with_what_to_do(
    engine: Engine,
    session: Session,
    workspace_id: uuid.UUID,
    job_id: uuid.UUID,
    level: str,
    verb: Verb,
    before: Verb | None,
    meanwhile: Verb,
) -> None:
    if before:
        before(session, workspace_id, job_id)
        session.commit()
    with begin(engine, level) as late:
        meanwhile(session, workspace_id, job_id)
        session.commit()

        with pytest.raises(UnseenChangeError, match="try again in a new transaction") as refused:
            verb(late, workspace_id, job_id)

    assert (refused.value.workspace_id, refused.value.id) == (workspace_id, job_id)
    assert isinstance(refused.value.__cause__, OperationalError)
    with begin(engine, level) as again:
        verb(again, workspace_id, job_id)
        again.commit()


@pytest.mark.parametrize("verb", [cancel_batch, close_batch])
def test_the_same_is_said_of_a_batch(engine: Engine, session: Session, workspace_id: uuid.UUID, verb: Verb) -> None:
    batch_id = open_batch(session, workspace_id, name="b")
    session.commit()
    with begin(engine, "REPEATABLE READ") as late:
        close_batch(session, workspace_id, batch_id)
        session.commit()

        with pytest.raises(UnseenChangeError):
            verb(late, workspace_id, batch_id)


def test_the_same_is_said_of_a_schedule(engine: Engine, session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks()

    @tasks.task("work")
    def work(_job: RunningJob, _payload: dict[str, Any]) -> None: ...

    made = create_schedule(session, work, Every(datetime.timedelta(hours=1)), workspace_id=workspace_id)
    schedule_id = made.id
    session.commit()
    with begin(engine, "REPEATABLE READ") as late:
        change_schedule(session, made, work, priority=5)
        session.commit()

        with pytest.raises(UnseenChangeError) as refused:
            find_schedule(late, schedule_id=schedule_id, workspace_id=workspace_id)

    assert (refused.value.workspace_id, refused.value.id) == (workspace_id, schedule_id)


def test_what_else_the_database_says_is_told_as_it_is(session: Session, workspace_id: uuid.UUID) -> None:
    session.execute(text("set transaction read only"))

    with pytest.raises(Exception, match="read-only") as refused:
        cancel_job(session, workspace_id, uuid.uuid4())

    assert not isinstance(refused.value, UnseenChangeError)
