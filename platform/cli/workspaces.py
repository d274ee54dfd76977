"""``jobplatform workspaces``."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.cli.acting import audit
from jobplatform.cli.database import find_known_workspace, open_session
from jobplatform.cli.leaving import encrypt, erase, export
from jobplatform.cli.limit_options import COLUMNS, changes_of, limit_cells, limit_options, limits_as_dict
from jobplatform.cli.pauses import end_pause, pause_as_dict, pause_options, start_pause, tell_pause
from jobplatform.cli.show import already_named, as_json_option, print_json, print_table, tell
from jobplatform.models import Pause, PauseKind, Workspace
from jobplatform.queue import (
    LimitsOfWorkspace,
    WorkspaceSeen,
    find_pause,
    find_workspace,
    list_workspaces,
    pauses_of,
    read_workspace_limits,
    set_workspace_limits,
    workspaces_named,
)

PAGE = 200


@click.group()
def workspaces() -> None:
    """Create, list, limit, pause, encrypt, export and erase workspaces. A workspace is given by its id or name."""


for command in (encrypt, export, erase):
    workspaces.add_command(command)


@workspaces.command()
@click.argument("name")
@click.option("--id", "workspace_id", type=click.UUID, help="Its id, when your application has one already.")
@click.option("--same-name", is_flag=True, help="Although there is one of that name. Goes without saying with --id.")
@as_json_option
def create(name: str, workspace_id: UUID | None, same_name: bool, as_json: bool) -> None:
    """Create a workspace and print its id."""
    if not name:
        raise click.UsageError("a workspace needs a name")
    with open_session() as session:
        if workspace_id is None and not same_name:
            _refuse_another(session, name)
        workspace_id = workspace_id or uuid7()
        statement = insert(Workspace).values(id=workspace_id, name=name).on_conflict_do_nothing()
        if session.execute(statement.returning(Workspace.id)).first() is None:
            raise click.ClickException(f"there is a workspace {workspace_id} already")
        audit(session, "workspace.create", f"workspace:{workspace_id}", workspace_id, name=name)
    tell(as_json, str(workspace_id), id=workspace_id, name=name)


def _refuse_another(session: Session, name: str) -> None:
    """A name is no key: applications call two customers the same. But who says `create` twice has mistaken one for new,
    and every command that is given the name afterwards would have to ask which."""
    if there := workspaces_named(session, name):
        raise click.ClickException(
            f"{already_named('workspace', name, there)}\nUse that one, or make another one with --same-name"
        )


@workspaces.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the workspaces with what they have to do, by id; for ids of ours that is oldest first.

    Those that have jobs or limits and no row of their own are there too.
    """
    with open_session() as session:
        found = _list_all(session)
        paused = pauses_of(session, PauseKind.WORKSPACE, [str(one.id) for one in found])
    if as_json:
        print_json([_as_dict(one, paused.get(str(one.id))) for one in found])
        return
    columns = ["id", "name", "created", "ready", "scheduled", "blocked", "running", "paused"]
    rows = [
        (
            one.id, one.name, one.created_at, one.ready, one.scheduled, one.blocked, one.running,
            _yes(str(one.id) in paused),
        )
        for one in found
    ]  # fmt: skip
    print_table(columns, rows)


@workspaces.command()
@click.argument("workspace")
@as_json_option
def show(workspace: str, as_json: bool) -> None:
    """Show a workspace: what it has to do, and what it may."""
    with open_session() as session:
        workspace_id = find_known_workspace(session, workspace)
        seen = find_workspace(session, workspace_id)
        assert seen is not None
        limits = read_workspace_limits(session, workspace_id)
        paused = find_pause(session, PauseKind.WORKSPACE, str(workspace_id))
    if as_json:
        print_json({**_as_dict(seen, paused), "limits": _limits_as_dict(limits)})
        return
    facts = {name: value for name, value in _as_dict(seen, paused).items() if name != "pause"}
    why = f"{paused.reason} (by {paused.actor})" if paused else "no"
    print_table(["", ""], [*facts.items(), ("paused", why), ("plan", limits.plan)])
    print_table(["", *COLUMNS], [("own", *limit_cells(limits.own)), ("counts", *limit_cells(limits.effective))])


@workspaces.command()
@click.argument("workspace")
@limit_options
@as_json_option
def limit(workspace: str, as_json: bool, **options: Any) -> None:
    """Change a workspace's own limits, which count before its plan's. What is not said stays; `none` clears."""
    changes = changes_of(options)
    _change(workspace, changes, "workspace.limit", as_json=as_json)


@workspaces.command()
@click.argument("workspace")
@click.argument("plan")
@as_json_option
def plan(workspace: str, plan: str, as_json: bool) -> None:
    """Put a workspace on PLAN; `none` takes it off."""
    _change(workspace, {"plan": None if plan == "none" else plan}, "workspace.plan", as_json=as_json)


@workspaces.command()
@click.argument("workspace")
@pause_options
@as_json_option
def pause(
    workspace: str,
    reason: str,
    until: datetime.datetime | None,
    duration: datetime.timedelta | None,
    as_json: bool,
) -> None:
    """Start none of a workspace's jobs. What runs goes on to its end; new jobs are accepted and wait."""
    with open_session() as session:
        key = str(find_known_workspace(session, workspace))
        made = start_pause(session, PauseKind.WORKSPACE.value, key, reason, until, duration)
    tell_pause(made, as_json=as_json)


@workspaces.command()
@click.argument("workspace")
@as_json_option
def resume(workspace: str, as_json: bool) -> None:
    """Let a workspace's jobs start again."""
    with open_session() as session:
        workspace_id = find_known_workspace(session, workspace)
        end_pause(session, PauseKind.WORKSPACE.value, str(workspace_id))
    tell(as_json, f"workspace {workspace} is resumed", kind="workspace", key=workspace_id, resumed=True)


def _change(workspace: str, changes: dict[str, Any], action: str, *, as_json: bool) -> None:
    with open_session() as session:
        workspace_id = find_known_workspace(session, workspace)
        limits = set_workspace_limits(session, workspace_id, changes)
        audit(session, action, f"workspace:{workspace_id}", workspace_id, **changes)
    if as_json:
        print_json({"workspaceId": workspace_id, **_limits_as_dict(limits)})
        return
    rows = [("own", limits.plan, *limit_cells(limits.own)), ("counts", "", *limit_cells(limits.effective))]
    print_table(["", "plan", *COLUMNS], rows)


def _list_all(session: Session) -> list[WorkspaceSeen]:
    found: list[WorkspaceSeen] = []
    while page := list_workspaces(session, limit=PAGE, after=found[-1].id if found else None):
        found += page
    return found


def _as_dict(one: WorkspaceSeen, paused: Pause | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "createdAt": one.created_at,
        "ready": one.ready,
        "scheduled": one.scheduled,
        "blocked": one.blocked,
        "running": one.running,
        "pause": pause_as_dict(paused) if paused else None,
    }


def _limits_as_dict(limits: LimitsOfWorkspace) -> dict[str, Any]:
    return {
        "plan": limits.plan,
        "own": limits_as_dict(limits.own),
        "effective": limits_as_dict(limits.effective),
    }


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
