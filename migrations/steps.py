"""How a database comes to a revision.

One without our schema gets it in one transaction: nobody uses it, so there is nobody to stop, and a failure leaves
nothing behind. One that has it may be busy. There each migration is a step:

1. It gets its turn: a lock of the session, which ends with it.
2. Indexes of tables in use are built, concurrently (``building``).
3. The rest is one transaction, with the row that says which revision it is.
4. Where a lock cannot be had at once all of that transaction's are given up, so that whoever waits behind gets on; then
   there is a pause, and it is tried again. In the end it says who was in the way.
"""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

from alembic import command
from alembic.config import Config
from psycopg import errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jobplatform.errors import MigrationError
from jobplatform.migrations import FOR_PSQL, FOR_PSQL_ALONE, HERE, revision_of, revisions
from jobplatform.migrations.building import OUTSIDE
from jobplatform.migrations.turns import become_owner, session_in_turn, transaction_in_turn
from jobplatform.migrations.watching import Blocker, Watch, names_of

logger = logging.getLogger(__name__)

#: Seconds between tries: about three minutes, of which others wait behind us for half a second in five.
PAUSES = (0.2, 0.5, 1.0, 2.0, *itertools.repeat(5.0, 34))

#: Somebody holds what a migration needs, or both wait for each other.
IN_THE_WAY = (errors.LockNotAvailable, errors.DeadlockDetected)

#: It has waited long already, and would begin anew.
LONG_BUILD = "create index concurrently"


def make_schema(connection: Connection, last: str) -> bool:
    """Whether there was none, and is one at ``last`` now."""
    if _found(connection) is not None:
        return False
    with transaction_in_turn(connection):
        # Somebody else may have made it, and this one waited for its turn.
        if revision_of(connection) is not None:
            return False
        command.upgrade(_config(connection), last)
        return True


def take_steps(connection: Connection, last: str, *, trusted: bool) -> None:
    """Go on from where the database is, if it is not at ``last`` already."""
    if not _left(_found(connection), last):
        return
    with session_in_turn(connection, trusted=trusted), _watch(connection) as watch:
        for revision in _left(_found(connection), last):
            _take_step(connection, revision, watch)
            logger.info("migrated", extra={"revision": revision})


def step_back(connection: Connection, revision: str) -> None:
    with transaction_in_turn(connection):
        command.downgrade(_config(connection), revision)


def write_steps(begins_at: str | None) -> str:
    """The SQL of all of it, or of each step after a revision."""
    if begins_at is None:
        return _write(_config(None), "head")
    config = _config(None)
    left = revisions()[revisions().index(begins_at) :]
    script = "".join(_write(config, f"{before}:{revision}") for before, revision in itertools.pairwise(left))
    return (FOR_PSQL_ALONE if OUTSIDE in config.attributes else FOR_PSQL) + script


def _found(connection: Connection) -> str | None:
    with connection.begin():
        become_owner(connection, "local")
        return revision_of(connection)


def _left(found: str | None, last: str) -> list[str]:
    """The revisions that come after the one that was found, up to the last that is wanted; none after a newer one."""
    return [revision for revision in revisions() if (found or "") < revision <= last]


@contextmanager
def _watch(connection: Connection) -> Iterator[Watch]:
    with connection.begin():
        pid = connection.scalar(text("select pg_backend_pid()"))
    with Watch(connection.engine, pid) as watch:
        yield watch


def _take_step(connection: Connection, revision: str, watch: Watch) -> None:
    began_at = monotonic()
    blockers: list[Blocker] = []
    for pause in (*PAUSES, None):
        try:
            command.upgrade(_config(connection), revision)
            return
        except SQLAlchemyError as error:
            connection.rollback()
            failure = _as_the_server_said_it(error)
            if isinstance(failure.orig, errors.InsufficientPrivilege):
                raise failure from error
            if not isinstance(failure.orig, IN_THE_WAY):
                raise MigrationError(_what_failed(revision, failure)) from error
            blockers = watch.last_seen() or blockers
            if pause is None or (failure.statement or "").startswith(LONG_BUILD):
                raise MigrationError(_who_is_in_the_way(revision, blockers, monotonic() - began_at)) from error
        logger.warning(
            "a migration gave up a lock and tries again",
            extra={"revision": revision, "pause": pause, "behind": names_of(blockers)},
        )
        sleep(pause)


def _as_the_server_said_it(error: BaseException) -> DBAPIError:
    """Where the connection is gone, Alembic's clearing up has an error of its own."""
    while not isinstance(error, DBAPIError):
        if error.__context__ is None:
            raise error
        error = error.__context__
    return error


def _what_failed(revision: str, error: DBAPIError) -> str:
    return f"migration {revision} failed, and those before it stay: {str(error.orig).strip()}"


def _who_is_in_the_way(revision: str, blockers: list[Blocker], seconds: float) -> str:
    pids = [blocker.pid for blocker in blockers if blocker.pid]
    end = f"end that (`select pg_terminate_backend({pids[0]})`)" if pids else "let that end"
    return (
        f"migration {revision} did not get its locks within {seconds:.0f} seconds, because of {names_of(blockers)}; "
        f"what was done before it stays, nothing is half done; {end}, then migrate again"
    )


def _write(config: Config, revision: str) -> str:
    buffer = io.StringIO()
    config.output_buffer = buffer
    command.upgrade(config, revision, sql=True)
    return buffer.getvalue()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
