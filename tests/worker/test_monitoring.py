"""What a worker writes down when it begins, tells when something is wrong, and does when an operator drains it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jobplatform.queue import drain_worker
from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker

WATCHFUL = "tests.worker.watchful_tasks:tasks"

BEATEN = "select heartbeat_at from jobplatform.workers"


def test_a_worker_that_an_operator_drains_lets_its_job_end_and_stops(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    running = database.enqueue("wait", {"file": told.path, "until": str(end)})
    worker = start_worker(slots=1)
    told.wait(1)

    worker_id = worker.wait_for("worker ready")["worker_id"]
    with database.sessions.begin() as session:
        assert drain_worker(session, worker_id)
    worker.wait_for("worker draining")
    wait_until(
        lambda: (
            database.rows("select draining, drain_requested_at is not null from jobplatform.workers") == [(True, True)]
        ),
        what="the worker to say so",
    )
    later = database.enqueue("noop")
    end.touch()

    assert worker.wait() == 0
    assert (database.job(running).status, database.job(later).status) == ("completed", "pending")
    with database.sessions.begin() as session:
        assert not drain_worker(session, worker_id)


def test_the_signal_after_an_operator_s_drain_is_the_first_one(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    """Whoever puts a new release in its place drains it first, and has it stopped then."""
    end = tmp_path / "end"
    running = database.enqueue("wait", {"file": told.path, "until": str(end)})
    worker = start_worker(slots=1)
    told.wait(1)
    with database.sessions.begin() as session:
        assert drain_worker(session, worker.wait_for("worker ready")["worker_id"])
    worker.wait_for("worker draining")

    worker.signal(signal.SIGTERM)
    # The first one may have been on its way before.
    for _ in range(2):
        before = database.rows(BEATEN)
        wait_until(lambda before=before: database.rows(BEATEN) != before, what="a heartbeat")  # type: ignore[misc]
    end.touch()

    assert worker.wait() == 0
    assert database.job(running).status == "completed"


def test_two_workers_write_down_what_the_code_asks_for_and_tell_once_that_something_is_wrong(
    start_worker: StartWorker, database: Database, told: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLD", told.path)
    database.execute(
        "insert into jobplatform.chores (name, due_at) values "
        "('prune', now() + interval '1 hour'), ('alerts', now() + interval '1 hour')"
    )
    database.execute("insert into jobplatform.health_rules (name, enabled) values ('unserved', false)")
    workers = [start_worker(tasks=WATCHFUL) for _ in range(2)]
    assert database.rows("select task, declared_completed::text from jobplatform.task_retention") == [
        ("noop", "01:00:00")
    ]
    assert database.rows("select name, task, declared_above from jobplatform.health_rules order by name") == [
        ("anything_waits", "never", 0.0),
        ("unserved", None, None),
    ]
    database.execute(
        "insert into jobplatform.job_queue "
        "(workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after) "
        "values (gen_random_uuid(), gen_random_uuid(), 'default', 'never', 1, 0, 1, 1000, now())"
    )

    database.execute("update jobplatform.chores set due_at = now()")
    told.wait(1)
    database.execute("delete from jobplatform.job_queue where task = 'never'")
    database.execute("update jobplatform.chores set due_at = now()")
    told.wait(2)

    assert told.read() == ["raised anything_waits", "resolved anything_waits"]
    assert sum(len(worker.events("alert raised")) for worker in workers) == 1
