"""``jobplatform jobs``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, cell, make_console, print_json, print_table
from jobplatform.cli.why import why
from jobplatform.models import Job, JobAttempt, JobLog, JobStep, Status, clock
from jobplatform.queue import (
    CancelAnswer,
    RetryKind,
    cancel_job,
    get_job,
    list_attempts,
    list_jobs,
    list_steps,
    retry_job,
    reveal,
)

workspace_option = click.option("-w", "--workspace", required=True, help="By id or name.")

#: Of a step's result more bytes than this are not shown.
LARGEST_SHOWN = 4096
#: And so many characters in a table.
SHOWN_OF_A_VALUE = 200

CANCEL_ANSWERS = {
    CancelAnswer.CANCELLED: "is cancelled",
    CancelAnswer.REQUESTED: "is running; its worker was told to stop it",
    CancelAnswer.FINISHED: "has ended already",
    CancelAnswer.UNKNOWN: "is not a job of this workspace",
    CancelAnswer.BUSY: "changed hands at every look; try again",
}
RETRY_ANSWERS = {
    RetryKind.RETRIED: "is pending again, with all its attempts ahead of it",
    RetryKind.DUPLICATE: "cannot be retried: another unfinished job holds its uniqueness guard",
    RetryKind.LIVE: "has not ended yet",
    RetryKind.COMPLETED: "completed; there is nothing to retry",
    RetryKind.UNKNOWN: "is not a job of this workspace",
}


@click.group()
def jobs() -> None:
    """List, show, retry and cancel jobs; say why one waits."""


jobs.add_command(why)


@jobs.command()
@click.option("-w", "--workspace", help="By id or name. Default: all workspaces.")
@click.option("-s", "--status", type=click.Choice([status.value for status in Status]))
@click.option("-t", "--task")
@click.option("-Q", "--queue")
@click.option("--running-for", type=click.FloatRange(min=0), help="Only those running for more than these minutes.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json_option
def ls(
    workspace: str | None,
    status: str | None,
    task: str | None,
    queue: str | None,
    running_for: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    with open_session() as session:
        if workspace and running_for is None:
            workspace_id = find_workspace(session, workspace)
            chosen = Status(status) if status else None
            found = list_jobs(session, workspace_id, status=chosen, task=task, queue=queue, limit=limit)
        else:
            found = _list_everywhere(session, workspace, status, task, queue, running_for, limit)
        reveal(session, found, to_reader=False)
    if as_json:
        print_json([_as_dict(job) for job in found])
    else:
        _print_jobs(found)


@jobs.command()
@click.argument("job_id", type=UUID)
@workspace_option
@as_json_option
def show(job_id: UUID, workspace: str, as_json: bool) -> None:
    """Show a job: its facts, every attempt's error, the steps that are done and its log lines."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        job = get_job(session, workspace_id, job_id)
        if job is None:
            raise click.ClickException(f"{job_id} is not a job of this workspace")
        attempts = list_attempts(session, workspace_id, job_id)
        steps = list_steps(session, workspace_id, job_id, largest=LARGEST_SHOWN)
        lines = _log_lines(session, workspace_id, job_id)
        # Whoever has the key ring in the environment may read everything anyway.
        reveal(session, [job])
        reveal(session, attempts)
        reveal(session, steps)
        reveal(session, lines)
    if as_json:
        failed, done = [_as_dict(row) for row in attempts], [_as_dict(step) for step in steps]
        print_json({**_as_dict(job), "attemptsThatFailed": failed, "steps": done})
        return
    print_table(["", ""], [(name, value) for name, value in _as_dict(job).items() if value is not None])
    _print_attempts(attempts)
    _print_steps(steps)
    for line in lines:
        make_console().print(cell(f"{line.logged_at:%H:%M:%S} {line.level} {line.message}"))


