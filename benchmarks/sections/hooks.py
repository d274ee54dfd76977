"""Hooks: how soon a provider is answered, while workers have nothing to do and while they are busy with all they have.

The server is the one that `jobplatform api` starts. Each round asks in both states of the same installation, so that
they are compared with each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
from contenders.backlog import load_more
from contenders.bench_tasks import tasks
from contenders.protocol import payload
from harness.contenders import CONTENDERS, jobplatform
from harness.figures import middle, percentile, shown
from harness.programs import ProgramError
from harness.report import Table, Target
from harness.rounds import Part, alternate, column
from harness.run import Run
from harness.workers import one
from sqlalchemy.orm import Session

from jobplatform.key_ring import KeyRing, generate_key
from jobplatform.models import make_engine
from jobplatform.queue import create_hook, use_key_ring

SECRET = "the webhook's secret"
KEY = generate_key("bench")
#: Seconds, as the seeds' provider waits for its answer; and what we promise.
PROVIDER_WAITS = 2.0
WANTED_MS = 50
SECONDS = 60
#: What a delivery is answered that is believed, and one that is not: the second when many of this minute were not.
TAKEN, REFUSED = frozenset({200}), frozenset({403, 429})
SLOTS = 2
PENDING: LiteralString = "select count(*) from jobplatform.job_queue where task = 'noop' and state = 1"

EXPLANATION = """
Signed deliveries (`github`), one after the other on one connection, {count} in each state and round, to two gunicorn
processes. *Idle*: the worker waits for what is delivered. *Saturated*: it has a backlog that it does not get through
meanwhile, of jobs that do nothing, so that it keeps both cores and the database busy. Each delivery is a job when it
is answered. *Repeated*: a delivery that came before. *Refused*: a bad signature; after sixty a minute a process answers
from memory. Milliseconds, medians of the rounds.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    count = 40 if run.quick else 400
    contender = jobplatform()
    url = contender.fresh_database(run.databases)
    with contender.run(url, "work", SLOTS) as worker, _served(url, _make_hook(url)) as hook:
        worker.answer(SECONDS)
        hook.deliver(20)
        states = [
            Part("idle", lambda _: hook.measure(count)),
            Part("saturated", lambda _: _saturated(url, run, lambda: hook.measure(count))),
        ]
        results = alternate("hooks", states, run.rounds, lambda part: part.measure(run))
    rows = [
        [state, *(shown(middle(column(results, state, figure)), 1) for figure in FIGURES)]
        for state in ("idle", "saturated")
    ]
    table = Table("Deliveries of providers", EXPLANATION.format(count=count), ("", *FIGURES), rows)
    pairs = zip(column(results, "saturated", "p99"), column(results, "idle", "p99"), strict=True)
    ratios = [busy / idle for busy, idle in pairs if busy is not None and idle is not None]
    return [table], [
        Target.at_most(
            "delivery p99 while workers are saturated, ms", WANTED_MS, middle(column(results, "saturated", "p99"))
        ),
        Target.at_most("longest delivery while workers are saturated, ms", PROVIDER_WAITS * 1000, _longest(results)),
        Target.at_most("delivery p99, saturated beside idle", 20, middle(ratios) if ratios else None, 1),
    ]


FIGURES = ("p50", "p99", "longest", "repeated p50", "refused p50")


def _longest(results: dict[str, list[dict[str, float] | None]]) -> float | None:
    found = [value for value in column(results, "saturated", "longest") if value is not None]
    return max(found, default=None)


class _Hook:
    """A provider that has a hook's URL."""

    def __init__(self, client: httpx.Client, path: str) -> None:
        self.client = client
        self.path = path

    def measure(self, count: int) -> dict[str, float]:
        fresh = self.deliver(count)
        again = [self._post("the same", SECRET) for _ in range(max(20, count // 4))]
        refused = [self._post(str(number), "another", expected=REFUSED) for number in range(max(20, count // 4))]
        return {
            "p50": percentile(fresh, 0.5),
            "p99": percentile(fresh, 0.99),
            "longest": max(fresh),
            "repeated p50": percentile(again[1:], 0.5),
            "refused p50": percentile(refused, 0.5),
        }

    def deliver(self, count: int) -> list[float]:
        return [self._post(uuid.uuid4().hex, SECRET) for _ in range(count)]

    def _post(self, delivery: str, secret: str, expected: frozenset[int] = TAKEN) -> float:
        """Milliseconds."""
        body = json.dumps({"action": "opened", "delivery": delivery, "filler": "x" * 500}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        began = time.monotonic()
        answer = self.client.post(self.path, content=body, headers=headers)
        duration = 1000 * (time.monotonic() - began)
        if answer.status_code not in expected:
            raise ProgramError(f"a delivery was answered {answer.status_code}: {answer.text[:200]}")
        return duration


def _saturated(url: str, run: Run, act: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Measured with a backlog, which has to last: a worker that is done early was not saturated."""
    backlog = 15_000 if run.quick else 120_000
    with psycopg.connect(url, autocommit=True) as connection:
        first = one(connection, "select count(*) from jobplatform.job_records")
        load_more(connection, int(first) + 1_000_000, backlog, 10, payload(200))
        connection.execute("notify jobplatform, 'q:default'")
        _wait_until(lambda: one(connection, PENDING) < backlog)
        figures = act()
        if one(connection, PENDING) == 0:
            raise ProgramError("the backlog did not last: the worker was not saturated all the time")
        _wait_until(lambda: one(connection, PENDING) == 0)
    return figures


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise ProgramError("the worker does not get on with its backlog")
        time.sleep(0.05)


def _make_hook(url: str) -> str:
    """The path of its URL."""
    use_key_ring(KeyRing.parse(KEY))
    engine = make_engine(url)
    with Session(engine) as session, session.begin():
        made = create_hook(
            session, tasks["noop"], workspace_id=uuid.uuid4(), name="bench", scheme="github", secret=SECRET
        )
    engine.dispose()
    use_key_ring(None)
    return made.url


@contextlib.contextmanager
def _served(url: str, path: str) -> Iterator[_Hook]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "DATABASE_URL": url,
        "JOBPLATFORM_TRUST_LOGIN": "true",
        "JOBPLATFORM_ENCRYPTION_KEYS": KEY,
        "JOBPLATFORM_TASKS": "bench_tasks:tasks",
        "JOBPLATFORM_LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(CONTENDERS),
    }
    command = [sys.executable, "-m", "jobplatform.cli", "api", "--port", str(port)]
    process = subprocess.Popen(command, env=environ, cwd=Path(__file__).resolve().parents[2])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
            _wait_until(lambda: _is_ready(client))
            yield _Hook(client, path)
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False
