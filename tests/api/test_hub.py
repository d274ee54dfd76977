"""What a client that does not read costs, and what the hub does when the database is away."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import following
from jobplatform.api.following import AT_ONCE, ROOM, JobFollower, Reader, WorkspaceFollower
from jobplatform.api.hub import Hub
from jobplatform.api.streaming import render_event
from jobplatform.queue import START, LogLine, append_log_lines
from jobplatform.testing import wait_until
from tests.api.conftest import Hand

LINES = 1_000
#: Of one job, in one look: 50 lines, and a state or two.
ONE_LOOK = 60


@pytest.fixture
def reader(workspace_id: uuid.UUID) -> Reader:
    return Reader(str(workspace_id), None, True, time.monotonic() + 1000)


@pytest.fixture
def talkative(
    echo: Callable[..., str], hand: Hand, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> Callable[[], str]:
    """A job that runs and has said a thousand lines."""

    def talkative() -> str:
        job = echo()
        lease = hand.claim(workspace_id, job)
        with sessions.begin() as session:
            append_log_lines(session, [LogLine(lease, line + 1, "info", "x") for line in range(LINES)])
        return job

    return talkative


def rounds(hub: Hub, sessions: sessionmaker[Session], follower: Any, count: int) -> list[int]:
    waiting = []
    for _ in range(count):
        with sessions() as session:
            hub.look(session, [follower])
        waiting.append(follower.waiting)
    return waiting


def test_a_client_that_does_not_read_costs_so_many_events_and_loses_none(
    reader: Reader, talkative: Callable[[], str], sessions: sessionmaker[Session]
) -> None:
    follower, hub = JobFollower(reader, talkative(), START, render_event), Hub()

    waiting = rounds(hub, sessions, follower, 30)
    assert max(waiting) < ROOM + ONE_LOOK
    assert waiting[-1] == waiting[-10]

    text = ""
    while follower.is_behind or follower.waiting:
        text += follower.take(0)
        rounds(hub, sessions, follower, 1)
    assert text.count("event: job.log") == LINES
    assert [f'"line":{line},' in text for line in range(1, LINES + 1)] == [True] * LINES


def test_a_workspace_s_client_that_does_not_read_costs_no_more(
    reader: Reader, talkative: Callable[[], str], sessions: sessionmaker[Session]
) -> None:
    follower, hub = WorkspaceFollower(reader, None, render_event, lambda *_: ""), Hub()
    rounds(hub, sessions, follower, 2)
    for _ in range(3):
        talkative()

    assert max(rounds(hub, sessions, follower, 30)) < ROOM + AT_ONCE * ONE_LOOK


def test_a_client_that_never_reads_is_given_up(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE", 60.0)
    follower = JobFollower(reader, str(uuid.uuid4()), START, render_event)
    follower.put("x" for _ in range(ROOM))

    assert not follower.is_stalled(100.0)
    assert not follower.is_stalled(160.0)
    assert follower.is_stalled(160.1)
    follower.take(0)
    assert not follower.is_stalled(1000.0)


def test_streams_wait_for_a_database_that_is_away_and_go_on(
    reader: Reader, echo: Callable[..., str], sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    follower, hub = JobFollower(reader, echo(), START, render_event), Hub()
    failures = [OperationalError("select", {}, Exception("away"))]

    @contextlib.contextmanager
    def transaction() -> Iterator[Session]:
        if failures:
            raise failures.pop()
        with sessions() as session:
            yield session

    caplog.set_level(logging.WARNING)
    with hub.following(follower, transaction):
        wait_until(lambda: follower.waiting, what="the first event")
    hub.close()

    assert "job.pending" in follower.take(0)
    assert [record.getMessage() for record in caplog.records] == ["api.events_interrupted"]
