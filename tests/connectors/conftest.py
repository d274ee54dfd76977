"""A demo source in this process, and jobs that run without a worker."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.connectors.demo_source import DemoSource, connection_config
from jobplatform.models import Connection, Role, confine
from jobplatform.queue import (
    NewJob,
    Release,
    RunningJob,
    WorkerInfo,
    claim_job,
    enqueue_job,
    register_worker,
    release_jobs,
)
from tests.connectors.site import Site, running


@pytest.fixture
def source() -> Iterator[DemoSource]:
    """A demo source with all its moods, which asks for no real patience."""
    with DemoSource(retry_after=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site that answers what the test says."""
    with running() as site:
        yield site


class RecordingChannel:
    """Keeps what a handler reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.lines: list[tuple[str, str]] = []

    def progress(self, report: str) -> None:
        self.reports.append(report)

    def log(self, level: str, message: str) -> None:
        self.lines.append((level, message))

    def completing(self) -> None:
        raise AssertionError("these handlers complete nothing themselves")

    def interruption(self) -> type[BaseException] | None:
        return None


@pytest.fixture
def channel() -> RecordingChannel:
    return RecordingChannel()


class Jobs:
    """Jobs of the task ``sync``, claimed and handed to the test as a handler gets them."""

    def __init__(self, engine: Engine, workspace_id: uuid.UUID, channel: RecordingChannel) -> None:
        self.engine = engine
        self.workspace_id = workspace_id
        self.channel = channel
        self.taken: list[RunningJob] = []
        info = WorkerInfo("by hand", "here", 1, "0", ("sync",), ("sync",), 1)
        with Session(engine) as session, session.begin():
            self.worker_id = register_worker(session, info)

    def start(self) -> RunningJob:
        """A job of its own."""
        with Session(self.engine) as session, session.begin():
            job_id = enqueue_job(session, NewJob(workspace_id=self.workspace_id, task="sync", queue="sync")).job_id
        return self.claim(job_id)

    def again(self, job: RunningJob, open_session: Callable[[], Session] | None = None) -> RunningJob:
        """The next attempt at it."""
        job.close_session(commit=False)
        with Session(self.engine) as session, session.begin():
            assert release_jobs(session, [Release(job.lease)])
        return self.claim(job.id, open_session)

    def claim(self, job_id: uuid.UUID, open_session: Callable[[], Session] | None = None) -> RunningJob:
        with Session(self.engine) as session, session.begin():
            claimed = claim_job(session, worker_id=self.worker_id, workspace_id=self.workspace_id, job_id=job_id)
        assert claimed is not None
        self.taken.append(
            RunningJob(
                lease=claimed.lease,
                task="sync",
                attempt=claimed.attempt,
                max_attempts=3,
                channel=self.channel,
                open_session=open_session or self.open,
            )
        )
        return self.taken[-1]

    def open(self) -> Session:
        return confine(Session(self.engine), Role.HANDLER, self.workspace_id)


@pytest.fixture
def jobs(engine: Engine, workspace_id: uuid.UUID, channel: RecordingChannel) -> Iterator[Jobs]:
    jobs = Jobs(engine, workspace_id, channel)
    yield jobs
    for job in jobs.taken:
        job.close_session(commit=False)


@pytest.fixture
def job(jobs: Jobs) -> RunningJob:
    return jobs.start()


@pytest.fixture
def connect(session: Session, workspace_id: uuid.UUID) -> Callable[..., uuid.UUID]:
    """Gives a workspace (the test's own unless named) a connection to a URL."""

    def connect(
        url: str = "",
        name: str = "CRM",
        workspace: uuid.UUID = workspace_id,
        connector: str = "http_json",
        config: dict[str, Any] | None = None,
    ) -> uuid.UUID:
        connection = Connection(
            workspace_id=workspace,
            id=uuid.uuid4(),
            connector_type=connector,
            name=name,
            config=connection_config(url) if config is None else config,
        )
        session.add(connection)
        session.commit()
        return connection.id

    return connect
