"""Streams of events that come back by themselves: after a lost connection, a restart, or the stream's own end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from jobplatform.client.http import Http, pause_before, pauses, raise_for
from jobplatform.client.jobs import Event
from jobplatform.errors import BusyError, UnreachableError, WaitTimeoutError

#: Seconds without a sign of life, which comes every ten, after which the connection counts as lost.
SILENCE = 30.0


class Following:
    """The events of one stream, each once and in order, however often the connection has to be made anew."""

    def __init__(
        self, http: Http, path: str, *, last_event_id: str = "", timeout: float | None = None, patient: bool = True
    ) -> None:
        self.last_event_id = last_event_id
        self._http = http
        self._path = path
        self._until = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._patient = patient
        self._has_ended = False

    def __iter__(self) -> Iterator[Event]:
        """Until the job has ended; of a workspace, for ever. Raises :class:`WaitTimeoutError` when the time is over."""
        pause = pauses()
        while True:
            error: Exception | None = None
            try:
                for event in self._connect():
                    pause = pauses()
                    yield event
            except (httpx.TransportError, UnreachableError, BusyError) as lost:
                error = self._judged(lost)
            if self._has_ended:
                return
            self._sleep(pause_before(error, pause) if error else next(pause))

    def _judged(self, lost: httpx.TransportError | UnreachableError | BusyError) -> Exception:
        """Raise what cannot be waited out. Without a time that it may take, everything can."""
        if self._has_ended or (self._patient and isinstance(lost, BusyError)):
            return lost
        if isinstance(lost, BusyError):
            raise lost
        self._require_time(lost)
        return lost

    def _connect(self) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        timeout = httpx.Timeout(SILENCE, read=self._remaining(SILENCE))
        with self._http.client.stream("GET", self._path, headers=headers, timeout=timeout) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise_for(answer)
            for event in parse(answer.iter_text()):
                self.last_event_id = event.id or self.last_event_id
                if event.name:
                    self._has_ended = self._has_ended or (event.is_final and "/jobs/" in self._path)
                    yield event
                self._require_time(None)

    def _require_time(self, error: Exception | None) -> None:
        if self._until is not None and time.monotonic() >= self._until and not self._has_ended:
            raise WaitTimeoutError(self._path, self._timeout or 0.0) from error

    def _remaining(self, most: float) -> float:
        return most if self._until is None else max(0.001, min(most, self._until - time.monotonic()))

    def _sleep(self, seconds: float) -> None:
        self._require_time(None)
        time.sleep(self._remaining(seconds))


def parse(texts: Iterable[str]) -> Iterator[Event]:
    """Server-sent events from a text that is cut anywhere. One without a name only says where to go on."""
    rest = ""
    for text in texts:
        *blocks, rest = (rest + text.replace("\r\n", "\n")).split("\n\n")
        for block in blocks:
            fields = [line.partition(":")[::2] for line in block.split("\n") if line and not line.startswith(":")]
            yield _event({name: value.removeprefix(" ") for name, value in fields})
    # What is left is half of an event: it comes again.


def _event(fields: dict[str, str]) -> Event:
    data: Any = {}
    with contextlib.suppress(ValueError):
        data = json.loads(fields.get("data", "{}"))
    name = fields.get("event", "message") if "data" in fields else ""
    return Event(name, fields.get("id", ""), data if isinstance(data, dict) else {"value": data})
