from __future__ import annotations

import json
import os
import re
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


def test_a_part_that_dies_ends_the_stack_and_is_named(up: Running, data_dir: Path) -> None:
    (worker,) = [process for process in descendants(up, "jobplatform.cli worker") if process.ppid() == up.process.pid]

    worker.kill()

    assert up.wait() == 1
    assert "the worker was ended by SIGKILL" in up.output
    assert processes_with(data_dir) == []


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


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]])
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


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_two_stacks_share_a_server_and_the_last_one_stops_it(up: Running, start: Start, data_dir: Path) -> None:
    second = start("up", "-c", "1")
    second.wait_for_line("Ctrl-C stops all of it")

    assert up.end() == 0

    assert httpx.get(f"{api_url(second)}/readyz", trust_env=False, timeout=60).status_code == 200
    assert second.end(signal.SIGTERM) == 0
    assert processes_with(data_dir) == []
