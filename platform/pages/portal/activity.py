"""Activity: what is being done for this workspace, and what was."""

from __future__ import annotations

from uuid import UUID

from flask import Response, request

from jobplatform.pages.portal.wording import STATES, message_of, title_of
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, current_shell, current_visit, looking
from jobplatform.queue import pages

PER_PAGE = 25


def make_activity() -> Section:
    section = Section("activity", __name__)
    section.page("/<uuid:tenant_id>/activity")(list_activity)
    section.page("/<uuid:tenant_id>/events")(stream_activity)
    return section


def list_activity(tenant_id: UUID) -> Response:
    before = _id(request.args.get("before"))
    with looking() as session:
        found = pages.tenant_activity(session, tenant_id, limit=PER_PAGE, before=before)
    return render(
        "portal_activity.html", found=found, before=before, states=STATES, title_of=title_of, message_of=message_of
    )


def stream_activity(tenant_id: UUID) -> Response:
    """The API's own stream of the workspace's jobs, for the session of a page."""
    principal = current_visit().visitor.as_principal(tenant_id)
    last = request.headers.get("Last-Event-ID") or request.args.get("lastEventId")
    return current_shell().api.stream(principal, f"/workspaces/{tenant_id}/events", last)


def _id(text: str | None) -> UUID | None:
    """Nonsense is the first page."""
    try:
        return UUID(text or "")
    except ValueError:
        return None
