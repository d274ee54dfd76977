"""A database for each test: a fresh copy of a migrated template, or one that is cleaned and used again.

A copy costs the server 20 to 40 ms of work, cleaning a few. Rows are deleted, and tables and schemas that the test has
made are dropped: when it changed anything else (a table that was there, a function, a right, the rows that the template
came with), its database is dropped and the next test gets a fresh one.

What costs as much again is a connection: the server starts a process that has to read the catalogue and plan everything
anew. So the ones of a test that gave them all back go on to the next, with nothing of their sessions but what they
began with.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from jobplatform import migrations
from jobplatform.embedded import share_tables
from jobplatform.models import Role, make_engine
from jobplatform.testing.ownership import mark_as_ours
from jobplatform.testing.server import DatabaseServer
from jobplatform.testing.travel import REPLACE, TRUE_TIME

#: Backends of an earlier test get so many milliseconds to go.
_PATIENCE = 10_000
#: Bytes of an empty table that is made small again.
_LARGE = 32 * 8192

_OTHERS = """
select pg_terminate_backend(pid, %s)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    and pid <> all(%s)
    -- It has no transaction, rings for whoever is next as well, and ends by itself.
    and application_name <> 'jobplatform-doorbell'
"""
# What a session can have that a rollback does not end. (A temporary table shows in the catalogue.)
_NOTHING_LEFT = "reset all; reset session authorization; unlisten *; select pg_advisory_unlock_all(); commit"
# What an engine has set in a session of its own, to be set again.
_SETTINGS = """
select 'set ' || quote_ident(name) || ' = ' || quote_literal(setting) from pg_settings where source = 'session'
"""

# Whatever changes the schema or a right writes a row in one of these. Statistics are updated in place, and don't show.
_CATALOGUES = (
    "pg_attribute", "pg_class", "pg_constraint", "pg_db_role_setting", "pg_default_acl", "pg_description",
    "pg_extension", "pg_index", "pg_largeobject_metadata", "pg_namespace", "pg_policy", "pg_proc", "pg_statistic_ext",
    "pg_trigger", "pg_type",
)  # fmt: skip
# The name first: where the schema is, is looked up for each row that has it.
_IS_CLOCK = "(proname = 'clock' and pronamespace = to_regnamespace('jobplatform'))"
# The latest transaction that wrote there, counted from the first one that any server has: ages are numbers, and an xid
# would have to become one by way of text, for 15,000 rows after each test. Rows of no transaction all have one age.
_WRITTEN = "age('3'::xid)::bigint - nullif(min(age(xmin)), 2147483647)"
_SHAPE = " union all ".join(
    f"select count(*), {_WRITTEN} from {catalogue}" + (f" where not {_IS_CLOCK}" if catalogue == "pg_proc" else "")
    for catalogue in _CATALOGUES
)
# A moved clock is the one change that is turned back: many tests move it.
_CLOCK = f"select xmin::text, proowner, provolatile, proparallel, proacl::text from pg_proc where {_IS_CLOCK}"
_TABLES = """
select n.nspname, c.relname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by 1, 2
"""
# What a test has made, each with what it brings along.
_NEWCOMERS = """
select 'drop schema if exists ' || quote_ident(nspname) || ' cascade'
from pg_namespace
where nspname !~ '^pg_' and oid <> all(%(schemas)s::oid[])
union all
select 'drop table if exists ' || oid::regclass || ' cascade'
from pg_class
where relkind in ('r', 'p') and relnamespace = any(%(schemas)s::oid[]) and oid <> all(%(tables)s::oid[])
"""
_SCHEMAS = "select oid from pg_namespace where nspname !~ '^pg_'"
_OF_SCHEMAS = "select oid from pg_class where relkind in ('r', 'p') and relnamespace = any(%s::oid[])"
_SEQUENCES = """
select format('%I.%I', schemaname, sequencename), start_value, last_value
from pg_sequences
order by 1
"""


def usual_engine(url: str) -> Engine:
    """As many tests want it."""
    return make_engine(url, pool_size=10)


class Databases:
    """Gives databases to tests and takes them back."""

    _numbers = itertools.count(1)

    def __init__(self, server: DatabaseServer, prepare: Callable[[Engine], None]) -> None:
        self._server = server
        self._alter: Callable[[str], None] | None = None
        self._leave: Callable[[str], None] | None = None
        self._reused: _Reused | None = None
        self._template = server.name("template")
        with server.alone():
            if not server.exists(self._template):
                self._make_template(prepare)

    @property
    def template(self) -> str:
        """The name of the template: a migrated database with the user's own tables, which nobody may connect to."""
        return self._template

    def altered(self, alter: Callable[[str], None]) -> Databases:
        """Gives databases that ``alter`` was called for, with their URL, before their first test: for many tests that
        all need what would cost each of them a fresh one. To be closed by whoever asks."""
        altered = copy(self)
        altered._alter, altered._reused = alter, None
        return altered

    def left_by(self, leave: Callable[[str], None]) -> Databases:
        """Gives databases that ``leave`` is called for, with their URL, before they are cleaned or dropped: for whoever
        stands between the tests and the server and would hold on to connections. To be closed by whoever asks."""
        left = copy(self)
        left._leave, left._reused = leave, None
        return left

    def fresh(self) -> str:
        """A new database, and its URL."""
        url = self._server.create(self._server.name(f"{os.getpid()}_{next(self._numbers)}"), self._template)
        if self._alter is not None:
            self._alter(url)
        return url

    def drop(self, url: str) -> None:
        if self._leave is not None:
            self._leave(url)
        self._server.drop(database_of(url))

    def reused(self) -> str:
        """The database of this process, as empty as a fresh one. Give it back with :meth:`clean`."""
        if self._reused is None:
            self._reused = _Reused(self.fresh())
        return self._reused.url

    def is_reused(self, url: str) -> bool:
        """Whether this is the database of this process, whoever logs in."""
        return self._reused is not None and database_of(url) == database_of(self._reused.url)

    def engine(self, url: str | None = None, make: Callable[[str], Engine] = usual_engine) -> Engine:
        """An engine on the database of this process. What somebody listens for on it ends with it; its connections
        are those of the test before that asked for the same.

        ``url`` is for another login than the one that made the database, ``make`` for another kind of engine.
        """
        assert self._reused is not None, "ask for the database first"
        return self._reused.engine(url or self._reused.url, make)

    def clean(self) -> None:
        """Empty the database of this process, or do away with it where that cannot be done."""
        reused, self._reused = self._reused, None
        if reused is None:
            return
        if self._leave is not None:
            self._leave(reused.url)
        if reused.clean():
            self._reused = reused
        else:
            reused.close()
            self.drop(reused.url)

    def close(self) -> None:
        if self._reused is not None:
            self._reused.close()
            self.drop(self._reused.url)
            self._reused = None

    def _make_template(self, prepare: Callable[[Engine], None]) -> None:
        """Under another name first, so that one with the right name is complete."""
        draft = self._server.name("draft")
        self._server.drop(draft)
        url = self._server.create(draft)
        engine = make_engine(url, pool_size=1)
        try:
            migrations.upgrade(engine)
            with engine.begin() as connection:
                mark_as_ours(connection)
            # Before the user's own tables: they are the handlers' from the moment they exist.
            with psycopg.connect(url, autocommit=True) as admin:
                owner = str(admin.execute("select current_user").fetchall()[0][0])
                share_tables(admin, [owner], [Role.HANDLER])
            prepare(engine)
        finally:
            engine.dispose()
        self._server.rename(draft, self._template)


