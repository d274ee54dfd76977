"""gunicorn's worker with threads, for clients that take their time.

gunicorn gives a connection to a thread with its first byte, and the thread waits for all the others: as many clients as
there are threads, each sending a byte now and then, and nobody else is served. Here the main loop reads whatever comes,
for all connections at once, and a thread gets a request when all of it is here. A client has so many seconds for that,
and all that wait have so much memory between them; beyond either the connection is closed, the oldest first. Only a
file that is uploaded is longer; its thread reads it from the connection, within a time. Whatever gunicorn makes of any
other, it finds no more than what is here (:class:`Received`). Nor is a client waited for that does not read its answer
(:mod:`jobplatform.cli.serving.patient_socket`).
"""

from __future__ import annotations

import contextlib
import functools
import re
import selectors
import socket
import time
import uuid
from typing import Any, Final

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, RequestTimeout

from jobplatform.cli.serving import patient_socket
from jobplatform.cli.serving.refusals import Refusing, refusal

#: Seconds from its first byte until a request has to be here.
PATIENCE: Final = 20.0
#: Seconds that a new connection may say nothing.
SILENCE: Final = 10.0
#: Bytes of one request; a little more than the API takes, so that it can say that this is too much.
MOST_OF_ONE: Final = (1 << 20) + (64 << 10)
#: Bytes of a request's head, of what follows its last chunk, and of the line before a chunk.
MOST_OF_HEAD: Final = 64 << 10
MOST_OF_CHUNK_LINE: Final = 8 << 10
#: Bytes of all requests that are on their way to one process.
MOST_OF_ALL: Final = 32 << 20
READ_SIZE: Final = 64 << 10
#: Seconds, and bytes, that a client whose connection is closed may still send before it hears of that: it should get
#: to reading its answer.
LINGER: Final = 2.0
MOST_OF_LINGERING: Final = 16 << 20

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"^content-length:[ \t]*0*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNKED: Final = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
_EXPECTS: Final = re.compile(rb"^expect:[ \t]*100-continue[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;[^\r\n]*)?\r\n")


class Arriving:
    """A request that is on its way."""

    def __init__(self, connection: Any, until: float) -> None:
        self.connection = connection
        self.until = until
        self.data = bytearray()
        self.lingers = False
        self.thrown_away = 0
        self.is_long = False
        """Whether its body is more than we wait for, and its thread reads the rest, if it wants that."""
        self.refusal: Exception | None = None
        """What is wrong with it when it is neither long nor complete."""
        self._body_at: int | None = None
        self._wanted = 0
        self._is_chunked = False
        self._chunk_at = 0
        self._beside = 0
        """Bytes that are none of the body: the head, and what is around its chunks."""

    @property
    def is_too_much(self) -> bool:
        """Whether not all of it has been waited for, and nobody knows where the next request would begin."""
        return self.is_long or self.refusal is not None

    @property
    def has_begun(self) -> bool:
        return bool(self.data)

    def is_complete(self) -> bool:
        """Whether a thread can read all of it without waiting, or enough of it to refuse it."""
        if self._body_at is None and not self._read_head():
            if len(self.data) > MOST_OF_HEAD:
                self.refusal = LimitRequestHeaders(f"the head is longer than {MOST_OF_HEAD} bytes")
        elif self._is_chunked:
            return self._has_last_chunk() or self._has_enough_chunks()
        else:
            self.is_long = self._wanted > MOST_OF_ONE
        return self.is_too_much or (self._body_at is not None and len(self.data) >= self._body_at + self._wanted)

    def _has_last_chunk(self) -> bool:
        """From the first chunk that is not known to be here. What is no chunk is gunicorn's to refuse."""
        while size := _CHUNK_SIZE.match(self.data, self._chunk_at, self._chunk_at + MOST_OF_CHUNK_LINE):
            length = int(size.group(1), 16)
            if length == 0:
                return self._has_end_of_trailers(size.end())
            behind = size.end() + length + 2
            if behind > len(self.data):
                return False
            self._beside += behind - self._chunk_at - length
            self._chunk_at = behind
        line = self.data[self._chunk_at : self._chunk_at + MOST_OF_CHUNK_LINE]
        return b"\r\n" in line or len(line) == MOST_OF_CHUNK_LINE

    def _has_end_of_trailers(self, begin: int) -> bool:
        """Of some or of none: an empty line ends them, and the last size's own line break may be its first half."""
        if self.data.find(_END, begin - 2) >= 0:
            return True
        if len(self.data) - begin > MOST_OF_HEAD:
            self.refusal = RequestEntityTooLarge()
        return self.is_too_much

    def _has_enough_chunks(self) -> bool:
        """Or so much around them that this is nobody's way to send something."""
        self.is_long = len(self.data) - self._beside >= MOST_OF_ONE
        if len(self.data) >= 2 * MOST_OF_ONE:
            self.refusal = RequestEntityTooLarge()
        return self.is_too_much

    def _read_head(self) -> bool:
        end = self.data.find(_END)
        if end < 0:
            return False
        head = bytes(self.data[:end])
        self._body_at = self._chunk_at = self._beside = end + len(_END)
        length = _LENGTH.search(head)
        # Of a number with more digits the first ones are too much already.
        self._wanted = int(length.group(1)[:18]) if length else 0
        self._is_chunked = _CHUNKED.search(head) is not None
        if _EXPECTS.search(head):
            # Or it waits for us as we wait for it. gunicorn will say it once more, which is allowed.
            with contextlib.suppress(OSError):
                self.connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True


