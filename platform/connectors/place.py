"""Where a sync is: all that its next attempt has to know, as the job's checkpoint keeps it.

Each connection is a part of the checkpoint, so there may be any number of them, and a page writes its own connection's
alone. A part always fits: whatever in it is as long as a source likes has a largest size, in bytes of JSON. What a sync
goes on by is kept as it is, or the connection fails; words are cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from uuid_utils.compat import uuid7

from jobplatform.queue import safe_json, safe_text

#: Bytes of a cursor or a state, of which a place has one each; and of the names of all streams together.
LONGEST_CURSOR = 65_536
LARGEST_STREAMS = 65_536
#: Warnings that are kept of one connection, characters of each, and bytes of all.
MOST_WARNINGS = 20
LONGEST_WARNING = 500
LARGEST_WARNINGS = 32_768
#: Characters of what a connection failed with, which may repeat whatever its source has said.
LONGEST_ERROR = 2_000

Status = Literal["waiting", "running", "busy", "failed", "completed"]


@dataclass
class ConnectionPlace:
    """How far one connection is. ``cursor`` is that of the page that comes next in ``stream``."""

    status: Status = "waiting"
    records: int = 0
    written: int = 0
    deleted: int = 0
    skipped: int = 0
    warnings: list[str] = field(default_factory=list)
    restarts: int = 0
    complete: bool = True
    expected: int | None = 0
    error: str | None = None
    finished: list[str] = field(default_factory=list)
    stream: str | None = None
    cursor: str | None = None
    state: str | None = None
    generation: int = 0
    #: Pages of the stream, and the digest of the cursor behind one of them: by it a cursor that comes again is known.
    pages: int = 0
    milestone: str | None = None

    def fail(self, error: Exception) -> None:
        """Keep what it failed with."""
        self.error = safe_text(str(error), LONGEST_ERROR)

    def warn(self, warnings: Sequence[str]) -> None:
        """Keep the first few; what is odd about a source is mostly odd a thousand times."""
        self.warnings += [safe_text(warning, LONGEST_WARNING) for warning in warnings[: MOST_WARNINGS + 1]]
        if len(self.warnings) > MOST_WARNINGS:
            self.warnings[MOST_WARNINGS:] = ["and more"]
        while size_of(self.warnings) > LARGEST_WARNINGS:
            self.warnings[-2:] = ["and more"]

    def enter(self, stream: str, cursor: str | None, generation: int) -> None:
        self.stream, self.cursor, self.state, self.generation = stream, cursor, None, generation
        self.complete, self.pages, self.milestone = True, 0, None

    def turn(self, cursor: str) -> bool:
        """Go on at the cursor, which is behind a page. False where it has come before: it would go on for ever.

        One cursor is remembered, and after twice as many pages another one: of whatever length a circle is, in the end
        the one that is remembered lies in it for long enough to come again.
        """
        # Some connectors' cursors are numbers.
        digest = hashlib.sha256(str(cursor).encode()).hexdigest()[:32]
        if digest == self.milestone:
            return False
        self.pages += 1
        if self.pages & (self.pages - 1) == 0:
            self.milestone = digest
        return True

    def leave(self) -> None:
        if self.stream is not None:
            self.finished.append(self.stream)
        self.stream = self.cursor = self.state = None


@dataclass
class SyncPlace:
    """How far the sync is, its entry in the log, and how often it had to wait for a source."""

    log_id: str = field(default_factory=lambda: str(uuid7()))
    waits: int = 0
    connections: dict[str, ConnectionPlace] = field(default_factory=dict)
    #: Those whose place is another than it was when the checkpoint was written.
    moved: set[str] = field(default_factory=set)

    def of(self, connection_id: object) -> ConnectionPlace:
        return self.connections.setdefault(str(connection_id), ConnectionPlace())

    @property
    def records(self) -> int:
        return sum(place.records for place in self.connections.values())

    @property
    def expected(self) -> int | None:
        known = [place.expected for place in self.connections.values()]
        return None if None in known else sum(filter(None, known))

    def as_state(self) -> dict[str, Any]:
        # Code of the version before looks for connections here.
        return {"log_id": self.log_id, "waits": self.waits, "connections": {}}

    def moved_parts(self) -> dict[str, Any]:
        """The parts of the checkpoint that are to be written."""
        return {name: dataclasses.asdict(self.connections[name]) for name in self.moved}


def place_of(state: dict[str, Any], parts: dict[str, Any]) -> SyncPlace:
    """What :meth:`SyncPlace.as_state` and :meth:`SyncPlace.moved_parts` wrote."""
    # Newer code may have written it, of which this one does not know every word.
    known = {field.name for field in dataclasses.fields(ConnectionPlace)}
    # Of a sync that began with code which kept all of it in one piece.
    before: dict[str, Any] = state["connections"]
    connections = {
        name: ConnectionPlace(**{word: value for word, value in place.items() if word in known})
        for name, place in (before | parts).items()
    }
    return SyncPlace(state["log_id"], state["waits"], connections)


def size_of(value: Any) -> int:
    """Bytes of JSON."""
    return len(safe_json(value).encode())
