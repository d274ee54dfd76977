"""``jobplatform health`` and ``jobplatform healthcheck``.

Health answers the three questions that bring people here: is something stuck in running, does too much fail, is
anything processed at all. Each comes with the jobs it is about and the command that goes on from there.
"""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import click
import httpx
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.migrations import check
from jobplatform.models import Job, JobAttempt, Schedule, Status, WebhookSubscription, WorkerRow, clock
from jobplatform.queue import CLOSED_TEXT, PLATFORM, Health, lease_seconds, list_rules, queue_health

MOST_ROWS = 10


@click.command()
@click.option("-w", "--workspace", help="Only this workspace, by id or name.")
@as_json_option
def health(workspace: str | None, as_json: bool) -> None:
    """Is work being done? What is stuck, what fails, and what to do. Exit code 1 when something is wrong."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        state = queue_health(session, workspace_id)
        if as_json:
            print_json({"healthy": state.healthy, **plain(state), "pending": state.pending})
        else:
            _print_state(state)
            _explain(session, state, workspace_id)
    if not state.healthy:
        raise SystemExit(1)


@click.command()
@click.option("--worker", is_flag=True, help="Also ask for a live worker on this host.")
@click.option("--api", "api_url", help="Ask this API's /readyz instead of the database.")
@as_json_option
def healthcheck(worker: bool, api_url: str | None, as_json: bool) -> None:
    """A probe for containers: is the database there with the right schema? Exit code 0 or 1."""
    if api_url:
        _check_api(api_url)
    else:
        with open_session(role=None) as session:
            check(session.get_bind().engine)
            if worker and not _worker_lives_here(session):
                raise click.ClickException(f"no worker on {socket.gethostname()} has a fresh heartbeat")
    tell(as_json, "ok", ok=True)


def _check_api(url: str) -> None:
    try:
        answer = httpx.get(url.rstrip("/") + "/readyz", timeout=5, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.ClickException(f"{url} does not answer: {error}") from error
    if answer.status_code != 200:
        raise click.ClickException(f"{url} is not ready (HTTP {answer.status_code}): {answer.text[:500]}")


def _lease() -> datetime.timedelta:
    return datetime.timedelta(seconds=lease_seconds())


def _worker_lives_here(session: Session) -> bool:
    here = WorkerRow.host == socket.gethostname()
    fresh = WorkerRow.dead_at.is_(None) & (WorkerRow.heartbeat_at >= clock() - _lease())
    return session.scalar(select(func.count()).select_from(WorkerRow).where(here, fresh)) != 0


def _print_state(state: Health) -> None:
    oldest = "–" if state.oldest_ready_seconds is None else f"{state.oldest_ready_seconds:.0f} s"
    print_table(
        ["", ""],
        [
            ("live workers", _workers(state)),
            ("running", state.running),
            ("ready", state.ready),
            ("waits longest for", oldest),
            ("scheduled for later", state.scheduled),
            ("waiting for other jobs", state.blocked),
            ("completed in the last hour", state.completed_last_hour),
            ("failed in the last hour", state.failed_last_hour),
        ],
    )


def _workers(state: Health) -> str:
    polling = max(0, state.workers - state.listening)
    return f"{state.workers}, of which {polling} only poll" if polling else str(state.workers)


def _explain(session: Session, state: Health, workspace_id: UUID | None) -> None:
    if state.healthy:
        click.secho("\nhealthy: nothing is stuck, nothing fails too often, and ready jobs are being taken", fg="green")
    for alert in state.alerts:
        click.secho(f"\n{alert.code}: {alert.message}", fg="red", bold=True)
        EXPLANATIONS.get(alert.code, _explain_rule)(session, workspace_id)


def _explain_stuck(session: Session, workspace_id: UUID | None) -> None:
    longer_than = datetime.timedelta(seconds=list_rules(session)["stuck"].above)
    click.echo(
        "A dead worker's jobs are taken back by any other within its lease and a sweep. Where one lives, these are\n"
        "still being worked on: slow, or waiting for something. Each is stopped when its timeout is over."
    )
    longest = Job.started_at < clock() - longer_than
    statement = select(Job).where(Job.status == Status.RUNNING, longest).order_by(Job.started_at).limit(MOST_ROWS)
    found = session.scalars(_of_workspace(statement, Job.workspace_id, workspace_id)).all()
    print_table(
        ["id", "workspace", "task", "worker", "started", "timeout (s)"],
        [(j.id, j.workspace_id, j.job_type, j.worker_id, j.started_at, j.timeout_ms // 1000) for j in found],
    )
    minutes = longer_than.total_seconds() / 60
    _go_on(f"jobplatform jobs ls --running-for {minutes:g}", "jobplatform jobs cancel ID -w WORKSPACE")


def _explain_failing(session: Session, workspace_id: UUID | None) -> None:
    click.echo(
        "The errors of the last hour, most frequent first. Refused credentials: renew them. Timeouts: raise the\n"
        "task's timeout or do less in a job. Rate limits: let the source's Retry-After be honoured."
    )
    print_table(["times", "task", "outcome", "error"], _errors_of_the_hour(session, workspace_id))
    _go_on(
        "jobplatform jobs failed",
        "jobplatform jobs show ID -w WORKSPACE    (every attempt, with traceback)",
        "jobplatform jobs retry ID -w WORKSPACE   (once the cause is gone)",
        "jobplatform jobs retry --status failed --since 1h --dry-run   (many at once)",
    )


def _errors_of_the_hour(session: Session, workspace_id: UUID | None) -> Sequence[Any]:
    message = case((JobAttempt.error.startswith('{"$sealed"'), CLOSED_TEXT), else_=JobAttempt.error)
    error = func.left(func.concat(JobAttempt.error_type, ": ", message), 100)
    times = func.count()
    same_job = (Job.workspace_id == JobAttempt.workspace_id) & (Job.id == JobAttempt.job_id)
    statement = (
        select(times, Job.job_type, JobAttempt.outcome, error)
        .join(Job, same_job)
        .where(JobAttempt.ended_at > clock() - datetime.timedelta(hours=1))
        .group_by(Job.job_type, JobAttempt.outcome, error)
        .order_by(times.desc())
        .limit(MOST_ROWS)
    )
    return session.execute(_of_workspace(statement, JobAttempt.workspace_id, workspace_id)).all()


def _explain_not_processing(session: Session, workspace_id: UUID | None) -> None:
    now = clock()
    alive = WorkerRow.dead_at.is_(None) & (WorkerRow.heartbeat_at >= now - _lease())
    rows = session.scalars(select(WorkerRow).where(alive).order_by(WorkerRow.id)).all()
    print_table(
        ["live worker", "host", "slots", "queues", "tasks", "draining"],
        [(w.name, w.host, w.slots, " ".join(w.queues), " ".join(w.tasks), w.draining) for w in rows],
    )
    ready = (
        select(Job.queue, Job.job_type, func.count(), func.min(Job.run_after))
        .where(Job.status == Status.PENDING, Job.run_after <= now)
        .group_by(Job.queue, Job.job_type)
        .order_by(func.count().desc())
        .limit(MOST_ROWS)
    )
    waiting = session.execute(_of_workspace(ready, Job.workspace_id, workspace_id)).all()
    print_table(["queue", "task", "ready", "since"], waiting)
    _go_on("jobplatform worker                       (in an environment where JOBPLATFORM_TASKS names the task)",
           "jobplatform worker -c 16 -Q QUEUE        (more slots, or a queue nobody serves)")  # fmt: skip


def _explain_no_key(session: Session, workspace_id: UUID | None) -> None:
    click.echo(
        "A worker claimed these, had no master key that opens them, and handed them back; they lose no attempt.\n"
        "They run as soon as a worker has the key: give every process the same JOBPLATFORM_ENCRYPTION_KEYS."
    )
    waits = Job.progress["waitsFor"].astext == "key"
    statement = select(Job).where(Job.status == Status.PENDING, waits).order_by(Job.run_after).limit(MOST_ROWS)
    found = session.scalars(_of_workspace(statement, Job.workspace_id, workspace_id)).all()
    print_table(
        ["id", "workspace", "task", "next look", "why"],
        [(j.id, j.workspace_id, j.job_type, j.run_after, (j.progress or {}).get("message")) for j in found],
    )
    _go_on("jobplatform keys ls                       (which master keys are in use, and which are here)")


def _explain_rule(_session: Session, _workspace_id: UUID | None) -> None:
    click.echo("A rule of your own: its threshold can be changed while everything runs.")
    _go_on("jobplatform stats", "jobplatform alerts rules")


def _explain_overdue(session: Session, workspace_id: UUID | None) -> None:
    click.echo("Every worker does what is due of the tasks that it knows. What nobody knows waits, and is not lost.")
    statement = select(Schedule).where(Schedule.next_run_at < clock()).order_by(Schedule.next_run_at).limit(MOST_ROWS)
    found = session.scalars(_of_workspace(statement, Schedule.workspace_id, workspace_id)).all()
    print_table(["id", "workspace", "name", "task", "due since"], [
        (one.id, one.workspace_id, one.name, one.task, one.next_run_at) for one in found
    ])  # fmt: skip
    _go_on("jobplatform worker                       (in an environment where JOBPLATFORM_TASKS names the task)",
           "jobplatform schedules pause SCHEDULE     (when it is not to run for now)")  # fmt: skip


def _explain_given_up(session: Session, workspace_id: UUID | None) -> None:
    click.echo("A receiver that answers 410 is gone; one that has taken nothing for five days is not asked any more.")
    statement = select(WebhookSubscription).where(WebhookSubscription.disabled_by == PLATFORM).limit(MOST_ROWS)
    statement = statement.order_by(WebhookSubscription.disabled_at.desc())
    found = session.scalars(_of_workspace(statement, WebhookSubscription.workspace_id, workspace_id)).all()
    print_table(["id", "workspace", "name", "why", "since"], [
        (one.id, one.workspace_id, one.name, one.disabled_why, one.disabled_at) for one in found
    ])  # fmt: skip
    _go_on("jobplatform webhooks show WEBHOOK -w WORKSPACE", "jobplatform webhooks enable WEBHOOK -w WORKSPACE")


EXPLANATIONS: dict[str, Callable[[Session, UUID | None], None]] = {
    "stuck": _explain_stuck,
    "failing": _explain_failing,
    "backlog": _explain_not_processing,
    "no_worker": _explain_not_processing,
    "unserved": _explain_not_processing,
    "no_key": _explain_no_key,
    "overdue_schedules": _explain_overdue,
    "webhooks_disabled": _explain_given_up,
}


def _of_workspace(statement: Any, column: Any, workspace_id: UUID | None) -> Any:
    return statement if workspace_id is None else statement.where(column == workspace_id)


def _go_on(*commands: str) -> None:
    click.echo("go on with:")
    for command in commands:
        click.secho(f"  {command}", fg="cyan")
