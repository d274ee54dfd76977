"""``jobplatform tokens``."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.api import Scope, mint_token, presented_id, revoke_token, rotate_token
from jobplatform.cli.acting import audit
from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.models import ApiToken, clock

WORKSPACE_SCOPES = (Scope.JOBS_READ, Scope.JOBS_WRITE)


@click.group()
def tokens() -> None:
    """Create, list, rotate and revoke tokens of the API."""


@tokens.command()
@click.option("-w", "--workspace", help="The workspace it is for, by id or name.")
@click.option("--operator", is_flag=True, help="A token for every workspace, for whoever runs the platform.")
@click.option("--scope", "scopes", multiple=True, help="May be repeated. Default: jobs:read and jobs:write.")
@click.option("--name", default="cli", show_default=True, help="Whose it is or what for.")
@click.option("--days", type=click.IntRange(1, 3650), help="Ends after so many days. Default: never.")
@as_json_option
def create(
    workspace: str | None, operator: bool, scopes: tuple[str, ...], name: str, days: int | None, as_json: bool
) -> None:
    """Create a token and print it. It is shown this once; the database keeps a hash."""
    if operator == (workspace is not None):
        raise click.UsageError("say either --workspace or --operator")
    with open_session() as session:
        # The database's time: whether a token has expired is decided there.
        now = session.execute(select(clock())).scalar_one()
        expires_at = now + datetime.timedelta(days=days) if days else None
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        chosen = scopes or ((Scope.OPERATOR,) if operator else WORKSPACE_SCOPES)
        try:
            token = mint_token(session, workspace_id, chosen, name, expires_at)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        details = {"name": name, "scopes": sorted(chosen), "expiresAt": expires_at}
        audit(session, "token.create", f"token:{presented_id(token)}", workspace_id, **details)
    tell(as_json, token, id=presented_id(token), token=token, workspace_id=workspace_id, **details)


@tokens.command()
@click.option("-w", "--workspace", help="Only those of a workspace, by id or name.")
@as_json_option
def ls(workspace: str | None, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    statement = select(ApiToken).order_by(ApiToken.created_at)
    with open_session() as session:
        if workspace is not None:
            statement = statement.where(ApiToken.workspace_id == find_workspace(session, workspace))
        found = session.scalars(statement).all()
    rows = [_as_row(token) for token in found]
    if as_json:
        print_json(rows)
    else:
        columns = ["id", "workspace", "name", "scopes", "created", "expires", "last used", "revoked"]
        print_table(columns, [tuple({**row, "scopes": " ".join(row["scopes"])}.values()) for row in rows])


@tokens.command()
@click.argument("public_id")
@as_json_option
def revoke(public_id: str, as_json: bool) -> None:
    """End a token at once. PUBLIC_ID is the part between the underscores, as `tokens ls` shows it; or the token."""
    public_id = _public_id(public_id)
    with open_session() as session:
        if not revoke_token(session, public_id):
            raise _nobody(public_id)
        audit(session, "token.revoke", f"token:{public_id}", _workspace_of(session, public_id))
    tell(as_json, f"{public_id} is revoked", id=public_id, revoked=True)


@tokens.command()
@click.argument("public_id")
@as_json_option
def rotate(public_id: str, as_json: bool) -> None:
    """Replace a token by a new one like it and print that, this once. The old one ends at once.

    PUBLIC_ID is the part between the underscores, as `tokens ls` shows it; or the token.
    """
    public_id = _public_id(public_id)
    with open_session() as session:
        token = rotate_token(session, public_id)
        if token is None:
            raise _nobody(public_id)
        new_id = presented_id(token)
        audit(session, "token.rotate", f"token:{public_id}", _workspace_of(session, public_id), replacedBy=new_id)
    tell(as_json, token, id=new_id, token=token, replaces=public_id)


def _public_id(text: str) -> str:
    """Who has found a token somewhere has all of it at hand. Its secret is not to be in a message.

    Of a token for one job it is the id of the token that signed it: with that it ends.
    """
    return presented_id(text) or text


def _nobody(public_id: str) -> click.ClickException:
    return click.ClickException(f"no token {public_id!r} is alive; see `jobplatform tokens ls`")


def _workspace_of(session: Session, public_id: str) -> UUID | None:
    return session.scalar(select(ApiToken.workspace_id).where(ApiToken.id == public_id))


def _as_row(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "workspaceId": token.workspace_id,
        "name": token.name,
        "scopes": token.scopes,
        "createdAt": token.created_at,
        "expiresAt": token.expires_at,
        "lastUsedAt": token.last_used_at,
        "revokedAt": token.revoked_at,
    }
