"""How long a body is waited for, and how much of it is read that nobody wants."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from werkzeug.exceptions import RequestTimeout

from jobplatform.cli.serving import greenlet_worker
from jobplatform.cli.serving.greenlet_worker import TimelyReader, throw_away
from jobplatform.cli.serving.patient_worker import MOST_OF_LINGERING, MOST_OF_ONE, READ_SIZE

FOREVER = 3_600.0


class Request:
    closes = False

    def force_close(self) -> None:
        self.closes = True


class Sender:
    """Somebody who sends what they are to send, and then nothing."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read(self, size: int) -> bytes:
        if not self.pieces:
            gevent.sleep(FOREVER)
        return self.pieces.pop(0)


class Endless:
    read_so_far = 0

    def read(self, size: int) -> bytes:
        self.read_so_far += size
        return b"x" * size


def test_a_body_that_does_not_come_ends_its_request_and_its_connection() -> None:
    request = Request()
    reader = TimelyReader(Sender(b"{"), request, patience=0.05)

    assert reader.read(10) == b"{"
    with pytest.raises(RequestTimeout):
        reader.read(10)

    assert request.closes


def test_a_large_body_has_as_long_again_for_each_further_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waits: list[float] = []

    class Timeout(gevent.Timeout):
        def __init__(self, seconds: float, error: Any) -> None:
            waits.append(seconds)
            super().__init__(FOREVER, error)

    monkeypatch.setattr(greenlet_worker.gevent, "Timeout", Timeout)
    monkeypatch.setattr(greenlet_worker.time, "monotonic", lambda: now)
    reader = TimelyReader(Sender(b"x" * MOST_OF_ONE, b"x", b"x"), Request(), patience=20)

    for now in (5.0, 19.0, 30.0):  # noqa: B007  # the clock reads it
        reader.read(READ_SIZE)

    assert waits == [15.0, 21.0, 10.0]


@pytest.mark.parametrize("pieces", [(b"",), (b"x" * READ_SIZE, b"")])
def test_what_is_left_of_a_body_is_read_to_its_end(pieces: tuple[bytes, ...]) -> None:
    assert throw_away(Sender(*pieces))


def test_no_more_is_thrown_away_than_has_a_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greenlet_worker, "BREATH", 0.0)
    endless = Endless()

    assert not throw_away(endless)
    assert endless.read_so_far <= MOST_OF_LINGERING + READ_SIZE


def test_who_sends_no_more_is_not_waited_for() -> None:
    assert not throw_away(Sender(b"x"), seconds=0.01)
