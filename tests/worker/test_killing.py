"""Jobs that don't end by themselves, or end their process: what is done to them, and that nobody else notices."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from jobplatform.queue import CancelAnswer, cancel_job, enqueue_jobs
from jobplatform.testing import is_dead, wait_until
from tests.worker.conftest import Database, Lines, StartWorker
from tests.worker.handlers import tasks

SHORT = timedelta(milliseconds=300)
#: For a handler that has to start a process first.
LONGER = timedelta(seconds=1)


def enqueue_neighbours(database: Database) -> None:
    database.enqueue_many("noop", [{}] * 200)


def assert_neighbours_were_not_hit(database: Database) -> None:
    neighbours = database.rows(
        "select status, attempts, crash_count, count(*) from jobplatform.jobs where job_type = 'noop' group by 1, 2, 3"
    )
    assert neighbours == [("completed", 1, 0, 200)]


def cancel(database: Database, job_id: object) -> CancelAnswer:
    with database.sessions.begin() as session:
        return cancel_job(session, database.workspace_id, job_id)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["stuck", "hold_gil", "family"])
def test_a_job_that_ignores_its_timeout_is_killed_and_its_neighbours_run(
    start_worker: StartWorker, database: Database, told: Lines, task: str
) -> None:
    timeout = LONGER if task == "family" else SHORT
    job = database.enqueue(task, {"file": told.path}, timeout=timeout, max_attempts=2, priority=9)
    enqueue_neighbours(database)

    start_worker()
    database.wait_until_done()

    ended = database.job(job)
    assert (ended.status, ended.outcome, ended.attempts, ended.crash_count) == ("failed", "timeout", 2, 0)
    assert_neighbours_were_not_hit(database)


def test_a_killed_job_takes_the_processes_it_started_along(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("family", {"file": told.path}, max_attempts=1)
    start_worker()
    child, grandchild = map(int, told.wait(1)[0].split())

    cancel(database, job)
    database.wait_for_status(job, "cancelled")

    assert is_dead(child)
    wait_until(lambda: is_dead(grandchild), what="the end of the grandchild")


@pytest.mark.parametrize(("task", "seen"), [("polite", "TimedOut"), ("aio_polite", "CancelledError")])
def test_a_job_that_can_be_interrupted_ends_without_its_process(
    start_worker: StartWorker, database: Database, told: Lines, task: str, seen: str
) -> None:
    job = database.enqueue(task, {"file": told.path}, timeout=SHORT, max_attempts=1)

    worker = start_worker(slots=1, kill_grace=60.0)
    children = worker.children()
    ended = database.wait_for_status(job, "failed")

    assert (ended.outcome, ended.error) == ("timeout", "ran longer than its timeout of 0.3 s")
    assert told.read()[-1] == seen
    assert worker.children() == children


@pytest.mark.parametrize(
    ("task", "error"), [("exit", "exit 3"), ("segfault", "signal SIGSEGV"), ("terminate", "signal SIGTERM")]
)
def test_a_job_that_ends_its_process_counts_as_a_crash_and_its_neighbours_run(
    start_worker: StartWorker, database: Database, task: str, error: str
) -> None:
    job = database.enqueue(task, priority=9)
    enqueue_neighbours(database)

    start_worker(crash_limit=2)
    database.wait_until_done()

    ended = database.job(job)
    assert (ended.status, ended.outcome, ended.error, ended.crash_count) == ("failed", "lost", error, 2)
    assert [attempt.error_type for attempt in database.attempts(job)] == ["ProcessCrashed", "ProcessCrashed"]
    assert_neighbours_were_not_hit(database)


def test_a_job_that_uses_too_much_memory_is_killed_for_it(start_worker: StartWorker, database: Database) -> None:
    job = database.enqueue("eat_memory", priority=9)
    enqueue_neighbours(database)

    start_worker(memory_mb=300, crash_limit=1)
    database.wait_until_done()

    (attempt,) = database.attempts(job)
    assert (database.job(job).status, attempt.error_type) == ("failed", "MemoryLimitExceeded")
    assert "its process may use 300 MB" in attempt.error
    assert_neighbours_were_not_hit(database)


def test_cancelling_a_running_job_ends_it(start_worker: StartWorker, database: Database, told: Lines) -> None:
    job = database.enqueue("polite", {"file": told.path})
    worker = start_worker(heartbeat=9.0)
    told.wait(1)

    assert cancel(database, job) is CancelAnswer.REQUESTED

    assert database.wait_for_status(job, "cancelled").attempts == 1
    assert told.read()[1] == "Cancelled"
    assert len(worker.children()) == 2


def test_cancelling_a_job_that_does_not_listen_kills_it(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("stuck", {"file": told.path})
    start_worker()
    told.wait(1)

    cancel(database, job)

    assert database.wait_for_status(job, "cancelled").outcome == "cancelled"


def test_without_the_doorbell_the_heartbeat_brings_the_cancel(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("polite", {"file": told.path})
    start_worker(doorbell=False)
    told.wait(1)

    cancel(database, job)

    database.wait_for_status(job, "cancelled")


def test_cancelling_jobs_that_were_claimed_behind_another_ends_them_unstarted(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    # The worker has learnt that this task is quick, so it takes a stock of it.
    database.enqueue_many("tell", [{"file": told.path, "number": 0}] * 300)
    start_worker(slots=1)
    database.wait_until_done()
    end = tmp_path / "end"
    # In one commit, and so in one claim: behind a job that has begun to take long nothing is claimed.
    wanted = [("wait", {"until": str(end)}, 9)] + [("tell", {"number": 1}, 0)] * 20
    jobs = [
        tasks[task].new_job({"file": told.path} | payload, workspace_id=database.workspace_id, priority=priority)
        for task, payload, priority in wanted
    ]
    with database.sessions.begin() as session:
        blocker, *followers = [answer.job_id for answer in enqueue_jobs(session, jobs)]
    told.wait(301)

    # Some wait in the worker, others it has handed back by now.
    for follower in followers:
        assert cancel(database, follower) in (CancelAnswer.REQUESTED, CancelAnswer.CANCELLED)
    for follower in followers:
        database.wait_for_status(follower, "cancelled")

    assert database.job(blocker).status == "running"
    end.touch()
    database.wait_until_done()
    assert database.statuses() == {"completed": 301, "cancelled": len(followers)}
    assert told.read().count("1") == 0


def test_a_thread_is_interrupted_where_it_reports(start_worker: StartWorker, database: Database, told: Lines) -> None:
    job = database.enqueue("cooperative", {"file": told.path}, timeout=SHORT, max_attempts=1)

    worker = start_worker(slots=1, threads=4, kill_grace=60.0)
    children = worker.children()

    assert database.wait_for_status(job, "failed").outcome == "timeout"
    assert told.read()[-1] == "TimedOut"
    assert worker.children() == children


def test_a_timeout_comes_although_a_neighbour_has_frozen_the_time(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    neighbour = database.enqueue("freeze", {"file": told.path, "at": 1e12, "until": str(end)})
    start_worker(slots=1, threads=2, kill_grace=60.0)
    told.wait(1)

    job = database.enqueue("cooperative", {"file": told.path}, timeout=SHORT, max_attempts=1)

    assert database.wait_for_status(job, "failed").outcome == "timeout"
    end.touch()
    database.wait_for_status(neighbour, "completed")


def test_the_neighbours_of_a_killed_thread_are_handed_back_without_spending_an_attempt(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    waiting = database.enqueue_many("wait", [{"file": told.path, "until": str(end)}] * 3)
    start_worker(slots=1, threads=4)
    told.wait(3)

    guilty = database.enqueue("stuck", {"file": told.path}, timeout=SHORT, max_attempts=1)
    assert database.wait_for_status(guilty, "failed").outcome == "timeout"
    told.wait(7)
    end.touch()
    database.wait_until_done()

    assert [database.job(job).attempts for job in waiting] == [1, 1, 1]
    assert database.statuses() == {"completed": 3, "failed": 1}


def test_a_job_in_line_behind_a_slow_one_runs_elsewhere(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    database.enqueue_many("tell", [{"file": told.path, "number": 0}] * 300)
    start_worker()
    database.wait_until_done()

    end = tmp_path / "end"
    slow = database.enqueue("wait", {"file": told.path, "until": str(end)}, priority=9)
    quick = database.enqueue_many("tell", [{"file": told.path, "number": 0}] * 300)
    wait_until(
        lambda: database.rows("select count(*) from jobplatform.job_queue")[0][0] == 1, what="the quick jobs' end"
    )

    assert database.job(slow).status == "running"
    end.touch()
    database.wait_until_done()
    assert database.statuses() == {"completed": 301 + len(quick)}


@pytest.mark.thorough
@pytest.mark.parametrize(("jobs", "timeout"), [(1, 600.0), (1, 1.0), (20, 600.0), (20, 1.0)])
def test_a_child_that_starts_nothing_is_replaced_and_its_jobs_run(
    start_worker: StartWorker, database: Database, jobs: int, timeout: float
) -> None:
    """However often they are taken back meanwhile, since their time is over or others could have them."""
    database.enqueue_many("noop", [{}] * 300)
    worker = start_worker(slots=1)
    database.wait_until_done()
    (child,) = worker.children()
    os.kill(child, signal.SIGSTOP)

    waiting = database.enqueue_many("noop", [{}] * jobs, timeout=timedelta(seconds=timeout))
    database.wait_until_done()

    assert {(database.job(job).attempts, database.job(job).crash_count) for job in waiting} == {(1, 0)}
    assert is_dead(child)


def test_a_child_that_starts_nothing_is_given_nothing_while_another_is_idle(
    start_worker: StartWorker, database: Database
) -> None:
    worker = start_worker(slots=2)
    stopped, _ = worker.children()
    os.kill(stopped, signal.SIGSTOP)
    for _ in range(2):
        database.enqueue("noop", timeout=timedelta(seconds=1))
        database.wait_until_done()

    assert worker.events("child starts nothing and is killed") == []
    os.kill(stopped, signal.SIGCONT)


@pytest.mark.thorough
def test_a_nursery_that_is_stopped_is_replaced(start_worker: StartWorker, database: Database, told: Lines) -> None:
    """It would start no child any more, and kill none."""
    worker = start_worker(slots=1)
    nursery = worker.nursery
    stuck = database.enqueue("stuck", {"file": told.path}, timeout=SHORT, max_attempts=1)
    told.wait(1)
    os.kill(nursery, signal.SIGSTOP)

    job = database.enqueue("noop")

    # It is seen to be stopped when it does not answer.
    wait_until(lambda: database.job(job).status == "completed", what="a job in a new child", seconds=120)
    assert (database.job(job).crash_count, database.job(stuck).outcome) == (0, "timeout")
    assert is_dead(nursery)


def test_a_job_that_leaves_its_process_group_is_killed_all_the_same(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    worker = start_worker()
    job = database.enqueue("elsewhere", {"file": told.path}, timeout=SHORT, max_attempts=1)

    assert database.wait_for_status(job, "failed").outcome == "timeout"
    wait_until(lambda: is_dead(int(told.read()[0])), what="the end of its process")
    assert worker.events("child cannot be killed") == []
