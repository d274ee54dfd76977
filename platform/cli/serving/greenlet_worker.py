"""gunicorn's worker with greenlets, for clients that take their time or send more than anybody reads.

A greenlet waits at little cost, and gunicorn lets it: for two seconds until the head of a request is here, and then for
ever. There are only so many greenlets, so a body has to come within a time. And what is left of a body when its answer
has been sent gunicorn reads to its end, however much that is; from somebody who sends fast it does so without a pause,
and nobody else is served. Here a client may finish its sentence, within measure, or is not listened to any more.
"""

from __future__ import annotations

import time
from typing import Any

import gevent
import gevent.socket
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import RequestTimeout

from jobplatform.api.streams.giving_way import BREATH
from jobplatform.cli.serving.patient_socket import Sending
from jobplatform.cli.serving.patient_worker import LINGER, MOST_OF_LINGERING, MOST_OF_ONE, PATIENCE, READ_SIZE
from jobplatform.cli.serving.refusals import Refusing


class TimelyReader:
    """What a body is read from, for so many seconds, and as many again for each further piece of it."""

    def __init__(self, reader: Any, request: Any, patience: float = PATIENCE) -> None:
        self._reader = reader
        self._request = request
        self._patience = patience
        self._began_at = time.monotonic()
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """Raises RequestTimeout, which the application answers as it does every HTTP error."""
        until = self._began_at + self._patience * (1 + self._bytes // MOST_OF_ONE)
        try:
            with gevent.Timeout(max(0.0, until - time.monotonic()), RequestTimeout()):
                data: bytes = self._reader.read(size)
        except RequestTimeout:
            self._request.force_close()
            raise
        self._bytes += len(data)
        return data


def throw_away(body: Any, seconds: float = LINGER) -> bool:
    """Read what nobody has read of a body, so that its client gets to reading the answer. Whether that was all."""
    thrown_away = 0
    try:
        with gevent.Timeout(seconds, RequestTimeout()):
            while data := body.read(READ_SIZE):
                thrown_away += len(data)
                if thrown_away > MOST_OF_LINGERING:
                    return False
                gevent.sleep(BREATH)
    except Exception:  # noqa: BLE001  # it is too slow, has gone, or sends what is no body: nothing more is read of it
        return False
    return True


class GreenletSocket(Sending, gevent.socket.socket):  # type: ignore[misc] # gevent ships no types
    """One whose client has to read its answer."""

    __slots__ = ()


class GreenletWorker(Refusing, GeventWorker):  # type: ignore[misc] # gunicorn ships no types
    """Waits for a body for as long as it makes sense, and reads no more of it than that."""

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        super().handle(listener, GreenletSocket(fileno=client.detach()), addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        req.body.reader = TimelyReader(req.body.reader, req)
        try:
            handled = super().handle_request(listener_name, req, sock, addr)
        except StopIteration:
            throw_away(req.body)
            raise
        if not throw_away(req.body):
            raise StopIteration  # gunicorn's way to say that the connection is not kept
        return handled
