"""Syncs: a card for each source, what came of it last, and the button that begins the next one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, redirect, request

from jobplatform.connectors import attention_of
from jobplatform.pages.acting import done
from jobplatform.pages.notices import notify
from jobplatform.pages.portal.wording import MODES, kind_of
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import pages

CHIPS = {
    "attention": ("failed", "needs attention", "cross"),
    "never": ("", "not synced yet", "clock"),
    "running": ("running", "syncing", "play"),
    "waiting": ("pending", "waiting", "clock"),
    "ok": ("completed", "up to date", "check"),
    "failed": ("failed", "last sync failed", "cross"),
    "cancelled": ("cancelled", "last sync called off", "stop"),
}


def make_syncs() -> Section:
    section = Section("syncs", __name__)
    section.page("/<uuid:tenant_id>/")(show_syncs)
    section.action("/<uuid:tenant_id>/sync", "sync.start")(start_sync)
    return section


def show_syncs(tenant_id: UUID) -> Response:
    with looking() as session:
        seen = pages.tenant_syncs(session, tenant_id)
    return render("portal_syncs.html", seen=seen, chips=CHIPS, modes=MODES, kind_of=kind_of, attention_of=attention_of)


def start_sync(tenant_id: UUID) -> Any:
    """Of all sources, or of one. While one of the same is under way there is none to begin, and the page says so."""
    chosen = {"mode": request.form.get("mode"), "connectionId": request.form.get("connection")}
    body = {name: value for name, value in chosen.items() if value}
    answer = ask("POST", f"/workspaces/{tenant_id}/sync", body)
    if answer.status == 409:
        return done(answer, "", refusal="A sync is under way already. The next one can begin when it has ended.")
    if not answer.ok:
        return done(answer, "")
    response = redirect(url("own_job.show_job", tenant_id=tenant_id, job_id=answer.body["jobId"]), 303)
    notify(response, "The sync has begun.")
    return response
