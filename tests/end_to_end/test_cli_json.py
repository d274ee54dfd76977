"""Every command that says something says it as one JSON document with ``--json``; its failures too.

Made from the tree of commands: a new one is covered on the day it is written, or fails the first test.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from sqlalchemy.orm import Session

from jobplatform.cli import main
from jobplatform.queue import (
    Failure,
    NewJob,
    WorkerInfo,
    claim_job,
    enqueue_job,
    fail_jobs,
    open_batch,
    register_worker,
    settle_endings,
)
from tests.end_to_end.conftest import Cli

#: They go on until somebody stops them, and what they say is a log.
GO_ON = {("worker",), ("api",), ("up",), ("demo",)}
#: It is JSON whatever is asked.
ALWAYS_JSON = {("openapi",)}

#: What they work on takes more than a command to make: their own tests call them with --json.
ELSEWHERE = {"bulk", "connections", "hooks", "webhooks", "syncs", "records", "exports", "prove", "adopt"}

Path_ = tuple[str, ...]


def leaves(command: click.Command = main, path: Path_ = ()) -> Iterator[tuple[Path_, click.Command]]:
    """Every command that can be called, by its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


COMMANDS = dict(leaves())


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_every_command_that_says_something_takes_json() -> None:
    silent = [path for path, command in COMMANDS.items() if "--json" not in options(command)]

    assert set(silent) == GO_ON | ALWAYS_JSON


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() - GO_ON - ALWAYS_JSON), ids=" ".join)
def test_a_mistake_is_told_as_json_too_with_the_same_exit_code(run: Cli, path: Path_) -> None:
    plain = run(*path, "--no-such-option")

    answer = run(*path, "--no-such-option", "--json")

    assert (answer.exit_code, answer.stdout) == (plain.exit_code, "")
    told = json.loads(answer.stderr)
    assert told["exitCode"] == answer.exit_code == 2
    assert "--no-such-option" in told["error"]
    assert told["error"] in plain.stderr


def test_a_refusal_by_what_is_there_is_told_as_json_too(cli: Cli, acme: uuid.UUID) -> None:
    answer = cli("jobs", "show", str(uuid.uuid4()), "-w", "Acme", "--json")

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert json.loads(answer.stderr)["exitCode"] == 1
    assert "is not a job of this workspace" in json.loads(answer.stderr)["error"]


def test_every_answer_is_one_json_document(
    cli: Cli, session: Session, acme: uuid.UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, str] = {}
    broken: dict[str, str] = {}
    asked: set[Path_] = set()
    for words, arguments in calls(session, acme, tmp_path, made):
        path = tuple(words.split())
        asked.add(path)
        answer = cli(*path, *arguments, "--json", JOBPLATFORM_TASKS="tests.api.example_tasks:tasks", **KEYS)
        try:
            said = json.loads(answer.stdout)
        except ValueError:
            broken[words] = f"exit {answer.exit_code}: {answer.stdout[:200]!r} {answer.stderr[:300]!r}"
            continue
        made.update({name: str(said[name]) for name in ("id", "token") if isinstance(said, dict) and name in said})

    assert broken == {}
    assert asked == {path for path in COMMANDS.keys() - GO_ON - ALWAYS_JSON if path[0] not in ELSEWHERE}


KEYS = {"JOBPLATFORM_ENCRYPTION_KEYS": "k1:" + "A" * 43 + "="}


def calls(session: Session, acme: uuid.UUID, folder: Path, made: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """One call of each command that works, in an order in which there is something to work on."""
    of_acme = ["-w", "Acme"]
    yield "migrate", []
    yield "healthcheck", []
    yield "keys generate", ["k2"]
    yield "workspaces create", ["Globex"]
    yield "workspaces ls", []
    yield "workspaces show", ["Acme"]
    yield "workspaces limit", ["Acme", "--max-running", "3"]
    yield "plans set", ["gold", "--weight", "2"]
    yield "plans ls", []
    yield "workspaces plan", ["Globex", "gold"]
    yield "workspaces plan", ["Globex", "none"]
    yield "plans delete", ["gold"]
    yield "workspaces pause", ["Globex", "--reason", "a look"]
    yield "workspaces resume", ["Globex"]
    yield "pause", ["queue", "slow", "--reason", "a look"]
    yield "pauses", []
    yield "resume", ["queue", "slow"]
    yield "queues ls", []
    yield "queues limit", ["slow", "3"]
    yield "tasks ls", []
    yield "tasks limit", ["echo", "--max-running", "3"]
    yield "rates set", ["crm:*", "5/1s"]
    yield "rates ls", []
    yield "rates clear", ["crm:*"]
    yield "resources limit", ["crm:*", "1"]
    yield "resources ls", []
    yield "resources levels", []
    yield "resources clear", ["crm:*"]
    yield "retention set", ["-t", "echo", "--completed", "1d"]
    yield "retention ls", []
    yield "retention clear", ["-t", "echo"]
    yield "tokens create", of_acme
    yield "tokens ls", []
    yield "tokens rotate", [made["id"]]
    yield "tokens revoke", [made["id"]]
    yield "alerts ls", []
    yield "alerts rules", []
    yield "alerts set", ["backlog", "--above", "5"]
    yield "alerts clear", ["backlog"]
    yield "schedules create", ["echo", *of_acme, "--every", "1h", "--name", "hourly"]
    for words in ("schedules show", "schedules pause", "schedules resume", "schedules run-now", "schedules preview"):
        yield words, ["hourly", *of_acme]
    yield "schedules ls", of_acme
    yield "schedules delete", ["hourly", *of_acme]
    batch_id = open_batch(session, acme)
    failed = enqueue_job(session, NewJob(workspace_id=acme, task="echo", max_attempts=1)).job_id
    worker_id = register_worker(session, WorkerInfo("w", "host", 1, "test", ("default",), ("echo",), 1))
    claimed = claim_job(session, worker_id=worker_id, workspace_id=acme, job_id=failed)
    assert claimed is not None
    fail_jobs(session, [Failure(claimed.lease, "error", "ValueError", "no luck")])
    session.commit()
    yield "enqueue", ["echo", *of_acme]
    yield "jobs ls", of_acme
    yield "jobs failed", []
    yield "jobs show", [str(failed), *of_acme]
    yield "jobs find", ["status:failed"]
    yield "jobs why", [str(failed), *of_acme]
    yield "jobs watch", [str(failed), *of_acme]
    yield "jobs replay", [str(failed), *of_acme, "--yes"]
    yield "jobs fork", [str(failed), *of_acme]
    yield "jobs retry", [str(failed), *of_acme]
    yield "jobs run-now", [str(failed), *of_acme]
    yield "jobs change", [str(failed), *of_acme, "--priority", "5"]
    yield "jobs cancel", [str(failed), *of_acme]
    yield "batches ls", of_acme
    yield "batches show", [str(batch_id), *of_acme]
    yield "batches cancel", [str(batch_id), *of_acme]
    while settle_endings(session).notices:
        session.commit()
    session.commit()
    yield "batches watch", [str(batch_id), *of_acme]
    yield "workers ls", []
    yield "workers drain", [str(worker_id)]
    yield "stats", []
    yield "health", []
    yield "doctor", []
    yield "audit", []
    yield "prune", []
    yield "workspaces encrypt", ["Acme"]
    yield "keys ls", []
    yield "keys rotate", []
    yield "workspaces export", ["Acme", "-o", str(folder / "acme.zip")]
    yield "workspaces erase", ["Acme", "--yes"]
