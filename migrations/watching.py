"""Who keeps a migration waiting.

The server knows it only while the migration waits, so somebody else has to ask: a second connection, in a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from types import TracebackType
from typing import Any, NamedTuple

from sqlalchemy import Engine

logger = logging.getLogger(__name__)

#: Seconds between two looks: a table's lock is waited for for half a second.
LOOK_EVERY = 0.1

#: A wait that stops nobody may be long. It is told after so many seconds, and again and again.
TOLD_EVERY = 30.0

# Who has no row is a prepared transaction. What others ask is hidden from a login that may not see it.
IN_THE_WAY = """
select
    other.pid,
    coalesce(b.usename, b.backend_type, 'a prepared transaction'),
    coalesce(b.application_name, ''),
    coalesce(b.state, ''),
    date_trunc('second', clock_timestamp() - b.xact_start)::text,
    date_trunc('second', clock_timestamp() - b.query_start)::text,
    left(regexp_replace(b.query, '[[:space:]]+', ' ', 'g'), 100)
from pg_stat_activity w
cross join unnest(pg_blocking_pids(w.pid)) as other(pid)
left join pg_stat_activity b on b.pid = other.pid
where w.pid = %s
    and w.wait_event_type = 'Lock'
order by b.xact_start
"""


class Blocker(NamedTuple):
    """A session that a migration has to wait for."""

    pid: int
    who: str
    application: str
    state: str
    open_for: str | None
    asked_ago: str | None
    query: str | None

    def __str__(self) -> str:
        who = ", ".join(fact for fact in (self.who, self.application, self.state) if fact)
        since = f" in a transaction for {self.open_for}" if self.open_for else ""
        said = f", its last statement {self.asked_ago} ago: {self.query}" if self.asked_ago and self.query else ""
        return f"process {self.pid} ({who}){since}{said}"


class Watch:
    """Looks, for as long as the block lasts, who is in the way of the session with this number.

    As well as it can: where it cannot have a connection, nobody is named.
    """

    def __init__(self, engine: Engine, pid: int) -> None:
        # Of the same kind and not the same: the host's may have no second connection to give.
        self._pool = engine.pool.recreate()
        self._pid = pid
        self._seen: list[Blocker] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jobplatform-migrate-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._pool.dispose()

    def last_seen(self) -> list[Blocker]:
        """Who was in the way when somebody was last. Asked again, it has forgotten them."""
        seen, self._seen = self._seen, []
        return seen

    def _watch(self) -> None:
        try:
            with closing(self._pool.connect()) as connection:
                self._look_again_and_again(connection)
        except Exception as error:  # noqa: BLE001 - whatever driver and pool raise: the migration goes on without us
            logger.info("nobody looks who is in a migration's way", extra={"error": str(error)})

    def _look_again_and_again(self, connection: Any) -> None:
        told_at = time.monotonic()
        while not self._over.wait(LOOK_EVERY):
            if not (now := _look(connection, self._pid)):
                told_at = time.monotonic()
                continue
            self._seen = now
            if time.monotonic() - told_at >= TOLD_EVERY:
                told_at = time.monotonic()
                logger.warning("a migration waits, and stops nobody meanwhile", extra={"behind": names_of(now)})


def names_of(blockers: list[Blocker]) -> str:
    return "; ".join(map(str, blockers)) or "somebody who was gone when we looked"


def _look(connection: Any, pid: int) -> list[Blocker]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(IN_THE_WAY, (pid,))
        found = [Blocker(*row) for row in cursor.fetchall()]
    # No snapshot is kept: an index that is built concurrently would wait for it.
    connection.rollback()
    return found
