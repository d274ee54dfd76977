"""Entry: why a server does not let us in, and whether it will ever do so with this URL.

Who cannot connect is told by the driver in the server's own language, which may be any, and not by the code of the
error. libpq hears the code, and writes it down for whoever asks for a trace; so the way in is tried once more with one.
That is done when a process starts and has been refused, and for the database of a source. A server that cannot be
reached, or is not ready yet, says something else or nothing, and so does PgBouncer of another version: these are waited
for.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

from jobplatform.errors import SettingsError
from jobplatform.models.engine import parameters_of

#: Longer than a server takes that is well. Who is silent is waited for in any case.
PATIENCE: Final = 5.0

_ERROR: Final = re.compile(r'\tErrorResponse\t.*? C "(\w{5})" M "(.*?)"(?: [A-Zad-z] "| \\x00|$)', re.MULTILINE)
_NO_LOGIN: Final = ("28P01", "28000")
_NO_DATABASE: Final = "3D000"


class Refusal(NamedTuple):
    """Why a server has let nobody in, in its own words."""

    sqlstate: str
    message: str


def require_entry(url: str | URL) -> None:
    """Raise :class:`SettingsError` if the server refuses the login that the URL names, or has no such database.

    Nothing is raised where that is not certain: the database may be away, or the system be another one than Linux.
    """
    refusal = why_refused(parameters_of(url))
    if refusal is None:
        return
    if refusal.sqlstate in _NO_LOGIN:
        what, instead = "refuses the login", "correct its name or its password"
    elif refusal.sqlstate == _NO_DATABASE:
        what, instead = "has not the database", "create it, or correct its name"
    else:
        return
    raise SettingsError([f"the server {what} that the database's URL names ({refusal.message}): {instead}"])


def why_refused(parameters: Mapping[str, Any]) -> Refusal | None:
    """What a server says to whoever connects with these parameters of libpq's, if it says no.

    None where nobody knows: the server is silent or away, or the system another one than Linux.
    """
    if sys.platform != "linux":
        return None
    conninfo = make_conninfo(**parameters)
    trace = os.memfd_create("jobplatform")
    try:
        connection = pq.PGconn.connect_start(conninfo.encode())
        try:
            connection.trace(trace)
            if not _is_refused(connection):
                return None
            if connection.needs_password:
                return Refusal("28P01", "it asks for a password")
        finally:
            # What was not written yet is.
            connection.untrace()
            connection.finish()
        said = _ERROR.findall(_read(trace))
        return Refusal(*said[-1]) if said else None
    except psycopg.Error:
        return None
    finally:
        os.close(trace)


def _is_refused(connection: pq.abc.PGconn) -> bool:
    """Whether the way in came to an end before the door was open."""
    until = time.monotonic() + PATIENCE
    while (state := connection.connect_poll()) not in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
        socket = [connection.socket]
        reading, writing = (socket, []) if state == pq.PollingStatus.READING else ([], socket)
        if not any(select.select(reading, writing, [], max(0.0, until - time.monotonic()))):
            return False
    return state == pq.PollingStatus.FAILED


def _read(trace: int) -> str:
    """It has what was said for the password too, and is nowhere but in memory."""
    os.lseek(trace, 0, os.SEEK_SET)
    with os.fdopen(os.dup(trace), "rb") as file:
        return file.read().decode(errors="replace")
