"""Changes: a stream that says that something has changed of what a page shows. The page then looks again.

It tells no more than that. Nobody waits in the database for it, and no job is looked at: every second the process asks
once, for all who look, how much has been written to the tables that pages are about.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from flask import Flask, Response, current_app, request
from sqlalchemy.exc import SQLAlchemyError

from jobplatform.api.mounted import Mounted, Reach
from jobplatform.api.streams.following import Follower, Reader
from jobplatform.api.streams.streaming import LONGEST_STREAM, stream, write_event
from jobplatform.models import Role
from jobplatform.pages.shell import Section, current_shell, current_visit
from jobplatform.queue import Followed, Seen, pages

#: Seconds between two questions of a process.
EVERY: Final = 1.0

Writes = Mapping[str, int]


def make_changes() -> Section:
    section, pulse = Section("changes", __name__), Pulse()

    def stream_changes() -> Response:
        """An event for each change of what is asked for: ``?of=jobs,alerts``."""
        topics = [topic for topic in request.args.get("of", "").split(",") if topic in pages.TOPICS]
        seen = read_position(request.headers.get("Last-Event-ID", ""))
        look = _looker(current_app._get_current_object(), current_shell().mounted, pulse)  # type: ignore[attr-defined]  # Flask's way to hand it on
        return stream(Watcher(_reader(), topics, look, seen))

    section.page("/changes")(stream_changes)
    return section


class Pulse:
    """What a process knows of how much has been written, asked anew when it is a second old."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._asked_at = -EVERY
        self._writes: Writes = {}

    def look(self, ask: Callable[[], Writes]) -> Writes:
        # Whoever comes while another one asks is content with what was known before.
        if time.monotonic() - self._asked_at >= EVERY and self._asking.acquire(blocking=False):
            try:
                # The database may be away. That is no change, and will be over.
                with contextlib.suppress(SQLAlchemyError):
                    self._writes = ask()
                self._asked_at = time.monotonic()
            finally:
                self._asking.release()
        return self._writes


class Watcher(Follower):
    """Somebody who looks at pages about ``topics``. Counted as whoever follows jobs is, and fed by itself."""

    def __init__(self, reader: Reader, topics: Sequence[str], look: Callable[[], Writes], seen: Writes) -> None:
        super().__init__(reader)
        self._topics = topics
        self._look = look
        self._seen = dict(seen)
        if not seen:
            # What is there now is no change, and what comes from now on is.
            self._news()

    @property
    def waiting(self) -> int:
        """Whether there is an event. Looks for one: whoever drains this one asks often."""
        if not self._outbox and not self.ended and (text := self._news()):
            self.put([text])
        return len(self._outbox)

    @property
    def has_room(self) -> bool:
        """The hub feeds it nothing."""
        return True

    def take(self, seconds: float) -> str:
        """An event as soon as something has changed; empty when nothing has for so long, or at the end."""
        until = time.monotonic() + seconds
        while not self.waiting and not self.ended and (left := until - time.monotonic()) > 0:
            with self._lock:
                self._wait(min(left, EVERY))
        return super().take(0)

    def _news(self) -> str:
        writes = self._look()
        now = {topic: writes[topic] for topic in self._topics if topic in writes}
        changed = [topic for topic, number in now.items() if self._seen.get(topic, number) != number]
        self._seen |= now
        return write_event("changed", position_of(self._seen), changed) if changed else ""

    def followed(self) -> Iterator[Followed]:
        return iter(())

    def note_news(self, followed: Followed) -> None:
        """It follows no job."""

    def to_look_at(self) -> list[Followed]:
        return []

    def tell(self, followed: Followed, seen: Seen | None) -> None:
        """It follows no job."""


def position_of(writes: Writes) -> str:
    """What a client has seen, as the id of an event.

    >>> read_position(position_of({"jobs": 12, "alerts": 3})) == {"jobs": 12, "alerts": 3}
    True
    """
    return ",".join(f"{topic}.{number}" for topic, number in writes.items())


_NUMBER = re.compile(r"[0-9]{1,18}\Z")


def read_position(text: str) -> dict[str, int]:
    """Nonsense is nothing."""
    pairs = (part.partition(".") for part in text.split(","))
    return {topic: int(number) for topic, _, number in pairs if topic in pages.TOPICS and _NUMBER.match(number)}


def _reader() -> Reader:
    """The consoles of a process are one party, which gets no more than its part of the places."""
    visitor = current_visit().visitor
    age = LONGEST_STREAM if visitor.expires_in is None else min(LONGEST_STREAM, visitor.expires_in)
    return Reader("console", visitor.token_id, reads_sealed=False, ends_at=time.monotonic() + age)


def _looker(app: Flask, mounted: Mounted, pulse: Pulse) -> Callable[[], Writes]:
    """The request is over when it is asked first."""

    def ask() -> Writes:
        with app.app_context(), mounted.transaction(Reach(Role.OPERATOR)) as session:
            return pages.writes_by_topic(session)

    return lambda: pulse.look(ask)
