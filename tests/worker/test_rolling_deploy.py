"""Old and new code side by side: each worker takes what it can run, and nothing is lost in between."""

from __future__ import annotations

from sqlalchemy.orm import sessionmaker

from jobplatform.queue import queue_health
from jobplatform.testing import wait_until
from tests.worker import rolling_tasks
from tests.worker.conftest import Database, StartWorker


def test_what_only_newer_code_can_run_waits_for_it_and_is_reported(
    start_worker: StartWorker, database: Database
) -> None:
    sessions: sessionmaker = database.sessions
    here = {"workspace_id": database.workspace_id}
    start_worker(tasks="tests.worker.rolling_tasks:before")
    with sessions.begin() as session:
        newer = rolling_tasks.after["mail"].enqueue(session, {"address": "ada"}, **here).job_id
        unknown = rolling_tasks.after["fax"].enqueue(session, {}, **here).job_id
        older = rolling_tasks.before["mail"].enqueue(session, {"to": "grace"}, **here).job_id

    assert database.wait_for_status(older, "completed").result == "before: grace"
    with sessions() as session:
        health = queue_health(session)
    assert health.unserved_tasks == ("fax", "mail (payload version 2)")
    assert {(database.job(job).status, database.job(job).attempts) for job in (newer, unknown)} == {("pending", 0)}
    limit = "select max_running_per_workspace from jobplatform.task_limits where task = 'mail'"
    assert database.rows(limit) == [(2,)]

    start_worker(tasks="tests.worker.rolling_tasks:after")

    assert database.wait_for_status(newer, "completed").result == "after: ada"
    assert database.wait_for_status(unknown, "completed").result == "after: fax"
    assert database.rows(limit) == [(3,)]


def test_todays_code_runs_what_yesterdays_has_enqueued(start_worker: StartWorker, database: Database) -> None:
    with database.sessions.begin() as session:
        older = rolling_tasks.before["mail"].enqueue(session, {"to": "ada"}, workspace_id=database.workspace_id)

    start_worker(tasks="tests.worker.rolling_tasks:after")

    wait_until(lambda: database.job(older.job_id).status == "completed", what="the upgraded job")
    assert database.job(older.job_id).result == "after: ada@v1"
