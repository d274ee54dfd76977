"""Carrying: one thread writes to the connections of all streams whose requests have ended already.

A request that waits costs a greenlet, its stacks, and everything that the server and Flask keep of it: 28 KB, of which
a stream needs none once its head has been sent. So where the server lets its connection go (gunicorn with greenlets),
the request ends after the greeting, and what is left of a stream is its follower and a number of a file.

    1. The request's greenlet sends the head and the greeting, and hands over a duplicate of its connection.
    2. The server finds an answer that has ended and closes its own end, which closes nothing.
    3. The carrier writes to whom the hub has fed, and looks at all now and then for the heartbeats.

It never waits for a client: what a connection does not take stays here, meanwhile the follower fills up and is fed no
more, and a client that takes nothing for half a minute is given up.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from jobplatform.api.streams.following import Follower
from jobplatform.api.streams.giving_way import giving_way, has_greenlets

#: A comment so often keeps whatever is in between from taking the silence for an end.
HEARTBEAT = 10.0
#: Seconds that a client may leave what it is sent unread. Then the connection is closed.
UNREAD = 30.0
#: Seconds until a connection that did not take everything is tried again.
AGAIN = 0.25
#: Seconds between two looks at all: whose heartbeat is due, who is not fed by the hub.
LOOK = 1.0
#: Connections that are written to without giving way to the requests of a process with greenlets.
PORTION = 100
#: Seconds that a process which ends gives its streams to say so.
FAREWELL = 5.0

log = logging.getLogger("jobplatform.api")

_END = b"0\r\n\r\n"

Beat = Callable[[], str]


class Answering(Protocol):
    """What gunicorn writes an answer with."""

    sock: Any
    chunked: bool

    def force_close(self) -> None: ...


def next_beat() -> float:
    """Seconds. Not all at the same moment: those that began together, after a restart, would beat together for ever."""
    return HEARTBEAT * random.uniform(0.7, 1.0)


def lets_go(start_response: Any) -> Answering | None:
    """What the server writes the answer with, if that can be told to leave the connection to us.

    gunicorn's own for HTTP/1, and a plain socket: whoever stands in between, and whatever is wrapped around the
    connection, has to see all that is sent.
    """
    gunicorn = sys.modules.get("gunicorn.http.wsgi")
    answering: Any = getattr(start_response, "__self__", None)
    if gunicorn is None or type(answering) is not gunicorn.Response or isinstance(answering.sock, ssl.SSLSocket):
        return None
    speaks_http = getattr(answering.cfg, "protocol", "http") == "http"
    return answering if speaks_http and has_greenlets() else None


def take_over(answering: Answering, follower: Follower, beat: Beat) -> Line:
    """The connection, from now on ours. To be called when all that the server has to write has been written."""
    line = Line(os.dup(answering.sock.fileno()), follower, beat, chunked=answering.chunked)
    # Or the server would write that the answer ends here. Without chunks it is the end of the connection that says so,
    # and that is what the server believes to bring about.
    answering.chunked = False
    return line


class Line:
    """The connection of a stream, and what it has not taken yet."""

    __slots__ = ("_beat", "_beat_at", "_chunked", "_connection", "_has_ended", "_moved_at", "_rest", "follower")

    def __init__(self, connection: int, follower: Follower, beat: Beat, *, chunked: bool) -> None:
        os.set_blocking(connection, False)
        self.follower = follower
        self._connection = connection
        self._beat = beat
        self._chunked = chunked
        self._rest = b""
        self._has_ended = False
        self._moved_at = time.monotonic()
        self._beat_at = self._moved_at + next_beat()

    @property
    def is_stuck(self) -> bool:
        """Whether there is something that the connection has not taken."""
        return bool(self._rest)

    def write(self, now: float) -> bool:
        """What there is to be said, as far as the connection takes it. False when there will be no more."""
        if self._rest:
            self._send(now)
        # Piece by piece: what the connection does not take is here once more than in the follower.
        while not self._rest and (data := self._next(now)):
            self._rest = data
            self._moved_at = now
            self._send(now)
        return bool(self._rest or not self._has_ended)

    def close(self) -> None:
        """Say that this is the end, unless something is still to be said before that."""
        try:
            if self._chunked and not (self._rest or self._has_ended):
                os.write(self._connection, _END)
        except OSError:
            pass  # nobody is there to hear it
        finally:
            os.close(self._connection)

    def _next(self, now: float) -> bytes:
        """The end is the last of it, which the connection may not take at once either."""
        if self._has_ended:
            return b""
        if text := self._said(now):
            return self._framed(text)
        self._has_ended = self.follower.ended and not self.follower.waiting
        return _END if self._has_ended and self._chunked else b""

    def _said(self, now: float) -> str:
        if self.follower.waiting:
            self._beat_at = now + next_beat()
            return self.follower.take(0)
        if now < self._beat_at or self.follower.ended:
            return ""
        self._beat_at = now + next_beat()
        return self._beat()

    def _framed(self, text: str) -> bytes:
        data = text.encode()
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _send(self, now: float) -> None:
        try:
            sent = os.write(self._connection, self._rest)
        except BlockingIOError:
            if now - self._moved_at > UNREAD:
                raise
        else:
            self._rest = self._rest[sent:]
            self._moved_at = now


class Carrier:
    """Writes to the lines that it was given until each has ended. ``let_go`` is told whose has."""

    def __init__(self, let_go: Callable[[Follower], None]) -> None:
        self._let_go = let_go
        self._lines: set[Line] = set()
        self._calls: set[Line] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self._lines)

    def take(self, line: Line) -> None:
        try:
            with self._lock:
                self._begin_in_this_process()
                self._start()
                self._lines.add(line)
        except RuntimeError as error:
            # The head has been sent already: the stream ends here, and its client comes back.
            log.warning("api.stream_not_carried", extra={"error": str(error)})
            self._drop(line)
            return
        line.follower.on_news = functools.partial(self._call, line)
        # It may have been fed before anybody would have been told.
        self._call(line)

    def join(self, seconds: float = FAREWELL) -> None:
        """Wait until nobody is left. Their followers have been told to end."""
        thread = self._thread
        if thread is not None and self._process == os.getpid():
            self._wake.set()
            thread.join(seconds)

    def _begin_in_this_process(self) -> None:
        """After a fork the parent's lines are not ours, nor is its thread."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._lines.clear()
            self._calls.clear()
            self._thread = None

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="jobplatform-carrier", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        looked_at = 0.0
        stuck: list[Line] = []
        while self._goes_on():
            self._wake.clear()
            due = [*stuck, *self._called()]
            if time.monotonic() - looked_at >= LOOK:
                looked_at = time.monotonic()
                due = list(self._lines)
            stuck = [line for line in giving_way(due, PORTION) if self._leaves_stuck(line)]
            if self._lines:
                self._wake.wait(AGAIN if stuck else LOOK)

    def _call(self, line: Line) -> None:
        """There is something to write to it."""
        self._calls.add(line)
        self._wake.set()

    def _called(self) -> Iterator[Line]:
        while self._calls:
            yield self._calls.pop()

    def _leaves_stuck(self, line: Line) -> bool:
        # One that has been dropped may have been called once more, and its connection's number is somebody else's.
        if line not in self._lines:
            return False
        if self._serve(line):
            return line.is_stuck
        self._drop(line)
        return False

    def _goes_on(self) -> bool:
        """The thread ends with the last line; it is written off under the lock, so that the next one is started."""
        with self._lock:
            if not self._lines:
                self._thread = None
            return bool(self._lines)

    def _serve(self, line: Line) -> bool:
        try:
            return line.write(time.monotonic())
        except OSError:
            return False  # the client has gone, or reads nothing
        except Exception:
            # It serves everybody, and whatever is wrong with one is not to be the others' end.
            log.exception("api.stream_broken")
            return False

    def _drop(self, line: Line) -> None:
        with self._lock:
            self._lines.discard(line)
        self._let_go(line.follower)
        line.close()
