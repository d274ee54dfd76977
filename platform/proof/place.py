"""Where a run takes place: a database of its own, on a server of its own or on one that was given.

On a given server everything that was made there is gone at the end: the database, and those of our roles that were not
there before. Whoever looks for what a run left that was killed finds databases whose names begin with ``PREFIX``.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from jobplatform.embedded import EmbeddedServer
from jobplatform.models import Role
from jobplatform.proof.onlooker import as_role, connect
from jobplatform.proof.survey import Survey

Say = Callable[[str], None]

PREFIX = "jobplatform_prove_"

#: Two connections are all a client needs; each worker has four and one more for each handler that uses its Session.
SERVER = {"max_connections": "150", "shared_buffers": "128MB", "autovacuum_naptime": "5s"}

#: Without fsync a restart of the *server* still loses nothing, because the kernel keeps what was written. What a
#: power cut would lose is not what is tested here; `jobplatform prove` leaves it on all the same.
QUICK_SERVER = SERVER | {"fsync": "off", "full_page_writes": "off"}

#: Tries to drop a database: a server that was just restarted, or is short of connections, may need a moment.
TRIES, PAUSE = 5, 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """An empty database that is nobody else's, and its server if that may be restarted."""

    url: str
    server: EmbeddedServer | None = None


@contextlib.contextmanager
def on_own_server(
    folder: Path, options: Mapping[str, str] = SERVER, *, programs: Path | None = None
) -> Iterator[Place]:
    """A server that was made for this in ``folder``, and is stopped at the end."""
    server = EmbeddedServer(folder, options, programs=programs)
    try:
        server.start()
        yield Place(server.create_database("prove"), server)
    finally:
        server.stop("immediate")


@contextlib.contextmanager
def on_given_server(
    url: str, survey: Survey, say: Say, *, admin_url: str | None = None, keep: bool = False
) -> Iterator[Place]:
    """A database that is made on the server of ``url``, and dropped whatever happens, unless it is to be kept.

    ``admin_url`` leads to the same server where ``url`` leads through a pooler.
    """
    admin_url, name = admin_url or url, PREFIX + secrets.token_hex(4)
    try:
        with connect(admin_url) as connection:
            connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        yield Place(in_database(url, name))
    finally:
        if keep:
            say(f"kept: database {name}")
        else:
            _try(lambda: _drop_database(admin_url, name), f"drop database {name}", say)
            _try(lambda: _drop_roles(admin_url, survey), None, say)


@contextlib.contextmanager
def in_given_database(
    url: str, survey: Survey, say: Say, *, admin_url: str | None = None, keep: bool = False
) -> Iterator[Place]:
    """The database of ``url``, which has to be empty and is empty again at the end, unless all is to be kept."""
    admin_url = admin_url or url
    try:
        yield Place(url)
    finally:
        if keep:
            say(f"kept: what is in database {make_url(url).database}")
        else:
            _try(lambda: _empty(admin_url), "drop schema chaos, jobplatform cascade", say)
            _try(lambda: _drop_roles(admin_url, survey), None, say)


def in_database(url: str, name: str) -> str:
    """The URL of another database of the same server, for the same login."""
    return make_url(url).set(drivername="postgresql", database=name).render_as_string(hide_password=False)


def _drop_database(url: str, name: str) -> None:
    with connect(url) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _empty(url: str) -> None:
    with connect(url) as connection:
        connection.execute("drop schema if exists chaos cascade")
        if connection.execute("select to_regnamespace('jobplatform') is not null").fetchone() == (True,):
            with as_role(connection, Role.OWNER):
                connection.execute("drop schema jobplatform cascade")


def _drop_roles(url: str, survey: Survey) -> None:
    """Those that were not there before. Another database that was migrated meanwhile needs them, and keeps them."""
    made = [role for role in Role if role not in survey.existing]
    still_needed = psycopg.errors.DependentObjectsStillExist
    with contextlib.suppress(still_needed), connect(url) as connection, connection.transaction():
        for role in made:
            connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


def _try(do: Callable[[], None], by_hand: str | None, say: Say) -> None:
    """Until it works. What does not in the end is left for whoever reads this."""
    for tries_left in reversed(range(TRIES)):
        try:
            do()
            return
        except psycopg.Error as error:
            if tries_left:
                time.sleep(PAUSE)
            elif by_hand is not None:
                said = str(error).strip().partition("\n")[0]
                say(f"could not clean up ({said}); do it by hand: {by_hand}")


@contextlib.contextmanager
def scratch(keep: bool = False, say: Callable[[str], None] = print) -> Iterator[Path]:
    """A folder for one run, removed afterwards unless somebody wants to look into it."""
    folder = Path(tempfile.mkdtemp(prefix="jobplatform-prove-"))
    # The server may run as a system user of its own, which has to get through to its data.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if keep:
            say(f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
