"""`--reload`: what was started goes on with the code as it is now, and waits where that cannot be loaded."""

from __future__ import annotations

import re
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy.orm import Session

from jobplatform.api import mint_token
from jobplatform.cli.serve import DRAIN
from jobplatform.models import Job
from jobplatform.queue import NewJob, enqueue_job, get_job
from jobplatform.testing import wait_until
from tests.end_to_end.conftest import Cli, Running

Start = Callable[..., Running]

WAITS = """
import pathlib, time
from jobplatform.queue import Tasks

tasks = Tasks()

@tasks.task("first")
def first(job, payload):
    pathlib.Path(payload["told"]).touch()
    while not pathlib.Path(payload["until"]).exists():
        time.sleep(0.01)
    return "as it was"
"""
ENDS = """
from jobplatform.queue import Tasks

tasks = Tasks()

@tasks.task("first")
def first(job, payload):
    return "as it is now"

@tasks.task("second")
def second(job, payload):
    return "as it is now"
"""
BROKEN = "def secret_of_the_code(:"


class Code:
    """A module that somebody works on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()

    def write(self, text: str) -> None:
        (self.folder / "changing.py").write_text(text)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path / "code")


@pytest.fixture
def variables(code: Code, database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "JOBPLATFORM_TRUST_LOGIN": "true",
        "JOBPLATFORM_TASKS": "changing:tasks",
        "PYTHONPATH": str(code.folder),
    }


def enqueue(session: Session, workspace_id: uuid.UUID, task: str, **payload: str) -> uuid.UUID:
    job_id = enqueue_job(session, NewJob(workspace_id=workspace_id, task=task, payload=payload)).job_id
    session.commit()
    return job_id


def wait_for_the_end_of(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Job:
    def ended() -> Job | None:
        session.rollback()
        job = get_job(session, workspace_id, job_id)
        assert job is not None
        return job if job.completed_at else None

    found = wait_until(ended, what="the job to end")
    assert found is not None
    return found


def test_a_worker_begins_anew_when_its_code_changes_and_spends_no_attempt_of_what_ran(
    start: Start, code: Code, variables: dict[str, str], session: Session, acme: uuid.UUID, tmp_path: Path
) -> None:
    code.write(WAITS)
    worker = start("worker", "-c", "1", "--reload-dir", str(code.folder), **variables)
    told = tmp_path / "told"
    job_id = enqueue(session, acme, "first", told=str(told), until=str(tmp_path / "never"))
    wait_until(told.exists, what="the job to run")

    code.write(ENDS)

    job = wait_for_the_end_of(session, acme, job_id)
    assert (job.status, job.result, job.attempts) == ("completed", "as it is now", 1)
    assert worker.process.poll() is None
    assert worker.end(signal.SIGTERM) == 0


@pytest.mark.thorough
def test_a_worker_that_is_told_to_stop_stops_though_its_code_changes_meanwhile(
    start: Start, code: Code, variables: dict[str, str], session: Session, acme: uuid.UUID, tmp_path: Path
) -> None:
    code.write(WAITS)
    worker = start("worker", "-c", "1", "--reload-dir", str(code.folder), **variables)
    told, end = tmp_path / "told", tmp_path / "end"
    job_id = enqueue(session, acme, "first", told=str(told), until=str(end))
    wait_until(told.exists, what="the job to run")

    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for_line("worker draining")
    code.write(ENDS)
    worker.wait_for_line("code has changed")
    end.touch()

    assert worker.wait() == 0
    job = wait_for_the_end_of(session, acme, job_id)
    assert (job.status, job.result, job.attempts) == ("completed", "as it was", 1)


@pytest.mark.thorough
def test_a_worker_waits_until_its_code_can_be_loaded_or_it_is_told_to_end(
    start: Start, code: Code, variables: dict[str, str], session: Session, acme: uuid.UUID
) -> None:
    code.write(BROKEN)
    worker = start("worker", "-c", "1", "--reload-dir", str(code.folder), **variables)
    worker.wait_for_line("Waiting for a change")
    assert "changing.py, line 1: SyntaxError" in worker.output

    code.write(ENDS)

    job = wait_for_the_end_of(session, acme, enqueue(session, acme, "second"))
    assert job.result == "as it is now"
    code.write(BROKEN)
    wait_until(lambda: worker.output.count("Waiting for a change") == 2, what="the worker to wait again")
    assert worker.end(DRAIN) == 0


@pytest.mark.thorough
def test_the_api_serves_changed_code_and_says_nothing_of_code_that_cannot_be_loaded(
    start: Start, code: Code, variables: dict[str, str], session: Session, acme: uuid.UUID
) -> None:
    code.write(BROKEN)
    token = mint_token(session, acme, ["jobs:write"], "a test")
    session.commit()
    api = start("api", "--workers", "1", "--reload-dir", str(code.folder), **variables)
    (url,) = re.findall(r"http://[\d.:]+", api.wait_for_line("Listening at"))
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)

    def status_of(job_type: str) -> int:
        return client.post(f"/workspaces/{acme}/jobs", json={"jobType": job_type}).status_code

    with client:
        refused = client.get("/readyz")
        assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
        assert "secret" not in refused.text
        assert "changing.py, line 1: SyntaxError" in api.wait_for_line("the API does not start")

        code.write(WAITS)
        wait_until(lambda: status_of("first") == 202, what="the API to know the code's task")
        assert status_of("second") == 422

        code.write(ENDS)
        wait_until(lambda: status_of("second") == 202, what="the API to know the new task")
    assert api.end(signal.SIGTERM) == 0


@pytest.mark.thorough
def test_up_has_both_of_its_parts_look_at_the_code(
    start: Start, code: Code, variables: dict[str, str], database_url: str
) -> None:
    code.write(WAITS)
    stack = start("up", "-c", "1", "--reload-dir", str(code.folder), **variables)
    stack.wait_for_line("Ctrl-C stops all of it")

    code.write(ENDS)

    stack.wait_for_line("beginning again")
    for part in ("api", "worker"):
        wait_until(
            lambda part=part: any(line.startswith(part) and "code has changed" in line for line in stack.lines),
            what=f"the {part} to notice",
        )
    assert stack.end() == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["worker", "--until-empty"], "--reload is for a worker that goes on"),
        (["worker", "--max-jobs", "3"], "--reload is for a worker that goes on"),
        (["api", "--server", "gevent"], "--reload goes with --server threads"),
    ],
)
def test_what_does_not_go_together_with_reload_is_said(run: Cli, command: list[str], said: str) -> None:
    answer = run(*command, "--reload")

    assert answer.exit_code == 2
    assert said in answer.stderr


def test_without_the_package_for_it_reload_says_what_to_install(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)

    answer = run("worker", "--reload")

    assert answer.exit_code == 2
    assert "pip install 'jobplatform[reload]'" in answer.stderr