class Received(SocketUnreader):  # type: ignore[misc] # gunicorn ships no types
    """What a thread reads a request from: what has come of it.

    There is more only of a body that is long, for so many seconds, and as many again for each further piece. Otherwise
    who wants more is told what is wrong: a request that gunicorn takes for longer than we do costs nobody a thread.
    """

    def begin(self, arriving: Arriving) -> None:
        self._is_long = arriving.is_long
        self._refusal = arriving.refusal or BadRequest("The body is shorter than it is said to be.")
        self._began_at = time.monotonic()
        self._bytes = 0
        self.unread(bytes(arriving.data))

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Raises RequestTimeout, or what is wrong, which the application answers as it does every HTTP error."""
        if not self._is_long:
            raise self._refusal
        data = self._receive(size_hint)
        self._bytes += len(data)
        return data

    def _receive(self, size_hint: int | None) -> bytes:
        until = self._began_at + PATIENCE * (1 + self._bytes // MOST_OF_ONE)
        # No time at all would mean not to wait, which fails in another way.
        self.sock.settimeout(max(0.001, until - time.monotonic()))
        try:
            data: bytes = super().chunk(size_hint)
            return data
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            self.sock.settimeout(None)


class PatientWorker(Refusing, ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """Threads for requests that are complete; the main loop for all others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # By age: the first is the oldest.
        self._arriving: dict[int, Arriving] = {}
        self._waiting_bytes = 0

    def accept(self, listener: Any) -> None:
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        client = patient_socket.of(client)
        self._await(TConn(self.cfg, client, address, listener.getsockname()), SILENCE)

    def on_client_socket_readable(self, connection: Any, client: Any) -> None:
        """The next request of a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(connection)
        self._read(self._await(connection, PATIENCE))

    def finish_request(self, connection: Any, future: Any) -> None:
        """A thread is done with it. What it read of the next request waits here for the rest."""
        if future.cancelled() or future.exception() is not None or not future.result():
            self._linger(connection)
        elif rest := connection.parser.unreader.take_buffered():
            self._take(self._await(connection, PATIENCE), rest)
        else:
            super().finish_request(connection, future)

    def handle_request(self, req: Any, connection: Any) -> Any:
        """A connection is not kept, and its client is told, where the rest of a request would have to be waited for."""
        if connection.is_too_much:
            req.force_close()
        return super().handle_request(req, connection)

    def _keepalive_after(self, connection: Any, keepalive: Any) -> bool:
        """A connection that its client was told is kept takes another request, also where the body of this one was
        refused unread. All of that is here, while gunicorn reads no more than 64 KiB of it and then hangs up."""
        if not keepalive:
            return False
        try:
            while connection.parser.mesg.body.read(READ_SIZE):
                pass
        except Exception:  # noqa: BLE001  # it is no body, or shorter than it is said to be: the next request is nowhere
            return False
        return bool(super()._keepalive_after(connection, keepalive))

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker stops: nobody's beginning of a request is waited for any longer than a kept connection."""
        super()._cap_keepalive(deadline)
        for arriving in self._arriving.values():
            arriving.until = min(arriving.until, deadline)

    def murder_pending(self) -> None:
        super().murder_pending()
        now = time.monotonic()
        for arriving in [one for one in self._arriving.values() if one.until < now]:
            if arriving.has_begun and not arriving.lingers:
                with contextlib.suppress(OSError):
                    arriving.connection.sock.send(refusal(408, uuid.uuid4().hex))
            self._drop(arriving)

    # -- reading ---------------------------------------------------------------------------------

    def _await(self, connection: Any, seconds: float) -> Arriving:
        connection.sock.setblocking(False)
        arriving = Arriving(connection, time.monotonic() + seconds)
        self._arriving[connection.sock.fileno()] = arriving
        self.poller.register(connection.sock, selectors.EVENT_READ, functools.partial(self._on_readable, arriving))
        return arriving

    def _on_readable(self, arriving: Arriving, _client: Any) -> None:
        self._read(arriving)

    def _read(self, arriving: Arriving) -> None:
        try:
            data = arriving.connection.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data and arriving.lingers:
            self._throw_away(arriving, data)
        elif data:
            self._take(arriving, data)
        else:
            self._drop(arriving)

    def _take(self, arriving: Arriving, data: bytes) -> None:
        if not arriving.has_begun:
            arriving.until = time.monotonic() + PATIENCE
        arriving.data += data
        self._waiting_bytes += len(data)
        if arriving.is_complete():
            self._hand_over(arriving)
        while self._waiting_bytes > MOST_OF_ALL:
            self._drop(next(one for one in self._arriving.values() if one.has_begun))

    def _linger(self, connection: Any) -> None:
        """Say that nothing more will come, and let the client finish its sentence. gunicorn waits for that in its main
        loop, where everybody else waits too."""
        try:
            connection.sock.setblocking(False)
            connection.sock.shutdown(socket.SHUT_WR)
            self._await(connection, LINGER).lingers = True
        except (OSError, ValueError):
            self.nr_conns -= 1
            connection.close()

    def _throw_away(self, arriving: Arriving, data: bytes) -> None:
        arriving.thrown_away += len(data)
        if arriving.thrown_away > MOST_OF_LINGERING:
            self._drop(arriving)

    def _hand_over(self, arriving: Arriving) -> None:
        connection = arriving.connection
        self._forget(arriving)
        if not connection.initialized:
            connection.init()
            connection.parser.unreader = Received(connection.sock)
        connection.data_ready = True
        connection.is_too_much = arriving.is_too_much
        connection.parser.unreader.begin(arriving)
        self.enqueue_req(connection)

    def _drop(self, arriving: Arriving) -> None:
        self._forget(arriving)
        self.nr_conns -= 1
        with contextlib.suppress(OSError):
            arriving.connection.sock.shutdown(socket.SHUT_RDWR)
        arriving.connection.close()

    def _forget(self, arriving: Arriving) -> None:
        self._waiting_bytes -= len(arriving.data)
        self.poller.unregister(arriving.connection.sock)
        del self._arriving[arriving.connection.sock.fileno()]
