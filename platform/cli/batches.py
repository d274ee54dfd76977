"""``jobplatform batches``."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.cancelling import told
from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, make_console, plain, print_json, print_table, tell
from jobplatform.cli.waiting import show_progress
from jobplatform.queue import BatchSeen, Callback, cancel_batch, get_batch, list_batches, list_callbacks

workspace_option = click.option("-w", "--workspace", required=True, help="By id or name.")

COUNTS = ("total", "pending", "running", "completed", "failed", "cancelled")
#: Seconds between two looks.
LOOK_AGAIN = 0.5


@click.group()
def batches() -> None:
    """List, show, watch and cancel batches of jobs."""


@batches.command()
@workspace_option
@click.option("--live", is_flag=True, help="Only those that have not ended.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@as_json_option
def ls(workspace: str, live: bool, limit: int, as_json: bool) -> None:
    """List batches, newest first."""
    with open_session() as session:
        found = list_batches(session, find_workspace(session, workspace), live_only=live, limit=limit)
    if as_json:
        print_json([_as_dict(batch) for batch in found])
        return
    print_table(
        ["id", "name", "status", "done", *COUNTS],
        [
            (batch.id, batch.name, batch.status, f"{batch.percent}%", *(getattr(batch, name) for name in COUNTS))
            for batch in found
        ],
    )


@batches.command()
@click.argument("batch_id", type=click.UUID)
@workspace_option
@as_json_option
def show(batch_id: UUID, workspace: str, as_json: bool) -> None:
    """Show a batch: how far it is, and what runs when it has ended."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        batch = _find(session, workspace_id, batch_id)
        callbacks = list_callbacks(session, workspace_id, batch_id)
    if as_json:
        print_json({**_as_dict(batch), "callbacks": plain(callbacks)})
        return
    print_table(["", ""], [(name, value) for name, value in _as_dict(batch).items() if value is not None])
    _print_callbacks(callbacks)


@batches.command()
@click.argument("batch_id", type=click.UUID)
@workspace_option
@click.option("--tree", is_flag=True, help="Also everything that waits for it, and for that, and so on.")
@as_json_option
def cancel(batch_id: UUID, workspace: str, tree: bool, as_json: bool) -> None:
    """Close a batch and cancel all of its jobs that have not ended. What waits for it runs as it would anyway."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        answer = cancel_batch(session, workspace_id, batch_id, tree=tree)
        if answer is not None:
            said = {"tree": True} if tree else {}
            audit(session, "batch.cancel", f"batch:{batch_id}", workspace_id, **said, **answer._asdict())
    if answer is None:
        raise click.ClickException(f"{batch_id} is not a batch of this workspace")
    tell(as_json, f"{batch_id}: {told(answer)}", batch_id=batch_id, **answer._asdict())


@batches.command()
@click.argument("batch_id", type=click.UUID)
@workspace_option
@as_json_option
def watch(batch_id: UUID, workspace: str, as_json: bool) -> None:
    """Watch a batch until it has ended. Exit code 0 when all of its jobs completed, 1 when not."""
    batch = None
    with show_progress(Console(stderr=True) if as_json else make_console()) as report:
        while batch is None or batch.ended_at is None:
            if batch is not None:
                time.sleep(LOOK_AGAIN)
            with open_session() as session:
                batch = _find(session, find_workspace(session, workspace), batch_id)
            report(batch.status, {"current": batch.ended, "total": batch.total, "message": _message(batch)})
    if as_json:
        print_json(_as_dict(batch))
    if batch.status != "completed":
        raise click.exceptions.Exit(1)


def _find(session: Session, workspace_id: UUID, batch_id: UUID) -> BatchSeen:
    batch = get_batch(session, workspace_id, batch_id)
    if batch is None:
        raise click.ClickException(f"{batch_id} is not a batch of this workspace")
    return batch


def _message(batch: BatchSeen) -> str:
    return ", ".join(
        f"{getattr(batch, name)} {name}" for name in ("running", "failed", "cancelled") if getattr(batch, name)
    )


def _as_dict(batch: BatchSeen) -> dict[str, Any]:
    return {**plain(batch), "pending": batch.pending, "percent": batch.percent, "status": batch.status}


def _print_callbacks(callbacks: list[Callback]) -> None:
    if callbacks:
        rows = [(callback.job_id, callback.task, callback.run_if, callback.status) for callback in callbacks]
        print_table(["id", "task", "runs if the batch", "status"], rows, title="\nwaiting for it")
