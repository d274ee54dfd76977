"""Opening: the statement that begins a transaction travels with its BEGIN.

The driver sends BEGIN by itself before a transaction's first statement and waits for the answer. For a transaction that
is one enqueue and its commit that is every third round trip. Where the transaction has not begun yet, BEGIN and the
statement are sent together here, on the driver's own libpq connection, and one answer is awaited.

Whatever is not plain is left to the ordinary way: another driver, a transaction under way, somebody who listens to
statements or counts cursors. So is an error: nothing else was in the transaction, so it is rolled back, and the same
statement says again what is wrong, by way of SQLAlchemy, as any other does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import re
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection, inspect
from sqlalchemy.orm import Session

from jobplatform.models import JobRecord

_MAPPER = inspect(JobRecord)
_PREPARED = "jobplatform.prepared"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_GONE = b"26000"


class _Text(NamedTuple):
    """A statement as the server takes it, with the names of ``$1``, ``$2`` and so on."""

    sql: bytes
    names: tuple[str, ...]


def open_with(session: Session, sql: str, parameters: Mapping[str, str | None]) -> int | None:
    """Begin the Session's transaction with this statement (``%(name)s`` style), and answer with its count of rows.

    None, and nothing has happened, when it cannot be done in this way. The statement answers with no rows; there is no
    NUL in the texts, which would end there.
    """
    connection = session.connection(bind_arguments={"mapper": _MAPPER})
    proxy = connection.connection
    driver = proxy.driver_connection
    if not isinstance(driver, psycopg.Connection) or not _is_plain(connection, driver):
        return None
    try:
        with driver.lock:
            results = _ask(driver, proxy.info, _numbered(sql), parameters)
    except psycopg.Error:
        results = []
    if results and results[-1].status == ExecStatus.COMMAND_OK:
        return results[-1].command_tuples
    _take_back(driver, proxy.info, results)
    return None


def _is_plain(connection: Connection, driver: psycopg.Connection[Any]) -> bool:
    """Whether nobody would notice that this was no cursor's statement, and BEGIN has nothing to say but itself."""
    return (
        driver.pgconn.transaction_status == TransactionStatus.IDLE
        and not driver.autocommit
        and driver.pgconn.pipeline_status == PipelineStatus.OFF
        and driver.cursor_factory is psycopg.Cursor
        and (driver.isolation_level, driver.read_only, driver.deferrable) == (None, None, None)
        and driver.info.encoding == "utf-8"
        and not connection.dispatch.before_cursor_execute
        and not connection.dispatch.after_cursor_execute
        and not connection.dialect.dispatch.do_execute
        and not connection.engine.logger.isEnabledFor(logging.INFO)
    )


def _ask(
    driver: psycopg.Connection[Any], info: dict[Any, Any], text: _Text, parameters: Mapping[str, str | None]
) -> list[PGresult]:
    values = [None if (value := parameters[name]) is None else value.encode() for name in text.names]
    pgconn = driver.pgconn
    pgconn.enter_pipeline_mode()
    try:
        pgconn.send_query_params(b"BEGIN", None)
        if driver.prepare_threshold is None:
            pgconn.send_query_params(text.sql, values)
        else:
            pgconn.send_query_prepared(_prepared(pgconn, info, text.sql), values)
        pgconn.pipeline_sync()
        return driver.wait(_answers(pgconn))
    finally:
        _leave_pipeline(driver)


def _prepared(pgconn: PGconn, info: dict[Any, Any], sql: bytes) -> bytes:
    """The name of the prepared statement; of one that is sent along to be prepared, the first time."""
    names = info.setdefault(_PREPARED, {})
    if not names.get(sql):
        # A name of its own each time: who knows whether the one that was lost comes back. And one that says which
        # statement it is: a pooler that nobody told us of may lend out a session in which others have prepared theirs.
        info[_PREPARED, "count"] = count = info.get((_PREPARED, "count"), 0) + 1
        names[sql] = b"jobplatform_%s_%d" % (hashlib.sha256(sql).hexdigest()[:16].encode(), count)
        pgconn.send_prepare(names[sql], sql)
    return bytes(names[sql])


def _answers(pgconn: PGconn) -> Generator[Wait, Ready | int, list[PGresult]]:
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[PGresult] = []
    while pgconn.status != ConnStatus.BAD:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
            break
        results += [] if result is None else [result]
    else:
        raise psycopg.OperationalError("the connection is lost")
    return results


def _leave_pipeline(driver: psycopg.Connection[Any]) -> None:
    """A connection that was interrupted in between has answers to come that nobody could tell from others."""
    try:
        driver.pgconn.exit_pipeline_mode()
    except psycopg.Error:
        driver.close()


def _take_back(driver: psycopg.Connection[Any], info: dict[Any, Any], results: list[PGresult]) -> None:
    """As if nothing had been asked. A connection that is lost is found so by whoever uses it next."""
    refused = [result for result in results if result.status == ExecStatus.FATAL_ERROR]
    if len(results) < 2 or any(result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == _GONE for result in refused):
        info.pop(_PREPARED, None)
    with contextlib.suppress(psycopg.Error):
        driver.rollback()


@functools.lru_cache(maxsize=16)
def _numbered(sql: str) -> _Text:
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    return _Text(_PLACEHOLDER.sub(number, sql).encode(), tuple(names))
