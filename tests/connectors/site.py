"""A site in this process that answers what a test says, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, TypeVar


class Asked(NamedTuple):
    """A request that came in."""

    path: str
    headers: Mapping[str, str]


class Said(NamedTuple):
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


S = TypeVar("S", bound="Site")
Answer = Said | Callable[[Asked], Said]


class Site(ThreadingHTTPServer):
    """Serves ``pages`` by path; an unknown one is 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self.visitors = 0

    def verify_request(self, request: object, client_address: object) -> bool:
        """Count whoever comes, whatever they speak."""
        self.visitors += 1
        return True

    def say(self, asked: Asked) -> Said:
        answer = self.pages.get(asked.path, Said(404))
        return answer if isinstance(answer, Said) else answer(asked)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"
    #: Seconds for who says nothing.
    timeout = 1

    def do_GET(self) -> None:
        """Look up what to say."""
        asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
        self.server.asked.append(asked)
        said = self.server.say(asked)
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        if said.status != 304:
            self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        if said.status != 304:
            self.wfile.write(said.body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests read what was asked."""


@contextmanager
def running(kind: type[S] = Site) -> Iterator[S]:  # type: ignore[assignment]  # what a test does not say is a Site
    """A site for the length of the block."""
    with kind() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()
