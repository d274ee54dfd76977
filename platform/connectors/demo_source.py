"""A demo source: a small HTTP server with made-up records that behaves like the API of a CRM.

It serves pages (``?limit=`` and ``?after=``, answered with ``results``, ``total`` and ``paging.next.after``), it
asks for patience now and then (429 with ``Retry-After``) and it fails occasionally (500). Which request meets which
of these is fixed, so two runs look alike. Its records are the same in every run.

    python -m jobplatform.connectors.demo_source --port 0

prints its URL on the first line. It is there to be synced in demos and tests, and holds nobody's data.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

STREAMS = {"contacts": 600, "companies": 180, "deals": 220}
BUSY_EVERY = 6
FAILS_EVERY = 11
RETRY_AFTER = 1
LARGEST_PAGE = 100

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Dennis", "Edsger", "Frances", "Grace", "Ken", "Leslie", "Radia")
LAST_NAMES = ("Allen", "Dijkstra", "Hopper", "Lamport", "Liskov", "Lovelace", "Perlman", "Ritchie", "Turing")
STAGES = ("new", "qualified", "proposal", "won", "lost")


def connection_config(url: str, page_size: int = 50) -> dict[str, Any]:
    """The configuration of an ``http_json`` connection to a demo source at ``url``."""
    return {
        "baseUrl": url,
        "pageSize": page_size,
        "streams": {stream: {"path": f"/crm/{stream}"} for stream in STREAMS},
    }


def make_record(stream: str, number: int) -> dict[str, Any]:
    """Record ``number`` of a stream, always the same."""
    updated_at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=number)
    record = {"id": f"{stream}-{number}", "updatedAt": updated_at.isoformat()}
    name = f"{FIRST_NAMES[number % 10]} {LAST_NAMES[number % 9]}"
    match stream:
        case "contacts":
            return {**record, "name": name, "email": f"contact{number}@demo.example"}
        case "companies":
            return {**record, "name": f"{LAST_NAMES[number % 9]} & {FIRST_NAMES[number % 10]} Ltd {number}"}
        case _:
            return {**record, "name": f"Deal with {name}", "stage": STAGES[number % 5], "amount": number * 100}


class DemoSource(ThreadingHTTPServer):
    """The server. ``delay`` seconds are spent on each page, as a real one would."""

    daemon_threads = True

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, delay: float = 0.0, retry_after: int = RETRY_AFTER
    ) -> None:
        super().__init__((host, port), _Handler)
        self.delay = delay
        self.retry_after = retry_after
        self.requests = 0
        self._counting = threading.Lock()

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def next_request(self) -> int:
        with self._counting:
            self.requests += 1
            return self.requests

    def mood_of(self, request: int) -> HTTPStatus:
        if request % FAILS_EVERY == 0:
            return HTTPStatus.INTERNAL_SERVER_ERROR
        if request % BUSY_EVERY == 0:
            return HTTPStatus.TOO_MANY_REQUESTS
        return HTTPStatus.OK


class _Handler(BaseHTTPRequestHandler):
    server: DemoSource
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a page, or a bad mood."""
        path = urlsplit(self.path)
        stream = path.path.removeprefix("/crm/")
        if stream not in STREAMS:
            self._answer(HTTPStatus.NOT_FOUND, {"message": "the demo source has no such stream"})
            return
        mood = self.server.mood_of(self.server.next_request())
        if mood is HTTPStatus.TOO_MANY_REQUESTS:
            self._answer(mood, {"message": "slow down, please"}, {"Retry-After": str(self.server.retry_after)})
        elif mood is HTTPStatus.INTERNAL_SERVER_ERROR:
            self._answer(mood, {"message": "an occasional failure"})
        else:
            self._answer_page(stream, parse_qs(path.query))

    def _answer_page(self, stream: str, query: Mapping[str, list[str]]) -> None:
        try:
            limit = min(int(query.get("limit", ["50"])[0]), LARGEST_PAGE)
            start = int(query.get("after", ["0"])[0])
        except ValueError:
            self._answer(HTTPStatus.BAD_REQUEST, {"message": "limit and after are numbers"})
            return
        time.sleep(self.server.delay)
        end = min(start + limit, STREAMS[stream])
        body: dict[str, Any] = {
            "total": STREAMS[stream],
            "results": [make_record(stream, number) for number in range(start, end)],
        }
        if end < STREAMS[stream]:
            body["paging"] = {"next": {"after": str(end)}}
        self._answer(HTTPStatus.OK, body)

    def _answer(self, status: HTTPStatus, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """One line per request on standard error, without the date that would make two runs differ."""
        sys.stderr.write(f"demo source: {format % args}\n")


def _open(host: str, port: int, delay: float) -> DemoSource:
    """On ``port``, or on any free one when somebody has that."""
    try:
        return DemoSource(host, port, delay=delay)
    except OSError:
        return DemoSource(host, 0, delay=delay)


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="A demo source that behaves like the API of a CRM.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, or one that is taken, means any free one")
    parser.add_argument("--delay", type=float, default=0.15, help="seconds spent on each page")
    options = parser.parse_args()
    with _open(options.host, options.port, options.delay) as source:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        sys.stdout.write(f"{source.url}\n")
        sys.stdout.flush()
        try:
            source.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
