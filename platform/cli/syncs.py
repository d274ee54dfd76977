"""``jobplatform syncs``."""

from __future__ import annotations

from uuid import UUID

import click

from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table
from jobplatform.queue import SyncLogSeen, get_sync_log, list_sync_logs

workspace_option = click.option("-w", "--workspace", required=True, help="By id or name.")


@click.group()
def syncs() -> None:
    """List and show what came of syncs. Entries stay when their jobs are deleted, for 90 days unless set otherwise."""


@syncs.command()
@workspace_option
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--before", type=click.UUID, help="Only those before this one.")
@as_json_option
def ls(workspace: str, limit: int, before: UUID | None, as_json: bool) -> None:
    """List syncs, newest first."""
    with open_session() as session:
        found = list_sync_logs(session, find_workspace(session, workspace), limit=limit, before=before)
    if as_json:
        print_json(plain(found))
        return
    print_table(
        ["id", "started", "ended", "mode", "status", "records", "errors", "warnings"],
        [
            (
                log.id,
                log.started_at,
                log.ended_at,
                log.mode,
                log.status,
                log.total_records,
                len(log.errors),
                len(log.warnings),
            )
            for log in found
        ],
    )


@syncs.command()
@click.argument("sync_log_id", type=click.UUID)
@workspace_option
@as_json_option
def show(sync_log_id: UUID, workspace: str, as_json: bool) -> None:
    """Show what came of a sync: of each connection, with errors and warnings."""
    with open_session() as session:
        log = get_sync_log(session, find_workspace(session, workspace), sync_log_id)
    if log is None:
        raise click.ClickException(f"{sync_log_id} is not a sync of this workspace")
    if as_json:
        print_json(plain(log))
        return
    _print(log)


def _print(log: SyncLogSeen) -> None:
    said = {**log._asdict(), "results": None, "errors": None, "warnings": None}
    print_table(["", ""], [(name, value) for name, value in said.items() if value is not None])
    columns = ["name", "connectorType", "status", "records", "written", "deleted", "skipped"]
    if log.results:
        print_table(columns, [[one.get(column) for column in columns] for one in log.results], title="\nconnections")
    for title, lines in (("errors", log.errors), ("warnings", log.warnings)):
        if lines:
            print_table([title], [(line,) for line in lines])
