"""The doorbell: wake idle workers after a commit. A hint, never the truth.

Workers poll; a bell that is lost costs one poll interval. So it is cheap: rung after the commit and never inside the
enqueuing transaction (where a NOTIFY makes all commits of the database queue for one lock: six times fewer of them),
on a connection of its own that does not wait for the disk, and at most a hundred times a second from each process.
Nobody waits for it to have been rung: a thread does that or, when its connection has nothing to say, whoever rings puts
a line on it and goes on.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import selectors
import threading
import time
import uuid
import weakref
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Dialect, Engine, event
from sqlalchemy.orm import Session, SessionTransaction

from jobplatform.models import connect_bare, on_our_driver

#: Workers LISTEN here. A payload is ``q:<queue>`` (jobs are ready in it), ``w:<workspace>,<workspace>…`` (they are
#: theirs), :data:`CANCEL` or :data:`SETTLE`.
CHANNEL = "jobplatform"
CANCEL = "c"
SETTLE = "s"
#: The name under which the server knows a connection that listens; health counts them.
LISTENER = "jobplatform-listener"
#: And that of one that rings.
RINGER = "jobplatform-doorbell"

#: Seconds between two rings; what comes in between is rung once. At 50 ms, twenty enqueues a second queued up behind
#: it and an idle worker started them 20 ms late.
INTERVAL = 0.01
#: Seconds without a ring after which the thread and its connection are given up. The next ring has to connect first.
IDLE = 60.0
#: Workspaces that one ring names; with this many, turns come round soon enough for the others.
MOST_WORKSPACES = 100
#: Seconds a process that ends waits for its last bell to have been rung.
LAST_RING = 1.0

NOTIFY = """
select set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, payload)
from unnest(%(payloads)s::text[]) payload
"""
#: The same as one text, for a connection whose answer nobody waits for.
LINE = """
select set_config('synchronous_commit', 'off', true), pg_notify('{channel}', payload)
from unnest(array[{payloads}]) payload
"""

_log = logging.getLogger("jobplatform.queue")
#: By dialect: that is what an engine shares with those that are made of it by ``execution_options``.
_bells: weakref.WeakKeyDictionary[Dialect, Doorbell] = weakref.WeakKeyDictionary()
#: All of them: one whose engine is gone may have something left to ring with. Its thread keeps it until then.
_every_bell: weakref.WeakSet[Doorbell] = weakref.WeakSet()
_bells_lock = threading.Lock()
_PENDING = "jobplatform.doorbell"


def ring_for_jobs(session: Session, queues: Iterable[str], workspaces: Iterable[uuid.UUID]) -> None:
    """Ring after the commit: these queues have new ready jobs, of these workspaces among others."""
    payloads = {f"q:{queue}" for queue in queues}
    payloads.update(f"w:{workspace_id}" for workspace_id in itertools.islice(workspaces, MOST_WORKSPACES))
    ring_after_commit(session, payloads)


def ring_after_commit(session: Session, payloads: Iterable[str]) -> None:
    """Ring with ``payloads`` once this Session's transaction has committed; a rollback forgets them."""
    session.info.setdefault(_PENDING, set()).update(payloads)


def silence(engine: Engine) -> None:
    """Never ring for this engine: a worker's own, or an installation that only polls."""
    with _bells_lock:
        _bells[engine.dialect] = _SilentDoorbell(engine)


@event.listens_for(Session, "after_commit")
def _ring_pending(session: Session) -> None:
    pending: set[str] | None = session.info.get(_PENDING)
    # The commit of a SAVEPOINT is not yet the commit of the job.
    if pending and not session.in_nested_transaction():
        _doorbell_of(session).ring(pending)
        pending.clear()


@event.listens_for(Session, "after_soft_rollback")
def _forget_pending(session: Session, ended: SessionTransaction) -> None:
    pending: set[str] | None = session.info.get(_PENDING)
    # The rollback of a SAVEPOINT leaves the rest of the transaction to be committed.
    if pending and not ended.nested:
        pending.clear()


