"""Where somebody begins whose workspace the address does not name."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import redirect

from jobplatform.api.mounted import Reach
from jobplatform.models import Role, Workspace
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, current_shell, current_visit, url

#: More than these are a host application's to choose from.
MOST = 100


def make_start() -> Section:
    section = Section("start", __name__)
    section.page("/")(choose_workspace)
    return section


def choose_workspace() -> Any:
    """To the workspace that is theirs, or which of them it is to be."""
    mine = sorted(current_visit().visitor.workspaces)[:MOST]
    if not mine:
        raise nothing_here()
    if len(mine) == 1:
        return redirect(url("syncs.show_syncs", tenant_id=mine[0]), 303)
    return render("portal_start.html", workspaces=[(workspace_id, _name(workspace_id)) for workspace_id in mine])


def _name(workspace_id: UUID) -> str:
    """It is read as that workspace: nobody here may look at them all."""
    with current_shell().mounted.transaction(Reach(Role.API, workspace_id)) as session:
        workspace = session.get(Workspace, workspace_id)
        return (workspace.name if workspace else None) or str(workspace_id)
