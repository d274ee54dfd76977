"""A standby takes over that has not got the last commits of the server before it."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.embedded import EmbeddedServer
from jobplatform.models import make_engine
from jobplatform.queue import (
    Completion,
    Heartbeat,
    NewJob,
    complete_jobs,
    enqueue_job,
    heartbeat,
)
from tests.queue.actors import Worker

#: A server with these and a file called recovery.signal begins a timeline as soon as it has read its own log.
RECOVERY = {"restore_command": "false", "hot_standby": "off"}


class Servers(NamedTuple):
    """Both know of the job; what is done on the ``first`` one from now on, the ``second`` one does not know."""

    first: Engine
    second: Engine


@pytest.fixture
def servers(prepared: Path) -> Iterator[Servers]:
    first = EmbeddedServer(prepared)
    put_a_job(first.start())
    first.stop()
    standby = prepared / "standby"
    standby.mkdir()
    subprocess.run(["cp", "-a", str(prepared / "postgresql"), str(standby)], check=True)
    (standby / "postgresql" / "data" / "recovery.signal").touch()
    second = EmbeddedServer(standby, RECOVERY)
    engines = Servers(make_engine(first.start()), make_engine(second.start()))
    yield engines
    for engine, server in zip(engines, (first, second), strict=True):
        engine.dispose()
        server.stop()


def put_a_job(url: str) -> None:
    engine = make_engine(url)
    with Session(engine) as session, session.begin():
        enqueue_job(session, NewJob(workspace_id=uuid.uuid4(), task="work"))
    engine.dispose()


def test_what_the_first_server_handed_out_is_not_handed_out_again(servers: Servers) -> None:
    with Session(servers.first) as session, session.begin():
        before = Worker(session).lease()
    with Session(servers.second) as session, session.begin():
        after = Worker(session).lease()
    assert (before.job_id, before.epoch) == (after.job_id, 1)
    assert after.epoch > before.epoch
    with Session(servers.second) as session, session.begin():
        assert complete_jobs(session, [Completion(before, '"late"')]) == set()
        assert complete_jobs(session, [Completion(after)]) == {after}


def test_a_worker_that_only_the_first_server_knows_learns_that_it_is_none(servers: Servers) -> None:
    with Session(servers.first) as session, session.begin():
        worker = Worker(session)
        lease = worker.lease()
    with Session(servers.second) as session, session.begin():
        other = Worker(session)
        other.claim()
        assert heartbeat(session, worker.id, [lease]) == Heartbeat(alive=False, lost=[lease], cancelled=[])
