"""How a worker stops: nothing is lost, and nothing is charged that was not the job's fault."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobplatform.models import Role
from jobplatform.testing import WorkerProcess, is_dead, wait_until
from tests.worker.conftest import Database, Lines, StartWorker
from tests.worker.processes import ROOT, command_of


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM],
        pytest.param([signal.SIGINT], marks=pytest.mark.thorough),
        pytest.param([signal.SIGHUP], marks=pytest.mark.thorough),
        # As of systemd with SendSIGHUP=yes, or somebody who closes the window after Ctrl-C.
        [signal.SIGTERM, signal.SIGHUP],
    ],
)
def test_a_stopping_worker_lets_running_jobs_end_and_hands_the_others_back(
    start_worker_anew: StartWorker, database: Database, told: Lines, tmp_path: Path, signals: list[int]
) -> None:
    end = tmp_path / "end"
    running = database.enqueue_many("wait", [{"file": told.path, "until": str(end)}] * 2, priority=9)
    waiting = database.enqueue_many("noop", [{}] * 50)
    worker = start_worker_anew(slots=2)
    told.wait(2)

    for signum in signals:
        worker.signal(signum)
    worker.wait_for("worker draining")
    wait_until(
        lambda: all(database.job(job).status == "pending" for job in waiting), what="the others to be handed back"
    )
    assert [database.job(job).status for job in running] == ["running", "running"]
    end.touch()

    assert worker.wait() == 0
    assert [database.job(job).status for job in running] == ["completed", "completed"]
    assert {database.job(job).attempts for job in waiting} == {0}


def test_a_worker_stopped_in_the_middle_of_a_flood_leaves_nothing_running_and_charges_nothing(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    database.enqueue_many("tell", [{"file": told.path, "number": 0}] * 10_000)
    worker = start_worker()
    told.wait(500)

    assert worker.stop() == 0

    completed = database.statuses()["completed"]
    assert len(told.read()) == completed
    left = database.rows("select state, attempts, crash_count, count(*) from jobplatform.job_queue group by 1, 2, 3")
    assert left == [(1, 0, 0, 10_000 - completed)]
    assert database.rows("select count(*) from jobplatform.workers where dead_at is null") == [(0,)]


def test_after_the_drain_timeout_running_jobs_are_interrupted_and_handed_back(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("polite", {"file": told.path})
    worker = start_worker(drain_timeout=0.2, kill_grace=60.0)
    told.wait(1)

    assert worker.stop() == 0

    assert told.read()[1] == "ShutDown"
    assert (database.job(job).status, database.job(job).attempts) == ("pending", 0)


def test_after_the_drain_timeout_a_job_that_does_not_listen_is_killed_and_handed_back(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("stuck", {"file": told.path})
    worker = start_worker(drain_timeout=0.2)
    child = int(told.wait(1)[0].split()[1])

    assert worker.stop() == 0

    assert is_dead(child)
    assert (database.job(job).status, database.job(job).attempts, database.job(job).crash_count) == ("pending", 0, 0)


@pytest.mark.parametrize(
    ("task", "second"), [("polite", signal.SIGTERM), ("stuck", signal.SIGTERM), ("polite", signal.SIGINT)]
)
def test_a_second_signal_does_not_wait_for_running_jobs(
    start_worker: StartWorker, database: Database, told: Lines, task: str, second: int
) -> None:
    job = database.enqueue(task, {"file": told.path})
    worker = start_worker(drain_timeout=3600.0, kill_grace=3600.0)
    told.wait(1)

    worker.signal(signal.SIGTERM)
    worker.wait_for("worker draining")
    worker.signal(second)

    assert worker.wait() == 0
    assert (database.job(job).status, database.job(job).attempts) == ("pending", 0)


def test_threads_are_handed_back_too(start_worker: StartWorker, database: Database, told: Lines) -> None:
    jobs = database.enqueue_many("stuck", [{"file": told.path}] * 4)
    worker = start_worker(slots=1, threads=4, drain_timeout=0.2)
    told.wait(4)

    assert worker.stop() == 0

    assert {(database.job(job).status, database.job(job).attempts) for job in jobs} == {("pending", 0)}


def test_ctrl_c_in_a_terminal_reaches_only_the_parent_effectively(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job = database.enqueue("wait", {"file": told.path, "until": str(end)})
    worker = start_worker()
    told.wait(1)

    # What a terminal does: the signal goes to every process of the foreground.
    for pid in (worker.nursery, *worker.children(), worker.pid):
        os.kill(pid, signal.SIGINT)
    worker.wait_for("worker draining")
    end.touch()

    assert worker.wait() == 0
    assert database.job(job).status == "completed"


def test_a_worker_whose_terminal_is_closed_lets_running_jobs_end(
    login_url: Callable[..., str], database: Database, told: Lines, tmp_path: Path
) -> None:
    """Nobody reads what it says any more, and that does not matter."""
    end = tmp_path / "end"
    job = database.enqueue("wait", {"file": told.path, "until": str(end)})
    command = command_of(database_url=login_url(Role.WORKER))
    terminal, inside = os.openpty()
    worker = subprocess.Popen(
        ["setsid", "--ctty", *command],
        cwd=ROOT,
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    try:
        told.wait(1)

        os.close(terminal)
        draining = "select draining from jobplatform.workers"
        wait_until(lambda: database.rows(draining) == [(True,)], what="the worker to drain")
        end.touch()

        worker.wait(30)
        assert database.job(job).status == "completed"
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.thorough
def test_a_worker_under_nohup_survives_the_end_of_its_terminal_and_so_does_what_it_runs(
    login_url: Callable[..., str], database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job = database.enqueue("wait", {"file": told.path, "until": str(end)})
    command = ["nohup", *command_of(database_url=login_url(Role.WORKER))]
    worker = WorkerProcess(tmp_path / "worker.log", command=command, folder=ROOT)
    try:
        told.wait(1)

        for pid in (*worker.children(), worker.nursery, worker.pid):
            os.kill(pid, signal.SIGHUP)
        end.touch()

        database.wait_for_status(job, "completed")
        assert worker.stop() == 0
        assert worker.events("child ended") == []
    finally:
        worker.destroy()


@pytest.mark.parametrize("task", ["polite", "stuck"])
def test_sigquit_does_not_wait_for_running_jobs(
    start_worker: StartWorker, database: Database, told: Lines, task: str
) -> None:
    job = database.enqueue(task, {"file": told.path})
    worker = start_worker(drain_timeout=3600.0, kill_grace=3600.0)
    told.wait(1)

    worker.signal(signal.SIGQUIT)

    assert worker.wait() == 0
    assert (database.job(job).status, database.job(job).attempts) == ("pending", 0)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_the_nursery_leaves_it_to_its_parent_what_a_signal_of_the_terminal_means(
    start_worker: StartWorker, database: Database, signum: int
) -> None:
    worker = start_worker()
    nursery = worker.nursery

    os.kill(nursery, signum)
    database.enqueue("noop")
    database.wait_until_done()

    assert worker.stop() == 0
    assert [event["pid"] for event in worker.events("nursery up")] == [nursery]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("parent_first", [True, False])
def test_a_signal_to_every_process_of_a_worker_hands_back_what_ran_and_charges_nothing(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, threads: int, parent_first: bool
) -> None:
    """As of a unit without KillMode=mixed: the children die of it at once, whoever hears of it first."""
    jobs = database.enqueue_many("wait", [{"file": told.path, "until": str(tmp_path / "never")}] * 2 * threads)
    worker = start_worker(threads=threads)
    told.wait(2 * threads)

    # Stopped, it hears of everything together, as if it had been slow.
    worker.signal(signal.SIGTERM if parent_first else signal.SIGSTOP)
    if parent_first:
        worker.wait_for("worker draining")
    for pid in (worker.nursery, *worker.children()):
        os.kill(pid, signal.SIGTERM)
    if not parent_first:
        wait_until(lambda: not worker.children(), what="the end of every child")
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGCONT)

    assert worker.wait() == 0
    ended = [database.job(job) for job in jobs]
    assert {(job.status, job.attempts, job.crash_count) for job in ended} == {("pending", 0, 0)}


def test_an_idle_worker_stops_at_once_and_says_goodbye(start_worker_anew: StartWorker, database: Database) -> None:
    worker = start_worker_anew(poll=60.0)
    family = worker.descendants()

    assert worker.stop() == 0

    assert all(map(is_dead, family))
    assert database.rows("select count(*) from jobplatform.workers where dead_at is null") == [(0,)]
