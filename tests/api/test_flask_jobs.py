"""``flask jobs …``: our commands within a host application's own, on its engine and with its tasks."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.queue import NewJob, RunningJob, Tasks, enqueue_job

tasks = Tasks()


@tasks.task("greet")
def greet(job: RunningJob, payload: dict[str, str]) -> None: ...


@pytest.fixture
def flask(sessions: sessionmaker[Session]) -> FlaskCliRunner:
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)
    return app.test_cli_runner()


def test_a_host_s_command_line_lists_enqueues_cancels_and_counts_jobs(
    flask: FlaskCliRunner, workspace_id: uuid.UUID
) -> None:
    workspace = ["-w", str(workspace_id)]
    made = json.loads(flask.invoke(args=["jobs", "enqueue", "greet", *workspace, "--json"]).stdout)

    listed = json.loads(flask.invoke(args=["jobs", "ls", *workspace, "--json"]).stdout)
    also = json.loads(flask.invoke(args=["jobs", "list", *workspace, "--json"]).stdout)
    cancelled = flask.invoke(args=["jobs", "cancel", made["jobId"], *workspace])
    stats = json.loads(flask.invoke(args=["jobs", "stats", "--json"]).stdout)

    assert [(job["id"], job["jobType"]) for job in listed] == [(made["jobId"], "greet")]
    assert also == listed
    assert cancelled.exit_code == 0
    assert stats["byStatus"]["cancelled"] == 1


def test_the_host_s_own_sessions_are_used_and_go_on_being_the_host_s(
    sessions: sessionmaker[Session], engine: Engine, workspace_id: uuid.UUID
) -> None:
    with Session(engine) as mine:
        app = Flask(__name__)
        JobPlatform(app, tasks, sessions=lambda: mine)
        enqueue_job(mine, NewJob(workspace_id=workspace_id, task="greet"))
        mine.commit()

        answer = app.test_cli_runner().invoke(args=["jobs", "ls", "--json"])

        assert len(json.loads(answer.stdout)) == 1
        assert mine.expire_on_commit
        assert mine.connection().exec_driver_sql("select current_setting('role')").scalar() == "none"


def test_a_task_that_the_host_does_not_have_is_refused_with_a_sentence(
    flask: FlaskCliRunner, workspace_id: uuid.UUID
) -> None:
    answer = flask.invoke(args=["jobs", "enqueue", "great", "-w", str(workspace_id)])

    assert answer.exit_code == 1
    assert "did you mean 'greet'" in answer.stderr


def test_help_names_the_commands(flask: FlaskCliRunner) -> None:
    answer = flask.invoke(args=["jobs", "--help"])

    assert {"ls", "watch", "retry", "stats", "doctor", "prune", "batches", "alerts"} <= set(answer.stdout.split())
    assert flask.invoke(args=["jobs", "nonsense"]).exit_code == 2


def test_an_application_that_is_only_served_loads_none_of_it() -> None:
    """A web process does not pay for commands, and the API does not know them."""
    program = (
        "import sys; from flask import Flask; from jobplatform.api import JobPlatform; "
        "JobPlatform(Flask('a'), sessions=lambda: None); "
        "print([name for name in sys.modules if name.startswith('jobplatform.cli')])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"
