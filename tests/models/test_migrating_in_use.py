"""A database in use is migrated step by step: nobody is stopped, and whatever happens in between it can go on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, text

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import MigrationError
from jobplatform.migrations import building, steps
from jobplatform.migrations.building import build_index, committed
from jobplatform.models import make_engine
from jobplatform.testing import wait_until
from tests.models.catalogue import FACTS, facts_of, owners_in
from tests.pooler import run_pooler

#: More of them than fit in what is indexed at once.
ROWS = """
insert into jobplatform.job_records (workspace_id, id, task, queue, payload)
select gen_random_uuid(), gen_random_uuid(), 'sync', 'sync', jsonb_build_object('text', repeat('x', 300))
from generate_series(1, 5000)
"""
#: What writes to a table, as any transaction of somebody's does, and is not over.
WRITE = "update jobplatform.job_records set error = 'x' where id = (select id from jobplatform.job_records limit 1)"

BUILDING = """
select pid
from pg_stat_activity
where datname = current_database() and query like 'create index concurrently%' and wait_event_type = 'Lock'
"""
INDEXES = """
select indexrelid::regclass::text, indisvalid from pg_index where indexrelid::regclass::text like 'jobplatform.%'
"""
PROGRAM = "import sys; from jobplatform import migrations; migrations.upgrade(sys.argv[1])"

#: These are of a table that is written anew in the same migration, and holds what is not done yet.
OF_A_TABLE_WRITTEN_ANEW = {"job_queue_ready", "job_queue_successors"}

Somebody = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def template(server: EmbeddedServer) -> Iterator[str]:
    """The name of a database that is at revision 0027 and has rows."""
    name = f"used_{uuid.uuid4().hex}"
    engine = make_engine(server.create_database(name))
    migrations.upgrade(engine, "0027")
    with engine.begin() as connection:
        connection.execute(text(ROWS))
    engine.dispose()
    yield name
    server.drop_database(name)


@pytest.fixture
def used_url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """A database that is about to be migrated."""
    name = f"used_{uuid.uuid4().hex}"
    yield server.create_database(name, template)
    server.drop_database(name)


@pytest.fixture
def used(used_url: str) -> Iterator[Engine]:
    engine = make_engine(used_url)
    yield engine
    engine.dispose()


@pytest.fixture
def somebody(used_url: str) -> Iterator[Somebody]:
    """Who has a transaction of their own."""
    with psycopg.connect(used_url, application_name="somebody") as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def migrate(used_url: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that migrate, and ends what is left of them."""
    with ExitStack() as stack:

        def migrate() -> subprocess.Popen[str]:
            process = subprocess.Popen([sys.executable, "-c", PROGRAM, used_url], stderr=subprocess.PIPE, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield migrate


def pids_that_build(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text(BUILDING)))


def wait_for_build(engine: Engine) -> int:
    (pid,) = wait_until(lambda: pids_that_build(engine), what="an index that is being built, and waits")
    return pid


def indexes(engine: Engine) -> dict[str, bool]:
    """Which there are, and whether they serve."""
    with engine.connect() as connection:
        return {row[0].removeprefix("jobplatform."): row[1] for row in connection.execute(text(INDEXES))}