class _Connections:
    """The connections of tests to a database, as many as one process needs at a time."""

    #: More are for one test that wanted them: each is a process of the server.
    MOST_KEPT = 3

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pids: dict[object, int] = {}
        self._settings: list[str] = []
        event.listen(self._engine, "connect", self._connected)
        event.listen(self._engine, "close", self._closed)

    def engine(self) -> Engine:
        """An engine of its own for whoever listens to what it does."""
        return self._engine.execution_options()

    def keep(self) -> list[int]:
        """The server's processes that may go on: those of connections that were given back. Others are let go."""
        pool: Any = self._engine.pool
        if pool.checkedout() or pool.checkedin() > self.MOST_KEPT:
            self.close()
            return []
        with ExitStack() as stack:
            held = [stack.enter_context(self._engine.connect()) for _ in range(pool.checkedin())]
            for connection in held:
                driver: Any = connection.connection.driver_connection
                # Several statements at once cannot be prepared, however often they come.
                driver.execute("; ".join([_NOTHING_LEFT, *self._settings]), prepare=False)
        return list(self._pids.values())

    def close(self) -> None:
        self._engine.dispose()
        self._pids.clear()

    def _connected(self, connection: Any, _record: object) -> None:
        self._pids[connection] = connection.info.backend_pid
        # Others have no settings that last longer than a transaction.
        if connection.autocommit:
            self._settings = [setting for (setting,) in connection.execute(_SETTINGS)]

    def _closed(self, connection: Any, _record: object) -> None:
        self._pids.pop(connection, None)


