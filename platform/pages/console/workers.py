"""Workers: where they are, what they serve and run, whether they are heard of, and draining one."""

from __future__ import annotations

from typing import Any

from flask import Response

from jobplatform.pages.acting import done
from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import SILENT_AFTER, pages


def make_workers() -> Section:
    section = Section("workers", __name__)
    section.page("/workers")(list_workers)
    section.action("/workers/<int:worker_id>/drain", "worker.drain")(drain)
    return section


def list_workers() -> Response:
    with looking() as session:
        lines = pages.worker_lines(session)
        names = workspace_names(session, (job.workspace_id for line in lines for job in line.jobs))
    return render("workers.html", lines=lines, names=names, silent_after=SILENT_AFTER.total_seconds())


def drain(worker_id: int) -> Any:
    answer = ask("POST", f"/operator/workers/{worker_id}/drain")
    return done(answer, "It takes nothing new, finishes what it runs, and stops.")
