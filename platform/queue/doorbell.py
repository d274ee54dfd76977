"""The doorbell: wake idle workers after a commit. A hint, never the truth.

Workers poll; a bell that is lost costs one poll interval. So it is cheap: rung after the commit and never inside the
enqueuing transaction (where a NOTIFY makes all commits of the database queue for one lock: six times fewer of them),
on a connection of its own that does not wait for the disk, and at most a hundred times a second from each process.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterable

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from jobplatform.models import make_engine

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
#: Seconds without a ring after which the thread and its connection are given up.
IDLE = 10.0
#: Workspaces that one ring names; with this many, turns come round soon enough for the others.
MOST_WORKSPACES = 100
#: Seconds a process that ends waits for its last bell to have been rung.
LAST_RING = 1.0

NOTIFY = """
select set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, payload)
from unnest(%(payloads)s::text[]) payload
"""

_log = logging.getLogger("jobplatform.queue")
#: By dialect: that is what an engine shares with those that are made of it by ``execution_options``.
_bells: weakref.WeakKeyDictionary[Dialect, Doorbell] = weakref.WeakKeyDictionary()
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
        return bell


class Doorbell:
    """Rings from a thread of its own, so that no request waits for it. The thread ends when it was idle for a while."""

    def __init__(self, engine: Engine) -> None:
        self._pid = os.getpid()
        self._url = engine.url
        self._changed = threading.Condition()
        self._payloads: set[str] = set()
        self._running = False
        self._ringing = False

    @property
    def works_here(self) -> bool:
        return self._pid == os.getpid()

    def ring(self, payloads: Iterable[str]) -> None:
        with self._changed:
            self._payloads.update(payloads)
            self._changed.notify()
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="jobplatform-doorbell", daemon=True).start()

    def _run(self) -> None:
        engine = make_engine(self._url, application_name=RINGER, pool_size=1, autocommit=True)
        rope = _Rope(engine)
        try:
            while payloads := self._next_payloads():
                rope.pull(payloads)
                self._rung()
                time.sleep(INTERVAL)
        finally:
            rope.drop()
            engine.dispose()

    def _next_payloads(self) -> set[str]:
        """Wait for something to ring with; nothing means that the thread is to end, and has been written off."""
        with self._changed:
            self._changed.wait_for(lambda: self._payloads, timeout=IDLE)
            payloads, self._payloads = self._payloads, set()
            self._running = self._ringing = bool(payloads)
            return payloads

    def _rung(self) -> None:
        with self._changed:
            self._ringing = False
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until everything asked for has been rung; not for long, since it is only a bell."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._payloads or self._ringing), timeout=LAST_RING)


class _Rope:
    """A connection that is kept from one ring to the next: to take it from the pool each time would take as long."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def pull(self, payloads: set[str]) -> None:
        try:
            self._connection = self._connection or self._engine.connect()
            self._connection.exec_driver_sql(NOTIFY, {"channel": CHANNEL, "payloads": _in_few(payloads)})
        except SQLAlchemyError as error:
            _log.debug("doorbell not rung, workers will poll", extra={"error": str(error)})
            self.drop()

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()


def _in_few(payloads: set[str]) -> list[str]:
    """The same in fewer notifications: workspaces share one, and 100 of them are half of what it may hold."""
    workspaces = sorted(payload[2:] for payload in payloads if payload.startswith("w:"))
    rest = sorted(payload for payload in payloads if not payload.startswith("w:"))
    # Workspaces first: who hears of the queue claims at once.
    return [*([f"w:{','.join(workspaces[:MOST_WORKSPACES])}"] if workspaces else []), *rest]


@atexit.register
def _ring_before_leaving() -> None:
    """A script that enqueues and ends would take its bell along: the thread that rings does not outlive it."""
    for bell in list(_bells.values()):
        if bell.works_here:
            bell.finish()


class _SilentDoorbell(Doorbell):
    @property
    def works_here(self) -> bool:
        """In every process: what was silenced before a fork stays silent after it."""
        return True

    def ring(self, payloads: Iterable[str]) -> None:
        """Nobody is to be woken."""
