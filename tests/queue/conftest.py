"""What every test of a verb needs: a silent engine, a worker's connection, workers, and a way to look."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Job, make_engine
from jobplatform.queue import NewJob, enqueue_job, get_job, silence
from tests.conftest import EngineOn
from tests.queue.actors import Elsewhere, Time, Worker

Put = Callable[..., uuid.UUID]
Look = Callable[[uuid.UUID], Job]
Fact = Callable[..., Any]


def silent_engine(url: str) -> Engine:
    engine = make_engine(url, pool_size=10)
    silence(engine)
    return engine


def autocommitting_engine(url: str) -> Engine:
    """As the worker has it: every statement is a transaction of its own."""
    engine = make_engine(url, pool_size=5, autocommit=True)
    silence(engine)
    return engine


@pytest.fixture
def engine(database_url: str, engine_on: EngineOn) -> Engine:
    return engine_on(database_url, silent_engine)


@pytest.fixture
def worker_engine(database_url: str, engine_on: EngineOn) -> Engine:
    return engine_on(database_url, autocommitting_engine)


@pytest.fixture
def db(worker_engine: Engine) -> Iterator[Session]:
    """A Session that commits each statement."""
    with Session(worker_engine) as session:
        yield session


@pytest.fixture
def elsewhere(engine: Engine) -> Iterator[Elsewhere]:
    elsewhere = Elsewhere(engine)
    yield elsewhere
    elsewhere.close()


@pytest.fixture
def time(engine: Engine) -> Time:
    return Time(engine)


@pytest.fixture
def worker(db: Session) -> Worker:
    return Worker(db)


@pytest.fixture
def put(db: Session, workspace_id: uuid.UUID) -> Put:
    """Enqueue a job of the task ``work`` and answer with its id. Options are those of NewJob."""

    def put(**options: Any) -> uuid.UUID:
        return enqueue_job(db, NewJob(**{"workspace_id": workspace_id, "task": "work", **options})).job_id

    return put


@pytest.fixture
def look(db: Session, workspace_id: uuid.UUID) -> Look:
    """A job as it is now."""

    def look(job_id: uuid.UUID) -> Job:
        job = get_job(db, workspace_id, job_id)
        assert job is not None, f"there is no job {job_id}"
        return job

    return look


@pytest.fixture
def fact(db: Session) -> Fact:
    """The one value that a query answers with."""

    def fact(sql: str, **parameters: Any) -> Any:
        return db.scalar(text(sql), parameters)

    return fact
