"""Engines that survive what networks do to long-lived connections."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from jobplatform.errors import SettingsError
from jobplatform.models.named_cursor import NamedCursor
from jobplatform.models.sharing import find_out, run_outside_transaction
from jobplatform.models.uuid_array import send_uuids_as_bytes

#: A half-open connection is noticed after about 25 s idle, or 15 s with unacknowledged data. Ignored on a Unix socket.
NETWORK = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

#: A login that is set to another encoding could not be told what some job's payload holds.
ALL_TEXTS = {"client_encoding": "utf8"}

#: For connections that run the same few statements for ever: plan each once. Left to itself the server finds that a
#: plan for one job is cheaper than one for ten, and pays 1.5 ms for making it every time. Its JIT never pays here.
PLAN_ONCE = ("set plan_cache_mode = force_generic_plan", "set jit = off")

UNREADABLE = (
    "the database's URL cannot be read: it is postgresql://LOGIN:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the "
    "password, %2F for a / and %25 for a %; of several hosts write @/DATABASE?host=ONE:5432&host=TWO:5432"
)

#: How a URL may begin that is for psycopg.
FORMS = ("postgresql", "postgres", "postgresql+psycopg", "postgres+psycopg")

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
    """An engine on psycopg for ``url`` (``postgres://`` and ``postgresql://`` are both understood; another
    database's, or another driver's, is a :class:`SettingsError`).

    ``autocommit`` makes every statement its own transaction: the worker's way, and the only way in which psycopg
    keeps its prepared statements for ever (it drops them at a rollback; planning a claim costs more than running it).
    ``role`` is assumed by each connection when it starts, whatever else its login may do.

    A connection that turns out to go through a pooler prepares nothing, sets nothing and assumes no role: the rights of
    its login count then. ``prepare=False`` treats them all like that, for a pooler that gives no sign of itself.
    """
    address = _address(url)
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    engine = create_engine(
        address,
        pool_size=pool_size,
        max_overflow=0 if autocommit else pool_size,
        # The one that was used last: it has the most prepared, and those of a rush are left alone after it.
        pool_use_lifo=True,
        # Nothing is prepared, and no option is sent that a pooler would refuse, until we know who is there.
        connect_args={**NETWORK, **ALL_TEXTS, "application_name": application_name, "prepare_threshold": None},
        # An error ends up in logs and with the job: what was to be stored is no business of theirs.
        hide_parameters=True,
        **options,
    )
    if prepare:
        settings = (*(PLAN_ONCE if autocommit else ()), *((f"set role {role}",) if role else ()))
        _settle_in(engine, 1 if autocommit else 5, settings)
    _send_bytes(engine)
    if autocommit:
        _look_once_for_placeholders(engine)
    else:
        _ping_after_a_pause(engine)
    return engine


def connect_bare(url: str | URL, *, application_name: str) -> psycopg.Connection[Any]:
    """A connection of the driver's own to where an engine for ``url`` goes. Every statement is its own transaction;
    nothing is prepared and nothing set, so that it may go through a pooler.
    """
    settings = {
        **NETWORK,
        **ALL_TEXTS,
        "application_name": application_name,
        "prepare_threshold": None,
        "autocommit": True,
    }
    connection: psycopg.Connection[Any] = psycopg.connect(**{**parameters_of(url), **settings})
    return connection


def parameters_of(url: str | URL) -> dict[str, Any]:
    """What the driver is given to connect to where an engine for ``url`` goes."""
    address = _address(url)
    _, parameters = address.get_dialect()().create_connect_args(address)
    return dict(parameters)


def on_our_driver(engine: Engine) -> URL:
    """Where an engine goes, for a connection of our own: a host's may be on another driver, such as psycopg2."""
    return engine.url.set(drivername="postgresql+psycopg")


def _settle_in(engine: Engine, prepare_threshold: int, settings: Sequence[str]) -> None:
    """Make the session of each new connection ours, unless it is shared with others."""

    @event.listens_for(engine, "connect")
    def settle_in(connection: Any, record: ConnectionPoolEntry) -> None:
        try:
            if not find_out(connection, record):
                connection.prepare_threshold = prepare_threshold
                if settings:
                    run_outside_transaction(connection, "; ".join(settings))
        except psycopg.Error:
            # The pool does not know it yet, and would not close it.
            connection.close()
            raise


def _send_bytes(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def teach(connection: Any, _record: ConnectionPoolEntry) -> None:
        send_uuids_as_bytes(connection)


def _look_once_for_placeholders(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def give_cursors(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.cursor_factory = NamedCursor


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


def _address(url: str | URL) -> URL:
    """Nothing of the text is repeated: what was taken for a port or a host may be part of a password."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError([UNREADABLE]) from None
    if "@" in (found.host or "") or re.search("@.*/", found.database or ""):
        raise SettingsError([UNREADABLE])
    return _with_driver(found)


def _with_driver(url: URL) -> URL:
    if url.drivername not in FORMS:
        raise SettingsError([f"the database's URL must start with postgresql://, and not with {url.drivername}://"])
    return url.set(drivername="postgresql+psycopg")
