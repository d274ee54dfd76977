"""A PostgreSQL that lets nobody in, and says so in whatever words a test gives it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECRET = "not-to-be-told"


@contextmanager
def saying(message: bytes) -> Iterator[str]:
    """A server that answers whoever comes with this, and hangs up."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                while connection.recv(1_000)[4:8] == b"\x04\xd2\x16\x2f":
                    connection.sendall(b"N")  # no TLS here
                connection.sendall(message)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"postgresql://ada:{SECRET}@127.0.0.1:{listening.getsockname()[1]}/app"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def an_error(sqlstate: str, said: str, severity: str = "FATAL") -> bytes:
    fields = {"S": severity, "V": "FATAL", "C": sqlstate, "M": said, "F": "auth.c", "R": "auth_failed"}
    body = b"".join(name.encode() + value.encode() + b"\0" for name, value in fields.items()) + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body
