"""Old and new code side by side: each worker takes what it can run, and nothing is lost in between."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("threads", [1, 2])
def test_jobs_of_a_task_that_a_new_nursery_does_not_have_wait_for_the_code_that_has_it(
    start_worker: StartWorker, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """The files of the old release are back, and the worker that began with the new one has lost its nursery."""
    taken_back = tmp_path / "taken back"
    (tmp_path / "released_tasks.py").write_text(
        f"from pathlib import Path\n"
        f"from tests.worker import rolling_tasks as released\n"
        f"tasks = released.before if Path({str(taken_back)!r}).exists() else released.after\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = start_worker(tasks="released_tasks:tasks", threads=threads, poll=0.1)
    taken_back.touch()
    os.kill(worker.nursery, signal.SIGKILL)
    worker.wait_for("nursery up", 2)

    with database.sessions.begin() as session:
        after, here = rolling_tasks.after, {"workspace_id": database.workspace_id}
        single = after["fax"].enqueue(session, {}, **here).job_id
        together = [after["print"].enqueue(session, {}, **here).job_id for _ in range(2)]
    asleep = "select id from jobplatform.job_queue where state = 0 and attempts = 0 and crash_count = 0"
    wait_until(lambda: len(database.rows(asleep)) == 3, what="the jobs that wait for other code")
    assert len(worker.events("a job's task is not in this code, and the job goes back")) == 3

    taken_back.unlink()
    os.kill(worker.nursery, signal.SIGKILL)
    worker.wait_for("nursery up", 3)
    database.execute("update jobplatform.job_queue set run_after = now()")
    database.wait_until_done()
    assert database.job(single).result == "after: fax"
    assert [database.job(job).result for job in together] == ["after: print"] * 2
