"""Events: what many open streams cost, and how soon an event is there."""

from __future__ import annotations

import contextlib
import datetime
import os
import selectors
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import LiteralString, NamedTuple

import httpx
import psycopg
from harness.contenders import jobplatform
from harness.figures import percentile, shown
from harness.programs import ProgramError
from harness.report import Table, Target
from harness.run import Run
from harness.workers import one
from sqlalchemy.orm import Session

from jobplatform.api import mint_token
from jobplatform.models import make_engine
from jobplatform.queue import NewJob, enqueue_jobs

EXPLANATION = """
Two servers, each one process of `gunicorn -k gevent`: one has nothing else to do, the other {streams} streams, each of
a waiting job of its own, on one connection each. *API*: {asked} requests to each for a job, one after the other and to
the two in turns, so that both see the same machine; milliseconds. *Event*: from the answer to a cancellation until
the stream of that job has said so, milliseconds, {cancelled} times. *Memory*: the process's own share (PSS), MiB.
*Connections*: those of the server process to the database. *Used*: those of them that have asked anything at
the end of {quiet} seconds in which nobody made a request: what the streams themselves need.
"""
CONNECTIONS: LiteralString = """
select count(*) from pg_stat_activity where application_name = 'jobplatform-api' and datname = current_database()
"""
USED: LiteralString = f"""{CONNECTIONS}
    and query_start > clock_timestamp() - make_interval(secs => %s)
"""
#: Seconds in which nobody makes a request.
QUIET = 3
WARM = 20
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    streams, asked, cancelled = (200, 100, 10) if run.quick else (2_000, 500, 50)
    url = jobplatform().fresh_database(run.databases)
    workspace = uuid.uuid4()
    token, jobs = _prepare(url, workspace, streams)
    job = f"/workspaces/{workspace}/jobs/{jobs[0]}"
    with _served(url) as server, _client(server, token) as api, _streams(server, workspace, token, jobs) as followed:
        with _served(url) as other, _client(other, token) as beside:
            without, with_streams = _asked_in_turns((beside, api), job, asked)
            memory = other.memory()
        after = _Numbers(with_streams, server.memory(), *_connections(url))
        events = [followed.time_to_cancel(api, job_id) for job_id in jobs[1 : cancelled + 1]]
    with _served(url) as server, _client(server, token) as api:
        _asked_in_turns([api], job, asked)
        before = _Numbers(without, memory, *_connections(url))
    table = Table(
        "Streams of events",
        EXPLANATION.format(streams=f"{streams:,}", asked=asked, cancelled=cancelled, quiet=QUIET),
        ("", "API p50", "API p99", "event p50", "event p99", "memory", "connections", "used"),
        [_row("no streams", before, []), _row(f"{streams:,} streams", after, events)],
    )
    return [table], _targets(streams, before, after, events)


class _Numbers(NamedTuple):
    """What the API took, in milliseconds; the process's memory, in MiB; its connections, and those that are used."""

    asked: list[float]
    memory: float
    connections: int
    used: int


def _connections(url: str) -> tuple[int, int]:
    time.sleep(QUIET)
    with psycopg.connect(url) as connection:
        return int(one(connection, CONNECTIONS)), int(one(connection, USED, QUIET - 1))


def _prepare(url: str, workspace: uuid.UUID, count: int) -> tuple[str, list[str]]:
    engine = make_engine(url)
    later = datetime.timedelta(hours=1)
    jobs = [NewJob(workspace_id=workspace, task="sync", payload={}, delay=later) for _ in range(count)]
    with Session(engine) as session, session.begin():
        token = mint_token(session, workspace, ("jobs:read", "jobs:write"), "bench")
        ids = [str(enqueued.job_id) for enqueued in enqueue_jobs(session, jobs)]
    engine.dispose()
    return token, ids


