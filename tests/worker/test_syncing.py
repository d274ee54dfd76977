"""A sync whose process is killed applies each page once. And what is copied there can be seen to have been."""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from jobplatform.queue import NewJob, enqueue_job
from jobplatform.testing import WorkerProcess, wait_until
from tests.worker.conftest import Database, StartWorker
from tests.worker.syncing_tasks import PAGE_SIZE, PAGES, Sluice

#: The database itself remembers each time a record is written, whoever writes it.
WATCH = """
create table applied (external_id text);
grant all on applied to public;
create function note() returns trigger language plpgsql as $$
begin insert into public.applied values (new.external_id); return null; end $$;
create trigger note after insert or update of data on jobplatform.records for each row execute function note();
"""
AT_ONCE = "update jobplatform.job_queue set run_after = now(), state = 1 where state = 0"
CONNECT = """
insert into jobplatform.connections (workspace_id, id, connector_type, name, config)
values (:workspace, :id, 'paged', 'Paged', jsonb_build_object('folder', cast(:folder as text)))
"""
#: So far a sync comes before it has to wait for its end by a signal: enough to be met at any point of its work.
AHEAD = 10
SEED = int(os.environ.get("TEST_SYNC_KILLS_SEED", "6"))


@pytest.fixture
def sluice(tmp_path: Path) -> Sluice:
    return Sluice(tmp_path)


@pytest.fixture
def worker(start_worker: StartWorker, database: Database, tmp_path: Path) -> WorkerProcess:
    database.execute(WATCH)
    database.execute(CONNECT, workspace=database.workspace_id, id=uuid.uuid4(), folder=str(tmp_path))
    return start_worker(
        tasks="tests.worker.syncing_tasks:tasks", slots=1, poll=0.05, lease=5.0, heartbeat=0.3, crash_limit=1000
    )


def times_applied(database: Database) -> Counter[str]:
    return Counter(name for (name,) in database.rows("select external_id from applied"))


def sync_through_kills(
    database: Database,
    worker: WorkerProcess,
    sluice: Sluice,
    task: str,
    kills: int,
    *,
    until_repeated: bool = False,
) -> Counter[str]:
    """Run a sync and kill its process at so many random points; how often each record was written. Or only until one
    was written again."""
    draw = random.Random(SEED)
    with database.sessions.begin() as session:
        job = enqueue_job(session, NewJob(workspace_id=database.workspace_id, task=task)).job_id

    def reached(page: int) -> bool:
        # After a crash a job waits a little; nobody has to wait for that here.
        database.execute(AT_ONCE)
        return len(times_applied(database)) >= page * PAGE_SIZE

    def is_syncing_again(killed: int) -> bool:
        database.execute(AT_ONCE)
        return sluice.who_asks() not in (0, killed)

    killed = 0
    for page in sorted(draw.sample(range(1, PAGES - 1), kills)):
        # However slow this process is beside it, the sync has not ended before it is killed.
        sluice.open_up_to(min(page + AHEAD, PAGES - 1))
        wait_until(partial(reached, page), what=f"page {page}", seconds=60)
        wait_until(partial(is_syncing_again, killed), what="the next attempt", seconds=60)
        killed = sluice.who_asks()
        os.kill(killed, signal.SIGKILL)
        if until_repeated and max(times_applied(database).values()) > 1:
            return times_applied(database)
    sluice.open_up_to(PAGES)
    wait_until(
        lambda: reached(PAGES) and database.job(job).status == "completed", what="the end of the sync", seconds=60
    )
    assert database.job(job).crash_count == kills
    return times_applied(database)


def test_a_sync_that_is_killed_at_twenty_points_applies_every_page_once(
    worker: WorkerProcess, database: Database, sluice: Sluice
) -> None:
    applied = sync_through_kills(database, worker, sluice, "sync", 20)

    assert applied == {f"{page}-{place}": 1 for page in range(PAGES) for place in range(PAGE_SIZE)}
    (log,) = database.rows("select status, total_records, errors from jobplatform.sync_logs")
    assert tuple(log) == ("completed", PAGES * PAGE_SIZE, [])


def test_the_test_above_finds_a_sync_that_saves_its_place_outside_of_the_page_s_transaction(
    worker: WorkerProcess, database: Database, sluice: Sluice
) -> None:
    applied = sync_through_kills(database, worker, sluice, "careless-sync", 20, until_repeated=True)

    assert max(applied.values()) > 1


def test_a_worker_closes_entries_whose_job_is_over_and_has_exports_deleted_that_are_due(
    worker: WorkerProcess, database: Database
) -> None:
    mine = {"workspace": database.workspace_id, "id": uuid.uuid4()}
    database.execute(
        "insert into jobplatform.sync_logs (workspace_id, id, job_id, mode) values (:workspace, :id, :id, 'initial')",
        **mine,
    )
    database.execute(
        "insert into jobplatform.exports (workspace_id, id, job_id, name, key, expires_at) "
        "values (:workspace, :id, :id, 'r.csv', 'k', now() - interval '1 second')",
        **mine,
    )

    def is_closed() -> bool:
        database.execute("update jobplatform.chores set due_at = now()")
        return database.rows("select status from jobplatform.sync_logs") == [("failed",)]

    def is_asked_for() -> bool:
        database.execute("update jobplatform.chores set due_at = now()")
        asked = "select workspace_id from jobplatform.jobs where job_type = 'export.expire' and queue = 'export'"
        return database.rows(asked) == [(database.workspace_id,)]

    wait_until(is_closed, what="the entry to be closed", seconds=30)
    wait_until(is_asked_for, what="a job that deletes the export", seconds=30)
