from __future__ import annotations

import json
import os
import re
import shlex
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from jobplatform.embedded import EmbeddedServer
from jobplatform.testing import wait_until
from tests.end_to_end.conftest import Cli, Running, as_json, processes_with

Start = Callable[..., Running]


@pytest.fixture
def up(start: Start, prepared: Path) -> Running:
    stack = start("up", "-c", "2")
    stack.wait_for_line("Ctrl-C stops all of it")
    return stack


def api_url(stack: Running) -> str:
    return re.findall(r"api +(http\S+) ", stack.output)[0]


def descendants(stack: Running, word: str) -> list[psutil.Process]:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return [child for child in children if word in " ".join(child.cmdline())]


def worker_of(stack: Running) -> psutil.Process:
    below = descendants(stack, "jobplatform.cli worker")
    (worker,) = [process for process in below if process.ppid() == stack.process.pid]
    return worker


def test_up_serves_with_logins_that_may_do_their_part_only_and_ctrl_c_leaves_no_process(
    up: Running, data_dir: Path
) -> None:
    assert httpx.get(f"{api_url(up)}/readyz", trust_env=False, timeout=60).status_code == 200
    with psycopg.connect(EmbeddedServer(data_dir).url("postgres")) as connection:
        logins = connection.execute(
            "select distinct application_name, usename from pg_stat_activity "
            "where application_name in ('jobplatform-worker', 'jobplatform-api')"
        ).fetchall()
    assert ("jobplatform-worker", "worker") in logins
    assert {login for _, login in logins} <= {"worker", "api"}
    # A terminal sends SIGINT to a whole group: the parts are in others, and are told by their parent.
    groups = {os.getpgid(child.pid) for child in psutil.Process(up.process.pid).children()}
    assert os.getpgid(up.process.pid) not in groups

    assert up.end() == 0

    assert processes_with(data_dir) == []


def test_up_says_how_to_look_into_the_embedded_database_with_sql(up: Running) -> None:
    (told,) = re.findall(r"^sql +psql (.+?)  ", up.output, re.MULTILINE)

    with psycopg.connect(*shlex.split(told)) as connection:
        assert connection.execute("select count(*) from jobplatform.jobs").fetchone() == (0,)


def test_without_a_queue_up_starts_no_worker_and_jobs_run_where_they_are_enqueued(
    start: Start, run: Cli, prepared: Path
) -> None:
    stack = start("up", DISABLE_QUEUE="true")
    stack.wait_for_line("Ctrl-C stops all of it")
    workspace_id = str(uuid.uuid4())
    token = run("tokens", "create", "-w", workspace_id).stdout.strip()

    answer = httpx.post(
        f"{api_url(stack)}/workspaces/{workspace_id}/sync",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=60,
    )

    assert answer.json()["status"] == "completed", answer.text
    assert "worker       none" in stack.output
    assert stack.end() == 0


@pytest.mark.thorough
def test_a_part_that_dies_ends_the_stack_and_is_named(up: Running, data_dir: Path) -> None:
    worker_of(up).kill()

    assert up.wait() == 1
    assert "the worker was ended by SIGKILL" in up.output
    assert processes_with(data_dir) == []


@pytest.mark.thorough
def test_a_killed_up_takes_its_parts_along_and_the_next_one_finds_the_data(
    up: Running, start: Start, data_dir: Path
) -> None:
    parts = psutil.Process(up.process.pid).children(recursive=True)

    up.end(signal.SIGKILL)

    wait_until(lambda: not any(_lives(part) for part in parts), what="API and worker to end with their parent")
    again = start("up", "-c", "1")
    again.wait_for_line("Ctrl-C stops all of it")
    assert again.end() == 0
    assert processes_with(data_dir) == []


@pytest.mark.thorough
@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_who_is_in_a_hurry_does_not_wait_for_running_jobs(
    start: Start, run: Cli, prepared: Path, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    told = tmp_path / "told"
    variables = {"JOBPLATFORM_TASKS": "tests.worker.handlers:tasks", "JOBPLATFORM_DRAIN_TIMEOUT": "3600"}
    stack = start("up", "-c", "1", **variables)
    stack.wait_for_line("Ctrl-C stops all of it")
    payload = json.dumps({"file": str(told), "until": str(tmp_path / "never")})
    as_json(run("enqueue", "wait", "-w", str(uuid.uuid4()), "-p", payload, "--json", **variables))
    wait_until(told.exists, what="a running job")

    for number in signals:
        stack.process.send_signal(number)
        stack.wait_for_line("stopping")

    assert stack.wait() == 0


@pytest.mark.thorough
@pytest.mark.parametrize("up_first", [True, False])
def test_a_signal_to_up_and_to_its_worker_is_one_signal_and_lets_running_jobs_end(
    start: Start, run: Cli, prepared: Path, data_dir: Path, tmp_path: Path, up_first: bool
) -> None:
    """As of a supervisor that signals every process it knows of: `up` tells its worker then what that has heard."""
    told, end = tmp_path / "told", tmp_path / "end"
    variables = {
        "JOBPLATFORM_TASKS": "tests.worker.handlers:tasks",
        "JOBPLATFORM_DRAIN_TIMEOUT": "3600",
        "JOBPLATFORM_HEARTBEAT_SECONDS": "0.5",
    }
    stack = start("up", "-c", "1", **variables)
    stack.wait_for_line("Ctrl-C stops all of it")
    workspace_id = str(uuid.uuid4())
    payload = json.dumps({"file": str(told), "until": str(end)})
    as_json(run("enqueue", "wait", "-w", workspace_id, "-p", payload, "--json", **variables))
    wait_until(told.exists, what="a running job")
    worker = worker_of(stack)

    first, second = (stack.process.pid, worker.pid) if up_first else (worker.pid, stack.process.pid)
    os.kill(first, signal.SIGTERM)
    stack.wait_for_line("worker draining")
    # Standing still, so that the second one can be seen to reach it.
    worker.suspend()
    try:
        wait_until(lambda: worker.status() == psutil.STATUS_STOPPED, what="the worker to stand still")
        os.kill(second, signal.SIGTERM)
        wait_until(lambda: pending_signals(worker.pid), what="the second signal to reach the worker")
    finally:
        worker.resume()
    # The first one may have been on its way before.
    for _ in range(2):
        wait_for_heartbeat(data_dir)
    end.touch()

    assert stack.wait() == 0
    (job,) = as_json(run("jobs", "list", "-w", workspace_id, "--json", **variables))
    assert job["status"] == "completed"


def pending_signals(pid: int) -> int:
    """Those that a process was sent and has not dealt with, a bit each."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"ShdPnd:\s+(\w+)", status)[0], 16)


def wait_for_heartbeat(data_dir: Path) -> None:
    with psycopg.connect(EmbeddedServer(data_dir).url(), autocommit=True) as connection:
        ask = "select heartbeat_at from jobplatform.workers where dead_at is null"
        before = connection.execute(ask).fetchall()
        wait_until(lambda: connection.execute(ask).fetchall() != before, what="a heartbeat of the worker")


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.thorough
def test_two_stacks_share_a_server_and_the_last_one_stops_it(up: Running, start: Start, data_dir: Path) -> None:
    second = start("up", "-c", "1")
    second.wait_for_line("Ctrl-C stops all of it")

    assert up.end() == 0

    assert httpx.get(f"{api_url(second)}/readyz", trust_env=False, timeout=60).status_code == 200
    assert second.end(signal.SIGTERM) == 0
    assert processes_with(data_dir) == []
