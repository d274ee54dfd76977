"""A worker runs jobs: what handlers get, what they may say, and where it ends up."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker


def test_a_worker_runs_every_job_once_and_keeps_its_result(start_worker: StartWorker, database: Database) -> None:
    jobs = database.enqueue_many("echo", [{"number": number} for number in range(500)])

    start_worker()
    database.wait_until_done()

    results = database.rows("select id, result, attempts, outcome from jobplatform.jobs")
    assert {row.id: row.result["number"] for row in results} == {job: number for number, job in enumerate(jobs)}
    assert {(row.attempts, row.outcome) for row in results} == {(1, "ok")}


@pytest.mark.parametrize("task", ["noop", "complete_in", "boom"])
def test_a_job_says_which_worker_ran_it_whoever_wrote_down_its_end(
    start_worker: StartWorker, database: Database, task: str
) -> None:
    start_worker()
    job = database.enqueue(task, max_attempts=1)
    database.wait_until_done()

    ((worker_id,),) = database.rows("select id from jobplatform.workers")
    assert (database.job(job).worker_id, database.job(job).last_worker_id) == (None, worker_id)


@pytest.mark.direct("LISTEN: without it the job would wait for the poll")
def test_a_job_enqueued_while_the_worker_idles_is_run(start_worker: StartWorker, database: Database) -> None:
    start_worker(poll=60.0)

    job = database.enqueue("noop")

    assert database.wait_for_status(job, "completed").result == {"ok": True}


def test_without_the_doorbell_polling_finds_the_job(start_worker: StartWorker, database: Database) -> None:
    start_worker(doorbell=False, poll=0.1)

    job = database.enqueue("noop")

    database.wait_for_status(job, "completed")


def test_a_scheduled_job_is_run_when_it_is_due(start_worker: StartWorker, database: Database) -> None:
    start_worker()
    database.enqueue("outcome", {"kind": "snooze", "file": "/dev/null"})

    database.wait_until_done()

    assert database.statuses() == {"completed": 1}


def test_a_handler_knows_its_job_and_has_a_session(start_worker: StartWorker, database: Database) -> None:
    job = database.enqueue("context", request_id="request-1", max_attempts=5)

    start_worker()

    result = database.wait_for_status(job, "completed").result
    assert result == {
        "workspace_id": str(database.workspace_id),
        "id": str(job),
        "task": "context",
        "attempt": 1,
        "max_attempts": 5,
        "request_id": "request-1",
        "fence": f"{job}:1",
        "idempotency_key": str(job),
        "cancelled": False,
        "database": database.rows("select current_database()")[0][0],
    }


def test_a_handler_that_raises_is_tried_again_until_its_attempts_are_used_up(
    start_worker: StartWorker, database: Database
) -> None:
    job = database.enqueue("boom", {"text": "it broke"})

    start_worker()

    ended = database.wait_for_status(job, "failed")
    assert (ended.attempts, ended.outcome, ended.error) == (2, "error", "it broke")
    attempts = database.attempts(job)
    assert [(attempt.attempt, attempt.error_type) for attempt in attempts] == [(1, "ValueError"), (2, "ValueError")]
    assert "raise ValueError" in attempts[0].traceback


@pytest.mark.parametrize(
    ("kind", "status", "outcome"), [("skip", "completed", "skipped"), ("discard", "failed", "discarded")]
)
def test_a_handler_may_end_its_job_in_other_ways(
    start_worker: StartWorker, database: Database, kind: str, status: str, outcome: str
) -> None:
    job = database.enqueue("outcome", {"kind": kind})

    start_worker()

    assert database.wait_for_status(job, status).outcome == outcome


def test_a_snoozed_job_runs_again_without_spending_an_attempt(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("outcome", {"kind": "snooze", "file": told.path}, max_attempts=1)

    start_worker()

    ended = database.wait_for_status(job, "completed")
    assert told.read() == ["snoozed"]
    assert (ended.attempts, ended.result) == (1, "done")


def test_a_handler_may_complete_in_its_own_transaction(start_worker: StartWorker, database: Database) -> None:
    database.execute("create table written (by text)")
    job = database.enqueue("complete_in")

    worker = start_worker()

    assert database.wait_for_status(job, "completed").result == {"in": "transaction"}
    assert database.rows("select * from written") == [(str(job),)]
    after = database.enqueue("noop")
    database.wait_for_status(after, "completed")
    assert worker.events("attempt killed") == []


def wait_for_a_heartbeat(database: Database) -> None:
    beats = "select heartbeat_at from jobplatform.workers"
    before = database.rows(beats)
    wait_until(lambda: database.rows(beats) != before, what="a heartbeat")


def test_what_follows_the_commit_of_a_completion_is_not_interrupted_and_its_log_lines_are_kept(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    until = tmp_path / "end"
    job = database.enqueue("go_on_after_complete_in", {"file": told.path, "until": str(until)})

    start_worker(heartbeat=0.1)
    told.wait(1)
    # The third beat from here was sent after the answer of one that named the attempt.
    for _ in range(3):
        wait_for_a_heartbeat(database)
    until.touch()

    assert told.wait(2)[1:] == ["went on to its end"]
    assert database.job(job).result == "early"
    lines = "select message from jobplatform.job_logs order by line"
    wait_until(lambda: len(database.rows(lines)) == 2, what="both log lines")
    assert database.rows(lines) == [("before the commit",), ("after the commit",)]


def test_progress_and_log_lines_are_seen_while_the_job_runs(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    job = database.enqueue("report", {"steps": 3, "file": told.path, "until": str(tmp_path / "end")})

    start_worker()
    told.wait(1)

    wait_until(lambda: (database.job(job).progress or {}).get("current") == 3, what="the newest progress")
    assert database.job(job).status == "running"
    assert database.job(job).progress == {"current": 3, "total": 3, "message": "step 3"}
    # They may be written in portions.
    written = "select line, level, message from jobplatform.job_logs order by line"
    wait_until(lambda: len(database.rows(written)) == 3, what="log lines")
    assert database.rows(written) == [(1, "warning", "line 1"), (2, "info", "line 2"), (3, "info", "line 3")]
    (tmp_path / "end").touch()
    database.wait_for_status(job, "completed")


def test_what_a_short_job_reports_at_its_end_is_kept(start_worker: StartWorker, database: Database) -> None:
    job = database.enqueue("report", {"steps": 500})

    start_worker()

    assert database.wait_for_status(job, "completed").progress["current"] == 500
    assert database.rows("select count(*), max(line) from jobplatform.job_logs") == [(500, 500)]


def test_what_a_handler_prints_and_logs_becomes_log_lines_with_its_job(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    job = database.enqueue("print", {"file": told.path, "until": str(tmp_path / "end")})

    worker = start_worker()
    worker.wait_for("handler output", 3)
    record = worker.wait_for("through the logger")

    output = worker.events("handler output")
    assert {line["line"] for line in output} == {"to standard output", "to standard error", "from a shell"}
    assert {line["job_id"] for line in output} == {str(job)}
    assert (record["job_id"], record["task"], record["color"]) == (str(job), "print", "red")
    assert record["logger"] == "jobplatform.task.print"
    (tmp_path / "end").touch()
    database.wait_for_status(job, "completed")


def test_async_handlers_run(start_worker: StartWorker, database: Database) -> None:
    database.enqueue_many("aio", [{"number": number} for number in range(200)])

    start_worker()
    database.wait_until_done()

    assert database.rows("select sum((result)::int) from jobplatform.jobs where status = 'completed'") == [(19_900,)]


def test_threads_of_one_child_run_jobs_side_by_side(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    database.enqueue_many("wait", [{"file": told.path, "until": str(end)}] * 4)

    worker = start_worker(slots=1, threads=4)
    lines = told.wait(4)

    assert {int(line.split()[1]) for line in lines} == set(worker.children())
    end.touch()
    database.wait_until_done()
    assert database.statuses() == {"completed": 4}


def test_threads_run_every_job_once(start_worker: StartWorker, database: Database, told: Lines) -> None:
    database.enqueue_many("tell", [{"file": told.path, "number": number} for number in range(1000)])

    start_worker(threads=4)
    database.wait_until_done()

    assert sorted(map(int, told.read())) == list(range(1000))
    assert database.statuses() == {"completed": 1000}


def test_payloads_and_results_longer_than_a_pipe_get_through(start_worker: StartWorker, database: Database) -> None:
    text = "ä" * 120_000
    jobs = database.enqueue_many("echo", [{"text": text, "number": number} for number in range(6)])

    start_worker()
    database.wait_until_done()

    assert {database.job(job).result["number"] for job in jobs} == set(range(6))
    assert all(database.job(job).result["text"] == text for job in jobs)


def test_only_the_queues_asked_for_are_served(start_worker: StartWorker, database: Database) -> None:
    start_worker(queues=["fast"])
    other = database.enqueue("noop")
    ours = database.enqueue("noop", queue="fast")

    database.wait_for_status(ours, "completed")

    assert database.job(other).status == "pending"


def test_a_job_of_an_unknown_task_is_left_for_a_worker_that_knows_it(
    start_worker: StartWorker, database: Database
) -> None:
    unknown = database.enqueue("noop")
    database.execute("update jobplatform.job_records set task = 'unheard.of'")
    database.execute("update jobplatform.job_queue set task = 'unheard.of'")
    start_worker()

    known = database.enqueue("noop")
    database.wait_for_status(known, "completed")

    assert database.job(unknown).status == "pending"


def test_a_child_is_replaced_after_its_number_of_jobs(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    database.enqueue_many("tell", [{"file": told.path, "number": 0}] * 200)

    worker = start_worker(max_jobs_per_child=20)
    first = set(worker.children())
    database.wait_until_done()

    assert len(told.read()) == 200
    assert database.statuses() == {"completed": 200}
    wait_until(lambda: not first & set(worker.children()), what="the first children to be replaced")


def test_old_jobs_are_deleted_by_any_worker(start_worker: StartWorker, database: Database) -> None:
    job = database.enqueue("noop")
    start_worker()
    database.wait_for_status(job, "completed")

    database.execute(
        "update jobplatform.job_records set created_at = now() - interval '8 days', "
        "completed_at = now() - interval '8 days'"
    )
    # The first worker has had this minute's turn, or is having it just now.
    turn = "select 1 from jobplatform.chores where name = 'prune'"
    wait_until(lambda: database.rows(turn), what="the first worker's turn")
    database.execute("update jobplatform.chores set due_at = now() where name = 'prune'")
    start_worker()

    wait_until(lambda: database.statuses() == {}, what="the old job's end")
