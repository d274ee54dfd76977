"""A database is migrated while everybody works: nobody waits for longer than a moment, and every job runs."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.api import create_app, mint_token
from jobplatform.migrations import steps
from jobplatform.models import make_engine
from jobplatform.settings import Settings
from jobplatform.testing import wait_until
from tests.worker.conftest import Database, StartWorker

#: A history, of which an index is not made in a moment.
HISTORY = """
insert into jobplatform.job_records (workspace_id, id, task, queue, payload)
select gen_random_uuid(), gen_random_uuid(), 'sync', 'sync', jsonb_build_object('text', repeat('x', 300))
from generate_series(1, 20000)
"""
#: Whoever is kept waiting for as long as this is told so by an error.
IMPATIENCE = "alter database {0} set lock_timeout = '2s'; alter database {0} set statement_timeout = '4s'"

WAITING = """
select count(*)
from pg_stat_activity
where datname = current_database() and application_name = 'jobplatform-migrate' and wait_event_type = 'Lock'
"""
WRITE = "update jobplatform.job_records set error = 'x' where id = (select id from jobplatform.job_records limit 1)"


MIGRATION = """
from alembic import op

from jobplatform.migrations.building import build_index

revision, down_revision = {revision!r}, {before!r}
branch_labels = depends_on = None


def upgrade():
    {does}
"""
#: What the next version does: it changes a table that everybody works on, and indexes another one.
NEXT = (
    'op.execute("alter index jobplatform.job_queue_running set (fillfactor = 80)")',
    'build_index("create index job_records_error on jobplatform.job_records (error_type)")',
)


@pytest.fixture
def used(empty_url: str) -> Iterator[Engine]:
    """A database of this version, with a history."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        migrations.upgrade(empty_url)
        connection.execute(HISTORY)
        connection.execute(IMPATIENCE.format(connection.info.dbname))  # type: ignore[arg-type]  # it is no literal
    engine = make_engine(empty_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Has this process migrate as the version after this one would. The revisions: of this one, and the further ones.

    Whoever works meanwhile is of this version, as on the day of an upgrade.
    """
    there = tmp_path / "migrations"
    shutil.copytree(migrations.HERE, there, ignore=shutil.ignore_patterns("__pycache__"))
    head = migrations.head()
    revisions = [head, *(f"{int(head) + nth:04}" for nth, _ in enumerate(NEXT, start=1))]
    for before, revision, does in zip(revisions, revisions[1:], NEXT, strict=False):
        written = MIGRATION.format(revision=revision, before=before, does=does)
        (there / "versions" / f"{revision}_next.py").write_text(written)
    with monkeypatch.context() as patch:
        for module in (migrations, steps):
            patch.setattr(module, "HERE", there)
        migrations.revisions.cache_clear()
        yield revisions
    migrations.revisions.cache_clear()


@pytest.fixture
def app(used: Engine, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    with monkeypatch.context() as patch:
        patch.setattr("jobplatform.api.app.make_engine", lambda _url, **_options: used)
        app = create_app(Settings(database_url=empty_url, tasks="tests.worker.handlers:tasks"))
    yield app
    app.blueprints["jobplatform"].mounted.hub.close()  # type: ignore[attr-defined]


def token_for(engine: Engine, workspace_id: uuid.UUID) -> str:
    with Session(engine) as session, session.begin():
        return mint_token(session, workspace_id, ["jobs:read"], "a test")


def look_at_jobs(app: Flask, token: str, workspace_id: uuid.UUID) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    for path in (f"/workspaces/{workspace_id}/jobs?limit=5", "/jobs/stats"):
        answer = app.test_client().get(path, headers=headers)
        assert answer.status_code == 200, answer.text


class Loop:
    """Does something again and again, and counts how often; an error ends it, and is raised by whoever looks."""

    def __init__(self, pool: ThreadPoolExecutor, do: Callable[[], object]) -> None:
        self.count = 0
        self._do = do
        self._over = threading.Event()
        self._done: Future[None] = pool.submit(self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self._do()
            self.count += 1

    def goes_on(self, times: int = 20) -> None:
        """Wait until it has been done so many times more."""
        goal = self.count + times
        wait_until(lambda: self._done.done() or self.count >= goal, what=f"{goal} rounds")
        if self._done.done():
            self._done.result()

    def end(self) -> None:
        self._over.set()
        self._done.result(timeout=60)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("statement", "in_the_way_of"),
    [
        # An application's own transaction, which has enqueued and is not over: an index waits for it.
        (WRITE, 1),
        # Somebody looks after the tables by hand: a step gives up, again and again.
        ("alter index jobplatform.job_queue_running set (fillfactor = 90)", 0),
    ],
    ids=["writes", "alters"],
)
def test_nobody_is_stopped_by_a_migration_and_every_job_runs(
    start_worker: StartWorker,
    used: Engine,
    empty_url: str,
    app: Flask,
    next_version: list[str],
    statement: str,
    in_the_way_of: int,
) -> None:
    workspace_id = uuid.uuid4()
    database = Database(used, workspace_id)
    worker = start_worker(database_url=empty_url)

    look = partial(look_at_jobs, app, token_for(used, workspace_id), workspace_id)

    with (
        ThreadPoolExecutor(4) as pool,
        psycopg.connect(empty_url) as somebody,
        Loop(pool, lambda: database.enqueue("noop")) as enqueuing,
        Loop(pool, look) as looking,
    ):
        somebody.execute(statement)  # type: ignore[call-overload]  # it is no literal
        migrating = pool.submit(migrations.upgrade, empty_url)
        stopped_at = next_version[in_the_way_of]
        wait_until(lambda: migrations.current(used) == stopped_at and database.rows(WAITING)[0][0], what="a wait")

        enqueuing.goes_on()
        looking.goes_on()
        assert not migrating.done()
        somebody.commit()

        migrating.result(timeout=60)
        enqueuing.goes_on()
        looking.goes_on()
        enqueuing.end()
        looking.end()

    database.wait_until_done()
    assert migrations.current(used) == next_version[-1]
    ended = "select outcome, count(*) from jobplatform.job_records where workspace_id = :id group by 1"
    assert database.rows(ended, id=workspace_id) == [("ok", enqueuing.count)]
    assert [event for event in worker.events() if event["level"] in ("warning", "error", "critical")] == []