@jobs.command()
@click.argument("job_id", type=UUID)
@workspace_option
@click.option("--from-start", is_flag=True, help="Forget the steps and the checkpoint that it has saved.")
def retry(job_id: UUID, workspace: str, from_start: bool) -> None:
    """Make a failed or cancelled job pending again. It goes on after the steps that are done."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        answer = retry_job(session, workspace_id, job_id, from_start=from_start)
        if answer.kind is RetryKind.RETRIED:
            told = {"fromStart": True} if from_start else {}
            audit(session, "job.retry", f"job:{job_id}", workspace_id, **told)
    _answer(job_id, RETRY_ANSWERS[answer.kind], fine=answer.kind is RetryKind.RETRIED)


@jobs.command()
@click.argument("job_id", type=UUID)
@workspace_option
def cancel(job_id: UUID, workspace: str) -> None:
    """Cancel a job: at once while it waits, through its worker while it runs."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        answer = cancel_job(session, workspace_id, job_id)
        if answer in (CancelAnswer.CANCELLED, CancelAnswer.REQUESTED):
            audit(session, "job.cancel", f"job:{job_id}", workspace_id, answer=answer.value)
    _answer(job_id, CANCEL_ANSWERS[answer], fine=answer in (CancelAnswer.CANCELLED, CancelAnswer.REQUESTED))


def _answer(job_id: UUID, sentence: str, *, fine: bool) -> None:
    if not fine:
        raise click.ClickException(f"{job_id} {sentence}")
    click.echo(f"{job_id} {sentence}")


def _list_everywhere(
    session: Session,
    workspace: str | None,
    status: str | None,
    task: str | None,
    queue: str | None,
    running_for: float | None,
    limit: int,
) -> Sequence[Job]:
    """For whoever runs the platform. No index serves the whole house in this order; it is a look, not a hot path."""
    statement = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    if workspace:
        statement = statement.where(Job.workspace_id == find_workspace(session, workspace))
    if running_for is not None:
        longest = datetime.timedelta(minutes=running_for)
        statement = statement.where(Job.status == Status.RUNNING, Job.started_at < clock() - longest)
    chosen = {Job.status: status, Job.job_type: task, Job.queue: queue}
    for column, value in chosen.items():
        if value is not None:
            statement = statement.where(column == value)
    return session.scalars(statement).all()


def _log_lines(session: Session, workspace_id: UUID, job_id: UUID) -> Sequence[JobLog]:
    return session.scalars(
        select(JobLog)
        .where(JobLog.workspace_id == workspace_id, JobLog.job_id == job_id)
        .order_by(JobLog.epoch, JobLog.line)
    ).all()


def _as_dict(row: Job | JobAttempt | JobStep) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in type(row).__table__.columns}


def _print_jobs(found: Sequence[Job]) -> None:
    columns = ["id", "workspace", "task", "status", "attempts", "progress", "created", "error"]
    print_table(
        columns,
        [
            (job.id, job.workspace_id, job.job_type, job.status, f"{job.attempts}/{job.max_attempts}",
             _progress(job), job.created_at, (job.error or "")[:80])
            for job in found
        ],
    )  # fmt: skip


def _progress(job: Job) -> str:
    report = job.progress or {}
    if report.get("current") is None:
        return ""
    return f"{report['current']}" if report.get("total") is None else f"{report['current']}/{report['total']}"


def _print_attempts(attempts: Sequence[JobAttempt]) -> None:
    if not attempts:
        return
    columns = ["attempt", "worker", "ended", "outcome", "error"]
    rows = [
        (row.attempt, row.worker_id, row.ended_at, row.outcome, f"{row.error_type}: {row.error}") for row in attempts
    ]
    print_table(columns, rows, title="\nattempts that did not succeed")
    last = attempts[-1].traceback
    for line in (last or "").splitlines():
        make_console().print(cell(line))


def _print_steps(steps: Sequence[JobStep]) -> None:
    if steps:
        rows = [
            (step.name or "(checkpoint)", step.epoch, step.saved_at, json.dumps(step.value)[:SHOWN_OF_A_VALUE])
            for step in steps
        ]
        print_table(["step", "epoch", "saved", "result"], rows, title="\nsteps that are done")