def _doorbell_of(session: Session) -> Doorbell:
    bind = session.get_bind()
    engine = bind.engine if isinstance(bind, Connection) else bind
    with _bells_lock:
        bell = _bells.get(engine.dialect)
        if bell is None or not bell.works_here:
            # After a fork the parent's thread is not here; a bell of this process has one.
            bell = _bells[engine.dialect] = Doorbell(engine)
            _every_bell.add(bell)
        return bell


class Doorbell:
    """Rings from a thread of its own, so that no request waits for it. The thread ends when it was idle for a while.

    While the thread has nothing to do, whoever rings pulls its rope and does not wait: on an idle machine waking the
    thread first takes longer than all the rest.
    """

    def __init__(self, engine: Engine) -> None:
        self._pid = os.getpid()
        self._url = on_our_driver(engine)
        self._changed = threading.Condition()
        self._payloads: set[str] = set()
        self._running = False
        self._ringing = False
        self._is_missing = False
        """Whether the last ring was missed for want of a thread: said once, not at each commit."""
        self._rope: _Rope | None = None
        """The thread's, while it has nothing to do."""
        self._rung_at = 0.0

    @property
    def works_here(self) -> bool:
        return self._pid == os.getpid()

    def ring(self, payloads: Iterable[str]) -> None:
        with self._changed:
            if self._ring_at_once(payloads):
                return
            self._payloads.update(payloads)
            self._changed.notify()
            if not self._running:
                self._start()

    def _start(self) -> None:
        """The commit has happened: whoever rings is not to hear that a thread cannot be had."""
        try:
            threading.Thread(target=self._run, name="jobplatform-doorbell", daemon=True).start()
            self._running = True
        except RuntimeError as error:
            self._miss(error)

    def _ring_at_once(self, payloads: Iterable[str]) -> bool:
        """Ring here and now, if that takes no waiting."""
        now = time.monotonic()
        if self._rope is None or self._payloads or now - self._rung_at < INTERVAL:
            return False
        if not self._rope.tug(payloads):
            return False
        self._rung_at = now
        return True

    def _run(self) -> None:
        rope = _Rope(self._url)
        try:
            while payloads := self._next_payloads(rope):
                time.sleep(max(0.0, self._rung_at + INTERVAL - time.monotonic()))
                rope.pull(payloads)
                self._rung()
        except Exception as error:  # noqa: BLE001  # without this thread nobody rings: whatever it is, another is begun
            with self._changed:
                self._running = self._ringing = False
                self._miss(error)
        finally:
            rope.drop()

    def _miss(self, error: Exception) -> None:
        """Nobody is rung this time; workers poll. The next ring begins a thread again."""
        self._payloads.clear()
        self._changed.notify_all()
        if not self._is_missing:
            _log.warning("doorbell not rung, workers will poll", extra={"error": f"{type(error).__name__}: {error}"})
        self._is_missing = True

    def _next_payloads(self, rope: _Rope) -> set[str]:
        """Wait for something to ring with; nothing means that the thread is to end, and has been written off."""
        with self._changed:
            self._rope = rope
            idle_since = time.monotonic()
            while not self._payloads and (left := max(idle_since, self._rung_at) + IDLE - time.monotonic()) > 0:
                self._changed.wait(left)
            self._rope = None
            payloads, self._payloads = self._payloads, set()
            self._running = self._ringing = bool(payloads)
            return payloads

    def _rung(self) -> None:
        with self._changed:
            self._ringing = self._is_missing = False
            self._rung_at = time.monotonic()
            self._changed.notify_all()

    def finish(self, seconds: float) -> bool:
        """Wait until everything asked for has been rung, but not longer. Whether it has."""
        with self._changed:
            if not self._changed.wait_for(lambda: not (self._payloads or self._ringing), timeout=seconds):
                return False
            return self._rope is None or self._rope.settle(seconds)