def said_by(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def assert_is_done(engine: Engine) -> None:
    assert migrations.current(engine) == migrations.head()
    assert all(indexes(engine).values())
    assert {"job_records_parent", "job_records_deliveries"} <= set(indexes(engine))


def test_steps_make_what_is_made_at_once(used: Engine, engine: Engine) -> None:
    migrations.upgrade(used)

    with used.connect() as stepped, engine.connect() as made:
        for kind in FACTS:
            assert facts_of(stepped, kind) == facts_of(made, kind)


@pytest.mark.thorough
def test_steps_from_the_first_on_lock_no_table_to_index_it_and_can_fail_at_their_end_and_be_taken_again(
    empty_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for tables that the step itself makes, or writes anew."""
    monkeypatch.setattr(building, "SMALL", -1)
    used = make_engine(empty_url)
    migrations.upgrade(used, "0001")
    built: list[tuple[str, str]] = []
    fails = threading.Event()
    event.listen(used, "before_cursor_execute", partial(note_indexes, built))
    event.listen(used, "before_cursor_execute", partial(fail_at_the_end, fails))
    locking: set[str] = set()
    for revision in migrations.revisions()[1:]:
        with used.connect() as connection:
            before = set(connection.scalars(text("select relname from pg_class where relkind = 'r'")))
        fails.set()
        with pytest.raises(ZeroDivisionError):
            migrations.upgrade(used, revision)
        fails.clear()
        migrations.upgrade(used, revision)
        locking |= {index for index, table in built if table in before}
        built.clear()

    assert locking == OF_A_TABLE_WRITTEN_ANEW
    with used.connect() as stepped, engine.connect() as made:
        for kind in FACTS:
            assert facts_of(stepped, kind) == facts_of(made, kind)
        assert owners_in(stepped) == owners_in(made)
    used.dispose()


def note_indexes(built: list[tuple[str, str]], _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
    if found := re.match(r"\s*create (?:unique )?index (?:if not exists )?(\w+)\s+on jobplatform\.(\w+)", statement):
        built.append((found[1], found[2]))


def fail_at_the_end(fails: threading.Event, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
    if fails.is_set() and statement.startswith("UPDATE jobplatform.alembic_version"):
        raise ZeroDivisionError


def test_a_build_waits_for_somebody_s_transaction_and_keeps_nobody_from_writing(
    used: Engine, somebody: Somebody, migrate: Callable[[], subprocess.Popen[str]]
) -> None:
    somebody.execute(WRITE)
    migration = migrate()
    wait_for_build(used)

    with used.begin() as connection:
        connection.execute(text("set local lock_timeout = '1s'"))
        connection.execute(text(ROWS))
    assert migration.poll() is None

    somebody.commit()
    assert migration.wait(60) == 0
    assert_is_done(used)


def test_a_migration_that_is_killed_between_two_steps_goes_on_after_the_first(
    used: Engine, somebody: Somebody, migrate: Callable[[], subprocess.Popen[str]]
) -> None:
    somebody.execute("alter index jobplatform.job_queue_running set (fillfactor = 90)")
    killed = migrate()
    wait_until(lambda: migrations.current(used) == "0028", what="the first step")
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    somebody.rollback()

    assert migrations.current(used) == "0028"
    migrations.upgrade(used)

    assert_is_done(used)


def test_a_migration_that_is_killed_while_it_builds_is_waited_for_by_the_next(
    used: Engine, somebody: Somebody, migrate: Callable[[], subprocess.Popen[str]]
) -> None:
    """Its server process does not know that it is alone, and goes on."""
    somebody.execute(WRITE)
    killed = migrate()
    wait_for_build(used)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)

    another = migrate()
    assert "another migration" in said_by(another)
    somebody.commit()

    assert another.wait(60) == 0
    assert_is_done(used)


def test_an_index_whose_build_was_broken_off_is_built_again(used: Engine, somebody: Somebody) -> None:
    break_off_a_build(used, somebody)
    assert indexes(used)["job_records_parent"] is False
    assert migrations.current(used) == "0029"

    migrations.upgrade(used)

    assert_is_done(used)


def test_a_small_index_whose_build_was_broken_off_is_built_again(
    used: Engine, somebody: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off_a_build(used, somebody)
    monkeypatch.setattr(building, "SMALL", 2**30)

    migrations.upgrade(used)

    assert_is_done(used)


def test_the_sql_builds_a_broken_index_again(used: Engine, somebody: Somebody, server: EmbeddedServer) -> None:
    break_off_a_build(used, somebody)
    psql = [server.programs / "psql", "--no-psqlrc", "--output=/dev/null", somebody.info.dsn]

    done = subprocess.run(psql, input=migrations.upgrade_sql("0029"), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert_is_done(used)


def break_off_a_build(used: Engine, somebody: Somebody) -> None:
    somebody.execute(WRITE)
    program = [sys.executable, "-c", PROGRAM, used.url.render_as_string(hide_password=False)]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as migration:
        pid = wait_for_build(used)
        with used.begin() as connection:
            connection.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
        said = migration.communicate(timeout=60)[1]
    somebody.rollback()
    assert "migration 0030 failed, and those before it stay: terminating connection" in said


def test_two_migrations_of_a_database_in_use_take_turns_and_do_not_wait_for_each_other(
    used: Engine, somebody: Somebody, migrate: Callable[[], subprocess.Popen[str]]
) -> None:
    somebody.execute(WRITE)
    first = migrate()
    wait_for_build(used)
    second = migrate()
    assert "another migration" in said_by(second)

    somebody.commit()

    assert [first.wait(60), second.wait(60)] == [0, 0]
    assert_is_done(used)


def test_who_holds_a_lock_for_a_moment_is_named_and_waited_for(
    used: Engine, somebody: Somebody, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody.execute("alter index jobplatform.job_queue_running set (fillfactor = 90)")

    def pause(_seconds: float) -> None:
        if str(somebody.info.backend_pid) in vars(caplog.records[-1])["behind"]:
            somebody.rollback()

    monkeypatch.setattr(steps, "sleep", pause)
    migrations.upgrade(used)

    assert_is_done(used)
    told = [vars(record) for record in caplog.records if record.msg == "a migration gave up a lock and tries again"]
    behind = told[-1]["behind"]
    assert told[-1]["revision"] == "0029"
    assert f"process {somebody.info.backend_pid} (" in behind
    assert "somebody, idle in transaction) in a transaction for " in behind
    assert behind.endswith("alter index jobplatform.job_queue_running set (fillfactor = 90)")


def test_who_holds_a_lock_for_good_is_named_and_what_was_done_before_stays(
    used: Engine, somebody: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "PAUSES", (0.0, 0.0))
    before = indexes(used)
    somebody.execute("alter index jobplatform.job_queue_running set (fillfactor = 90)")

    with pytest.raises(MigrationError) as refused:
        migrations.upgrade(used)

    pid = somebody.info.backend_pid
    assert re.match(rf"migration 0029 did not get its locks .* because of process {pid} \(", str(refused.value))
    assert f"end that (`select pg_terminate_backend({pid})`), then migrate again" in str(refused.value)
    assert migrations.current(used) == "0028"
    assert indexes(used) == before


def test_a_build_that_somebody_keeps_from_beginning_is_given_up_in_the_end(
    used: Engine, somebody: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "PATIENCE", "400ms")
    before = indexes(used)
    somebody.execute("lock table jobplatform.job_records in share update exclusive mode")

    with pytest.raises(MigrationError, match=f"migration 0030 did not get.* process {somebody.info.backend_pid} "):
        migrations.upgrade(used)

    assert migrations.current(used) == "0029"
    somebody.rollback()
    assert indexes(used) == before


def test_a_long_wait_of_a_build_is_told(
    used: Engine, somebody: Somebody, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    somebody.execute(WRITE)
    monkeypatch.setattr("jobplatform.migrations.watching.TOLD_EVERY", 0.0)

    class Free:
        """Ends somebody's transaction when the wait has been told."""

        def __call__(self, record: Any) -> bool:
            if record.msg == "a migration waits, and stops nobody meanwhile":
                somebody.commit()
            return True

    monkeypatch.setattr(caplog.handler, "filters", [Free()])
    migrations.upgrade(used)

    assert_is_done(used)
    assert f"process {somebody.info.backend_pid} (" in vars(caplog.records[-1])["behind"]


def test_a_step_that_fails_changes_nothing_and_those_before_it_stay(used: Engine) -> None:
    with used.begin() as connection:
        connection.execute(text("drop index jobplatform.job_queue_running"))

    with pytest.raises(MigrationError, match=r"migration 0029 failed, and those before it stay: .*does not exist"):
        migrations.upgrade(used)

    assert migrations.current(used) == "0028"


def test_a_database_that_a_newer_version_has_migrated_is_left_alone_and_is_good_enough(used: Engine) -> None:
    with used.begin() as connection:
        connection.execute(text("update jobplatform.alembic_version set version_num = '9999'"))

    migrations.upgrade(used)

    assert migrations.current(used) == "9999"
    migrations.check(used)


def test_what_a_login_is_given_for_its_queries_does_not_end_a_build(
    used: Engine, somebody: Somebody, migrate: Callable[[], subprocess.Popen[str]]
) -> None:
    somebody.execute(f"alter database {somebody.info.dbname} set statement_timeout = '100ms'")
    somebody.commit()

    assert migrate().wait(60) == 0

    assert_is_done(used)


def test_a_host_s_connections_are_as_they_were(used: Engine) -> None:
    """Whoever sets what lasts for a session does it on a connection that nobody gets after it."""
    host = make_engine(used.url, pool_size=1, autocommit=True)
    with host.connect() as connection:
        before = connection.execute(text("select current_user, current_setting('lock_timeout')")).all()

    migrations.upgrade(host)

    with host.connect() as connection:
        assert connection.execute(text("select current_user, current_setting('lock_timeout')")).all() == before
    host.dispose()
    assert_is_done(used)


def test_through_a_pooler_a_database_in_use_is_not_migrated_unless_it_is_in_session_mode(
    used: Engine, used_url: str, server: EmbeddedServer
) -> None:
    with run_pooler(server, "session") as pooler:
        with pytest.raises(MigrationError, match=r"leads through a pooler.* JOBPLATFORM_DIRECT_DATABASE_URL"):
            migrations.upgrade(pooler.url(used_url))
        assert migrations.current(used) == "0027"

        migrations.upgrade(pooler.url(used_url), trusted=True)
        # There is nothing to do, and so nothing is needed.
        migrations.upgrade(pooler.url(used_url))

    assert_is_done(used)


def test_through_a_pooler_a_schema_is_made(empty_url: str, server: EmbeddedServer) -> None:
    with run_pooler(server) as pooler:
        migrations.upgrade(pooler.url(empty_url))

    engine = make_engine(empty_url)
    migrations.check(engine)
    engine.dispose()


@pytest.fixture
def step(used: Engine) -> Iterator[Operations]:
    """The middle of a step, in which a migration does what it does."""
    config = Config()
    config.set_main_option("script_location", str(migrations.HERE))
    with used.connect() as connection, EnvironmentContext(config, ScriptDirectory.from_config(config)):
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with Operations.context(context) as operations, context.begin_transaction(_per_migration=True):
            yield operations


@pytest.mark.parametrize(
    "outside", [lambda: build_index("create index late on jobplatform.job_records (task)"), committed().__enter__]
)
def test_what_is_done_outside_the_transaction_of_a_step_comes_first(
    step: Operations, outside: Callable[[], None]
) -> None:
    step.execute(f'create table jobplatform."{uuid.uuid4().hex}" ()')

    with pytest.raises(RuntimeError, match="it comes first"):
        outside()


def test_several_things_are_done_outside_the_transaction_of_a_step(step: Operations, used: Engine) -> None:
    with committed():
        step.execute("alter table jobplatform.job_records add column if not exists colour text")
    build_index("create unique index coloured on jobplatform.job_records (colour, id) where colour is not null")
    build_index("create index by_task on jobplatform.job_records using hash (task)")

    assert indexes(used)["coloured"]
    assert indexes(used)["by_task"]


def test_what_is_no_index_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not of the form `create index NAME on jobplatform.TABLE"):
        build_index("create index on jobs (id)")
