"""Whether a connection has a backend of its own, or shares backends with others through a pooler.

A server tells every connection the number of its backend when it starts. A pooler makes up a number of its own, so
that it can pass on cancellations, and the backend that answers says another. One question for each new connection
finds PgBouncer without anybody having to say that it is there.

What belongs to a session (prepared statements, ``SET``, ``LISTEN``) would stay behind on a shared backend for whoever
comes next, and be missing on the backend that runs our next transaction. It is used on connections of one's own only.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.pool import ConnectionPoolEntry

_SHARED = "jobplatform.shared"


def find_out(driver: psycopg.Connection[Any], record: ConnectionPoolEntry) -> bool:
    """Ask whether this new connection is shared, and note the answer for :func:`is_shared`."""
    backend = run_outside_transaction(driver, "select pg_backend_pid()").get_value(0, 0)
    record.info[_SHARED] = backend != str(driver.info.backend_pid).encode()
    return bool(record.info[_SHARED])


def is_shared(connection: PoolProxiedConnection) -> bool:
    """Whether a pooler stands between this connection of :func:`make_engine`'s and the server."""
    return bool(connection.info.get(_SHARED, False))


def run_outside_transaction(driver: psycopg.Connection[Any], statements: str) -> PGresult:
    """Past the driver, which would begin a transaction: what is set in one goes with its rollback."""
    result = driver.pgconn.exec_(statements.encode())
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        error = psycopg.errors.error_from_result(result)
        # Without a code it is not the server that speaks: the connection is gone.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))
    return result
