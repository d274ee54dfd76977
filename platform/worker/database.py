"""A thread that works on the database: one connection, requests in from a queue, answers out to the hub.

Losing the connection is ordinary. The thread tries again with jittered, growing pauses for as long as it takes, and
says so once at the beginning, now and then, and at the end.
"""

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeVar

import backoff
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, NotSupportedError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from jobplatform.queue import is_unsettled, out_of_patience, settle_yourself

T = TypeVar("T")

# Connection lost, out of resources, operator intervention, system error, serialization: never the statement's fault.
INFRASTRUCTURE: Final = frozenset({"08", "53", "57", "58", "40"})
# The server takes no writes for now, as one that another has taken over from; what was prepared has gone.
OF_THE_CONNECTION: Final = frozenset({"25006", "26000"})
# What the driver raises itself, before the database hears of it, about what it was given.
OF_THE_STATEMENT: Final = (DataError, ProgrammingError, NotSupportedError)
# Seconds between two tries, from the first to the longest.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
# While the same goes wrong it is logged this often.
REMIND_SECONDS: Final = 30.0

logger = logging.getLogger("jobplatform.worker")


def is_infrastructure(error: Exception) -> bool:
    """Whether the database, and not what was asked of it, is the problem."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, SQLAlchemyError)
    sqlstate = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated:
        return True
    if sqlstate is None:
        return not isinstance(error, OF_THE_STATEMENT)
    return sqlstate[:2] in INFRASTRUCTURE or sqlstate in OF_THE_CONNECTION


def will_pass(error: Exception) -> bool:
    """Whether the same will work later: the database is away, or somebody has locked what is needed for longer than
    whoever runs the database lets anybody wait (``lock_timeout``).
    """
    return is_infrastructure(error) or (isinstance(error, DBAPIError) and out_of_patience(error))


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try. Every worker draws its own: they don't come back all at once."""
    ceilings = backoff.expo(factor=2 * FIRST_PAUSE, max_value=LONGEST_PAUSE)
    next(ceilings)
    return (max(FIRST_PAUSE, backoff.full_jitter(ceiling)) for ceiling in ceilings)


class OutageLog:
    """Logs an outage when it begins, every 30 s while it lasts, and when it is over."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._since: float | None = None
        self._said_at = 0.0
        self._tries = 0

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def failed(self, error: Exception) -> None:
        now = monotonic()
        self._tries += 1
        if self._since is None or now - self._said_at >= REMIND_SECONDS:
            event = "database unavailable" if self._since is None else "database still unavailable"
            facts = {"worker_thread": self._who, "error": str(error).split("\n")[0][:300], "tries": self._tries}
            logger.warning(event, extra=facts)
            self._said_at = now
        self._since = self._since or now

    def worked(self) -> None:
        if self._since is None:
            return
        facts = {"worker_thread": self._who, "seconds": round(monotonic() - self._since, 1), "tries": self._tries}
        logger.info("database available again", extra=facts)
        self._since, self._tries = None, 0


@dataclass(frozen=True, slots=True)
class ThreadDied:
    """A thread ended that must not: the worker can't do its work any more."""

    name: str
    error: Exception


class DatabaseThread(ABC):
    """The base of claimer, finisher, registrar and keeper. `post` hands an answer to the hub."""

    def __init__(self, name: str, engine: Engine, post: Callable[[Any], None]) -> None:
        self.name = name
        self.post = post
        self.requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.outage = OutageLog(name)
        self._engine = engine
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._pauses: Iterator[float] | None = None
        self._unsettled = False
        self._thread = threading.Thread(target=self._run, name=f"jobplatform-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self, request: Any) -> None:
        self.requests.put(request)

    def stop(self, timeout: float) -> None:
        """End after what was asked so far. One that hangs in the network is left behind and dies with the process."""
        self._stopping.set()
        self.requests.put(None)
        self._thread.join(timeout)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @abstractmethod
    def serve(self) -> None:
        """Handle requests until None comes."""

    def _run(self) -> None:
        try:
            self.serve()
        except Exception as error:
            if not self.stopping:
                logger.exception("worker thread died", extra={"worker_thread": self.name})
                self.post(ThreadDied(self.name, error))
        finally:
            self._disconnect()

    # -- one connection --------------------------------------------------------------------------

    def once(self, work: Callable[[Session], T]) -> T:
        """Run `work` on this thread's Session. When the database fails, drop the connection and raise."""
        try:
            session = self._connect()
            answer = work(session)
            session.commit()
            self._unsettled = is_unsettled(session) or self._unsettled
        except Exception as error:
            if is_infrastructure(error):
                self._disconnect()
                self.outage.failed(error)
            else:
                self._roll_back()
            raise
        self._pauses = None
        self.outage.worked()
        return answer

    def take_unsettled(self) -> bool:
        """Whether something ended, since this was last asked, that somebody waits for."""
        unsettled, self._unsettled = self._unsettled, False
        return unsettled

    def pause(self) -> None:
        """Wait before the next try, longer each time in a row; no longer than until the thread is to stop."""
        self._pauses = self._pauses or pauses()
        self._stopping.wait(next(self._pauses))

    def _connect(self) -> Session:
        if self._session is None:
            self._connection = self._engine.connect()
            self._session = Session(self._connection, autoflush=False, expire_on_commit=False)
            # The keeper of this very process is told, without a bell.
            settle_yourself(self._session)
        return self._session

    def _roll_back(self) -> None:
        try:
            if self._session is not None:
                self._session.rollback()
        except SQLAlchemyError:
            self._disconnect()

    def _disconnect(self) -> None:
        session, self._session = self._session, None
        connection, self._connection = self._connection, None
        with suppress(SQLAlchemyError):
            if session is not None:
                session.close()
        with suppress(SQLAlchemyError):
            if connection is not None:
                connection.invalidate()
                connection.close()