class _Server:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def memory(self) -> float:
        """Of the worker process, in MiB."""
        (worker,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@contextlib.contextmanager
def _served(url: str) -> Iterator[_Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "DATABASE_URL": url,
        "JOBPLATFORM_TRUST_LOGIN": "true",
        "JOBPLATFORM_MAX_STREAMS_PER_WORKSPACE": "10000",
        "JOBPLATFORM_MAX_STREAMS_PER_TOKEN": "10000",
    }
    # Half of the process's places is the most that one workspace gets.
    environ["JOBPLATFORM_MAX_STREAMS"] = "10000"
    options = ["-k", "gevent", "--worker-connections", "10000", "--no-control-socket", "--log-level", "warning"]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, "jobplatform.api.wsgi:app"]
    process = subprocess.Popen(command, env=environ, cwd=ROOT)
    try:
        server = _Server(process, port)
        _wait_for(server)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(server: _Server) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.address}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise ProgramError("the API did not become ready")


class _Streams:
    """Many sockets that are read in one loop."""

    def __init__(self, selector: selectors.BaseSelector, workspace: uuid.UUID) -> None:
        self.selector = selector
        self.workspace = workspace
        self.texts: dict[str, bytes] = {}

    def read(self, seconds: float) -> None:
        for key, _ in self.selector.select(seconds):
            found = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # a socket
            if not found and b"job.cancelled" in self.texts[key.data]:
                self.selector.unregister(key.fileobj)
            elif not found:
                raise ProgramError(f"the stream of job {key.data} ended: {self.texts[key.data][-300:]!r}")
            self.texts[key.data] += found

    def wait_for(self, job_id: str, word: bytes) -> None:
        deadline = time.monotonic() + SECONDS
        while word not in self.texts[job_id]:
            if time.monotonic() > deadline:
                raise ProgramError(f"no {word!r} of job {job_id}: {self.texts[job_id]!r}")
            self.read(1.0)

    def time_to_cancel(self, api: httpx.Client, job_id: str) -> float:
        """Milliseconds."""
        api.post(f"/workspaces/{self.workspace}/jobs/{job_id}/cancel").raise_for_status()
        began = time.monotonic()
        self.wait_for(job_id, b"job.cancelled")
        return 1000 * (time.monotonic() - began)


@contextlib.contextmanager
def _streams(server: _Server, workspace: uuid.UUID, token: str, jobs: Sequence[str]) -> Iterator[_Streams]:
    """Opened fifty at a time, each until its first event is there."""
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        followed = _Streams(selector, workspace)
        for start in range(0, len(jobs), 50):
            portion = jobs[start : start + 50]
            for job_id in portion:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                path = f"/workspaces/{workspace}/jobs/{job_id}/events"
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                selector.register(client, selectors.EVENT_READ, job_id)
                followed.texts[job_id] = b""
            for job_id in portion:
                followed.wait_for(job_id, b"job.pending")
        yield followed


def _asked_in_turns(apis: Sequence[httpx.Client], path: str, count: int) -> list[list[float]]:
    """Milliseconds of each of them. The first requests to each do not count: they open its connections."""
    durations: list[list[float]] = [[] for _ in apis]
    for number in range(WARM + count):
        for api, taken in zip(apis, durations, strict=True):
            began = time.monotonic()
            api.get(path).raise_for_status()
            if number >= WARM:
                taken.append(1000 * (time.monotonic() - began))
    return durations


def _client(server: _Server, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.address, headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS)


def _row(name: str, numbers: _Numbers, events: list[float]) -> list[str]:
    times = [percentile(found, share) if found else None for found in (numbers.asked, events) for share in (0.5, 0.99)]
    rest = (shown(numbers.memory, 0), str(numbers.connections), str(numbers.used))
    return [name, *(shown(value, 1) for value in times), *rest]


def _targets(streams: int, before: _Numbers, after: _Numbers, events: list[float]) -> list[Target]:
    ratio = percentile(after.asked, 0.99) / percentile(before.asked, 0.99)
    return [
        Target.at_most(f"{streams:,} streams: memory of the process, MiB", 120, after.memory),
        Target.at_most(f"{streams:,} streams: API p99 beside none", 2, ratio, 2),
        Target.at_most(f"{streams:,} streams: connections that events use", 1, after.used),
        Target.at_most("event of one job p50, ms", 300, percentile(events, 0.5)),
    ]
