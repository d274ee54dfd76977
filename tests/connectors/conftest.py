"""A demo source in this process, and jobs that run without a worker."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.connectors.demo_source import DemoSource, connection_config
from jobplatform.models import Connection
from jobplatform.queue import Lease, RunningJob


@pytest.fixture
def source() -> Iterator[DemoSource]:
    """A demo source with all its moods, which asks for no real patience."""
    with DemoSource(retry_after=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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


@pytest.fixture
def job(workspace_id: uuid.UUID, sessions: sessionmaker[Session], channel: RecordingChannel) -> Iterator[RunningJob]:
    running = RunningJob(
        lease=Lease(str(workspace_id), str(uuid.uuid4()), 1),
        task="sync",
        attempt=1,
        max_attempts=3,
        channel=channel,
        open_session=sessions,
    )
    yield running
    running.close_session(commit=False)


@pytest.fixture
def connect(session: Session, workspace_id: uuid.UUID) -> Callable[..., uuid.UUID]:
    """Gives a workspace (the test's own unless named) a connection to a URL."""

    def connect(
        url: str, name: str = "CRM", workspace: uuid.UUID = workspace_id, connector: str = "http_json"
    ) -> uuid.UUID:
        connection = Connection(
            workspace_id=workspace, id=uuid.uuid4(), connector_type=connector, name=name, config=connection_config(url)
        )
        session.add(connection)
        session.commit()
        return connection.id

    return connect
