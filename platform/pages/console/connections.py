"""Connections to sources, and what their syncs brought."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, redirect

from jobplatform.connectors import attention_of
from jobplatform.pages.acting import done
from jobplatform.pages.console.connecting import show_list
from jobplatform.pages.console.hooks import add_hooks_to
from jobplatform.pages.notices import notify
from jobplatform.pages.shell import Section, ask, url
from jobplatform.queue import pages


def make_connections() -> Section:
    section = Section("connections", __name__)
    section.page("/connections")(list_connections)
    section.page("/connections/syncs")(list_syncs)
    section.action("/connections/<uuid:workspace_id>/<uuid:connection_id>/sync", "sync.start")(start_sync)
    add_hooks_to(section)
    return section


def list_connections() -> Response:
    return show_list("connections.html", pages.connection_lines, attention_of=attention_of)


def list_syncs() -> Response:
    return show_list("syncs.html", pages.sync_lines, "before")


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
