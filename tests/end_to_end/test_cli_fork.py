"""``jobplatform jobs fork``."""

from __future__ import annotations

import uuid

import pytest
from click.testing import Result
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Failure,
    NewJob,
    WorkerInfo,
    claim_job,
    enqueue_job,
    fail_jobs,
    get_job,
    list_steps,
    register_worker,
)
from jobplatform.queue.attempts.save_step import save_step
from tests.end_to_end.conftest import Cli, as_json

TASKS = {"JOBPLATFORM_TASKS": "tests.api.example_tasks:tasks"}


@pytest.fixture
def failed(session: Session, acme: uuid.UUID) -> uuid.UUID:
    """A job that has done two steps, and failed."""
    job_id = enqueue_job(session, NewJob(workspace_id=acme, task="echo", payload={"n": 1}, unique_key="one")).job_id
    worker_id = register_worker(session, WorkerInfo("w", "host", 1, "test", ("default",), ("echo",), 1))
    claimed = claim_job(session, worker_id=worker_id, workspace_id=acme, job_id=job_id)
    assert claimed is not None
    for name in ("one", "two"):
        save_step(session, claimed.lease, name, f'"{name}"')
        session.commit()
    fail_jobs(session, [Failure(claimed.lease, "error", "ValueError", "no", retry=False)])
    session.commit()
    return job_id


def fork(cli: Cli, job_id: uuid.UUID, *arguments: str) -> Result:
    return cli("jobs", "fork", str(job_id), *arguments, **TASKS)


def test_a_new_job_keeps_the_steps_before_the_one_that_is_named(
    cli: Cli, failed: uuid.UUID, session: Session, acme: uuid.UUID
) -> None:
    told = as_json(fork(cli, failed, "--from-step", "two", "--payload", '{"n": 2}', "--json"))

    new = get_job(session, acme, uuid.UUID(told["jobId"]))
    old = get_job(session, acme, failed)
    assert new is not None
    assert old is not None
    assert (told["fromJobId"], told["kept"]) == (str(failed), ["one"])
    assert (new.status, new.payload, new.parent_id) == (Status.PENDING, {"n": 2}, failed)
    assert old.status == Status.FAILED
    assert [step.name for step in list_steps(session, acme, new.id)] == ["one"]


def test_a_retry_goes_on_before_the_step_that_is_named(
    cli: Cli, failed: uuid.UUID, session: Session, acme: uuid.UUID
) -> None:
    unknown = cli("jobs", "retry", str(failed), "--from-step", "tow")
    both = cli("jobs", "retry", str(failed), "--from-step", "two", "--from-start")
    many = cli("jobs", "retry", "--status", "failed", "--from-step", "two")
    retried = cli("jobs", "retry", str(failed), "--from-step", "two")

    assert (unknown.exit_code, both.exit_code, many.exit_code, retried.exit_code) == (2, 2, 2, 0)
    assert "did you mean 'two'?" in unknown.stderr
    assert [step.name for step in list_steps(session, acme, failed)] == ["one"]


def test_it_says_what_the_new_job_finds_done(cli: Cli, failed: uuid.UUID) -> None:
    assert f"is made from {failed}; it finds done: one, two" in fork(cli, failed).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--from-step", "tow"], 2, "did you mean 'two'?"),
        (["--from-step", "one", "--from-start"], 2, "say one"),
        (["--payload", "{"], 2, "the payload is not JSON"),
        (["--payload", "[1]"], 1, "takes a mapping"),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, failed: uuid.UUID, arguments: list[str], code: int, words: str) -> None:
    answer = fork(cli, failed, *arguments)

    assert (answer.exit_code, words in answer.stderr) == (code, True), answer.stderr


def test_a_job_that_has_not_ended_and_a_taken_guard_are_told(cli: Cli, failed: uuid.UUID) -> None:
    first = as_json(fork(cli, failed, "--json"))["jobId"]

    again, live = fork(cli, failed), fork(cli, uuid.UUID(first))

    assert (again.exit_code, live.exit_code) == (1, 1)
    assert f"the unfinished job {first} holds the uniqueness guard" in again.stderr
    assert f"{first} has not ended yet" in live.stderr