class _Reused:
    """One database that goes from test to test, and a connection that cleans it between them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connections: dict[tuple[str, Callable[[str], Engine]], _Connections] = {}
        self._connection = psycopg.connect(url, autocommit=True)
        schemas = [oid for (oid,) in self._look(_SCHEMAS)]
        self._known = {"schemas": schemas, "tables": [oid for (oid,) in self._look(_OF_SCHEMAS, [schemas])]}
        self._shape = self._look(_SHAPE)
        self._sequences = self._look(_SEQUENCES)
        self._clock = self._look(_CLOCK)
        tables = [sql.Identifier(*names) for names in self._look(_TABLES)]
        # Those that the template came with rows in are compared; the others are emptied.
        self._kept = [table for table in tables if self._has_rows(table)]
        self._emptied = [table for table in tables if table not in self._kept]
        self._content = self._look_at_content()

    def engine(self, url: str, make: Callable[[str], Engine]) -> Engine:
        if (url, make) not in self._connections:
            self._connections[url, make] = _Connections(make(url))
        return self._connections[url, make].engine()

    def clean(self) -> bool:
        """Whether it is as it was before the test."""
        try:
            kept = [pid for connections in self._connections.values() for pid in connections.keep()]
            self._connection.execute(_OTHERS, (_PATIENCE, kept))
            if not self._has_its_shape() or self._look_at_content() != self._content:
                return False
            self._empty()
            self._turn_back_sequences()
            return self._turn_back_the_clock()
        except (psycopg.Error, SQLAlchemyError):
            # A test may have restarted the server, or left behind what nobody else may delete.
            return False

    def close(self) -> None:
        self._close_connections()
        self._connection.close()

    def _close_connections(self) -> None:
        for connections in self._connections.values():
            connections.close()

    def _has_its_shape(self) -> bool:
        """Whether it has, once what the test has made is gone."""
        if self._look(_SHAPE) == self._shape:
            return True
        newcomers = [statement for (statement,) in self._look(_NEWCOMERS, self._known)]
        if not newcomers:
            return False
        # Connections may have prepared statements about them, and another test makes others of the same name.
        self._close_connections()
        self._connection.execute("; ".join(newcomers), prepare=False)
        return self._look(_SHAPE) == self._shape

    def _empty(self) -> None:
        """Only the tables that have rows: to delete nothing costs as much as to look, for each of them."""
        if not self._emptied:
            return
        looks = [sql.SQL("exists (select from {})").format(table) for table in self._emptied]
        answer = self._connection.execute(sql.SQL("select {}").format(sql.SQL(", ").join(looks))).fetchall()[0]
        written = [table for table, has_rows in zip(self._emptied, answer, strict=True) if has_rows]
        if written:
            deletes = [sql.SQL("delete from {}").format(table) for table in written]
            # As a replica, which does not look at foreign keys: whatever their order, all of these tables are emptied.
            steps = [sql.SQL("set local session_replication_role = replica"), *deletes]
            with self._connection.transaction():
                self._connection.execute(sql.SQL("; ").join(steps))
            self._shrink(written)

    def _shrink(self, tables: Sequence[sql.Identifier]) -> None:
        """What many rows have left are pages without any: whoever reads a part of them would find none of the few rows
        of the next test. Only large tables: all others cost more to look at than their pages ever do."""
        sizes = [
            sql.SQL("pg_relation_size({}::regclass)").format(table.as_string(self._connection)) for table in tables
        ]
        answer = self._connection.execute(sql.SQL("select {}").format(sql.SQL(", ").join(sizes))).fetchall()[0]
        for table, size in zip(tables, answer, strict=True):
            if size > _LARGE:
                self._connection.execute(sql.SQL("vacuum {}").format(table))

    def _turn_back_sequences(self) -> None:
        for now, (name, start, before) in zip(self._look(_SEQUENCES), self._sequences, strict=True):
            if now[2] != before:
                value = start if before is None else before
                self._connection.execute("select setval(%s, %s, %s)", (name, value, before is not None))

    def _turn_back_the_clock(self) -> bool:
        """Whether nothing but its hands was moved."""
        before, self._clock = self._clock, self._look(_CLOCK)
        if self._clock != before:
            self._connection.execute(REPLACE.format(TRUE_TIME))
            self._clock = self._look(_CLOCK)
        return [row[1:] for row in self._clock] == [row[1:] for row in before]

    def _look_at_content(self) -> list[Any]:
        rows = "select md5(coalesce(string_agg(t::text, chr(10) order by t::text), '')) from {} t"
        return [self._look(sql.SQL(rows).format(table)) for table in self._kept]

    def _has_rows(self, table: sql.Identifier) -> bool:
        return bool(self._look(sql.SQL("select from {} limit 1").format(table)))

    def _look(self, statement: sql.Composable | str, values: Any = None) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()  # type: ignore[arg-type]


def database_of(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name
