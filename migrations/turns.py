"""One migrates a database at a time, in a session or a transaction that has its turn.

Nobody waits for a turn in a statement. It would have a snapshot for as long, and an index that is built concurrently
waits for all older snapshots: the two would wait for each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text

from jobplatform.errors import MigrationError
from jobplatform.models import SCHEMA, Role

logger = logging.getLogger(__name__)

#: Two migrations at once take turns instead of colliding.
MIGRATION_LOCK = 7_246_180_001

#: Seconds between two looks whether it is our turn.
LOOK_EVERY = 0.2

#: Who waits for a table's lock keeps all waiting who come later, readers too, so it gives up soon. Less than
#: ``deadlock_timeout``: in a deadlock it is the migration that gives way.
BRIEF = "500ms"

#: In a session that migrates beside others. What a login is given is for its queries, and an index may take longer.
BESIDE_OTHERS = (f"lock_timeout = '{BRIEF}'", "statement_timeout = 0", "idle_in_transaction_session_timeout = 0")

#: In a transaction that makes all there is: nobody uses it yet. (Or takes it away.)
ALL_AT_ONCE = ("lock_timeout = '5s'",)

OWNED_BY = "select pg_get_userbyid(nspowner)::text as owner from pg_namespace where nspname = :schema"


@contextmanager
def transaction_in_turn(connection: Connection) -> Iterator[None]:
    """A transaction during which nobody else migrates. A pooler may stand in between."""
    for _ in _until_it_is_our_turn():
        with connection.begin():
            if connection.scalar(text("select pg_try_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}):
                yield
                return


@contextmanager
def session_in_turn(connection: Connection, *, trusted: bool) -> Iterator[None]:
    """A session during which nobody else migrates, until its connection is closed.

    Raises :class:`MigrationError` where a pooler would have others use that session, unless told that none does.
    """
    if is_shared(connection) and not trusted:
        raise MigrationError(
            "this connection leads through a pooler, and whoever changes a database that is in use needs a session to "
            "itself: name the server's own address in DATABASE_URL or JOBPLATFORM_DIRECT_DATABASE_URL (or the address "
            "of a pooler in session mode in the latter), and migrate again; nothing was changed"
        )
    for _ in _until_it_is_our_turn():
        with connection.begin():
            if connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}):
                break
    yield


def is_shared(connection: Connection) -> bool:
    """Whether the backend that answers is another than the one that we were told of, as behind a pooler."""
    driver: Any = connection.connection.driver_connection
    with connection.begin():
        return bool(connection.scalar(text("select pg_backend_pid()")) != driver.info.backend_pid)


def set_up(connection: Connection, *, beside_others: bool) -> None:
    """Set what migrations run with: for as long as the session lasts beside others, else for this transaction."""
    scope = "session" if beside_others else "local"
    for setting in BESIDE_OTHERS if beside_others else ALL_AT_ONCE:
        connection.execute(text(f"set {scope} {setting}"))
    own_schema(connection, scope)
    # Row security is forced on the owner as well: a migration that would change only some of the rows fails instead.
    connection.execute(text(f"set {scope} row_security = off"))


def own_schema(connection: Connection, scope: str) -> None:
    """Make the schema where there is none, and own it: what is made from now on belongs to its owner too."""
    if not become_owner(connection, scope):
        connection.execute(text(f"create schema {SCHEMA}"))


def become_owner(connection: Connection, scope: str) -> bool:
    """Be the group that owns the schema (since 0003), ``local`` to a transaction or for the ``session``. False where
    there is no schema."""
    found = connection.execute(text(OWNED_BY), {"schema": SCHEMA}).one_or_none()
    if found is not None and found.owner == Role.OWNER:
        connection.execute(text(f"set {scope} role {Role.OWNER}"))
    return found is not None


def _until_it_is_our_turn() -> Iterator[None]:
    yield
    logger.warning("another migration of this database runs, and this one waits for its end")
    while True:
        time.sleep(LOOK_EVERY)
        yield
