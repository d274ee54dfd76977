"""A proxy before the database that can lose an answer: the statement has been executed, and nobody is told.

This is the one fault that terminating a backend almost never brings about, and the one behind rows that stay running
for ever (a claim was committed, and its answer never came) and behind commits whose outcome is unknown.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from jobplatform.proof.onlooker import connect
from jobplatform.queue.claim.plain import CLAIM

PORT = 5432
CHUNK = 65_536

LOOPBACK = "127.0.0.1"

Target = str | tuple[str, int]

#: What only a claim says, before its first parameter. It passes once on each connection, to be prepared.
CLAIM_BEGINS = CLAIM.partition("%")[0][:60].encode()


@dataclass(slots=True, eq=False)
class Link:
    """One connection. A doomed one is cut in the moment the server answers, and the answer is thrown away."""

    client: socket.socket
    server: socket.socket
    doomed: bool = False
    claims: bool = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Passes everything on to the server of a database: on a socket in ``folder`` where that has one, else on a port of
    this machine's own. ``url`` leads by way of it."""

    def __init__(self, folder: Path, url: str) -> None:
        with connect(url) as connection:
            self.reads = not connection.pgconn.ssl_in_use
            """Whether it can tell what passes."""
            server = connection.info
            local = server.host.startswith("/")
            self._target: Target = (
                str(_socket_in(server.host, server.port)) if local else (server.hostaddr or server.host, server.port)
            )
            self._listener = _listen(folder if local else None)
            self.url = _detour(url, server, str(folder) if local else self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self.lost = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def lose_answer(self, draw: random.Random, *, of_a_claim: bool = False) -> bool:
        """Doom one connection: its next answer is lost, and the connection with it."""
        with self._lock:
            links = [link for link in self._links if not link.doomed and link.claims >= of_a_claim]
        if links:
            draw.choice(links).doomed = True
        return bool(links)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, client: socket.socket) -> None:
        try:
            server = _reach(self._target)
        except OSError:
            # The server is being restarted: the client meets a closed door, as it would without us.
            client.close()
            return
        for end in (client, server):
            _hurry(end)
        link = Link(client, server)
        with self._lock:
            self._links.add(link)
        for pump in (self._pump_questions, self._pump_answers):
            threading.Thread(target=pump, args=[link], daemon=True).start()

    def _pump_questions(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            while data := link.client.recv(CHUNK):
                link.claims = link.claims or CLAIM_BEGINS in data
                link.server.sendall(data)
        self._end(link, link.client)

    def _pump_answers(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            while (data := link.server.recv(CHUNK)) and not link.doomed:
                link.client.sendall(data)
            self.lost += bool(data)
        self._end(link, link.server)

    def _end(self, link: Link, end: socket.socket) -> None:
        """The other thread of the link notices the shutdown and closes its own end."""
        link.close()
        end.close()
        with self._lock:
            self._links.discard(link)


def _detour(url: str, server: psycopg.ConnectionInfo, door: str | int) -> str:
    """The same database by another door: a folder with a socket, or a port here. The server's name stays, because its
    certificate is looked at on this way too; and the password is said, which a file may have for the other port."""
    address = make_url(url)
    query = {name: value for name, value in address.query.items() if name not in ("host", "hostaddr", "port")}
    detour = URL.create(
        "postgresql",
        username=server.user,
        password=server.password or None,
        host=server.host if isinstance(door, int) else None,
        port=door if isinstance(door, int) else None,
        database=server.dbname,
        query=query | ({"hostaddr": LOOPBACK} if isinstance(door, int) else {"host": door, "port": str(PORT)}),
    )
    return detour.render_as_string(hide_password=False)


def _socket_in(folder: str | Path, port: int) -> Path:
    """What a server that listens at this port calls its socket."""
    return Path(folder) / f".s.PGSQL.{port}"


def _listen(folder: Path | None) -> socket.socket:
    if folder is None:
        return socket.create_server((LOOPBACK, 0), backlog=128)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(_socket_in(folder, PORT)))
    listener.listen(128)
    return listener


def _reach(target: Target) -> socket.socket:
    if isinstance(target, tuple):
        return socket.create_connection(target)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.connect(target)
    except OSError:
        server.close()
        raise
    return server


def _hurry(end: socket.socket) -> None:
    """No statement is to wait for the acknowledgement of the one before."""
    if end.family != socket.AF_UNIX:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
