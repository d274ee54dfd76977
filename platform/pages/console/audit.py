"""Who did what, to whom, and when."""

from __future__ import annotations

from flask import Response, request

from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.whose import NO_WORKSPACE, typed_workspace
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, looking
from jobplatform.queue import find_workspace, pages

PER_PAGE = 100
LARGEST = 2**63 - 1
NOTHING = pages.AuditPage((), None)


def make_audit() -> Section:
    section = Section("audit", __name__)
    section.page("/audit")(list_audit)
    return section


def list_audit() -> Response:
    asked = {name: request.args.get(name, "").strip() for name in ("workspace", "actor", "action", "target")}
    workspace_id, complaint = typed_workspace(asked["workspace"]) if asked["workspace"] else (None, "")
    before = request.args.get("before", "")
    number = min(int(before), LARGEST) if before.isdecimal() and len(before) < 20 else None
    filters = {name: asked[name] or None for name in ("actor", "action", "target")}
    with looking() as session:
        found = NOTHING
        if not complaint:
            found = pages.audit_lines(session, workspace_id=workspace_id, limit=PER_PAGE, before=number, **filters)
        # One that was erased has lines still.
        if not found.lines and workspace_id is not None and find_workspace(session, workspace_id) is None:
            complaint = NO_WORKSPACE
        names = workspace_names(session, (line.workspace_id for line in found.lines))
    return render(
        "audit.html", found=found, names=names, asked=asked, complaint=complaint, before=number, deep=bool(number)
    )
