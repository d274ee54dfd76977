"""Reading a stream of server-sent events as a browser does, from a test's own client."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flask import Flask
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.wsgi import create
from werkzeug.test import TestResponse

HERE = ("127.0.0.1", 80)


class Event(NamedTuple):
    """An event: its name, the id to come back with, and its data."""

    name: str
    id: str
    data: Any


class Stream:
    """The events of an answer, one after the other, and the id that a browser would come back with."""

    def __init__(self, answer: TestResponse) -> None:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        self.answer = answer
        self.last_id = ""
        self._events = self._read(parse(_texts(answer)))

    def _read(self, found: Iterator[Event]) -> Iterator[Event]:
        for event in found:
            self.last_id = event.id or self.last_id
            if event.data is not None:
                yield event
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def until(self, name: str) -> list[Event]:
        """The next events, up to the first of this name."""
        found = []
        for event in self:
            found.append(event)
            if event.name == name:
                return found
        raise AssertionError(f"the stream ended without {name}: {found}")

    def next(self, count: int) -> list[Event]:
        return [next(self._events) for _ in range(count)]

    def close(self) -> None:
        self.answer.close()


def parse(texts: Iterable[str]) -> Iterator[Event]:
    """Events, and blocks that only set an id: as the specification says, however the text is cut."""
    rest = ""
    for text in texts:
        rest += text
        while "\n\n" in rest:
            block, _, rest = rest.partition("\n\n")
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            data = json.loads(fields["data"]) if "data" in fields else None
            yield Event(fields.get("event", "message"), fields.get("id", ""), data)


def _texts(answer: TestResponse) -> Iterator[str]:
    for chunk in answer.response:
        yield chunk if isinstance(chunk, str) else chunk.decode()


def told(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """Names, with what tells them apart; progress left out, of which only the newest is kept."""
    return [
        (event.name, event.data["epoch"], *([event.data["line"]] if event.name == "job.log" else []))
        for event in events
        if event.name != "job.progress"
    ]


def ask_as_gunicorn_does(app: Flask, path: str, headers: Mapping[str, str]) -> socket.socket:
    """Serve one request, to the end of its answer or until it has been let go; then the client's end of its connection.

    The caller closes that.
    """
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    theirs.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    config = Config()
    request = next(get_parser(config, ours, HERE))
    answer, environ = create(request, ours, HERE, HERE, config)
    chunks = app(environ, answer.start_response)
    for chunk in chunks:
        answer.write(chunk)
    answer.close()
    assert answer.should_close()
    chunks.close()  # type: ignore[attr-defined]  # what Flask answers has it
    ours.close()
    return theirs
