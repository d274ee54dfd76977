"""Streams that go on after their requests have ended: what each costs, and how it ends."""

from __future__ import annotations

import gc
import os
import socket
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from jobplatform.api import StreamLimits
from jobplatform.api.streams import carrying
from jobplatform.api.streams.carrying import AGAIN, UNREAD, Carrier, Line
from jobplatform.api.streams.following import ROOM, Follower, JobFollower, Reader
from jobplatform.api.streams.hub import Hub
from jobplatform.api.streams.streaming import render_event
from jobplatform.queue import START
from jobplatform.testing import wait_until
from tests.api.conftest import Client, Hand, hub_of
from tests.api.streams import ask_as_gunicorn_does, parse
from tests.scarcity import without_new_threads

#: Of an idle stream. Kept with its request it costs several times that, and its greenlet not even counted.
BYTES = 4_000
STREAMS = 20
FOREVER = 1e9


@pytest.fixture
def follower(workspace_id: uuid.UUID) -> Follower:
    reader = Reader(str(workspace_id), None, True, time.monotonic() + 1000)
    return JobFollower(reader, str(uuid.uuid4()), START, render_event)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection's two ends: the server's, of which lines get duplicates, and the client's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def line(pair: tuple[socket.socket, socket.socket], follower: Follower) -> Iterator[Line]:
    ours, _ = pair
    line = Line(ours.dup().detach(), follower, lambda: ": \n\n", chunked=True)
    yield line
    line.close()


def received(client: socket.socket) -> str:
    """What came, without its frames. The end of the connection may be missing, and a half of a chunk not."""
    data = b""
    while found := client.recv(1 << 16):
        data += found
    return without_frames(data)


def without_frames(data: bytes) -> str:
    text = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        assert data[length : length + 2] == b"\r\n"
        text, data = text + data[:length], data[length + 2 :]
        assert length or not data, "something came after the end"
    return text.decode()


def test_a_line_says_what_there_is_and_its_heartbeat_when_there_is_nothing(
    line: Line, follower: Follower, pair: tuple[socket.socket, socket.socket]
) -> None:
    now = time.monotonic()
    assert line.write(now)
    follower.put(["id: 1\n\n", "id: 2\n\n"])
    assert line.write(now + 1)
    assert line.write(now + 2)
    assert line.write(now + 1 + carrying.HEARTBEAT)

    assert without_frames(pair[1].recv(1000)) == "id: 1\n\nid: 2\n\n: \n\n"


