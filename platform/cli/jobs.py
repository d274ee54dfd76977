"""``jobplatform jobs``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.cli.acting_on_jobs import cancel, change, retry, run_now
from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import find_workspace, find_workspace_of, of_a_job_option, open_session
from jobplatform.cli.fork import fork
from jobplatform.cli.replay import replay
from jobplatform.cli.show import as_json_option, cell, make_console, plain, print_json, print_table
from jobplatform.cli.watch import watch
from jobplatform.cli.why import why
from jobplatform.models import Job, JobAttempt, JobLog, JobStep, Status, clock
from jobplatform.queue import (
    failed_jobs,
    find_jobs,
    get_job,
    list_attempts,
    list_jobs,
    list_steps,
    parse_search,
    places_of_workers,
    reveal,
)

#: Of a step's result more bytes than this are not shown.
LARGEST_SHOWN = 4096
#: And so many characters in a table.
SHOWN_OF_A_VALUE = 200


@click.group()
def jobs() -> None:
    """List, show, watch, change, retry, fork, replay and cancel jobs; say why one waits."""


for command in (why, watch, replay, retry, fork, run_now, change, cancel):
    jobs.add_command(command)


@jobs.command()
@click.option("-w", "--workspace", help="By id or name. Default: all workspaces.")
@click.option("-s", "--status", type=click.Choice([status.value for status in Status]), help="Only those of a status.")
@click.option("-t", "--task", help="Only those of one task.")
@click.option("-Q", "--queue", help="Only those of one queue.")
@click.option(
    "--running-for",
    type=Duration(0, alone="m"),
    help="Only those running for longer than this, as in 15m or 2h; a number alone is of minutes.",
)
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@as_json_option
def ls(
    workspace: str | None,
    status: str | None,
    task: str | None,
    queue: str | None,
    running_for: datetime.timedelta | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    with open_session() as session:
        if workspace is not None and running_for is None:
            workspace_id = find_workspace(session, workspace)
            chosen = Status(status) if status else None
            found = list_jobs(session, workspace_id, status=chosen, task=task, queue=queue, limit=limit)
        else:
            found = _list_everywhere(session, workspace, status, task, queue, running_for, limit)
        reveal(session, found, to_reader=False)
    if as_json:
        print_json(plain(found))
    else:
        _print_jobs(found)


@jobs.command()
@click.argument("search")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--before", help="What the page before this one said is next.")
@as_json_option
def find(search: str, limit: int, before: str | None, as_json: bool) -> None:
    """Find jobs of all workspaces, newest first, by a search such as "task:sync status:failed tag:eu"."""
    with open_session() as session:
        page = find_jobs(session, parse_search(search), limit=limit, before=before)
    if as_json:
        print_json(plain(page))
        return
    columns = ["id", "workspace", "task", "queue", "status", "attempts", "created", "error"]
    print_table(
        columns,
        [
            (job.id, job.workspace_id, job.task, job.queue, job.status, f"{job.attempts}/{job.max_attempts}",
             job.created_at, (job.error or "")[:80])
            for job in page.jobs
        ],
    )  # fmt: skip
    if page.next is not None:
        back = page.looked_back_to
        how_far = "" if back is None else f"looked back to {back:%Y-%m-%d %H:%M} (UTC); "
        click.echo(f"{how_far}go on with --before {page.next}")


@jobs.command()
@click.argument("job_id", type=click.UUID)
@of_a_job_option
@as_json_option
def show(job_id: UUID, workspace: str | None, as_json: bool) -> None:
    """Show a job: its facts, every attempt's error, the steps that are done and its log lines."""
    with open_session() as session:
        workspace_id = find_workspace_of(session, job_id, workspace)
        job = get_job(session, workspace_id, job_id)
        if job is None:
            raise click.ClickException(f"{job_id} is not a job of this workspace")
        attempts = list_attempts(session, workspace_id, job_id)
        steps = list_steps(session, workspace_id, job_id, largest=LARGEST_SHOWN)
        lines = _log_lines(session, workspace_id, job_id)
        places = places_of_workers(session, [job.last_worker_id, *(attempt.worker_id for attempt in attempts)])
        # Whoever has the key ring in the environment may read everything anyway.
        reveal(session, [job])
        reveal(session, attempts)
        reveal(session, steps)
        reveal(session, lines)
    if as_json:
        told = {"attemptsThatFailed": [_with_place(attempt, attempt.worker_id, places) for attempt in attempts]}
        print_json({**_with_place(job, job.last_worker_id, places), **told, "steps": plain(steps), "log": plain(lines)})
        return
    facts = {**_as_dict(job), "worker": places.get(job.last_worker_id or 0)}
    print_table(["", ""], [(name, value) for name, value in facts.items() if value is not None])
    _print_attempts(attempts, places)
    _print_steps(steps)
    for line in lines:
        make_console().print(cell(f"{line.logged_at:%H:%M:%S} {line.level} {line.message}"))


@jobs.command()
@click.option("-w", "--workspace", help="By id or name. Default: all workspaces.")
@click.option("-t", "--task", help="Only those of one task.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@as_json_option
def failed(workspace: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """List the jobs that failed, newest failure first."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        found = failed_jobs(session, workspace_id, task=task, limit=limit).jobs
        reveal(session, found, to_reader=False)
    if as_json:
        print_json(plain(found))
    else:
        _print_jobs(found)


def _list_everywhere(
    session: Session,
    workspace: str | None,
    status: str | None,
    task: str | None,
    queue: str | None,
    running_for: datetime.timedelta | None,
    limit: int,
) -> Sequence[Job]:
    """For whoever runs the platform. No index serves the whole house in this order; it is a look, not a hot path."""
    statement = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    if workspace is not None:
        statement = statement.where(Job.workspace_id == find_workspace(session, workspace))
    if running_for is not None:
        statement = statement.where(Job.status == Status.RUNNING, Job.started_at < clock() - running_for)
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


def _with_place(row: Job | JobAttempt, worker_id: int | None, places: Mapping[int, str]) -> dict[str, Any]:
    """As the API has it: the worker of the last attempt too."""
    return {**plain(row), "workerId": worker_id, "worker": places.get(worker_id or 0)}


def _print_attempts(attempts: Sequence[JobAttempt], places: Mapping[int, str]) -> None:
    if not attempts:
        return
    columns = ["attempt", "worker", "ended", "outcome", "error"]
    rows = [
        (row.attempt, places.get(row.worker_id or 0) or row.worker_id, row.ended_at, row.outcome,
         f"{row.error_type}: {row.error}")
        for row in attempts
    ]  # fmt: skip
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
