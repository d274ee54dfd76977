"""``jobplatform jobs replay``, for a developer who wants to see why a job failed."""

from __future__ import annotations

import datetime
import json
import subprocess
import uuid
from collections.abc import Callable

import pytest
from click.testing import Result
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Role
from jobplatform.queue import (
    Failure,
    Lease,
    NewJob,
    WorkerInfo,
    claim_job,
    enqueue_job,
    fail_jobs,
    register_worker,
)
from jobplatform.queue.attempts.save_step import save_step
from tests.end_to_end.conftest import COMMAND, Cli, Running
from tests.queue import replay_tasks
from tests.rows import everything

#: A job of the task ``work`` or another one, and how its last attempt ended.
Make = Callable[..., uuid.UUID]
Replay = Callable[..., Result]
TASKS = {"JOBPLATFORM_TASKS": "tests.queue.replay_tasks:tasks"}


@pytest.fixture
def make(session: Session, acme: uuid.UUID) -> Make:
    """A job whose first attempt, of two, has done a step and failed."""
    session.execute(text(replay_tasks.TABLE))
    worker_id = register_worker(session, WorkerInfo("w", "host", 1, "test", ("default",), ("work",), 1))

    def make(task: str = "work", *, retry: bool = True, **options: object) -> uuid.UUID:
        job = NewJob(**{"workspace_id": acme, "task": task, "max_attempts": 2, **options})  # type: ignore[arg-type]
        enqueue_job(session, job)
        claimed = claim_job(session, worker_id=worker_id, workspace_id=acme, job_id=job.id)
        assert claimed is not None
        lease: Lease = claimed.lease
        save_step(session, lease, "first", '"one"')
        fail_jobs(session, [Failure(lease, "error", "RuntimeError", "no", delay=3600, retry=retry)])
        session.commit()
        return job.id

    return make


@pytest.fixture
def replay(cli: Cli, engine: Engine) -> Replay:
    """The command, which leaves every row of every table as it was."""

    def replay(job_id: uuid.UUID, *arguments: str, typed: str | None = None, **variables: str) -> Result:
        with Session(engine) as session:
            before = everything(session), replay_tasks.rows(session)
        answer = cli("jobs", "replay", str(job_id), *arguments, typed=typed, **{**TASKS, **variables})
        with Session(engine) as session:
            assert (everything(session), replay_tasks.rows(session)) == before
        return answer

    return replay


def test_why_a_job_failed_is_seen_here_with_what_it_says_and_what_comes_next(make: Make, replay: Replay) -> None:
    answer = replay(make(), "--yes")

    assert answer.exit_code == 1
    assert "progress 1/3 begun" in answer.stdout
    assert "the far side hangs up" in answer.stdout
    assert 'raise RuntimeError("the far side said no")' in answer.stdout
    assert "execute.py" not in answer.stdout
    last = answer.stdout.splitlines()[-1]
    assert last.startswith("nothing was kept; a worker would have written: error (RuntimeError: the far side said no);")
    assert last.endswith("as attempt 2 of 2")


def test_a_job_that_was_mended_completes_and_is_still_failed(make: Make, replay: Replay) -> None:
    answer = replay(make(), "--yes", "--payload", '{"well": true}')

    assert answer.exit_code == 0
    assert "a worker would have written: completed\n" in answer.stdout
    assert '"first: kept one"' in answer.stdout


def test_the_last_attempt_fails_for_good(make: Make, replay: Replay) -> None:
    answer = replay(make(max_attempts=1, retry=False), "--yes")

    assert "failed for good at attempt 1 of 1: error (RuntimeError" in answer.stdout


@pytest.mark.parametrize(
    ("how", "words", "code"),
    [
        ("skip", "completed (skipped)", 0),
        ("snooze", "it goes back, and runs again in about 30 s; attempt 1 of 2 is not spent", 1),
        (
            "discard",
            "failed for good at attempt 1 of 2, although 1 of its attempts are left: discarded (Discard: broken)",
            1,
        ),
        ("cancel", "cancelled (Cancel: no)", 1),
    ],
)
def test_every_ending_is_told_in_words(make: Make, replay: Replay, how: str, words: str, code: int) -> None:
    answer = replay(make("say", payload={"how": how}), "--yes")

    assert (answer.exit_code, words in answer.stdout) == (code, True), answer.stdout


