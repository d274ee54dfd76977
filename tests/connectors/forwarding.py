"""A port of this machine that leads to a Unix socket: an embedded PostgreSQL listens on nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def forwarded(path: Path) -> Iterator[int]:
    """A free port on loopback that leads to the socket at ``path``, for the length of the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_accept, args=(listening, path), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        # An accept() that waits is not woken by a close.
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _accept(listening: socket.socket, path: Path) -> None:
    while True:
        try:
            visitor, _ = listening.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(str(path))
        for one, other in ((visitor, server), (server, visitor)):
            threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while some := one.recv(65_536):
            other.sendall(some)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
