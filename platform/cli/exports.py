"""``jobplatform exports``."""

from __future__ import annotations

import click
from sqlalchemy import select

from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, print_json, print_table
from jobplatform.models import ExportFile


@click.group()
def exports() -> None:
    """List the files that records were exported to. `jobplatform enqueue export` makes one."""


@exports.command()
@click.option("-w", "--workspace", required=True, help="By id or name.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@as_json_option
def ls(workspace: str, limit: int, as_json: bool) -> None:
    """List exports, newest first, without their links."""
    with open_session() as session:
        statement = select(ExportFile).where(ExportFile.workspace_id == find_workspace(session, workspace))
        found = session.scalars(statement.order_by(ExportFile.id.desc()).limit(limit)).all()
    if as_json:
        print_json([_as_dict(export) for export in found])
        return
    print_table(
        ["id", "name", "made", "expires", "rows", "bytes"],
        [(one.id, one.name, one.made_at, one.expires_at, one.rows, one.size) for one in found],
    )


def _as_dict(export: ExportFile) -> dict[str, object]:
    return {
        "id": export.id,
        "jobId": export.job_id,
        "name": export.name,
        "rows": export.rows,
        "bytes": export.size,
        "sha256": None if export.digest is None else export.digest.hex(),
        "madeAt": export.made_at,
        "linkExpiresAt": export.link_expires_at,
        "expiresAt": export.expires_at,
    }