def test_nothing_is_called_before_somebody_agrees(make: Make, replay: Replay) -> None:
    declined = replay(make(), typed="n\n")

    assert declined.exit_code == 1
    assert "Not taken back are requests that it sends" in declined.stdout
    assert "begun" not in declined.stdout


@pytest.mark.parametrize("task", ["hang", "hang_async"])
def test_a_handler_that_takes_too_long_is_stopped_as_by_a_worker(make: Make, replay: Replay, task: str) -> None:
    job_id = make(task, timeout=datetime.timedelta(milliseconds=200))

    answer = replay(job_id, "--yes")

    assert "timeout (TimedOut: ran longer than its timeout of 0.2 s); tried again in about" in answer.stdout
    assert "cleaned up" in answer.stdout


def test_whoever_has_seen_enough_leaves_and_nothing_is_kept(
    make: Make, start: Callable[..., Running], database_url: str, engine: Engine
) -> None:
    job_id = make("hang")
    with Session(engine) as session:
        before = everything(session)

    running = start("jobs", "replay", str(job_id), "--yes", **{**TASKS, "DATABASE_URL": database_url})
    running.wait_for_line("it begins")
    code = running.end()

    assert code == 1
    assert "Aborted!" in running.lines
    with Session(engine) as session:
        assert everything(session) == before


def test_without_a_time_limit_it_is_not_stopped(make: Make, replay: Replay) -> None:
    job_id = make("ask", timeout=datetime.timedelta(milliseconds=1))

    assert replay(job_id, "--yes", "--no-timeout").exit_code == 0


def test_the_debugger_looks_at_the_handler_before_anything_is_rolled_back(
    make: Make, environment: dict[str, str], database_url: str
) -> None:
    # In a process of its own: click's runner keeps a debugger away from what is typed.
    answer = subprocess.run(
        [*COMMAND, "jobs", "replay", str(make()), "--yes", "--pdb"],
        input="p rows(job.session)\np name\nq\n",
        env={**environment, **TASKS, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # What the step that failed has written is gone by then, as ever.
    assert "(Pdb) ['second']" in answer.stdout
    assert "(Pdb) 'third'" in answer.stdout
    assert "nothing was kept" in answer.stdout.splitlines()[-1]
    assert answer.stderr == ""


def test_a_program_is_told_all_of_it_as_one_document(make: Make, replay: Replay) -> None:
    answer = replay(make("chatty"), "--yes", "--json")

    told = json.loads(answer.stdout)
    assert (told["ending"], told["outcome"], told["result"]) == ("completed", "ok", {"n": 1})
    assert (told["attempt"], told["maxAttempts"]) == (1, 2)
    assert told["log"] == [{"level": "info", "message": "a line"}]
    assert "printed" in answer.stderr


def test_a_step_that_was_never_done_cannot_be_where_to_begin(make: Make, replay: Replay) -> None:
    answer = replay(make(), "--yes", "--from-step", "frist")

    assert answer.exit_code == 2
    assert "'frist' is not a step that the job has done; did you mean 'first'?" in answer.stderr


def test_what_the_platform_does_itself_is_not_replayed(make: Make, replay: Replay) -> None:
    answer = replay(make("jobplatform.webhook"), "--yes")

    assert answer.exit_code == 1
    assert "is the platform's own" in answer.stderr


@pytest.mark.direct("options of a connection: a pooler refuses them")
def test_a_login_with_the_rights_of_handlers_is_enough_and_may_only_read(
    make: Make, replay: Replay, session: Session, acme: uuid.UUID, login_url: Callable[..., str]
) -> None:
    job_id = make("look", payload={"a": 1})
    url = login_url(Role.HANDLER)
    separator = "&" if "?" in url else "?"
    reading = f"{url}{separator}options=-c%20default_transaction_read_only%3Don"

    by_name = replay(job_id, "--yes", DATABASE_URL=url)
    by_id = replay(job_id, "--yes", "-w", str(acme), DATABASE_URL=reading)
    writing = replay(make(), "--yes", "-w", str(acme), DATABASE_URL=reading)

    assert by_name.exit_code == 2
    assert 'connect with a login that may, or grant jobplatform_operator to "' in by_name.stderr
    assert (by_id.exit_code, "jobplatform_handler" in by_id.stdout) == (0, True)
    assert "cannot execute INSERT in a read-only transaction" in writing.stdout
