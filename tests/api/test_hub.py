"""What a client that does not read costs, and what the hub does when the database is away."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api.streams import following
from jobplatform.api.streams import hub as hub_module
from jobplatform.api.streams.following import (
    AT_ONCE,
    PIECE,
    ROOM,
    ROOM_BYTES,
    Follower,
    JobFollower,
    Reader,
    WorkspaceFollower,
)
from jobplatform.api.streams.hub import PORTION, Hub, _portions
from jobplatform.api.streams.streaming import render_event
from jobplatform.queue import START, LogLine, append_log_lines
from jobplatform.testing import wait_until
from tests.api.conftest import Hand
from tests.api.streams import parse

LINES = 1_000
#: Bytes of an event with a large result.
LARGE = 1_000_000
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


def ended_jobs(text: str) -> list[str]:
    """Whose end was told, in order; each event with all of its data."""
    return [event.data["jobId"] for event in parse([text]) if event.name == "job.completed"]


def test_of_large_events_a_client_that_does_not_read_has_so_many_bytes_waiting_and_loses_none(
    reader: Reader, echo: Callable[..., str], hand: Hand, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    follower, hub = WorkspaceFollower(reader, None, render_event, lambda *_: ""), Hub()
    rounds(hub, sessions, follower, 2)
    jobs = [echo() for _ in range(6)]
    for job in jobs:
        hand.complete(workspace_id, job, json.dumps({"text": "x" * (LARGE - 1_000)}))

    waiting = []
    for _ in range(10):
        rounds(hub, sessions, follower, 1)
        waiting.append(sum(map(len, follower._outbox)))
    assert max(waiting) < ROOM_BYTES + LARGE + PIECE
    assert waiting[-1] == waiting[-5]

    text = ""
    while follower.is_behind or follower.waiting:
        piece = follower.take(0)
        assert len(piece) < LARGE + PIECE
        text += piece
        rounds(hub, sessions, follower, 1)
    assert sorted(ended_jobs(text)) == sorted(jobs)


def test_what_one_look_tells_of_a_job_stops_where_there_is_no_room_and_goes_on_from_there(
    reader: Reader, talkative: Callable[[], str], sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ROOM_BYTES", 2_000)
    job = talkative()
    follower, hub = JobFollower(reader, job, START, render_event), Hub()

    waiting = rounds(hub, sessions, follower, 3)
    assert max(waiting) < 20

    text = ""
    while follower.is_behind or follower.waiting:
        text += follower.take(0)
        rounds(hub, sessions, follower, 1)
    lines = [event.data["line"] for event in parse([text]) if event.name == "job.log"]
    assert lines == list(range(1, LINES + 1))


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


def test_everybody_is_in_one_portion_and_a_workspace_s_followers_are_together(reader: Reader) -> None:
    of_jobs: list[Follower] = [
        JobFollower(reader, str(uuid.uuid4()), START, render_event) for _ in range(2 * PORTION + 1)
    ]
    workspaces = [Reader(str(uuid.uuid4()), None, True, reader.ends_at) for _ in range(3)]
    of_workspaces = [WorkspaceFollower(one, None, render_event, lambda *_: "") for one in [*workspaces, *workspaces]]
    for follower in of_workspaces:
        follower.place.jobs.update(dict.fromkeys(map(str, range(PORTION // 2)), START))

    portions = _portions([*of_workspaces, *of_jobs])

    assert [len(portion) for portion in portions] == [PORTION, PORTION, 1, 4, 2]
    assert {follower for portion in portions for follower in portion} == {*of_jobs, *of_workspaces}
    assert [len({follower.reader.workspace_id for follower in portion}) for portion in portions[3:]] == [2, 1]


def test_who_comes_while_there_is_nothing_to_do_is_told_at_once(
    reader: Reader, echo: Callable[..., str], sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the round still takes that has passed them by."""
    monkeypatch.setattr(hub_module, "INTERVAL", 3600.0)
    first, second = (JobFollower(reader, echo(), START, render_event) for _ in range(2))
    hub = Hub()

    with hub.following(first, sessions.begin), hub.following(second, sessions.begin):
        wait_until(lambda: first.waiting and second.waiting, what="the first events of both")
        assert hub.rounds == 0
    hub.close()


def test_one_who_left_while_being_looked_at_does_not_come_back(
    reader: Reader, talkative: Callable[[], str], sessions: sessionmaker[Session]
) -> None:
    follower, hub = JobFollower(reader, talkative(), START, render_event), Hub()

    hub._look_at([follower], sessions.begin)

    assert follower.is_behind
    assert (hub._urgent, hub.following_now) == (set(), 0)