def test_a_client_that_reads_late_gets_everything_once(
    follower: Follower, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    line = Line(ours.dup().detach(), follower, lambda: "", chunked=True)
    told = [f"data: {number:05}{'x' * 5000}\n\n" for number in range(ROOM)]
    follower.put(told)
    now = time.monotonic()

    assert line.write(now)
    assert line.is_stuck
    follower.put(["data: last\n\n"])
    follower.end()
    data = b""
    while line.write(now):
        data += theirs.recv(1 << 16)
    ours.close()
    line.close()
    while found := theirs.recv(1 << 16):
        data += found

    assert without_frames(data) == "".join([*told, "data: last\n\n"])
    assert data.endswith(b"\r\n0\r\n\r\n")


def test_a_client_that_reads_nothing_is_given_up_and_fed_no_more_until_then(line: Line, follower: Follower) -> None:
    follower.put(["x" * 10_000_000])
    now = time.monotonic()
    line.write(now)

    follower.put(["y"] * ROOM)
    assert line.write(now + UNREAD - AGAIN)
    assert (follower.waiting, follower.has_room) == (ROOM, False)
    with pytest.raises(BlockingIOError):
        line.write(now + UNREAD + AGAIN)


@pytest.mark.parametrize("gone", [True, False])
def test_a_line_is_closed_when_its_follower_has_ended_or_its_client_has_gone(
    gone: bool, follower: Follower, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    left: list[Follower] = []
    carrier = Carrier(left.append)
    carrier.take(Line(ours.dup().detach(), follower, lambda: "", chunked=True))
    ours.close()

    follower.put(["data: a\n\n"])
    assert without_frames(theirs.recv(1000)) == "data: a\n\n"
    if gone:
        theirs.close()
        follower.put(["data: b\n\n"])
    else:
        follower.end()
        assert received(theirs) == ""
    carrier.join(30)

    assert (left, len(carrier)) == ([follower], 0)


def test_where_no_thread_can_be_started_a_line_ends_and_the_next_one_is_carried(
    follower: Follower, pair: tuple[socket.socket, socket.socket]
) -> None:
    left: list[Follower] = []
    carrier = Carrier(left.append)
    other, far = socket.socketpair()
    refused = JobFollower(follower.reader, str(uuid.uuid4()), START, render_event)
    with far, without_new_threads():
        carrier.take(Line(other.detach(), refused, lambda: "", chunked=True))

        assert received(far) == ""
    assert (left, len(carrier)) == ([refused], 0)
    carrier.take(Line(pair[0].dup().detach(), follower, lambda: "", chunked=True))
    follower.put(["data: a\n\n"])
    assert without_frames(pair[1].recv(1000)) == "data: a\n\n"
    follower.end()
    carrier.join(30)


def test_one_line_that_cannot_be_told_is_not_the_others_end(
    follower: Follower, pair: tuple[socket.socket, socket.socket], workspace_id: uuid.UUID
) -> None:
    ours, theirs = pair
    left: list[Follower] = []
    carrier = Carrier(left.append)
    broken = JobFollower(follower.reader, str(uuid.uuid4()), START, render_event)
    other, far = socket.socketpair()
    carrier.take(Line(ours.dup().detach(), follower, lambda: "", chunked=True))
    with other, far:
        carrier.take(Line(other.dup().detach(), broken, lambda: "", chunked=True))
        broken.put([None])  # type: ignore[list-item]  # what nobody can send
        wait_until(lambda: left == [broken], what="the broken one to be let go")
    follower.put(["data: a\n\n"])

    assert without_frames(theirs.recv(1000)) == "data: a\n\n"
    follower.end()
    carrier.join(30)


def test_who_has_nothing_to_be_told_is_left_alone_when_another_one_has(
    follower: Follower, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each event of a process with thousands of streams would cost a look at all of them."""
    monkeypatch.setattr(carrying, "LOOK", FOREVER)
    served: list[Follower] = []
    write = Line.write
    monkeypatch.setattr(Line, "write", lambda line, now: served.append(line.follower) or write(line, now))
    carrier = Carrier(lambda _: None)
    other, far = socket.socketpair()
    quiet = JobFollower(follower.reader, str(uuid.uuid4()), START, render_event)
    with other, far:
        carrier.take(Line(other.dup().detach(), quiet, lambda: "", chunked=True))
        carrier.take(Line(pair[0].dup().detach(), follower, lambda: "", chunked=True))
        wait_until(lambda: {quiet, follower} <= set(served), what="both to have been looked at")
        wait_until(lambda: not carrier._wake.is_set(), what="the carrier to rest")
        served.clear()
        follower.put(["data: a\n\n"])

        assert without_frames(pair[1].recv(1000)) == "data: a\n\n"
        assert set(served) == {follower}
        follower.end()
        quiet.end()
        carrier.join(30)
        assert carrier._thread is None


def test_what_is_said_to_a_line_that_has_been_dropped_is_not_written_to_the_next_of_its_number(
    follower: Follower, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = socket.socketpair()
    carrier = Carrier(lambda _: None)
    dropped = Line(pair[0].dup().detach(), follower, lambda: "", chunked=True)
    carrier.take(dropped)
    follower.end()
    carrier.join(30)
    with ours, theirs:
        theirs.settimeout(30)
        next_one = JobFollower(follower.reader, str(uuid.uuid4()), START, render_event)
        line = Line(os.dup2(ours.fileno(), dropped._connection), next_one, lambda: "", chunked=True)
        follower.put(["data: for somebody else\n\n"])
        carrier.take(line)
        next_one.put(["data: a\n\n"])
        next_one.end()
        ours.close()

        assert received(theirs) == "data: a\n\n"
        carrier.join(30)


# -- under gunicorn ------------------------------------------------------------------------------


@pytest.fixture
def gunicorn_with_greenlets(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "has_greenlets", lambda: True)
    hub_of(app).limits = StreamLimits(process=500, workspace=500, token=500)


@pytest.fixture
def ask(app: Flask, client: Client) -> Iterator[Callable[[str], socket.socket]]:
    """Serves one request as gunicorn does, and then shows the client's end of the connection."""
    clients: list[socket.socket] = []

    def ask(path: str) -> socket.socket:
        clients.append(ask_as_gunicorn_does(app, path, {"Authorization": f"Bearer {client.token}"}))
        return clients[-1]

    yield ask
    for theirs in clients:
        theirs.close()


@pytest.mark.usefixtures("gunicorn_with_greenlets")
def test_a_stream_goes_on_to_its_end_after_its_request_has_ended(
    app: Flask,
    ask: Callable[[str], socket.socket],
    jobs_url: str,
    echo: Callable[..., str],
    hand: Hand,
    workspace_id: uuid.UUID,
) -> None:
    job = echo()
    theirs = ask(f"{jobs_url}/{job}/events")
    assert hub_of(app).following_now == 1

    hand.complete(workspace_id, job)
    data = b""
    while found := theirs.recv(1 << 16):
        data += found

    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Connection: close" in head, "a client that keeps the connection would lose its next request"
    text = without_frames(body).removeprefix("retry: 1000\n: \n\n")
    assert [event.name for event in parse([text])] == ["job.pending", "job.running", "job.completed"]
    wait_until(lambda: hub_of(app).following_now == 0, what="its place to be free")


@pytest.mark.usefixtures("gunicorn_with_greenlets")
def test_streams_that_are_carried_end_with_the_hub(
    app: Flask, ask: Callable[[str], socket.socket], jobs_url: str, echo: Callable[..., str]
) -> None:
    theirs = ask(f"{jobs_url}/{echo()}/events")

    hub_of(app).close()

    data = b""
    while found := theirs.recv(1 << 16):
        data += found
    assert data.endswith(b"\r\n0\r\n\r\n")
    assert hub_of(app).following_now == 0


@pytest.mark.usefixtures("gunicorn_with_greenlets")
def test_an_idle_stream_keeps_nothing_of_its_request(
    app: Flask,
    ask: Callable[[str], socket.socket],
    jobs_url: str,
    echo: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted by what Python has allocated for each, with nobody looking for news meanwhile."""
    monkeypatch.setattr(Hub, "_run", lambda *_: None)
    path = f"{jobs_url}/{echo()}/events"
    for _ in range(5):
        ask(path)

    tracemalloc.start()
    try:
        for _ in range(STREAMS):
            ask(path)
        gc.collect()
        cost = tracemalloc.get_traced_memory()[0] / STREAMS
    finally:
        tracemalloc.stop()

    followers = list(hub_of(app)._followers)
    for follower in followers:
        follower.end()
    assert len(followers) == STREAMS + 5
    assert cost < BYTES
