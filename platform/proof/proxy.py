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

from jobplatform.queue.claim.plain import CLAIM

SOCKET_NAME = ".s.PGSQL.5432"
CHUNK = 65_536

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
    """Listens in ``folder`` and passes everything on to the server whose socket is in ``target``."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._target = target / SOCKET_NAME
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / SOCKET_NAME))
        self._listener.listen(128)
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
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(str(self._target))
        except OSError:
            # The server is being restarted: the client meets a closed door, as it would without us.
            client.close()
            server.close()
            return
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
