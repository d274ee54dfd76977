"""``jobplatform enqueue``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import Duration, Moment
from jobplatform.cli.beginning import parse_payload
from jobplatform.cli.database import find_workspace, known_tasks, open_session
from jobplatform.cli.show import as_json_option, print_json
from jobplatform.cli.waiting import show_progress, watch_job
from jobplatform.models import Job, Status
from jobplatform.queue import Enqueued, IfActive, get_job, reveal

#: What is said here, as the queue takes it; who is to refuse looks at the answer.
ON_CONFLICT: Mapping[str | None, IfActive] = {"return": "return", "refuse": "return", "replace": "replace"}


@click.command()
@click.argument("task")
@click.option("-w", "--workspace", required=True, help="By id or name.")
@click.option("-p", "--payload", default="{}", show_default=True, help="A JSON object.")
@click.option("--priority", type=int, help="Higher first.")
@click.option("--run-after", type=Moment(), help="Not before, as in 2026-01-05T12:00:00Z.")
@click.option("--delay", type=Duration(0), help="So long from now, as in 90s or 1h.")
@click.option(
    "--longest-delay",
    type=Duration(0),
    help="With --if-active replace and --delay: for so long after the first request further ones can put it off.",
)
@click.option(
    "--start-within",
    type=Duration(),
    help="Such as 90s or 2h, from when it is due: one that has not begun by then is never started. "
    "Default: as the task says.",
)
@click.option("--max-attempts", type=int, help="Counting the first. Default: as the task says.")
@click.option("--timeout", type=Duration(), help="Of each attempt, as in 90s or 2h. Default: as the task says.")
@click.option("--queue", help="Default: the task's own.")
@click.option("--unique-key", help="Of this key there is one unfinished job at a time. Default: as the task says.")
@click.option(
    "--unique-for",
    type=Duration(),
    help="For so long after the last one was made its key has no other job, also when that has completed. "
    "Default: as the task says.",
)
@click.option(
    "--if-active",
    type=click.Choice(["return", "refuse", "replace"]),
    help="When an unfinished job holds the uniqueness guard: say which, refuse with exit code 1, or replace what waits "
    "by this one. Default: as the task says.",
)
@click.option("--parent", type=click.UUID, help="The job that asks for this one.")
@click.option("--wait", is_flag=True, help="Watch it until it is done; exit code 1 when it did not complete.")
@as_json_option
def enqueue(
    task: str,
    workspace: str,
    payload: str,
    if_active: str | None,
    parent: UUID | None,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Enqueue a job of TASK. Says so when there is one of its key, which is unfinished or too recent."""
    known = known_tasks()
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        if parent is not None and get_job(session, workspace_id, parent) is None:
            raise click.ClickException(f"{parent} is not a job of this workspace")
        wanted, value = known.offered(task), parse_payload(payload)
        job = wanted.new_job(value, workspace_id=workspace_id, if_active=ON_CONFLICT.get(if_active), **options)
        answer = known.enqueue(session, dataclasses.replace(job, parent_id=parent))
        if if_active == "refuse" and not answer.created:
            raise click.ClickException(refusal(answer))
        facts = {"created": answer.created, **({"replaced": True} if answer.replaced else {})}
        audit(session, "job.enqueue", f"job:{answer.job_id}", workspace_id, **facts)
        # A worker, and the inline run of synchronous mode, see the job from here on.
        session.commit()
        made = _wait(session, workspace_id, answer.job_id) if wait else get_job(session, workspace_id, answer.job_id)
        reveal(session, [made] if made else [])
    _tell(answer, made, as_json=as_json)
    if wait and (made is None or made.status != Status.COMPLETED):
        raise SystemExit(1)


def _wait(session: Session, workspace_id: UUID, job_id: UUID) -> Job | None:
    with show_progress(Console(stderr=True)) as report:
        return watch_job(session, workspace_id, job_id, report)


def _tell(answer: Enqueued, job: Job | None, *, as_json: bool) -> None:
    status = job.status if job else "deleted"
    if as_json:
        what = {"jobId": answer.job_id, "created": answer.created, "replaced": answer.replaced}
        until = {} if answer.unique_until is None else {"uniqueUntil": answer.unique_until}
        error = {"type": job.error_type, "message": job.error} if job and job.error else None
        print_json({**what, **until, "status": status, "result": job.result if job else None, "error": error})
        return
    click.echo(f"{answer.job_id} {status}{_words(answer)}")
    if job is not None and job.error:
        click.echo(f"{job.error_type}: {job.error}", err=True)
    if job is not None and job.result is not None:
        print_json(job.result)


def _words(answer: Enqueued) -> str:
    if answer.replaced:
        return " (it waited, and is what you asked for now)"
    if answer.unique_until is not None:
        return f" (the last one of its key; there is no other for {answer.retry_after} s)"
    return "" if answer.created else " (an unfinished job holds the guard already: this one)"


def refusal(answer: Enqueued) -> str:
    """Why no job was made."""
    if answer.unique_until is None:
        return f"the unfinished job {answer.job_id} holds the uniqueness guard"
    return f"there is no other job of its key after {answer.job_id} for {answer.retry_after} s"
