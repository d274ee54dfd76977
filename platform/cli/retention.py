"""``jobplatform retention``."""

from __future__ import annotations

import datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import NONE, Duration
from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.queue import Keep, RetentionRule, clear_retention, list_retention, set_retention


class Keeping(Duration):
    """A duration, ``0s`` for not at all, or ``none`` to clear what is set. Answers with a tuple of one.

    A number alone is none: whoever means days is not to lose jobs after seconds.
    """

    name = "duration|none"

    def __init__(self) -> None:
        super().__init__(0, alone="")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if value.lower() == NONE:
            return (None,)
        if value == "0":
            return (datetime.timedelta(0),)
        return (super().convert(value, param, ctx),)


@click.group()
def retention() -> None:
    """How long jobs are kept after they ended, by task and workspace. For everything else, see the settings."""


@retention.command()
@click.option("-w", "--workspace", help="Only what is said of this workspace, by id or name.")
@as_json_option
def ls(workspace: str | None, as_json: bool) -> None:
    """List what is said of tasks and workspaces. The more specific counts; what code declares, last."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        found = list_retention(session, workspace_id=workspace_id)
    if as_json:
        print_json([_as_dict(one) for one in found])
        return
    columns = ["workspace", "task", "completed", "failed", "cancelled", "said by"]
    rows = [
        (
            one.workspace_id, one.task, *(_words(getattr(one.keep, name)) for name in STATUSES),
            "the code" if one.declared else "an operator",
        )
        for one in found
    ]  # fmt: skip
    print_table(columns, rows)


@retention.command("set")
@click.option("-w", "--workspace", help="Jobs of this workspace, by id or name.")
@click.option("-t", "--task", help="Jobs of this task; with -w, those of the workspace only.")
@click.option("--completed", type=Keeping(), help="As in 12h, 7d; 0s for not at all; none to say nothing.")
@click.option("--failed", type=Keeping(), help="Counts for cancelled jobs too, unless that is said.")
@click.option("--cancelled", type=Keeping(), help="As for the others.")
@as_json_option
def set_(workspace: str | None, task: str | None, as_json: bool, **keeps: Any) -> None:
    """Keep jobs longer or shorter. What is not said stays; it counts for what has ended already, too."""
    changes = {name: value[0] for name, value in keeps.items() if value is not None}
    _need_a_place(workspace, task)
    if not changes:
        raise click.UsageError("say --completed, --failed or --cancelled")
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        keep = set_retention(session, changes, workspace_id=workspace_id, task=task)
        said = {f"{name}_seconds": None if value is None else value.total_seconds() for name, value in changes.items()}
        audit(session, "retention.set", _target(session, workspace, task), workspace_id, task=task, **said)
    sentence = ", ".join(f"{name} {_words(getattr(keep, name)) or 'as elsewhere'}" for name in STATUSES)
    tell(as_json, sentence, workspace_id=workspace_id, task=task, **_seconds(keep))


@retention.command()
@click.option("-w", "--workspace", help="By id or name.")
@click.option("-t", "--task", help="By name; with -w, in the workspace only.")
@as_json_option
def clear(workspace: str | None, task: str | None, as_json: bool) -> None:
    """Say nothing any more of exactly this workspace, task, or task in a workspace."""
    _need_a_place(workspace, task)
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        if not clear_retention(session, workspace_id=workspace_id, task=task):
            raise click.ClickException("nothing was set there; see `jobplatform retention ls`")
        audit(session, "retention.clear", _target(session, workspace, task), workspace_id, task=task)
    tell(as_json, "cleared", workspace_id=workspace_id, task=task, cleared=True)


STATUSES = ("completed", "failed", "cancelled")


def _need_a_place(workspace: str | None, task: str | None) -> None:
    if workspace is None and task is None:
        raise click.UsageError("say of what: -w WORKSPACE, --task TASK, or both; for everything, change the settings")


def _target(session: Session, workspace: str | None, task: str | None) -> str:
    return f"workspace:{find_workspace(session, workspace)}" if workspace is not None else f"task:{task}"


def _as_dict(one: RetentionRule) -> dict[str, Any]:
    return {"workspaceId": one.workspace_id, "task": one.task, **_seconds(one.keep), "declared": one.declared}


def _seconds(keep: Keep) -> dict[str, float | None]:
    return {f"{name}Seconds": value for name, value in keep.as_seconds().items()}


def _words(kept: datetime.timedelta | None) -> str | None:
    if kept is None:
        return None
    seconds = kept.total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g}{unit}"
    return f"{seconds:g}s"
