"""The hub: one thread that looks for news on behalf of everybody who follows something in this process.

    1. Which jobs are there in the workspaces that are followed whole.
    2. Which followed jobs have changed: one statement for all of them.
    3. What is new about those, a few at a time for each follower.
    4. Every other second: whose token has been revoked.

With many followers a round is so many portions, spread over its time: each a short transaction on one connection of
the pool, and then a pause in which the process is there for its requests. Whoever comes meanwhile, or has more to be
told than a look could tell, is looked at in the pauses. So one connection serves all followers, nobody's request holds
one while it waits, and a process that nobody asks for news looks for none. It polls rather than listens, because
nothing then has to be rung when a job changes, and a pooler may stand in between: see
docs/decisions/the-api-polls-for-news.md.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jobplatform.api.access.tokens import find_dead_tokens
from jobplatform.api.streams.carrying import Carrier, Line
from jobplatform.api.streams.following import Follower, JobFollower, Reader, Waiter, WorkspaceFollower
from jobplatform.api.streams.giving_way import giving_way, has_greenlets
from jobplatform.queue import Followed, Seen, find_news, look_at_jobs, look_at_workspace, reveal_facts
from jobplatform.settings import Settings

#: Seconds that a round takes at least. One that has much to look at takes longer, since each portion is followed by a
#: pause of four times what it took: with very many followers each hears a little later, and neither the process nor the
#: database does much else for them.
INTERVAL = 0.25
#: Seconds that its pauses take together at most, if the round does not take its time anyway.
LONGEST_PAUSE = 0.75
#: Seconds between two looks at tokens. With the longest pause it keeps revocation within 5 s.
TOKENS_EVERY = 2.0
#: Seconds without a follower after which the thread ends.
IDLE = 5.0
#: Jobs looked at in one statement, and about so many in one transaction.
PORTION = 200
#: Jobs that are told of without giving way to the requests of a process with greenlets.
TOLD_AT_ONCE = 20
#: Held requests of a process when nobody said how many: greenlets cost little, threads are few.
GREENLETS_HOLD = 2_500
THREADS_HOLD = 8

log = logging.getLogger("jobplatform.api")

Transaction = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many requests may be held open for news: in a process (0: by its kind), of a workspace, of a token."""

    process: int = 0
    workspace: int = 200
    token: int = 100

    @classmethod
    def from_settings(cls, settings: Settings) -> StreamLimits:
        return cls(settings.max_streams, settings.max_streams_per_workspace, settings.max_streams_per_token)

    @property
    def of_process(self) -> int:
        return self.process or (GREENLETS_HOLD if has_greenlets() else THREADS_HOLD)


class NoPlaceError(Exception):
    """Another follower cannot be fed now; the message tells them why."""

    @classmethod
    def crowded(cls, who: str) -> NoPlaceError:
        return cls(f"As many streams are open as {who} may have.")


