"""What a list hears: that something has changed of what it shows, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.api.streams.following import Reader
from jobplatform.pages.console.changes import Pulse, Watcher, Writes, position_of, read_position
from jobplatform.queue import pause, set_queue_limit
from tests.pages.conftest import Visitor

Sessions = sessionmaker[Session]
FOREVER = 3600.0


def watcher(written: list[Writes], *topics: str, seen: Writes | None = None) -> Watcher:
    """One that is told this, look by look, and the last of it from then on."""
    reader = Reader("console", None, reads_sealed=False, ends_at=time.monotonic() + FOREVER)
    return Watcher(reader, topics, lambda: written.pop(0) if len(written) > 1 else written[0], seen or {})


def test_what_has_changed_is_said_once_and_what_was_there_before_is_no_change() -> None:
    one = watcher([{"jobs": 5, "alerts": 1}, {"jobs": 5, "alerts": 1}, {"jobs": 6, "alerts": 1}], "jobs", "alerts")

    assert one.take(0) == ""
    assert one.take(0) == 'event: changed\nid: jobs.6,alerts.1\ndata: ["jobs"]\n\n'
    assert one.take(0) == ""


def test_who_carries_many_streams_is_told_that_there_is_something_to_take() -> None:
    one = watcher([{"jobs": 5}, {"jobs": 5}, {"jobs": 6}, {"jobs": 7}], "jobs")

    assert [one.waiting, one.waiting, one.waiting] == [0, 1, 1]
    assert "jobs.6" in one.take(0), "what came after it is told by the next one"
    assert "jobs.7" in one.take(0)
    assert one.waiting == 0


def test_what_is_not_asked_for_is_not_told() -> None:
    one = watcher([{"jobs": 5, "alerts": 1}, {"jobs": 5, "alerts": 2}], "jobs")

    assert (one.take(0), one.take(0)) == ("", "")


def test_who_comes_back_hears_at_once_what_has_changed_meanwhile() -> None:
    one = watcher([{"jobs": 5, "alerts": 2}], "jobs", "alerts", seen=read_position("jobs.5,alerts.1"))

    assert '["alerts"]' in one.take(0)


def test_an_end_is_heard_while_nothing_changes() -> None:
    one = watcher([{"jobs": 5}], "jobs")
    one.end()

    assert one.take(FOREVER) == ""


@pytest.mark.parametrize("text", ["", "nonsense", "jobs", "jobs.x", "elsewhere.4", "jobs.," * 3])
def test_a_position_that_is_none_of_ours_is_as_good_as_none(text: str) -> None:
    assert read_position(text) == {}


def test_a_position_says_what_was_seen() -> None:
    assert read_position(position_of({"jobs": 12, "alerts": 0})) == {"jobs": 12, "alerts": 0}


def test_a_process_asks_once_for_all_who_look_and_a_database_that_is_away_is_no_change() -> None:
    pulse, asked = Pulse(), [0]

    def ask() -> Writes:
        asked[0] += 1
        return {"jobs": 7}

    def away() -> Writes:
        raise OperationalError("select", {}, Exception("gone"))

    assert [pulse.look(ask) for _ in range(3)] == [{"jobs": 7}] * 3
    assert asked == [1]
    pulse._asked_at = -FOREVER
    assert pulse.look(away) == {"jobs": 7}


@pytest.fixture
def changes(operator: Visitor) -> Iterator[Any]:
    """Opens streams, and ends them."""
    opened: list[TestResponse] = []

    def open_stream(of: str) -> Iterator[str]:
        answer = operator.http.get(f"/console/changes?of={of}", buffered=False)
        opened.append(answer)
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
        return (chunk.decode() for chunk in answer.iter_encoded())

    yield open_stream
    for answer in opened:
        answer.close()


def test_a_list_hears_of_a_change_that_somebody_else_has_made(changes: Any, app: Flask, sessions: Sessions) -> None:
    heard = changes("pauses,limits,nonsense")
    assert "event:" not in next(heard)

    with sessions.begin() as session:
        set_queue_limit(session, "sync", 4)
        pause(session, "queue", "sync", reason="r", actor="a test")
        session.execute(text("select pg_stat_force_next_flush()"))

    said = next(chunk for chunk in heard if "event: changed" in chunk)
    assert '"limits"' in said or '"pauses"' in said


def test_changes_are_for_operators(stranger: Visitor, operator: Visitor) -> None:
    assert stranger.get("/changes?of=jobs").status_code != 200
