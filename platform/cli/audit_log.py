"""``jobplatform audit``."""

from __future__ import annotations

from typing import Any

import click

from jobplatform.cli.database import find_known_workspace, find_workspace, open_session
from jobplatform.cli.show import as_json_option, print_json, print_table
from jobplatform.models import AuditEntry
from jobplatform.queue import list_audit


@click.command()
@click.option("-w", "--workspace", help="Only what was about a workspace, by id or name.")
@click.option("--actor", help="Only what this one did.")
@click.option("--action", help="Only this, as in job.cancel.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--before", type=click.IntRange(1), help="Only lines before the one with this number.")
@as_json_option
def audit(
    workspace: str | None, actor: str | None, action: str | None, limit: int, before: int | None, as_json: bool
) -> None:
    """List who did what to whom, newest first."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        found = list_audit(session, workspace_id=workspace_id, actor=actor, action=action, limit=limit, before=before)
        if workspace is not None and not found:
            # One that was erased has lines still.
            find_known_workspace(session, workspace)
    if as_json:
        print_json([_as_dict(line) for line in found])
    else:
        columns = ["number", "at", "actor", "action", "target", "details"]
        rows = [(line.id, line.at, line.actor, line.action, line.target, _details(line.details)) for line in found]
        print_table(columns, rows)


def _as_dict(line: AuditEntry) -> dict[str, Any]:
    return {
        "id": line.id,
        "at": line.at,
        "actor": line.actor,
        "tokenId": line.token_id,
        "workspaceId": line.workspace_id,
        "action": line.action,
        "target": line.target,
        "requestId": line.request_id,
        "details": line.details,
    }


def _details(details: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in details.items() if value is not None)
