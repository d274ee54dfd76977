"""Errors: failures of the same kind as one line, and "retry all of these"."""

from __future__ import annotations

import datetime

from flask import Response, request

from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, looking
from jobplatform.queue import pages

WITHIN = {
    "24h": ("Day", datetime.timedelta(days=1)),
    "7d": ("Week", datetime.timedelta(days=7)),
    "30d": ("Month", datetime.timedelta(days=30)),
}
LATEST = 20


def make_errors() -> Section:
    section = Section("errors", __name__)
    section.page("/errors")(list_errors)
    section.page("/errors/<fingerprint>")(show_error)
    return section


def list_errors() -> Response:
    within = request.args.get("within", "7d")
    within = within if within in WITHIN else "7d"
    task, before = request.args.get("task", "").strip(), request.args.get("before")
    with looking() as session:
        found = pages.error_groups(session, task=task or None, within=WITHIN[within][1], limit=50, before=before)
    spans = [(name, label) for name, (label, _) in WITHIN.items()]
    return render("errors.html", found=found, within=within, spans=spans, task=task, before=before)


def show_error(fingerprint: str) -> Response:
    with looking() as session:
        group = pages.error_group(session, fingerprint)
        if group is None:
            raise nothing_here()
        search = pages.parse_search(group.search)
        latest = pages.find_jobs(session, search, limit=LATEST)
        names = workspace_names(session, (job.workspace_id for job in latest.jobs))
        sample = pages.job_detail(session, group.last_workspace_id, group.last_job_id, lines=0)
    tries = [one for one in (sample.tries if sample else ()) if one.traceback]
    return render(
        "error_group.html",
        group=group,
        q=search.text,
        latest=latest.jobs,
        names=names,
        traceback=tries[-1].traceback if tries else None,
    )
