"""A port of this machine that leads to a Unix socket: an embedded PostgreSQL listens on nothing else."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: PostgreSQL's SSLRequest.
ASKS_FOR_TLS = bytes.fromhex("0000000804d2162f")


@contextmanager
def forwarded(path: Path, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A free port on loopback that leads to the socket at ``path``, for the length of the block.

    With ``tls`` it speaks TLS to whoever asks for it as PostgreSQL's protocol has it, as a server with ``ssl = on``.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_accept, args=(listening, path, tls), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        # An accept() that waits is not woken by a close.
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _accept(listening: socket.socket, path: Path, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            visitor, _ = listening.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(str(path))
        if tls is not None:
            threading.Thread(target=_speak_tls, args=(visitor, server, tls), daemon=True).start()
            continue
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


def _speak_tls(visitor: socket.socket, server: socket.socket, tls: ssl.SSLContext) -> None:
    """One thread for both ways: a TLS socket is not for two at a time."""
    with visitor, server, suppress(OSError):
        if visitor.recv(len(ASKS_FOR_TLS)) != ASKS_FOR_TLS:
            return
        visitor.sendall(b"S")
        with tls.wrap_socket(visitor, server_side=True) as encrypted:
            while True:
                ready = [encrypted] if encrypted.pending() else select.select([encrypted, server], [], [])[0]
                for one in ready:
                    some = one.recv(65_536)
                    if not some:
                        return
                    (server if one is encrypted else encrypted).sendall(some)
