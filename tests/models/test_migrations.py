"""The migrations make exactly what the models say, and can be run by anybody, twice, and at the same time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.schema import CreateIndex, CreateTable

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import MigrationError
from jobplatform.migrations.turns import MIGRATION_LOCK
from jobplatform.models import SCHEMA, Base, Job, make_engine
from tests.models.catalogue import FACTS, facts_of, owners_in

RunScript = Callable[[str], str]


@pytest.fixture
def empty(empty_url: str) -> Iterator[Engine]:
    engine = make_engine(empty_url)
    yield engine
    engine.dispose()


def is_ours(thing: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    if kind == "table":
        return name != "alembic_version" and not thing.info.get("is_view")
    return True


def make_from_models(connection: Connection) -> None:
    """The same schema, made of the models alone."""
    connection.execute(text(f"drop schema {SCHEMA} cascade"))
    connection.execute(text(f"create schema {SCHEMA}"))
    connection.execute(
        text("create function jobplatform.clock() returns timestamptz language sql stable as 'select now()'")
    )
    for table in Base.metadata.sorted_tables:
        if not table.info.get("is_view"):
            connection.execute(CreateTable(table))
            for index in table.indexes:
                connection.execute(CreateIndex(index))


def test_no_drift_that_alembic_can_see(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_object": is_ours,
                "compare_type": True,
                "compare_server_default": True,
                "version_table_schema": SCHEMA,
            },
        )

        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("kind", FACTS)
def test_no_drift_in_what_alembic_does_not_compare(engine: Engine, kind: str) -> None:
    with engine.connect() as connection:
        migrated = facts_of(connection, kind)
        make_from_models(connection)
        modelled = facts_of(connection, kind)
        connection.rollback()

    assert migrated == modelled


def test_no_drift_between_the_view_and_the_class_that_maps_it(engine: Engine) -> None:
    columns = inspect(engine).get_columns("jobs", schema=SCHEMA)

    assert [column["name"] for column in columns] == [column.name for column in Job.__table__.columns]
    for found, modelled in zip(columns, Job.__table__.columns, strict=True):
        assert found["type"].python_type is modelled.type.python_type, found["name"]


def test_a_migrated_database_is_at_the_head(engine: Engine) -> None:
    assert migrations.current(engine) == migrations.head()
    migrations.check(engine)


def test_a_database_without_our_schema_is_at_no_revision(empty: Engine) -> None:
    assert migrations.current(empty) is None
    with pytest.raises(MigrationError, match="jobplatform migrate"):
        migrations.check(empty)


def test_the_schema_can_be_made_taken_away_and_made_again(empty: Engine) -> None:
    migrations.upgrade(empty)
    with empty.connect() as connection:
        first = {kind: facts_of(connection, kind) for kind in FACTS}

    migrations.downgrade(empty, "base")
    with empty.connect() as connection:
        assert facts_of(connection, "columns") == []

    migrations.upgrade(empty)
    with empty.connect() as connection:
        assert {kind: facts_of(connection, kind) for kind in FACTS} == first


def test_upgrading_a_database_that_is_at_the_head_changes_nothing(engine: Engine) -> None:
    migrations.upgrade(engine)

    assert migrations.current(engine) == migrations.head()


def test_there_is_no_upgrade_to_what_is_no_revision(engine: Engine) -> None:
    with pytest.raises(MigrationError, match="there is no revision '9999'; they go from 0001 to"):
        migrations.upgrade(engine, "9999")


def test_an_upgrade_takes_a_url_too(empty_url: str, empty: Engine) -> None:
    migrations.upgrade(empty_url)

    assert migrations.current(empty) == migrations.head()


def test_the_sql_of_the_migrations_makes_the_same_schema(empty_url: str, empty: Engine, engine: Engine) -> None:
    with psycopg.connect(empty_url, autocommit=True) as psql:
        # As psql does it: the text as it is, in one session, BEGIN and COMMIT included.
        psql.execute(migrations.upgrade_sql())  # type: ignore[arg-type]

    assert migrations.current(empty) == migrations.head()
    with empty.connect() as written, engine.connect() as migrated:
        for kind in FACTS:
            assert facts_of(written, kind) == facts_of(migrated, kind)


def test_the_sql_of_the_migrations_is_all_or_nothing() -> None:
    statements = re.sub(r"--.*", "", migrations.upgrade_sql()).strip()

    assert statements.startswith("BEGIN;")
    assert statements.endswith("COMMIT;")


@pytest.fixture
def run_script(server: EmbeddedServer, empty_url: str) -> Callable[[str], str]:
    """Has psql run it; what the server refuses first."""

    def run_script(script: str) -> str:
        command = [server.programs / "psql", "--no-psqlrc", "--quiet", "--output=/dev/null", empty_url]
        said = subprocess.run(command, input=script, capture_output=True, text=True, check=False).stderr
        refusal = re.search(r"ERROR:  (.*)", said)
        return refusal[1] if refusal else ""

    return run_script


@pytest.mark.parametrize("rollback", ["off", "on"])
@pytest.mark.parametrize("begins_at", [None, "0036"])
def test_psql_stops_at_the_first_error_of_the_sql_whatever_it_is_set_to(
    server: EmbeddedServer, empty_url: str, empty: Engine, begins_at: str | None, rollback: str
) -> None:
    """With ON_ERROR_ROLLBACK it would leave out what fails, and commit the rest."""
    if begins_at is not None:
        migrations.upgrade(empty, begins_at)
    script = (
        (migrations.FOR_PSQL + migrations.upgrade_sql()) if begins_at is None else migrations.upgrade_sql(begins_at)
    )
    broken = script.replace("-- Running upgrade", "select 1 / 0;\n-- Running upgrade", 1)
    assert broken != script

    psql = [server.programs / "psql", "--no-psqlrc", "--quiet", f"--set=ON_ERROR_ROLLBACK={rollback}", empty_url]
    done = subprocess.run(psql, input=broken, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.count("ERROR:")) == (3, 1)
    assert migrations.current(empty) == begins_at


@pytest.mark.parametrize("begins_at", ["0002", "0003", "0020"])
def test_the_sql_goes_on_from_where_a_database_is(
    run_script: RunScript, empty: Engine, engine: Engine, begins_at: str
) -> None:
    migrations.upgrade(empty, begins_at)

    assert run_script(migrations.upgrade_sql(begins_at)) == ""

    assert migrations.current(empty) == migrations.head()
    with empty.connect() as written, engine.connect() as migrated:
        for kind in FACTS:
            assert facts_of(written, kind) == facts_of(migrated, kind)
        assert owners_in(written) == owners_in(migrated)


def test_the_sql_changes_nothing_in_a_database_that_is_elsewhere(run_script: RunScript, empty: Engine) -> None:
    migrations.upgrade(empty, "0020")

    said = run_script(migrations.upgrade_sql("0019"))

    assert said == "the database is at revision 0020, and this SQL goes on from 0019; nothing was changed"
    assert migrations.current(empty) == "0020"


@pytest.mark.parametrize("begins_at", ["0002", "0028"])
def test_the_sql_that_goes_on_says_when_there_is_nothing_to_go_on_from(
    run_script: RunScript, empty: Engine, begins_at: str
) -> None:
    said = run_script(migrations.upgrade_sql(begins_at))

    assert said.startswith("there is no jobplatform in this database to go on from; the SQL without --from makes it")
    assert not inspect(empty).has_schema(SCHEMA)


def test_the_whole_sql_says_when_there_is_a_jobplatform_already(run_script: RunScript, empty: Engine) -> None:
    migrations.upgrade(empty, "0020")

    said = run_script(migrations.upgrade_sql())

    assert said.startswith("there is a jobplatform in this database already; the SQL with --from and its revision")
    assert migrations.current(empty) == "0020"


def test_the_sql_refuses_a_server_that_is_too_old(
    run_script: RunScript, empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_SERVER", 99)

    said = run_script(migrations.upgrade_sql())

    assert re.match(
        r"the server is PostgreSQL \d+\.\d+.*, and jobplatform needs 99 or newer; nothing was changed", said
    )
    assert not inspect(empty).has_schema(SCHEMA)


@pytest.mark.parametrize("begins_at", ["", "28", "0000", "9999", "head", "0028:head"])
def test_there_is_no_sql_from_what_is_no_revision(begins_at: str) -> None:
    with pytest.raises(MigrationError, match=re.escape(f"there is no revision {begins_at!r}; they go from 0001 to")):
        migrations.upgrade_sql(begins_at)


def test_there_is_no_sql_after_the_newest_revision() -> None:
    with pytest.raises(MigrationError, match="nothing to do"):
        migrations.upgrade_sql(migrations.head())


def test_the_sql_from_a_revision_on_is_a_transaction_for_each_migration(run_script: RunScript, empty: Engine) -> None:
    migrations.upgrade(empty, "0022")
    script = migrations.upgrade_sql("0022")
    first_two = script[: script.index("-- Running upgrade 0024")]

    assert run_script(first_two) == ""
    assert migrations.current(empty) == "0024"

    assert run_script(script).startswith("the database is at revision 0024, and this SQL goes on from 0022")
    assert migrations.current(empty) == "0024"
    assert run_script(migrations.upgrade_sql("0024")) == ""
    assert migrations.current(empty) == migrations.head()


def test_after_a_refusal_no_part_of_the_sql_changes_anything(run_script: RunScript, empty: Engine) -> None:
    migrations.upgrade(empty, "0020")
    script = migrations.upgrade_sql("0023").replace("\\set ON_ERROR_STOP on", "")
    up_to_the_index = script[: script.index("create index concurrently")].rpartition("COMMIT;")[0] + "COMMIT;"

    run_script(up_to_the_index)

    assert migrations.current(empty) == "0020"


def test_two_upgrades_at_once_take_turns(empty_url: str, empty: Engine) -> None:
    program = "import sys; from jobplatform import migrations; migrations.upgrade(sys.argv[1])"

    with psycopg.connect(empty_url) as turnstile:
        # Both have to be at the lock before either may pass.
        turnstile.execute("select pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        command = [sys.executable, "-c", program, empty_url]
        upgrades = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [upgrade.stderr.readline() for upgrade in upgrades if upgrade.stderr]
        turnstile.rollback()

    assert [upgrade.communicate(timeout=60)[1] for upgrade in upgrades] == ["", ""]
    assert [upgrade.returncode for upgrade in upgrades] == [0, 0]
    assert said == ["another migration of this database runs, and this one waits for its end\n"] * 2
    assert migrations.current(empty) == migrations.head()


def test_an_upgrade_that_fails_leaves_nothing_behind(empty: Engine) -> None:
    with empty.begin() as connection:
        connection.execute(text(f"create schema {SCHEMA}"))
        connection.execute(text(f"create table {SCHEMA}.records (in_the_way int)"))

    with pytest.raises(Exception, match="already exists"):
        migrations.upgrade(empty)

    assert inspect(empty).get_table_names(schema=SCHEMA) == ["records"]


def test_our_schema_does_not_appear_in_a_hosts_own_autogenerate(engine: Engine) -> None:
    host = create_engine(engine.url)
    try:
        assert inspect(host).get_table_names() == []
    finally:
        host.dispose()
