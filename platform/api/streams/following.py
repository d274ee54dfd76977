"""Followers: who waits for news of a job or of a workspace, and how far each has got.

A follower is fed by the hub (see hub.py) and drained in another thread: by the request that it belongs
to, or by the carrier (see carrying.py). Whatever it is fed is rendered there and then with the position
after it, so that a client which reads up to any event can go on from there. What a follower has not room for stays in
the database, where it is safe.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from jobplatform.api.streams.places import WorkspacePlace
from jobplatform.queue import (
    LATE_LINES,
    MOST_ENDED,
    MOST_LIVE,
    START,
    Change,
    Followed,
    Position,
    Seen,
    WorkspaceLook,
    changes_since,
    present_position,
)

#: Events that wait for a client to read them, and their bytes. With so many a follower is fed no more until it has been
#: drained. One event it always has room for, however large.
ROOM = 200
ROOM_BYTES = 1 << 20
#: Bytes that are taken at once, or one event.
PIECE = 64 << 10
#: Jobs of a follower that are looked at in one round, at most.
AT_ONCE = 20
#: Seconds for which a full follower may go undrained; then nobody is there.
PATIENCE = 60.0


class Render(Protocol):
    """How a change is told to a client; None for what this client is not told."""

    def __call__(self, change: Change, position: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Reader:
    """On whose behalf somebody follows: what is counted, watched, and shown."""

    workspace_id: str
    token_id: str | None
    reads_sealed: bool
    ends_at: float
    """By the monotonic clock: when the stream or its token is too old."""


class Follower(ABC):
    """Somebody who waits for news. ``end`` and ``put`` are for the hub, ``take`` for one other thread."""

    # There may be thousands, and nearly all of them wait.
    __slots__ = ("_bytes", "_lock", "_outbox", "_taking", "ended", "full_since", "on_news", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.ended = False
        self.full_since: float | None = None
        self.on_news: Callable[[], object] | None = None
        """For somebody who has more followers to drain than one: called whenever there is something to take."""
        self._lock = threading.Lock()
        self._taking: threading.Condition | None = None
        self._outbox: list[str] = []
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """Events that nobody has taken yet."""
        return len(self._outbox)

    @property
    def has_room(self) -> bool:
        return self.waiting < ROOM and self._bytes < ROOM_BYTES

    def end(self) -> None:
        with self._lock:
            self.ended = True
            self._tell()

    def put(self, texts: Iterable[str]) -> None:
        with self._lock:
            for text in texts:
                self._outbox.append(text)
                self._bytes += sys.getsizeof(text)
            self._tell()

    def take(self, seconds: float) -> str:
        """What there is, as one text; the first of it when that is much. Empty when nothing came within so many
        seconds, or the end."""
        with self._lock:
            if seconds:
                self._wait(seconds)
            count = size = 0
            while count < len(self._outbox) and size < PIECE:
                size += sys.getsizeof(self._outbox[count])
                count += 1
            text = "".join(self._outbox[:count])
            del self._outbox[:count]
            self._bytes -= size
            return text

    def _wait(self, seconds: float) -> None:
        self._taking = threading.Condition(self._lock)
        self._taking.wait_for(lambda: self._outbox or self.ended, timeout=seconds)
        self._taking = None

    def _tell(self) -> None:
        if self._taking is not None:
            self._taking.notify_all()
        if self.on_news is not None:
            self.on_news()

    def is_stalled(self, now: float) -> bool:
        """Whether nobody has drained it for a long time. Asked in every round."""
        if self.has_room:
            self.full_since = None
            return False
        self.full_since = self.full_since or now
        return now - self.full_since > PATIENCE

    @abstractmethod
    def followed(self) -> Iterator[Followed]:
        """The jobs of which it is not known whether there is news."""

    @abstractmethod
    def note_news(self, followed: Followed) -> None:
        """There is news of this one."""

    @abstractmethod
    def to_look_at(self) -> list[Followed]:
        """The jobs to be looked at now."""

    @abstractmethod
    def tell(self, followed: Followed, seen: Seen | None) -> None:
        """What was found; None for a job that is not there."""


class OneJob(Follower):
    """Of one job it is known whether there is news, which at first there is."""

    __slots__ = ("_followed", "_has_news")

    def __init__(self, reader: Reader, followed: Followed) -> None:
        super().__init__(reader)
        self._followed = followed
        self._has_news = True

    def followed(self) -> Iterator[Followed]:
        if not self._has_news:
            yield self._followed

    def note_news(self, followed: Followed) -> None:
        self._has_news = True

    def to_look_at(self) -> list[Followed]:
        return [self._followed] if self._has_news else []


class JobFollower(OneJob):
    """Follows one job until it has ended."""

    __slots__ = ("_render", "is_behind")

    def __init__(self, reader: Reader, job_id: str, position: Position, render: Render) -> None:
        super().__init__(reader, Followed(reader.workspace_id, job_id, "", position))
        self._render = render
        self.is_behind = True
        """Whether there is more than one look could tell."""

    def tell(self, followed: Followed, seen: Seen | None) -> None:
        if seen is None:
            self.end()
            return
        changes, self.is_behind = changes_since(followed.position, seen.facts)
        position = followed.position
        for change in changes:
            if not self.has_room:
                self.is_behind = True
                break
            position = change.position
            self.put(filter(None, [self._render(change, str(position))]))
        self._followed = followed._replace(version=seen.version, position=position)
        # Nothing changes any more at one that has ended but the time, and what comes late.
        self._has_news = self.is_behind or seen.facts.ending is not None
        if seen.facts.ending and not self.is_behind and not is_settling(seen):
            self.end()


class Waiter(OneJob):
    """Waits for one change of a job, whatever it is. Told nothing, only woken."""

    __slots__ = ()

    def __init__(self, reader: Reader, job_id: str) -> None:
        super().__init__(reader, Followed(reader.workspace_id, job_id, "", START, lines=False))

    def tell(self, followed: Followed, seen: Seen | None) -> None:
        self._has_news = False
        self._followed = followed._replace(version=seen.version if seen else "")
        self.put([" "])


class WorkspaceFollower(Follower):
    """Follows all jobs of a workspace, as long as they are not too many; says so when they are."""

    __slots__ = (
        "_at_once",
        "_begins",
        "_news",
        "_quiet",
        "_render",
        "_render_reset",
        "_settling",
        "_versions",
        "place",
    )

    def __init__(
        self, reader: Reader, place: WorkspacePlace | None, render: Render, render_reset: Callable[[bool, str], str]
    ) -> None:
        super().__init__(reader)
        self.place = place or WorkspacePlace()
        self._render = render
        self._render_reset = render_reset
        self._versions: dict[str, str] = {}
        self._news: set[str] = set(self.place.jobs)
        #: Whether the jobs that are there now were there before: then they are no news.
        self._begins = place is None
        self._quiet: set[str] = set()
        self._settling: dict[str, int] = {}
        self._at_once = AT_ONCE

    @property
    def is_behind(self) -> bool:
        """Whether there is more than one look could tell."""
        return bool(self._news)

    @property
    def asks(self) -> tuple[str, int | None]:
        return (self.reader.workspace_id, self.place.at)

    def meet(self, look: WorkspaceLook) -> None:
        """The jobs that there are now."""
        too_many = len(look.live) > MOST_LIVE or len(look.ended) > MOST_ENDED or not self.place.has_room
        too_old = self.place.is_too_old(look.at)
        self.place.at = look.at
        if self._begins:
            self._begin(look, exact=not too_many)
            self._say_place()
        elif too_old or (too_many and self.place.exact) or (self._is_calm(look) and not self.place.exact):
            self._begin(look, exact=not too_many)
            self.put([self._render_reset(not too_many, str(self.place))])
            self._say_place()
        elif self.place.exact:
            self._adopt(job_id for job_id in (*reversed(look.live), *reversed(look.ended)))
        else:
            self._adopt(look.running[: MOST_LIVE // 2])
        for job_id in [job_id for job_id, since in self._settling.items() if look.at - since > LATE_LINES * 1000]:
            self._let_go(job_id)
        self.place.forget_ended()

    def _is_calm(self, look: WorkspaceLook) -> bool:
        """With something to spare: it should not be too many again in the next round."""
        return len(look.live) <= MOST_LIVE * 4 // 5 and len(look.ended) <= MOST_ENDED * 4 // 5

    def _begin(self, look: WorkspaceLook, *, exact: bool) -> None:
        """From here on. Where the jobs are now is looked up and not told."""
        self._begins = False
        self.place = WorkspacePlace(at=look.at, exact=exact)
        self._versions.clear()
        self._settling.clear()
        known = look.live if exact else look.running[: MOST_LIVE // 2]
        for job_id in look.ended if exact else ():
            self.place.note_ended(job_id)
        self.place.jobs.update(dict.fromkeys(known, START))
        self._news = set(known)
        self._quiet = set(known)

    def _adopt(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if job_id not in self.place.jobs and not self.place.has_ended(job_id):
                self.place.jobs[job_id] = START
                self._news.add(job_id)
                if not self.place.exact:
                    self._quiet.add(job_id)

    def followed(self) -> Iterator[Followed]:
        return (self._follow(job_id) for job_id in self.place.jobs if job_id not in self._news)

    def note_news(self, followed: Followed) -> None:
        self._news.add(followed.job_id)

    def to_look_at(self) -> list[Followed]:
        room = max(1, min(self._at_once, (ROOM - self.waiting) // 10))
        self._at_once = AT_ONCE
        # Those nobody needs to be told of are cheap.
        quiet = sorted(self._quiet & self._news)
        return [self._follow(job_id) for job_id in (quiet or sorted(self._news)[:room])]

    def tell(self, followed: Followed, seen: Seen | None) -> None:
        job_id = followed.job_id
        self._news.discard(job_id)
        if seen is None:
            self._drop(job_id)
            return
        self._versions[job_id] = seen.version
        if job_id in self._quiet:
            self._pass_over(job_id, seen)
            return
        changes, more = changes_since(followed.position, seen.facts)
        for change in changes:
            if not self.has_room:
                # What was looked up of the others was in vain, and may be as large.
                self._at_once = 1
                more = True
                break
            self.place.jobs[job_id] = change.position
            self.put(filter(None, [self._render(change, str(self.place))]))
        if more:
            self._news.add(job_id)
        elif is_settling(seen):
            self._settling.setdefault(job_id, self.place.at or 0)
        elif seen.facts.ending:
            self._let_go(job_id)

    def _pass_over(self, job_id: str, seen: Seen) -> None:
        """The first look at a job that was there before: only where it is counts. Its lines so far are many, maybe."""
        self.place.jobs[job_id] = present_position(self.place.jobs[job_id], seen.facts)
        if seen.facts.lines_reach is not None:
            self._news.add(job_id)
        else:
            self._quiet.discard(job_id)
            self._say_place()

    @property
    def knows_its_place(self) -> bool:
        """Whether a client that comes back to it gets what is new and nothing else."""
        return not (self._begins or self._quiet)

    def _say_place(self) -> None:
        """An id alone is no event, and is remembered by the client all the same."""
        if self.knows_its_place:
            self.put([f"id: {self.place}\n\n"])

    def _let_go(self, job_id: str) -> None:
        """It has ended, and is not to be taken for a new one as long as it is among those that ended just now."""
        self._drop(job_id)
        self.place.note_ended(job_id)

    def _drop(self, job_id: str) -> None:
        self.place.jobs.pop(job_id, None)
        self._settling.pop(job_id, None)
        self._versions.pop(job_id, None)
        self._quiet.discard(job_id)

    def _follow(self, job_id: str) -> Followed:
        return Followed(
            self.reader.workspace_id, job_id, self._versions.get(job_id, ""), self.place.jobs.get(job_id, START)
        )


def is_settling(seen: Seen) -> bool:
    """Whether a handler that completed its job by itself may have said something that is still on its way."""
    return seen.settling and seen.facts.ending is not None and seen.facts.ending.status == "completed"
