"""The port: a few pages over HTTP, for whoever watches this process. One thread, however many callers there are.

It reads a request's head and closes the connection after the answer. A caller has a few seconds for all of it, and
when there are too many the oldest goes: callers that only hold on cannot keep a probe out.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, NamedTuple

from jobplatform.errors import SettingsError

#: Seconds from the connection to the end of the answer.
PATIENCE: Final = 5.0
MOST_CALLERS: Final = 64
LONGEST_HEAD: Final = 8_192
STOP_SECONDS: Final = 2.0
#: For so long nobody is let in where there is no descriptor for another caller.
REST_SECONDS: Final = 1.0
TEXT: Final = "text/plain; charset=utf-8"

logger = logging.getLogger("jobplatform.worker")


class Page(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    content_type: str = TEXT


@dataclass(slots=True)
class Caller:
    """A connection: what came of its request, and what is still to be sent."""

    socket: socket.socket
    until: float
    head: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None


class Port:
    """Serves ``pages`` from :meth:`start` to :meth:`stop`. They are made in its thread, one at a time."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        self._pages = pages
        self._callers: dict[int, Caller] = {}
        self._rests_until: float | None = None
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = os.pipe()
        self._listener = _listen(host, port)
        self._thread = threading.Thread(target=self._run, name="jobplatform-port", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def start(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._stop_read, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            while self._turn():
                self._drop_late()
                self._end_rest()
        except Exception:
            logger.exception("the port for probes is closed")
        finally:
            self._close()

    def _turn(self) -> bool:
        """Do what there is to do. False when it is time to stop."""
        timeout = 1.0 if self._callers or self._rests_until is not None else None
        for key, _ in self._selector.select(timeout):
            if key.fd == self._stop_read:
                return False
            if key.fd in self._selector.get_map():
                key.data()
        return True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # It hung up already.
        except OSError:
            # There are no descriptors left. The caller still waits at the door, and would wake us at once.
            self._selector.unregister(self._listener)
            self._rests_until = monotonic() + REST_SECONDS
            return
        connection.setblocking(False)
        caller = Caller(connection, monotonic() + PATIENCE)
        self._callers[connection.fileno()] = caller
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(caller))
        while len(self._callers) > MOST_CALLERS:
            self._drop(next(iter(self._callers.values())))

    def _end_rest(self) -> None:
        if self._rests_until is not None and self._rests_until <= monotonic():
            self._rests_until = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _read(self, caller: Caller) -> None:
        try:
            data = caller.socket.recv(LONGEST_HEAD)
        except OSError:
            data = b""
        caller.head += data
        if b"\r\n\r\n" in caller.head or len(caller.head) > LONGEST_HEAD:
            caller.answer = memoryview(self._answer(bytes(caller.head)))
            self._selector.modify(caller.socket, selectors.EVENT_WRITE, lambda: self._write(caller))
        elif not data:
            self._drop(caller)

    def _write(self, caller: Caller) -> None:
        assert caller.answer is not None
        try:
            caller.answer = caller.answer[caller.socket.send(caller.answer) :]
        except OSError:
            caller.answer = memoryview(b"")
        if not caller.answer:
            with suppress(OSError):
                caller.socket.shutdown(socket.SHUT_WR)
            self._drop(caller)

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition("\r\n")[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        page = self._page(method, path)
        lines = (
            f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        )
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if method == "HEAD" else page.body)

    def _page(self, method: str, path: str) -> Page:
        if path not in self._pages:
            return Page(404, f"There is nothing here; there are {', '.join(sorted(self._pages))}.\n".encode())
        if method not in ("GET", "HEAD"):
            return Page(405, b"Only GET is answered here.\n")
        try:
            return self._pages[path]()
        except Exception:
            logger.exception("a page for probes failed", extra={"path": path})
            return Page(500, b"The worker's log says what went wrong.\n")

    def _drop_late(self) -> None:
        now = monotonic()
        for caller in [caller for caller in self._callers.values() if caller.until < now]:
            self._drop(caller)

    def _drop(self, caller: Caller) -> None:
        self._callers.pop(caller.socket.fileno(), None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(caller.socket)
        caller.socket.close()

    def _close(self) -> None:
        for caller in list(self._callers.values()):
            self._drop(caller)
        self._listener.close()
        self._selector.close()
        os.close(self._stop_read)


def _listen(host: str, port: int) -> socket.socket:
    family: Any = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        where = f"JOBPLATFORM_HEALTH_PORT: {host} port {port}"
        raise SettingsError([f"{where} cannot be listened at: {error.strerror or error}"]) from None
    listener.setblocking(False)
    return listener
