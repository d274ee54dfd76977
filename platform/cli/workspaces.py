"""``jobplatform workspaces``."""

from __future__ import annotations

from uuid import UUID

import click
from sqlalchemy import select
from uuid_utils.compat import uuid7

from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, print_json, print_table
from jobplatform.models import Workspace


@click.group()
def workspaces() -> None:
    """Create and list workspaces."""


@workspaces.command()
@click.argument("name")
@click.option("--id", "workspace_id", type=UUID, help="Its id, when your application has one already.")
def create(name: str, workspace_id: UUID | None) -> None:
    """Create a workspace and print its id."""
    workspace = Workspace(id=workspace_id or uuid7(), name=name)
    with open_session() as session:
        session.add(workspace)
    click.echo(workspace.id)


@workspaces.command("list")
@as_json_option
def list_(as_json: bool) -> None:
    """List the workspaces, oldest first."""
    with open_session() as session:
        found = session.scalars(select(Workspace).order_by(Workspace.created_at, Workspace.id)).all()
    if as_json:
        print_json([{"id": row.id, "name": row.name, "createdAt": row.created_at} for row in found])
    else:
        print_table(["id", "name", "created"], [(row.id, row.name, row.created_at) for row in found])
