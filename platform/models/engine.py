"""Engines that survive what networks do to long-lived connections."""

from __future__ import annotations

import math
import time
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

#: A half-open connection is noticed after about 25 s idle, or 15 s with unacknowledged data. Ignored on a Unix socket.
NETWORK = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

#: For connections that run the same few statements for ever: plan each once. Left to itself the server finds that a
#: plan for one job is cheaper than one for ten, and pays 1.5 ms for making it every time. Its JIT never pays here.
PLAN_ONCE = "-c plan_cache_mode=force_generic_plan -c jit=off"

#: A connection that was idle for longer than this may have died unnoticed.
IDLE_SECONDS = 5.0


def make_engine(
    url: str | URL,
    *,
    application_name: str = "jobplatform",
    pool_size: int = 5,
    autocommit: bool = False,
    prepare: bool = True,
    role: str | None = None,
) -> Engine:
    """An engine on psycopg for ``url`` (``postgres://`` and ``postgresql://`` are both understood).

    ``autocommit`` makes every statement its own transaction: the worker's way, and the only way in which psycopg
    keeps its prepared statements for ever (it drops them at a rollback; planning a claim costs more than running it).
    ``prepare=False`` is for a transaction pooler that does not know prepared statements.
    ``role`` is assumed by each connection when it starts, whatever else its login may do.
    """
    address = _with_driver(make_url(url))
    connect_args: dict[str, Any] = {**NETWORK, "application_name": application_name, "prepare_threshold": None}
    options: dict[str, Any] = {}
    if prepare:
        connect_args["prepare_threshold"] = 5
    if autocommit:
        options["isolation_level"] = "AUTOCOMMIT"
    startup = [str(address.query.get("options", ""))]
    if autocommit and prepare:
        connect_args["prepare_threshold"] = 1
        startup.append(PLAN_ONCE)
    if role is not None:
        startup.append(f"-c role={role}")
    if any(startup[1:]):
        connect_args["options"] = " ".join(startup).strip()
    engine = create_engine(
        address,
        pool_size=pool_size,
        max_overflow=0 if autocommit else pool_size,
        connect_args=connect_args,
        # An error ends up in logs and with the job: what was to be stored is no business of theirs.
        hide_parameters=True,
        **options,
    )
    if not autocommit:
        _ping_after_a_pause(engine)
    return engine


def _ping_after_a_pause(engine: Engine) -> None:
    """Look whether a connection still lives before it is used again, but only when it was idle for a while.

    The pool's own pre-ping asks each time, which costs a single enqueue three further round trips. One that was used
    a moment ago and is dead all the same fails its user once, and the pool then replaces them all.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if time.monotonic() - record.info.pop("idle_since", math.inf) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            # The pool takes this as its cue to connect anew.
            raise DisconnectionError from error


def _with_driver(url: URL) -> URL:
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    return url
