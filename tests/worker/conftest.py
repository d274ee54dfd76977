"""Fixtures of the worker's tests: worker processes, and a database to look at."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import Role
from jobplatform.queue import NewJob, cancel_job, enqueue_jobs
from jobplatform.testing import WorkerProcess, wait_until
from tests.worker.fork_server import ForkServer
from tests.worker.handlers import tasks
from tests.worker.processes import ROOT, ForkedWorker, start_anew

LISTENING = "select pid from pg_stat_activity where query like 'listen%' and datname = current_database()"

StartWorker = Callable[..., WorkerProcess]
Launch = Callable[..., WorkerProcess]


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer(ROOT)
    yield server
    server.close()


@pytest.fixture
def launch(fork_server: ForkServer) -> Launch:
    """How a worker of this test begins, unless it is about that."""
    return partial(ForkedWorker, fork_server)


@pytest.fixture
def start_worker(login_url: Callable[..., str], launch: Launch, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers and waits until they are ready; ends them after the test.

    Their login may do what a worker may, and nothing else.
    """
    yield from starting(login_url, launch, tmp_path)


@pytest.fixture
def start_worker_anew(login_url: Callable[..., str], tmp_path: Path) -> Iterator[StartWorker]:
    """The same for tests about beginnings and ends: each process is started as in a deployment, and imports what it
    needs itself. That takes seconds."""
    yield from starting(login_url, start_anew, tmp_path)


def starting(login_url: Callable[..., str], launch: Launch, tmp_path: Path) -> Iterator[StartWorker]:
    started: list[WorkerProcess] = []
    numbers = itertools.count(1)

    def start(*, ready: bool = True, **options: Any) -> WorkerProcess:
        url = options.pop("database_url", None) or login_url(Role.WORKER)
        worker = launch(tmp_path / f"worker-{next(numbers)}.log", database_url=url, **options)
        started.append(worker)
        if ready:
            worker.wait_until_ready()
        return worker

    yield start
    for worker in started:
        worker.destroy()


class Database:
    """Enqueues jobs and looks at what became of them."""

    def __init__(self, engine: Engine, workspace_id: uuid.UUID) -> None:
        self._engine = engine
        self.sessions: sessionmaker[Session] = sessionmaker(engine)
        self.workspace_id = workspace_id

    def enqueue(self, task: str, payload: dict[str, Any] | None = None, **options: Any) -> uuid.UUID:
        return self.enqueue_many(task, [payload or {}], **options)[0]

    def enqueue_many(self, task: str, payloads: list[dict[str, Any]], **options: Any) -> list[uuid.UUID]:
        jobs: list[NewJob] = [
            tasks[task].new_job(payload, workspace_id=self.workspace_id, **options) for payload in payloads
        ]
        with self.sessions.begin() as session:
            return [answer.job_id for answer in enqueue_jobs(session, jobs)]

    def cancel(self, job_id: uuid.UUID) -> None:
        with self.sessions.begin() as session:
            cancel_job(session, self.workspace_id, job_id)

    def dispose(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def rows(self, sql: str, **parameters: Any) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(text(sql), parameters))

    def execute(self, sql: str, **parameters: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(text(sql), parameters)

    def job(self, job_id: uuid.UUID) -> Any:
        """The row of the `jobs` view."""
        return self.rows("select * from jobplatform.jobs where id = :id", id=job_id)[0]

    def attempts(self, job_id: uuid.UUID) -> list[Any]:
        return self.rows("select * from jobplatform.job_attempts where job_id = :id order by epoch", id=job_id)

    def statuses(self) -> dict[str, int]:
        return dict(self.rows("select status, count(*) from jobplatform.jobs group by 1"))

    def wait_for_status(self, job_id: uuid.UUID, status: str) -> Any:
        """Wait until a job has a status and return it."""
        wait_until(lambda: self.job(job_id).status == status, what=f"{status}, not {self.job(job_id)}")
        return self.job(job_id)

    def wait_for_listener(self) -> None:
        """Wait until a worker hears the doorbell. It is ready before that, and what was rung is not repeated."""
        wait_until(lambda: self.rows(LISTENING), what="a listening connection")

    def wait_until_done(self, seconds: float = 60) -> None:
        """Wait until no job is left to do."""
        left = "select count(*) from jobplatform.job_queue"
        wait_until(lambda: self.rows(left)[0][0] == 0, what="the end of every job", seconds=seconds)


@pytest.fixture
def database(engine: Engine, workspace_id: uuid.UUID) -> Database:
    return Database(engine, workspace_id)


class Lines:
    """A file that handlers append lines to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def read(self) -> list[str]:
        """The lines that are complete: one may be written just now."""
        path = Path(self.path)
        return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []

    def wait(self, count: int) -> list[str]:
        return wait_until(lambda: self.read() if len(self.read()) >= count else [], what=f"{count} lines of handlers")


@pytest.fixture
def told(tmp_path: Path) -> Lines:
    """What handlers told the test."""
    return Lines(tmp_path / "told")
