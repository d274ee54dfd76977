"""``jobplatform jobs replay``: what a job's handler does, seen here and now."""

from __future__ import annotations

import contextlib
import json
import pdb
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.cli.asking import agrees
from jobplatform.cli.beginning import from_step_option, parse_payload, payload_option, telling_of_the_step
from jobplatform.cli.database import find_workspace_of, known_tasks, of_a_job_option, open_engine
from jobplatform.cli.show import as_json_option, print_json
from jobplatform.logs import escape_controls
from jobplatform.models import Outcome, Role, confine
from jobplatform.queue import (
    HandlerOutcome,
    Recorder,
    Replayed,
    Snapshot,
    Task,
    TimedOut,
    is_own_task,
    read_snapshot,
    replay_job,
)

QUESTION = """\
The handler of {task!r} is called here, as it was for attempt {attempt} of {job_id}. What it writes through job.session
is taken back at the end, and what that has locked is locked until then. Not taken back are requests that it sends,
files, messages, numbers of sequences, and what it commits by a connection of its own.
Go on?"""


@click.command()
@click.argument("job_id", type=click.UUID)
@of_a_job_option
@payload_option
@from_step_option
@click.option("--no-steps", is_flag=True, help="Do every step again.")
@click.option("--no-timeout", is_flag=True, help="Let it take as long as it takes. Default: the job's own timeout.")
@click.option("--pdb", "debug", is_flag=True, help="Look around with Python's debugger where the handler raises.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask whether what cannot be taken back is meant.")
@as_json_option
def replay(
    job_id: UUID,
    workspace: str | None,
    payload: str | None,
    from_step: str | None,
    no_steps: bool,
    no_timeout: bool,
    debug: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Run a job's handler here once more, to see what it does; nothing is kept of it.

    It finds the payload that is stored and the steps that are done, and says what a worker would have written down;
    exit code 1 unless it would have completed. The job stays as it is, whatever its status.
    """
    if from_step is not None and no_steps:
        raise click.UsageError("--from-step and --no-steps are two ways to say what is done again; say one")
    if debug and as_json:
        raise click.UsageError("--pdb talks to a person, and --json to a program; say one")
    given = None if payload is None else parse_payload(payload)
    known = known_tasks()
    with open_engine("jobplatform-replay") as engine:
        snapshot = _read(engine, job_id, workspace, from_step, no_steps)
        if is_own_task(snapshot.job.task):
            raise click.ClickException(f"{snapshot.job.task} is the platform's own, and what it does is done outside")
        task = known[snapshot.job.task]
        if not yes:
            _require_agreement(engine, snapshot, as_json=as_json)
        seconds = None if no_timeout else snapshot.job.timeout_ms / 1000
        screen = _Screen(quiet=as_json, seconds=seconds)
        recorder = Recorder(screen.debug if debug else None)
        with _quiet(as_json), engine.connect() as connection:
            replayed = replay_job(connection, recorder.listen_to(task), snapshot, screen, payload=given)
    if replayed.ended.error_type == KeyboardInterrupt.__name__:
        raise click.Abort
    ending = _ending(task, snapshot, replayed, screen)
    if as_json:
        print_json({**ending, "progress": screen.reports, "log": screen.lines, "takenBack": screen.others})
    else:
        _tell(ending, recorder.error, replayed)
    if ending["ending"] != "completed":
        raise SystemExit(1)


def _read(engine: Engine, job_id: UUID, workspace: str | None, from_step: str | None, no_steps: bool) -> Snapshot:
    """Who says the workspace's id needs to be no operator: handlers' rights are enough."""
    with Session(engine) as session:
        workspace_id = _as_id(workspace)
        if workspace_id is None:
            workspace_id = find_workspace_of(confine(session, Role.OPERATOR), job_id, workspace)
            session.rollback()
        confine(session, Role.HANDLER, workspace_id)
        with telling_of_the_step():
            found = read_snapshot(session, workspace_id, job_id, from_step=from_step, no_steps=no_steps)
    if found is None:
        raise click.ClickException(f"{job_id} is not a job of this workspace")
    return found


def _as_id(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None


def _require_agreement(engine: Engine, snapshot: Snapshot, *, as_json: bool) -> None:
    job = snapshot.job
    question = QUESTION.format(task=job.task, attempt=job.attempt, job_id=job.lease.job_id)
    with Session(engine) as session:
        if not agrees(session, question, as_json=as_json):
            raise click.Abort


@contextmanager
def _quiet(as_json: bool) -> Iterator[None]:
    """What a handler prints is no part of our document."""
    if not as_json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


class _Screen:
    """What a replayed job says, as it says it; and its time."""

    def __init__(self, *, quiet: bool, seconds: float | None) -> None:
        self.reports: list[dict[str, Any]] = []
        self.lines: list[dict[str, str]] = []
        self.others: list[str] = []
        self.timed_out = False
        self.seconds = seconds
        self._quiet = quiet

    def progress(self, report: str) -> None:
        said = json.loads(report)
        self.reports.append(said)
        amount = f"{said['current']}" if said["total"] is None else f"{said['current']}/{said['total']}"
        self._show(f"progress {amount}", said["message"])

    def log(self, level: str, message: str) -> None:
        self.lines.append({"level": level, "message": message})
        self._show(level, message)

    def completing(self) -> None:
        """That the job would be completed is said at the end."""

    def interruption(self) -> type[BaseException] | None:
        return TimedOut if self.timed_out else None

    def taken_back(self, what: str) -> None:
        self.others.append(what)
        self._show("replay", f"{what} was given a Session other than job.session, which has been rolled back")

    def _show(self, what: str, text: str | None) -> None:
        if not self._quiet:
            click.echo(escape_controls(f"  {what:<12} {text or ''}".rstrip()))

    @contextmanager
    def at_most(self) -> Iterator[None]:
        """Stop the handler when its time is over, where it is."""
        if self.seconds is None:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._stop)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _stop(self, *_: object) -> None:
        self.timed_out = True
        raise TimedOut(f"ran longer than its timeout of {self.seconds:g} s")

    def debug(self, error: BaseException) -> None:
        """Before anything is rolled back, so that what the handler has in its hands can be looked at."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if isinstance(error, HandlerOutcome | KeyboardInterrupt) or error.__traceback__ is None:
            return
        # The first frame is ours.
        frames = error.__traceback__.tb_next or error.__traceback__
        _print_traceback("".join(traceback.format_exception(type(error), error, frames)))
        pdb.post_mortem(frames)


def _ending(task: Task[Any, Any], snapshot: Snapshot, replayed: Replayed, screen: _Screen) -> dict[str, Any]:
    """What a worker would have written down, as facts. An attempt that was told to stop and failed, stopped."""
    job, ended = snapshot.job, replayed.ended
    told = {"jobId": job.lease.job_id, "task": job.task, "attempt": job.attempt, "maxAttempts": job.max_attempts}
    if ended.kind in ("completed", "completed_in"):
        result = None if replayed.result is None else json.loads(replayed.result)
        return {**told, "ending": "completed", "outcome": ended.outcome, "result": result}
    if ended.kind == "snoozed":
        return {**told, "ending": "snoozed", "delaySeconds": ended.delay}
    failure = {"outcome": ended.outcome, "errorType": ended.error_type, "error": ended.message}
    retry, delay = ended.retry, ended.delay
    if screen.timed_out:
        message = f"ran longer than its timeout of {screen.seconds:g} s"
        failure = {"outcome": Outcome.TIMEOUT.value, "errorType": TimedOut.__name__, "error": message}
        retry, delay = True, task.retry.delay(job.attempt)
    elif ended.kind == "interrupted":
        failure["errorType"] = "JobInterrupted"
        retry, delay = True, task.retry.delay(job.attempt)
    if failure["outcome"] == Outcome.CANCELLED:
        return {**told, **failure, "ending": "cancelled"}
    if retry and job.attempt < job.max_attempts:
        return {**told, **failure, "ending": "retried", "delaySeconds": delay}
    return {**told, **failure, "ending": "failed", "attemptsLeft": job.max_attempts - job.attempt}


def _tell(ending: dict[str, Any], error: BaseException | None, replayed: Replayed) -> None:
    if error is not None and not isinstance(error, HandlerOutcome):
        # The first frame is ours.
        frames = error.__traceback__ and error.__traceback__.tb_next
        _print_traceback("".join(traceback.format_exception(type(error), error, frames)))
    elif replayed.ended.traceback:
        _print_traceback(replayed.ended.traceback)
    click.echo(f"nothing was kept; a worker would have written: {_words(ending)}")
    if ending.get("result") is not None:
        print_json(ending["result"])


def _print_traceback(text: str) -> None:
    for line in text.splitlines():
        click.echo(escape_controls(line))


def _words(ending: dict[str, Any]) -> str:
    attempt = f"attempt {ending['attempt']} of {ending['maxAttempts']}"
    if ending["ending"] == "completed":
        return "completed" if ending["outcome"] == Outcome.OK else f"completed ({ending['outcome']})"
    if ending["ending"] == "snoozed":
        return f"it goes back, and runs again in about {_seconds(ending)}; {attempt} is not spent"
    why = f"{ending['errorType']}: {escape_controls(ending['error'])}"
    if ending["ending"] == "cancelled":
        return f"cancelled ({why})"
    if ending["ending"] == "retried":
        following = f"attempt {ending['attempt'] + 1} of {ending['maxAttempts']}"
        return f"{ending['outcome']} ({why}); tried again in about {_seconds(ending)} as {following}"
    left = "" if not ending["attemptsLeft"] else f", although {ending['attemptsLeft']} of its attempts are left"
    return f"failed for good at {attempt}{left}: {ending['outcome']} ({why})"


def _seconds(ending: dict[str, Any]) -> str:
    return f"{ending['delaySeconds']:.0f} s"
