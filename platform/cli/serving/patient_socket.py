"""Sockets whose clients have to read what they asked for, or are not answered any more.

To send an answer takes as long as its client takes to read it, and a thread or a greenlet, with all of the answer,
waits for that. One who reads nothing would be waited for for ever.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

#: Seconds that a client may leave unread what it is sent.
UNREAD: Final = 20.0
#: Bytes a second that it has to read beyond that.
SLOWEST: Final = 16 << 10
PIECE: Final = 64 << 10


class Sending(socket.socket if TYPE_CHECKING else object):  # type: ignore[misc]  # to be mixed with gevent's kind too
    """``sendall`` and ``sendfile`` that raise BrokenPipeError when nobody reads; servers are used to that."""

    __slots__ = ()

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        began_at, sent = time.monotonic(), 0
        with self._waiting():
            while sent < len(view):
                sent += self.send(view[sent : sent + PIECE], flags)
                if time.monotonic() - began_at > UNREAD + sent / SLOWEST:
                    raise TimeoutError

    def sendfile(self, *args: Any, **options: Any) -> int:
        with self._waiting():
            sent: int = super().sendfile(*args, **options)
            return sent

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """For each piece so long, whatever the server has set. A socket that does not wait still does not."""
        before = self.gettimeout()
        if before is None or before > UNREAD:
            self.settimeout(UNREAD)
        try:
            yield
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not read its answer") from None
        finally:
            if self.fileno() >= 0:
                self.settimeout(before)


class PatientSocket(Sending, socket.socket):
    """For threads."""

    __slots__ = ()


def of(client: socket.socket) -> PatientSocket:
    """The same connection; the socket given is of no use any more."""
    return PatientSocket(fileno=client.detach())