class _Rope:
    """A connection that is kept from one ring to the next: to take it from the pool each time would take as long.

    It is the driver's own. An engine made for it asks the server four questions before the first ring, and the first
    job of a process that was quiet waited for the answers.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._driver: psycopg.Connection[Any] | None = None
        self._is_owed = False

    def pull(self, payloads: set[str]) -> None:
        """Ring, and wait for the answer."""
        try:
            if not self.settle(LAST_RING):
                self.drop()
            self._driver = self._driver or connect_bare(self._url, application_name=RINGER)
            self._driver.execute(NOTIFY, {"channel": CHANNEL, "payloads": _in_few(payloads)})
        except psycopg.Error as error:
            _log.debug("doorbell not rung, workers will poll", extra={"error": str(error)})
            self.drop()

    def tug(self, payloads: Iterable[str]) -> bool:
        """Ring without waiting. False, and nothing has happened, when that cannot be done on this connection now."""
        if self._driver is None:
            return False
        try:
            if not self._has_answered():
                return False
            texts = ", ".join(_quoted(payload) for payload in _in_few(set(payloads)))
            self._driver.pgconn.send_query(LINE.format(channel=CHANNEL, payloads=texts).encode())
            self._is_owed = True
            self._driver.pgconn.flush()
        except psycopg.Error as error:
            _log.debug("doorbell connection lost", extra={"error": str(error)})
            self.drop()
            return False
        return True

    def settle(self, seconds: float) -> bool:
        """Wait for the answer to a tug, but not longer. Whether the connection, if there still is one, is as if there
        had been none."""
        until = time.monotonic() + seconds
        try:
            while self._driver is not None and not self._has_answered():
                left = until - time.monotonic()
                if left <= 0 or not self._is_owed:
                    return False
                _wait_for_input(self._driver.pgconn.socket, left)
        except psycopg.Error:
            self.drop()
        return True

    def _has_answered(self) -> bool:
        """Whether nothing is owed to an earlier tug. Raises the driver's error when the server has hung up."""
        assert self._driver is not None
        pgconn = self._driver.pgconn
        pgconn.consume_input()
        # What a server says when it hangs up is read like an answer; only what comes after it is the end.
        pgconn.consume_input()
        while self._is_owed and not pgconn.is_busy():
            self._is_owed = pgconn.get_result() is not None
        return not self._is_owed and pgconn.transaction_status == TransactionStatus.IDLE

    def drop(self) -> None:
        driver, self._driver, self._is_owed = self._driver, None, False
        if driver is not None:
            with contextlib.suppress(psycopg.Error):
                driver.close()


def _wait_for_input(fd: int, seconds: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        selector.select(seconds)


def _quoted(payload: str) -> str:
    return "'" + payload.replace("'", "''") + "'"


def _in_few(payloads: set[str]) -> list[str]:
    """The same in fewer notifications: workspaces share one, and 100 of them are half of what it may hold."""
    workspaces = sorted(payload[2:] for payload in payloads if payload.startswith("w:"))
    rest = sorted(payload for payload in payloads if not payload.startswith("w:"))
    # Workspaces first: who hears of the queue claims at once.
    return [*([f"w:{','.join(workspaces[:MOST_WORKSPACES])}"] if workspaces else []), *rest]


def finish_ringing(seconds: float) -> bool:
    """Wait until all that this process has asked for has been rung, but for no bell longer. Whether it has."""
    with _bells_lock:
        bells = [bell for bell in _every_bell if bell.works_here]
    late = [bell for bell in bells if not bell.finish(seconds)]
    return not late


@atexit.register
def _ring_before_leaving() -> None:
    """A script that enqueues and ends would take its bell along: the thread that rings does not outlive it."""
    finish_ringing(LAST_RING)


class _SilentDoorbell(Doorbell):
    @property
    def works_here(self) -> bool:
        """In every process: what was silenced before a fork stays silent after it."""
        return True

    def ring(self, payloads: Iterable[str]) -> None:
        """Nobody is to be woken."""
