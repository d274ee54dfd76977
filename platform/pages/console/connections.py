"""Connections to sources, and what their syncs brought."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, redirect, request

from jobplatform.pages.acting import done
from jobplatform.pages.console.hooks import add_hooks_to
from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.schedules import read_pair, write_pair
from jobplatform.pages.console.whose import asked_workspace
from jobplatform.pages.notices import notify
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import pages

PER_PAGE = 50


def make_connections() -> Section:
    section = Section("connections", __name__)
    section.page("/connections")(list_connections)
    section.page("/connections/syncs")(list_syncs)
    section.action("/connections/<uuid:workspace_id>/<uuid:connection_id>/sync", "sync.start")(start_sync)
    add_hooks_to(section)
    return section


def list_connections() -> Response:
    after, whose = read_pair(request.args.get("after")), asked_workspace()
    with looking() as session:
        found = pages.connection_lines(session, workspace_id=whose, limit=PER_PAGE, after=after)
        names = workspace_names(session, [whose, *(line.workspace_id for line in found.lines)])
    return render("connections.html", found=found, names=names, after=after, whose=whose, next=write_pair(found.next))


def list_syncs() -> Response:
    before, whose = read_pair(request.args.get("before")), asked_workspace()
    with looking() as session:
        found = pages.sync_lines(session, workspace_id=whose, limit=PER_PAGE, before=before)
        names = workspace_names(session, [whose, *(line.workspace_id for line in found.lines)])
    return render("syncs.html", found=found, names=names, before=before, whose=whose, next=write_pair(found.next))


def start_sync(workspace_id: UUID, connection_id: UUID) -> Any:
    """To its job; while another sync of the connection is under way, to that one's."""
    answer = ask("POST", f"/workspaces/{workspace_id}/sync", {"connectionId": str(connection_id)})
    is_taken = answer.status == 409 and "jobId" in answer.body
    if not (answer.ok or is_taken):
        return done(answer, "")
    job_id = answer.body["jobId"]
    response = redirect(url("job.show_job", workspace_id=workspace_id, job_id=job_id), 303)
    words = "Such a sync is under way already: this one." if is_taken else "The sync is enqueued."
    notify(response, words, "refused" if is_taken else "done")
    return response
