"""Watching one job until it is done, with a progress bar for people and plain lines for logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.orm import Session

from jobplatform.logs import escape_controls
from jobplatform.models import FINAL_STATUSES, Job
from jobplatform.queue import get_job

POLL_SECONDS = 0.25

Report = Callable[[str, Mapping[str, Any] | None], None]


def watch_job(session: Session, workspace_id: UUID, job_id: UUID, report: Report) -> Job | None:
    """Look at a job until its status is final; None when it was deleted meanwhile."""
    while True:
        session.expire_all()
        job = get_job(session, workspace_id, job_id)
        # No transaction is left open between two looks: it would hold back the database's vacuum.
        session.commit()
        if job is None:
            return None
        report(job.status, job.progress)
        if job.status in FINAL_STATUSES.values():
            return job
        time.sleep(POLL_SECONDS)


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """Gives a function that takes a job's status and its progress report, as often as one likes."""
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("pending", total=None, message="")
            yield lambda status, progress: bar.update(task, **_bar_values(status, progress))
    else:
        yield _Lines(console.file)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}", style="cyan", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        TimeElapsedColumn(),
        console=console,
    )


def _bar_values(status: str, progress: Mapping[str, Any] | None) -> dict[str, Any]:
    report = progress or {}
    message = escape_controls(str(report.get("message") or ""))
    return {
        "description": status,
        "completed": report.get("current") or 0,
        "total": report.get("total"),
        "message": message,
    }


class _Lines:
    """A line whenever something changed."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.last = ""

    def __call__(self, status: str, progress: Mapping[str, Any] | None) -> None:
        values = _bar_values(status, progress)
        of = f" of {values['total']}" if values["total"] is not None else ""
        line = f"  {status}: {values['completed']}{of} {values['message']}".rstrip()
        if line != self.last:
            click.echo(line, file=self.file)
            self.last = line
