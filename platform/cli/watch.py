"""``jobplatform jobs watch``: one job to its end, or a workspace's jobs as they come and go."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from uuid import UUID

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy.orm import Session

from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import find_workspace, find_workspace_of, open_session
from jobplatform.cli.show import as_json_option, cell, make_console, plain, print_json
from jobplatform.cli.waiting import show_progress, watch_job
from jobplatform.models import Job, Status
from jobplatform.queue import list_jobs, queue_stats, reveal

COLUMNS = ("id", "task", "status", "attempts", "progress", "message", "created")


@click.command()
@click.argument("job_id", type=click.UUID, required=False)
@click.option("-w", "--workspace", help="By id or name. Default for one job: the one that has it.")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Rows of the table.")
@click.option("--every", type=Duration(0.1, 60), default="1s", show_default=True, help="So long between looks.")
@click.option("--times", type=click.IntRange(1), hidden=True, help="End after so many looks.")
@as_json_option
def watch(
    job_id: UUID | None, workspace: str | None, limit: int, every: datetime.timedelta, times: int | None, as_json: bool
) -> None:
    """Watch a job until it has ended (exit code 1 unless it completed); without one, a workspace until Ctrl-C."""
    with open_session() as session:
        if job_id is not None:
            _watch_one(session, find_workspace_of(session, job_id, workspace), job_id, as_json=as_json)
        elif workspace is None:
            raise click.UsageError("say what to watch: JOB_ID, or -w WORKSPACE for all of its jobs")
        elif as_json:
            raise click.UsageError("--json watches one job; for a list, see `jobplatform jobs ls --json`")
        else:
            _watch_all(session, find_workspace(session, workspace), limit, every, times)


def _watch_one(session: Session, workspace_id: UUID, job_id: UUID, *, as_json: bool) -> None:
    with show_progress(Console(stderr=True)) as report:
        job = watch_job(session, workspace_id, job_id, report)
    if job is None:
        raise click.ClickException(f"{job_id} is not a job of this workspace")
    reveal(session, [job])
    if as_json:
        print_json(plain(job))
    else:
        click.echo(f"{job_id} {job.status}" + (f": {job.error_type}: {job.error}" if job.error else ""))
    if job.status != Status.COMPLETED:
        raise SystemExit(1)


def _watch_all(session: Session, workspace_id: UUID, limit: int, every: datetime.timedelta, times: int | None) -> None:
    """Each look is a transaction of its own: one that stays open would hold back vacuum."""
    console = make_console()
    looks = 0
    try:
        with Live(console=console, auto_refresh=False) as live:
            while times is None or looks < times:
                time.sleep(every.total_seconds() if looks else 0)
                live.update(_table(session, workspace_id, limit), refresh=True)
                session.commit()
                looks += 1
    except KeyboardInterrupt:
        session.rollback()


def _table(session: Session, workspace_id: UUID, limit: int) -> Table:
    found = list_jobs(session, workspace_id, limit=limit)
    reveal(session, found, to_reader=False)
    counts = queue_stats(session, workspace_id).by_status
    title = ", ".join(f"{count} {status}" for status, count in counts.items()) + " (what ended: in the last hour)"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=column == "id")
    for row in _rows(found):
        table.add_row(*[cell(value) for value in row])
    return table


def _rows(found: Sequence[Job]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for job in found:
        report = job.progress or {}
        current, total = report.get("current"), report.get("total")
        done = "" if current is None else f"{current}/{total}" if total is not None else str(current)
        message = report.get("message") or (job.error or "")[:80]
        attempts = f"{job.attempts}/{job.max_attempts}"
        rows.append((job.id, job.job_type, job.status, attempts, done, message, job.created_at))
    return rows
