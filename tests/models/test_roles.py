"""A process refuses a login by which it could see more than it should, and says all there is to correct."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from jobplatform.api import create_app
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import SettingsError
from jobplatform.models import Role, embedded_login, make_engine, require_roles
from jobplatform.models.roles import Login, problems_of
from jobplatform.settings import Settings
from jobplatform.worker import Worker


def version_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("select current_setting('server_version_num')::int / 10000")))


@pytest.fixture
def _not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server of the tests were not our embedded one."""
    monkeypatch.setattr("jobplatform.models.roles.CLUSTER_NAME", "another")


@pytest.fixture
def make(login_url: Callable[..., str]) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(*roles: Role) -> Engine:
        engines.append(make_engine(login_url(*roles), pool_size=1))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.mark.usefixtures("_not_ours")
@pytest.mark.parametrize("roles", [(Role.API,), (Role.WORKER,), (Role.API, Role.WORKER)])
def test_a_plain_member_is_accepted(make: Callable[..., Engine], roles: tuple[Role, ...]) -> None:
    assert require_roles(make(*roles), *roles)


@pytest.mark.usefixtures("_not_ours")
def test_a_superuser_is_refused_unless_trusted(engine: Engine) -> None:
    with pytest.raises(SettingsError, match=r"'postgres' is a superuser.*JOBPLATFORM_TRUST_LOGIN"):
        require_roles(engine, Role.API)

    assert require_roles(engine, Role.API, trust_login=True)


def test_the_superuser_of_our_embedded_server_is_accepted(engine: Engine) -> None:
    assert require_roles(engine, Role.WORKER)


@pytest.mark.usefixtures("_not_ours")
def test_a_login_that_bypasses_row_security_is_refused(server: EmbeddedServer, database_url: str) -> None:
    server.provide_login("bypassing", Role.API)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("alter role bypassing bypassrls")
    engine = make_engine(server.url(make_url(database_url).database or "", "bypassing"), pool_size=1)

    with pytest.raises(SettingsError, match="BYPASSRLS"):
        require_roles(engine, Role.API)

    engine.dispose()


def test_a_login_that_is_no_member_is_told_what_to_grant(make: Callable[..., Engine]) -> None:
    with pytest.raises(SettingsError, match='grant jobplatform_worker to "only_api"'):
        require_roles(make(Role.API), Role.WORKER)


def test_a_login_that_has_made_the_roles_is_told_to_give_them_to_itself(
    server: EmbeddedServer, database_url: str, engine: Engine
) -> None:
    if version_of(engine) < 16:
        pytest.skip("whoever makes a role becomes no member of it")
    server.provide_login("maker")
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        # As after `create role … login createrole` and a migration by that login.
        connection.execute("grant jobplatform_worker to maker with admin true, inherit false, set false")
    made_by = make_engine(server.url(make_url(database_url).database or "", "maker"), pool_size=1)

    with pytest.raises(SettingsError, match='grant jobplatform_worker to "maker"'):
        require_roles(made_by, Role.WORKER)

    with psycopg.connect(server.url("postgres", "maker"), autocommit=True) as connection:
        connection.execute('grant jobplatform_worker to "maker"')
    assert require_roles(made_by, Role.WORKER)


@pytest.mark.parametrize("change", ["no force row level security", "disable row level security"])
def test_a_table_that_is_not_protected_is_named(engine: Engine, change: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"alter table jobplatform.records {change}"))

    with pytest.raises(SettingsError, match=r"not forced on jobplatform\.records"):
        require_roles(engine, Role.API)


@pytest.mark.usefixtures("_not_ours")
def test_everything_that_is_wrong_is_said_at_once(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table jobplatform.notes (workspace_id uuid)"))

    with pytest.raises(SettingsError) as refused:
        require_roles(engine, Role.API)

    assert [len(refused.value.problems), "notes" in refused.value.problems[1]] == [2, True]


def test_a_database_that_is_away_or_empty_is_not_judged(server: EmbeddedServer) -> None:
    for database in ("no_such_database", "postgres"):
        engine = make_engine(server.url(database), pool_size=1)
        assert not require_roles(engine, Role.API)
        engine.dispose()


@pytest.mark.direct("a role for a whole session would stay with a shared backend")
def test_an_engine_assumes_a_role_for_all_its_connections(database_url: str) -> None:
    engine = make_engine(database_url, autocommit=True, role=Role.WORKER)

    with engine.connect() as connection:
        assert connection.execute(text("select current_user::text")).scalar() == "jobplatform_worker"

    engine.dispose()


def test_an_embedded_server_has_logins_that_can_do_no_more_than_they_should(server: EmbeddedServer) -> None:
    for roles in ((Role.API,), (Role.WORKER,), (Role.API, Role.WORKER)):
        with psycopg.connect(embedded_login(server, *roles)) as connection:
            found = connection.execute(
                "select rolsuper or rolbypassrls or rolcreaterole or rolcreatedb, "
                "array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid "
                "where m.member = r.oid order by 1) from pg_roles r where rolname = current_user"
            ).fetchone()

        assert found == (False, sorted(roles))


@pytest.mark.usefixtures("jobplatform_databases")  # Migrations have been here: who may assume which role is theirs.
def test_handlers_on_an_embedded_server_may_use_the_application_s_tables(server: EmbeddedServer) -> None:
    with psycopg.connect(server.url()) as before:
        before.execute("create table if not exists earlier (id int generated always as identity, note text)")
    worker = embedded_login(server, Role.WORKER)
    with psycopg.connect(server.url()) as after:
        after.execute("create table if not exists later (id serial, note text)")

    with psycopg.connect(worker) as handler:
        handler.execute("set local role jobplatform_handler")
        for table in ("earlier", "later"):
            handler.execute(f"insert into {table} (note) values ('x')")


def test_an_application_refuses_to_start_with_a_login_that_could_see_too_much(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.models.roles.CLUSTER_NAME", "another")

    with pytest.raises(SettingsError, match="superuser"):
        create_app(Settings(database_url=database_url))
    with pytest.raises(SettingsError, match="superuser"):
        Worker(database_url=database_url, tasks="tests.worker.curious_tasks:tasks").run()

    create_app(Settings(database_url=database_url, trust_login=True)).extensions["jobplatform.engine"].dispose()


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ({"existing": []}, "the role jobplatform_api does not exist"),
        ({"dangerous": ["jobplatform_worker"]}, "alter role jobplatform_worker nologin"),
        ({"inheriting": ["jobplatform_api inherits jobplatform_operator"]}, "would always see every workspace"),
        ({"bypasses": True}, "has BYPASSRLS"),
    ],
)
def test_roles_that_could_see_too_much_are_named(fact: dict[str, object], said: str) -> None:
    fine = Login("shop", False, False, False, ["jobplatform_api"], ["jobplatform_api"], [], [], [], True)

    assert problems_of(fine, [Role.API], trust_login=False) == []
    (problem,) = problems_of(fine._replace(**fact), [Role.API], trust_login=False)
    assert said in problem
