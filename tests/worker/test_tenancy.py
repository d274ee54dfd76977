"""Workers between many workspaces: limits over several of them, rates, resources that fail, and who comes next."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest

from jobplatform.queue import enqueue_jobs
from jobplatform.testing import wait_until
from tests.conftest import EngineOn
from tests.queue.conftest import silent_engine
from tests.worker.conftest import Database, Lines, StartWorker
from tests.worker.handlers import tasks

ORDER = """
select workspace_id, extract(epoch from completed_at - started_at) as seconds
from jobplatform.job_records
where workspace_id in (:heavy, :light)
order by started_at
"""
RUNNING = "select count(*) from jobplatform.job_queue where state = 2"


def running(database: Database) -> int:
    return int(database.rows(RUNNING)[0].count)


def test_a_limit_holds_over_two_workers_and_a_higher_one_counts_without_anything_ending(
    start_worker: StartWorker, database: Database, tmp_path: Path, told: Lines
) -> None:
    database.execute(
        "insert into jobplatform.workspace_limits (workspace_id, max_running) values (:id, 2)", id=database.workspace_id
    )
    payload = {"file": told.path, "until": str(tmp_path / "open")}
    start_worker(slots=3)
    start_worker(slots=3)
    database.enqueue_many("wait", [payload] * 8)
    wait_until(lambda: len(told.read()) == 2, what="the first two to start")

    database.execute("update jobplatform.workspace_limits set max_running = 5")
    wait_until(lambda: len(told.read()) == 5, what="three more to start")
    most = running(database)
    (tmp_path / "open").touch()
    database.wait_until_done()

    assert most == 5
    assert database.statuses() == {"completed": 8}


@pytest.mark.direct("LISTEN: without it the jobs would wait for the poll")
def test_a_limited_workspace_goes_on_when_one_of_its_jobs_ends_and_not_only_at_the_next_poll(
    start_worker: StartWorker, database: Database
) -> None:
    database.execute(
        "insert into jobplatform.workspace_limits (workspace_id, max_running) values (:id, 1)", id=database.workspace_id
    )
    start_worker(poll=300.0)

    database.enqueue_many("noop", [{}] * 20)

    database.wait_until_done()


def test_a_job_that_is_told_too_often_closes_the_resource_for_everybody_and_spends_no_attempt(
    start_worker: StartWorker, database: Database, tmp_path: Path, told: Lines
) -> None:
    payload = {"resource": "crm:1", "file": told.path, "open": str(tmp_path / "open")}
    start_worker(poll=0.1)
    first = database.enqueue("use", {**payload, "answer": "busy", "seconds": 3600})
    wait_until(
        lambda: database.rows("select 1 from jobplatform.buckets where closed_until is not null"), what="closing"
    )

    others = database.enqueue_many("use", [{**payload, "answer": "fine"}] * 3)
    elsewhere = database.enqueue("use", {**payload, "resource": "crm:2", "answer": "fine"})
    database.wait_for_status(elsewhere, "completed")

    assert len(told.read()) == 2
    assert {database.job(job).status for job in (first, *others)} == {"pending"}
    assert database.job(first).attempts == 0
    assert database.job(first).progress["waitsFor"] == "source"

    (tmp_path / "open").touch()
    database.execute("update jobplatform.buckets set closed_until = now()")
    database.execute("update jobplatform.job_queue set run_after = now() where state = 0")
    database.wait_until_done()

    assert database.statuses() == {"completed": 5}


def wait_for_what_was_claimed(database: Database) -> None:
    """A claim that is on its way when a resource is paused may bring another job; the one after it brings this one."""
    database.wait_for_status(database.enqueue("noop"), "completed")
    wait_until(lambda: running(database) == 0, what="whatever had been claimed before to be over")


def end_the_pause(database: Database) -> None:
    """As if it had lasted as long as it should: the next one is for twice as long."""
    database.execute("update jobplatform.pauses set paused_at = now() - interval '30 s', until = now()")


def test_a_resource_that_nobody_can_reach_is_paused_and_tried_by_one_job_until_the_first_success(
    start_worker: StartWorker, database: Database, tmp_path: Path, told: Lines
) -> None:
    payload = {"resource": "crm:1", "file": told.path, "open": str(tmp_path / "open"), "answer": "gone"}
    worker = start_worker(poll=0.1)
    database.enqueue_many("use", [payload] * 6, max_attempts=50)

    worker.wait_for("resource paused after repeated errors")
    (pause,) = database.rows("select * from jobplatform.pauses")
    wait_for_what_was_claimed(database)
    before = len(told.read())
    end_the_pause(database)
    worker.wait_for("resource paused after repeated errors", count=2)
    wait_for_what_was_claimed(database)
    tried = len(told.read()) - before
    (tmp_path / "open").touch()
    end_the_pause(database)
    database.wait_until_done()

    assert (pause.kind, pause.key, pause.actor) == ("resource", "crm:1", "circuit-breaker")
    assert "ConnectionRefusedError" in pause.reason
    assert tried == 1
    assert database.statuses() == {"completed": 8}
    wait_until(lambda: not database.rows("select * from jobplatform.pauses"), what="the pause to be lifted")


@pytest.mark.thorough
def test_a_workspace_with_long_jobs_does_not_get_the_slots_of_those_with_short_ones(
    start_worker: StartWorker, database: Database
) -> None:
    """Long jobs of one workspace, each as long as all the short ones of the others together."""
    greedy = database.workspace_id
    database.enqueue_many("sleep", [{"seconds": 0.4}] * 12)
    modest = [uuid.uuid4() for _ in range(4)]
    for database.workspace_id in modest:
        database.enqueue_many("sleep", [{"seconds": 0.01}] * 30)

    start_worker(slots=1)
    database.wait_until_done(seconds=60)

    order = database.rows("select workspace_id from jobplatform.job_records order by started_at")
    first = Counter(row.workspace_id for row in order[:60])
    assert first[greedy] <= 4, first


@pytest.mark.direct("LISTEN: without it a newcomer waits for its turn")
def test_a_newcomer_is_not_made_to_wait_for_a_whole_round(
    start_worker: StartWorker, database: Database, engine_on: EngineOn, database_url: str
) -> None:
    """Three hundred workspaces have a backlog; one that has none rings, and on the ring it would be the last."""
    # Silently: bells that still ring for these would be heard together with the newcomer's.
    backlog = Database(engine_on(database_url, silent_engine), database.workspace_id)
    for _ in range(300):
        backlog.workspace_id = uuid.uuid4()
        backlog.enqueue_many("sleep", [{"seconds": 0.01}] * 3)
    start_worker(slots=1, poll=60.0)
    database.wait_for_listener()
    wait_until(lambda: database.statuses().get("completed", 0) >= 20, what="the worker to be well under way")

    newest = "select workspace_id from jobplatform.job_records where started_at is not null order by started_at desc"
    database.workspace_id = uuid.UUID(int=database.rows(f"{newest} limit 1")[0].workspace_id.int - 1)
    newcomer = database.enqueue("sleep", {"seconds": 0.01})
    database.wait_for_status(newcomer, "completed")

    sql = "select count(*) from jobplatform.job_records where started_at between :at and :started"
    job = database.job(newcomer)
    before = database.rows(sql, at=job.created_at, started=job.started_at)[0].count
    assert before < 200


@pytest.mark.thorough
def test_weights_share_the_slots(start_worker: StartWorker, database: Database) -> None:
    """By the time that jobs take: where the machine has stood still in the middle of one, others are measured."""
    start_worker(slots=1)
    for _ in range(5):
        heavy, light = uuid.uuid4(), uuid.uuid4()
        database.execute("insert into jobplatform.workspace_limits (workspace_id, weight) values (:id, 4)", id=heavy)
        jobs = [
            tasks["sleep"].new_job({"seconds": 0.01}, workspace_id=workspace_id)
            for workspace_id in (heavy, light)
            for _ in range(150)
        ]
        with database.sessions.begin() as session:
            enqueue_jobs(session, jobs)
        database.wait_until_done(seconds=60)
        order = database.rows(ORDER, heavy=heavy, light=light)[:150]
        if max(row.seconds for row in order) < 0.1:
            break

    first = Counter(row.workspace_id for row in order)
    assert 3.2 <= first[heavy] / first[light] <= 5.0
