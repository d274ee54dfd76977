"""``jobplatform enqueue``."""

from __future__ import annotations

import datetime
import json
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.database import find_workspace, known_tasks, open_session
from jobplatform.cli.show import as_json_option, print_json
from jobplatform.cli.waiting import show_progress, watch_job
from jobplatform.models import Job, Status
from jobplatform.queue import get_job, reveal


@click.command()
@click.argument("task")
@click.option("-w", "--workspace", required=True, help="By id or name.")
@click.option("-p", "--payload", default="{}", show_default=True, help="A JSON object.")
@click.option("--priority", type=int, help="Higher first.")
@click.option("--delay", type=click.FloatRange(min=0), help="Seconds from now.")
@click.option("--queue", help="Default: the task's own.")
@click.option("--wait", is_flag=True, help="Watch it until it is done; exit code 1 when it did not complete.")
@as_json_option
def enqueue(
    task: str,
    workspace: str,
    payload: str,
    priority: int | None,
    delay: float | None,
    queue: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Enqueue a job of TASK. Says so when an unfinished job holds its uniqueness guard already."""
    wanted = known_tasks()[task]
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        after = None if delay is None else datetime.timedelta(seconds=delay)
        answer = wanted.enqueue(
            session, _parse(payload), workspace_id=workspace_id, priority=priority, delay=after, queue=queue
        )
        audit(session, "job.enqueue", f"job:{answer.job_id}", workspace_id, created=answer.created)
        # A worker, and the inline run of synchronous mode, see the job from here on.
        session.commit()
        job = _wait(session, workspace_id, answer.job_id) if wait else get_job(session, workspace_id, answer.job_id)
        reveal(session, [job] if job else [])
    _tell(answer.job_id, answer.created, job, as_json=as_json)
    if wait and (job is None or job.status != Status.COMPLETED):
        raise SystemExit(1)


def _parse(payload: str) -> Any:
    try:
        return json.loads(payload)
    except ValueError as error:
        raise click.BadParameter(f"the payload is not JSON: {error}") from error


def _wait(session: Session, workspace_id: UUID, job_id: UUID) -> Job | None:
    with show_progress(Console(stderr=True)) as report:
        return watch_job(session, workspace_id, job_id, report)


def _tell(job_id: UUID, created: bool, job: Job | None, *, as_json: bool) -> None:
    status = job.status if job else "deleted"
    if as_json:
        result = job.result if job else None
        print_json({"jobId": job_id, "created": created, "status": status, "result": result})
        return
    click.echo(f"{job_id} {status}" + ("" if created else " (an unfinished job holds the guard already: this one)"))
    if job is not None and job.error:
        click.echo(f"{job.error_type}: {job.error}", err=True)
    if job is not None and job.result is not None:
        print_json(job.result)