class Hub:
    """Followers come and go (:meth:`following`); as long as there is one, a thread feeds them."""

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.limits = limits or StreamLimits()
        self.rounds = 0
        self._followers: set[Follower] = set()
        #: Those who came since they could be looked at, or have more to be told.
        self._urgent: set[Follower] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._running_in: int | None = None
        self._thread: threading.Thread | None = None
        self._leaving = False
        self._tokens_seen_at = 0.0
        self._carrier = Carrier(self.leave)
        self._says_farewell_in: int | None = None

    @property
    def following_now(self) -> int:
        """How many followers there are. Not its length: a hub that nobody follows is a hub all the same."""
        return len(self._followers)

    def join(self, follower: Follower, transaction: Transaction) -> None:
        """Feed it from now on. Raises :class:`NoPlaceError`; :meth:`leave` must follow otherwise."""
        with self._lock:
            if self._running_in != os.getpid():
                # After a fork the parent's followers are not ours, nor is its thread.
                self._followers.clear()
                self._urgent.clear()
            self._require_room(follower.reader)
            if self._running_in != os.getpid():
                self._start(transaction)
            self._followers.add(follower)
            self._urgent.add(follower)
        if self._leaving:
            follower.end()
        self._wake.set()

    def _start(self, transaction: Transaction) -> None:
        thread = threading.Thread(target=self._run, args=(transaction,), name="jobplatform-hub", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("api.events_not_started", extra={"error": str(error)})
            raise NoPlaceError("This process cannot start the thread that looks for news.") from error
        self._thread, self._running_in = thread, os.getpid()

    def leave(self, follower: Follower) -> None:
        with self._lock:
            self._followers.discard(follower)
            self._urgent.discard(follower)

    def carry(self, line: Line) -> None:
        """Write to it from here, and have its follower leave at the end: nobody's request waits for that."""
        if self._says_farewell_in != os.getpid():
            self._says_farewell_in = os.getpid()
            # The server knows of no request that it would have to wait for.
            atexit.register(self.close)
        self._carrier.take(line)

    @contextmanager
    def following(self, follower: Follower, transaction: Transaction) -> Iterator[None]:
        self.join(follower, transaction)
        try:
            yield
        finally:
            self.leave(follower)

    def end_all(self) -> None:
        """Have everybody end, and whoever comes later: the process stops. May be called from a signal's handler."""
        self._leaving = True

    def close(self) -> None:
        """The same, and wait for the threads: clients are told, and who disposes of the database finds it unused."""
        self.end_all()
        self._wake.set()
        if self._thread is not None and self._running_in == os.getpid():
            self._thread.join(10)
        self._carrier.join()

    def _require_room(self, reader: Reader) -> None:
        most = self.limits.of_process
        # One workspace does not get all the places of a process, however few they are.
        of_workspace = min(self.limits.workspace, max(1, most // 2))
        others = [follower for follower in self._followers if not follower.ended]
        if len(others) >= most:
            raise NoPlaceError.crowded("this process")
        if sum(other.reader.workspace_id == reader.workspace_id for other in others) >= of_workspace:
            raise NoPlaceError.crowded("the workspace")
        if reader.token_id and sum(other.reader.token_id == reader.token_id for other in others) >= self.limits.token:
            raise NoPlaceError.crowded("the token")

    # -- the thread ------------------------------------------------------------------------------

    def _run(self, transaction: Transaction) -> None:
        idle_since = time.monotonic()
        failed = 0
        while True:
            started = time.monotonic()
            # Those that have ended are still there until their requests notice.
            if any(not follower.ended for follower in list(self._followers)):
                idle_since = started
            elif self._ends(idle_since):
                return
            try:
                self._round(transaction)
                failed = 0
            except Exception as error:  # noqa: BLE001  # the thread serves everybody; whatever it is, it goes on
                failed += 1
                self._report(failed, error)
                self._wake.wait(min(0.5 * failed, LONGEST_PAUSE))

    def _ends(self, idle_since: float) -> bool:
        """Whether it was idle for long enough; it is written off under the lock, so that the next one is started."""
        if time.monotonic() - idle_since < IDLE and not self._leaving:
            return False
        with self._lock:
            if any(not follower.ended for follower in self._followers):
                return False
            self._running_in = None
            return True

    def _report(self, failed: int, error: Exception) -> None:
        if failed == 1:
            log.warning("api.events_interrupted", extra={"error": f"{type(error).__name__}: {error}"[:300]})

    def _round(self, transaction: Transaction) -> None:
        """Everybody once. Without a follower it is a pause, which ends when one comes."""
        with self._lock:
            portions = _portions(follower for follower in self._followers if not follower.ended)
        for portion in portions:
            began = time.monotonic()
            self._look_at(portion, transaction)
            self._pause(began, len(portions), transaction)
        if not portions:
            self._wake.wait(INTERVAL)
            self._wake.clear()
        self.rounds += bool(portions)

    def _pause(self, began: float, portions: int, transaction: Transaction) -> None:
        """Until it is the next portion's turn. Nobody who is in a hurry waits for that."""
        now = time.monotonic()
        until = max(began + INTERVAL / portions, now + min(4 * (now - began), LONGEST_PAUSE / portions))
        while not self._leaving and (left := until - time.monotonic()) > 0:
            if self._urgent or self._wake.wait(left):
                self._wake.clear()
                with self._lock:
                    urgent = list(self._urgent)
                self._look_at(urgent[:PORTION], transaction)

    def _look_at(self, portion: list[Follower], transaction: Transaction) -> None:
        with self._lock:
            self._urgent.difference_update(portion)
        followers = [follower for follower in portion if not self._has_to_go(follower)]
        if not followers:
            return
        with transaction() as session:
            self.look(session, followers)
        behind = [follower for follower in followers if _is_behind(follower)]
        with self._lock:
            # Those who have left meanwhile are not to come back.
            self._urgent.update(self._followers.intersection(behind))

    def _has_to_go(self, follower: Follower) -> bool:
        now = time.monotonic()
        if self._leaving or now > follower.reader.ends_at or follower.is_stalled(now):
            follower.end()
        return follower.ended

    # -- one round -------------------------------------------------------------------------------

    def look(self, session: Session, followers: list[Follower]) -> None:
        """Everything that is new for ``followers``, as far as they have room for it."""
        self._end_revoked(session)
        fed = [follower for follower in followers if follower.has_room and not follower.ended]
        _look_at_workspaces(session, [follower for follower in fed if isinstance(follower, WorkspaceFollower)])
        _note_news(session, fed)
        _tell(session, fed)

    def _end_revoked(self, session: Session) -> None:
        """Of all followers: however long a round takes, nobody has to wait for their turn to be ended."""
        if time.monotonic() - self._tokens_seen_at < TOKENS_EVERY:
            return
        self._tokens_seen_at = time.monotonic()
        with self._lock:
            followers = list(self._followers)
        dead = find_dead_tokens(session, {token for follower in followers if (token := follower.reader.token_id)})
        for follower in followers if dead else ():
            if follower.reader.token_id in dead:
                follower.end()


def _portions(followers: Iterable[Follower]) -> list[list[Follower]]:
    """Whom to look at together, so that each look is at about ``PORTION`` jobs.

    All who follow the same workspace are in one: they ask about the same jobs.
    """
    of_jobs, by_workspace = [], defaultdict(list)
    for follower in followers:
        if isinstance(follower, WorkspaceFollower):
            by_workspace[follower.reader.workspace_id].append(follower)
        else:
            of_jobs.append(follower)
    portions: list[list[Follower]] = [of_jobs[start : start + PORTION] for start in range(0, len(of_jobs), PORTION)]
    room = 0
    for group in by_workspace.values():
        if room <= 0:
            room = PORTION
            portions.append([])
        portions[-1] += group
        room -= max(1, *(len(follower.place.jobs) for follower in group))
    return portions


def _look_at_workspaces(session: Session, followers: list[WorkspaceFollower]) -> None:
    """Followers of one workspace who looked last at the same moment are answered together."""
    asked = list(dict.fromkeys(follower.asks for follower in followers))
    looks = dict(zip(asked, look_at_workspace(session, asked), strict=True))
    for follower in followers:
        follower.meet(looks[follower.asks])


def _note_news(session: Session, followers: list[Follower]) -> None:
    # Many may follow the same job and be at the same place.
    asking: defaultdict[Followed, list[Follower]] = defaultdict(list)
    pairs = ((follower, followed) for follower in followers for followed in follower.followed())
    for follower, followed in giving_way(pairs, PORTION):
        asking[followed].append(follower)
    distinct = list(asking)
    for start in range(0, len(distinct), PORTION):
        portion = distinct[start : start + PORTION]
        for place in find_news(session, portion):
            for follower in asking[portion[place]]:
                follower.note_news(portion[place])


def _tell(session: Session, followers: list[Follower]) -> None:
    asked = [(follower, followed) for follower in followers for followed in follower.to_look_at()]
    for start in range(0, len(asked), PORTION):
        portion = asked[start : start + PORTION]
        found = look_at_jobs(session, [followed for _, followed in portion])
        for place, (follower, followed) in giving_way(enumerate(portion), TOLD_AT_ONCE):
            follower.tell(followed, _shown(session, follower, found.get(place)))


def _shown(session: Session, follower: Follower, seen: Seen | None) -> Seen | None:
    if seen is None or isinstance(follower, Waiter):
        return seen
    return seen._replace(facts=reveal_facts(session, seen.facts, to_reader=follower.reader.reads_sealed))


def _is_behind(follower: Follower) -> bool:
    """Whether there is more to be told at once. A job that has ended and may still speak is in no hurry."""
    hears = follower.has_room and not follower.ended
    return hears and isinstance(follower, WorkspaceFollower | JobFollower) and follower.is_behind
