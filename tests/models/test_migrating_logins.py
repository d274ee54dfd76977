"""Who may migrate, and what those who may not are told."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import MigrationError
from jobplatform.models import Role, make_engine
from jobplatform.testing import wait_until

WAITING = "select exists (select from pg_locks where pid = %s and not granted)"
OWNERS = """
select distinct pg_get_userbyid(owner)
from (
    select relowner from pg_class where relnamespace = 'jobplatform'::regnamespace and relkind in ('r', 'v')
    union all
    select proowner from pg_proc where pronamespace = 'jobplatform'::regnamespace
    union all
    select nspowner from pg_namespace where nspname = 'jobplatform'
) as found(owner)
"""

OwnedBy = Callable[..., str]


@pytest.fixture
def owned_by(server: EmbeddedServer, database_url: str) -> Iterator[OwnedBy]:
    """An empty database that belongs to a new login; its URL. The server has the roles, as ``database_url`` made it."""
    databases: list[str] = []

    def owned_by(options: str, *roles: Role) -> str:
        name = f"owned_{uuid.uuid4().hex}"
        server.provide_login(name, *roles)
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"alter role {name} {options}")
            connection.execute(f"create database {name} owner {name} template template0")
        databases.append(name)
        return server.url(name, name)

    yield owned_by
    for name in databases:
        server.drop_database(name)
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"drop role {name}")


def version_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("select current_setting('server_version_num')::int / 10000")))


def test_a_member_of_the_owner_migrates_without_special_rights(owned_by: OwnedBy) -> None:
    url = owned_by("nosuperuser nocreaterole", Role.OWNER)

    migrations.upgrade(url)
    migrations.upgrade(url)

    engine = make_engine(url)
    migrations.check(engine)
    with engine.connect() as connection:
        assert connection.execute(text(OWNERS)).scalars().all() == ["jobplatform_owner"]
    engine.dispose()


def test_it_can_take_its_schema_back_and_leaves_the_roles_to_others(owned_by: OwnedBy) -> None:
    url = owned_by("nosuperuser nocreaterole", Role.OWNER)
    migrations.upgrade(url)

    migrations.downgrade(url, "0002")
    migrations.downgrade(url, "base")
    migrations.upgrade(url)

    engine = make_engine(url)
    migrations.check(engine)
    engine.dispose()


@pytest.mark.parametrize("options", ["nocreaterole", "createrole"])
def test_a_login_without_the_rights_is_told_what_an_administrator_has_to_run(
    owned_by: OwnedBy, options: str, engine: Engine
) -> None:
    if options == "createrole" and version_of(engine) < 16:
        pytest.skip("before PostgreSQL 16 a login that may create roles may become a member of any")
    url = owned_by(options)

    with pytest.raises(MigrationError) as refused:
        migrations.upgrade(url)

    for statement in ("create role jobplatform_api nologin", f'grant jobplatform_owner to "{make_url(url).username}"'):
        assert statement in str(refused.value)


def test_what_an_administrator_is_asked_to_run_is_enough(owned_by: OwnedBy, server: EmbeddedServer) -> None:
    url = owned_by("nocreaterole")
    with pytest.raises(MigrationError) as refused:
        migrations.upgrade(url)
    advised = [line.strip() for line in str(refused.value).splitlines() if line.startswith("  ")]

    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        for statement in advised:
            # On this server the roles are there already.
            if not statement.startswith("create role"):
                administrator.execute(statement)

    migrations.upgrade(url)


def test_who_may_not_touch_a_database_is_told_whose_it_is_and_what_would_help(
    owned_by: OwnedBy, server: EmbeddedServer
) -> None:
    url = owned_by("nosuperuser nocreaterole", Role.OWNER)
    owner, database = make_url(url).username, make_url(url).database or ""
    stranger = make_url(owned_by("nosuperuser nocreaterole")).username or ""

    with pytest.raises(MigrationError) as empty:
        migrations.upgrade(server.url(database, stranger))
    migrations.upgrade(url)
    with pytest.raises(MigrationError) as migrated:
        migrations.upgrade(server.url(database, stranger))

    assert str(empty.value).startswith(f"the login {stranger} may not create a schema in the database {database} (")
    assert f"have {owner}, whose database it is, `grant create on database {database} to" in str(empty.value)
    assert str(migrated.value).startswith(f"the login {stranger} may not change the schema jobplatform in the")
    assert f"have an administrator `grant jobplatform_owner to {stranger}`" in str(migrated.value)


def test_two_databases_of_a_server_may_make_the_roles_at_the_same_moment(server: EmbeddedServer) -> None:
    migration = importlib.import_module("jobplatform.migrations.versions.0003_each_workspace_sees_only_its_own")
    name = f"raced_{uuid.uuid4().hex}"
    statement = migration.CREATE.format(role=name, options="nologin noinherit")
    with (
        psycopg.connect(server.url("postgres")) as first,
        psycopg.connect(server.url("jobplatform"), autocommit=True) as second,
        ThreadPoolExecutor(1) as elsewhere,
    ):
        first.execute(statement)
        racing = elsewhere.submit(second.execute, statement)
        wait_until(lambda: first.execute(WAITING, (second.info.backend_pid,)).fetchone() == (True,), what="a race")
        first.commit()

        racing.result(timeout=30)
        second.execute(f"drop role {name}")


def test_a_server_that_is_too_old_is_refused_before_anything_is_changed(
    owned_by: OwnedBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_SERVER", 99)
    url = owned_by("nosuperuser nocreaterole", Role.OWNER)

    with pytest.raises(MigrationError, match=r"the server is PostgreSQL \d\d, and jobplatform needs 99 or newer"):
        migrations.upgrade(url)

    engine = make_engine(url)
    assert migrations.current(engine) is None
    engine.dispose()
