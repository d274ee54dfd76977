"""Streams of a real server, about the jobs of a real worker: nothing is missing and nothing comes twice."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.client import Client, Event
from jobplatform.client.following import Following
from jobplatform.models import JobLog
from jobplatform.testing import WorkerProcess, wait_until
from tests.api.conftest import Hand, MintToken
from tests.api.servers import Server

Serve = Callable[..., Server]


@pytest.fixture
def serve(database_url: str, tmp_path: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def serve(*options: str, **environ: str) -> Server:
        servers.append(Server(database_url, tmp_path, *options, **environ))
        servers[-1].start()
        return servers[-1]

    yield serve
    for server in servers:
        server.destroy()


@pytest.fixture
def worker(jobplatform_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    return jobplatform_worker("tests.api.stream_tasks:tasks", ready=False)


def client_of(server: Server, token: str, workspace_id: uuid.UUID) -> Client:
    return Client(server.url, token, workspace_id)


def told(events: list[Event], job_id: str) -> list[tuple[Any, ...]]:
    """What was told of a job, without progress."""
    return [
        (event.name, event.data["epoch"], event.data.get("line"))
        for event in events
        if event.job_id == job_id and event.name != "job.progress"
    ]


def expected(lines: int) -> list[tuple[Any, ...]]:
    """The life of a ``talk``."""
    story: list[tuple[Any, ...]] = [("job.pending", 0, None)]
    for epoch, end in ((1, "job.pending"), (2, "job.completed")):
        story.append(("job.running", epoch, None))
        story += [("job.log", epoch, line + 1) for line in range(lines)]
        story.append((end, epoch, None))
    return story


def test_a_server_is_killed_and_started_again_and_no_event_is_missing_or_repeated(
    serve: Serve,
    worker: WorkerProcess,
    mint: MintToken,
    workspace_id: uuid.UUID,
    sessions: sessionmaker[Session],
) -> None:
    """A job's stream and a workspace's, each read to where the server dies, twice, and then to the end."""
    server = serve()
    client = client_of(server, mint(workspace_id), workspace_id)
    worker.wait_for("worker ready")
    following = Following(client._http, f"workspaces/{workspace_id}/events", timeout=120)
    of_workspace = Reading(following)
    wait_until(lambda: following.last_event_id, what="the workspace's stream to begin")
    jobs = [client.enqueue("talk", {"lines": 30, "pause": 0.1}).id for _ in range(2)]

    of_job: list[Event] = []
    for event in client.stream(jobs[0], timeout=120):
        of_job.append(event)
        if len(of_job) in (10, 70):
            server.kill()
            server.start()
    for job in jobs:
        client.wait(job, timeout=60)
    of_workspace.read_until(lambda seen: {(job, "job.completed") for job in jobs} <= seen)

    with sessions() as session:
        assert len(session.execute(select(JobLog.line)).all()) == 2 * 2 * 30
    assert told(of_job, jobs[0]) == expected(30)
    for job in jobs:
        assert told(of_workspace.events, job) == expected(30)
    client.close()


class Reading:
    """Reads a stream in a thread of its own."""

    def __init__(self, following: Following) -> None:
        self.events: list[Event] = []
        self._thread = threading.Thread(target=self._read, args=(following,), daemon=True)
        self._thread.start()

    def read_until(self, enough: Callable[[set[tuple[str | None, str]]], bool]) -> None:
        wait_until(lambda: enough({(event.job_id, event.name) for event in self.events}), what="the workspace's events")

    def _read(self, following: Following) -> None:
        # It ends with the client that it reads through.
        with contextlib.suppress(Exception):
            for event in following:
                self.events.append(event)


def test_a_stream_under_gevent_lets_its_request_go_and_ends_when_the_server_stops(
    serve: Serve, mint: MintToken, workspace_id: uuid.UUID, hand: Hand
) -> None:
    server = serve("--worker-class", "gevent", "--access-logfile", "-")
    with client_of(server, mint(workspace_id), workspace_id) as client:
        done, open_end = (client.enqueue("talk", {"lines": 1, "pause": 0}).id for _ in range(2))
        stream = client.stream(done, timeout=60)
        begin = next(stream)
        hand.fail(workspace_id, done)
        rest = list(stream)
        with httpx.Client(base_url=server.url, timeout=30) as raw:
            headers = {"Authorization": f"Bearer {mint(workspace_id)}"}
            url = f"/workspaces/{workspace_id}/jobs/{open_end}/events"
            with raw.stream("GET", url, headers=headers) as answer:
                texts = answer.iter_text()
                next(texts)
                wait_until(lambda: f"{open_end}/events" in server.log.read_text(), what="its request to have ended")
                code = server.stop()
                left = "".join(texts)

    assert [begin.name, *(event.name for event in rest)] == ["job.pending", "job.running", "job.failed"]
    assert code == 0
    assert "job.running" not in left
