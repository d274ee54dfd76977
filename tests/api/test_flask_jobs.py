"""``flask jobs …``: our commands within a host application's own, on its engine and with its tasks."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform import migrations
from jobplatform.api import JobPlatform, openapi_document
from jobplatform.cli.root import COMMANDS
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


def test_help_is_asked_for_as_of_jobplatform_itself() -> None:
    """In a process of its own: a command keeps the help option with which it was asked first."""
    program = (
        "from flask import Flask; from jobplatform.api import JobPlatform; "
        "app = Flask('a'); JobPlatform(app, sessions=lambda: None); run = app.test_cli_runner().invoke; "
        "print([(run(args=['jobs', *words, '-h']).exit_code, run(args=['jobs', *words, '-h']).stdout"
        " == run(args=['jobs', *words, '--help']).stdout) for words in ([], ['ls'], ['schedules', 'ls'])])"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == str([(0, True)] * 3)


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
    assert "did you mean 'greet'? Known to this application: greet\n" in answer.stderr


def test_a_schedule_that_a_host_makes_is_of_a_task_of_the_host(flask: FlaskCliRunner, workspace_id: uuid.UUID) -> None:
    workspace = ["-w", str(workspace_id)]
    flask.invoke(args=["jobs", "enqueue", "greet", *workspace])

    made = flask.invoke(args=["jobs", "schedules", "create", "greet", "--cron", "@daily", *workspace, "--json"])

    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["jobType"] == "greet"


def test_a_token_that_a_host_makes_opens_the_api_of_the_host(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    app = Flask(__name__)
    app.config["JOBPLATFORM_TRUST_LOGIN"] = True
    JobPlatform(app, tasks, sessions=sessions)
    jobs_url = f"/api/workspaces/{workspace_id}/jobs"

    made = app.test_cli_runner().invoke(args=["jobs", "tokens", "create", "-w", str(workspace_id), "--json"])

    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    assert app.test_client().get(jobs_url, headers=headers).status_code == 200
    listed = json.loads(app.test_cli_runner().invoke(args=["jobs", "tokens", "ls", "--json"]).stdout)
    assert [token["workspaceId"] for token in listed] == [str(workspace_id)]


@pytest.mark.jobplatform_fresh_database
def test_a_host_s_database_is_migrated_where_the_host_has_it(flask: FlaskCliRunner, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("drop schema jobplatform cascade"))
    refused = flask.invoke(args=["jobs", "ls"])

    migrated = flask.invoke(args=["jobs", "migrate", "--json"])

    assert refused.exit_code == 1
    assert json.loads(migrated.stdout) == {"revision": migrations.head(), "before": None}
    assert migrations.current(engine) == migrations.head()
    assert flask.invoke(args=["jobs", "ls"]).exit_code == 0


def test_a_host_has_the_commands_of_keys_and_of_the_document(flask: FlaskCliRunner) -> None:
    made = json.loads(flask.invoke(args=["jobs", "keys", "generate", "2026", "--json"]).stdout)
    used = flask.invoke(args=["jobs", "keys", "ls", "--json"])
    document = flask.invoke(args=["jobs", "openapi"])

    assert made["entry"].startswith("2026:")
    assert json.loads(used.stdout) == []
    assert json.loads(document.stdout) == openapi_document()


@pytest.mark.parametrize("name", ["demo", "up", "worker", "api", "prove", "healthcheck"])
def test_what_runs_apart_from_a_host_is_refused_with_the_command_for_it(flask: FlaskCliRunner, name: str) -> None:
    answer = flask.invoke(args=["jobs", name, "--help"])

    assert answer.exit_code == 2
    assert f"`jobplatform {name}`" in answer.stderr


def test_every_other_command_is_a_host_s_too(flask: FlaskCliRunner) -> None:
    for name in COMMANDS.keys() - {"demo", "up", "worker", "api", "prove", "healthcheck", "jobs"}:
        assert flask.invoke(args=["jobs", name, "--help"]).exit_code == 0, name


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
