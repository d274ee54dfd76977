"""``jobplatform connections``. Credentials are read from a file or from standard input, never from the command line,
where every user of the machine could see them.
"""

from __future__ import annotations

import datetime
import json
from typing import IO, Any
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.asking import agrees
from jobplatform.cli.database import find_known_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, several, tell
from jobplatform.connectors import (
    CONNECTORS,
    UNCHANGED,
    attention_of,
    change_connection,
    create_connection,
    credentials_seen,
    delete_connection,
    get_connection,
    list_connections,
    seal_headers,
    try_connection,
)
from jobplatform.models import Connection
from jobplatform.redaction import redact_configuration
from jobplatform.wording import plural

PAGE = 200
_workspace = click.option("-w", "--workspace", required=True, help="By id or name.")
_connection = click.argument("connection")
_config = click.option("-c", "--config", help="A JSON object, or @FILE that holds one.")
_credentials = click.option(
    "--credentials", type=click.File("r"), help="A file of JSON with scheme and secrets; - is standard input."
)


@click.group()
def connections() -> None:
    """Connect sources of a workspace. One is given by its id or name."""


@connections.command()
@_workspace
@as_json_option
def ls(workspace: str, as_json: bool) -> None:
    """List connections, with what needs attention."""
    with open_session() as session:
        rows = _describe_all(session, find_known_workspace(session, workspace))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "type", "credentials", "state"],
        [
            (row["id"], row["name"], row["connectorType"], row["credentialsScheme"] or "–", row["attention"] or "ready")
            for row in rows
        ],
    )


@connections.command()
@as_json_option
def types(as_json: bool) -> None:
    """List connector types, and the credentials that each takes."""
    if as_json:
        print_json(
            [
                {"type": name, "credentials": list(kind.credentials), "needsCredentials": kind.needs_credentials}
                for name, kind in sorted(CONNECTORS.items())
            ]
        )
        return
    print_table(
        ["type", "credentials", "needed"],
        [
            (name, ", ".join(kind.credentials) or "–", "yes" if kind.needs_credentials else "no")
            for name, kind in sorted(CONNECTORS.items())
        ],
    )


@connections.command()
@click.argument("connector_type", metavar="TYPE")
@_workspace
@click.option("--name", help="Default: the type's.")
@_config
@_credentials
@as_json_option
def create(
    connector_type: str,
    workspace: str,
    name: str | None,
    config: str | None,
    credentials: IO[str] | None,
    as_json: bool,
) -> None:
    """Connect a source of a connector TYPE."""
    given = _read_credentials(credentials)
    with open_session() as session:
        made = create_connection(
            session,
            find_known_workspace(session, workspace),
            connector_type=connector_type,
            name=name or connector_type,
            config=_parse(config or "{}"),
            credentials=given,
        )
        _audit(session, "connection.create", made, connectorType=connector_type, **_said_of(given))
        described = _describe(session, made)
    if as_json:
        print_json(described)
    else:
        click.echo(f"{made.id} {made.name}: {_credentials_words(described)}")


@connections.command()
@_connection
@_workspace
@as_json_option
def show(connection: str, workspace: str, as_json: bool) -> None:
    """Show a connection. Its credentials are not shown: only that there are some."""
    with open_session() as session:
        described = _describe(session, _find(session, connection, workspace))
    if as_json:
        print_json(described)
        return
    rows = [(name, json.dumps(value) if isinstance(value, dict) else value) for name, value in described.items()]
    print_table(["", ""], rows, title=described["name"])


@connections.command()
@_connection
@_workspace
@click.option("--name", help="A new name.")
@_config
@_credentials
@click.option("--no-credentials", is_flag=True, help="Forget those it has.")
@as_json_option
def update(
    connection: str,
    workspace: str,
    name: str | None,
    config: str | None,
    credentials: IO[str] | None,
    no_credentials: bool,
    as_json: bool,
) -> None:
    """Change a connection. New credentials end that it needs attention."""
    if no_credentials and credentials:
        raise click.UsageError("say one of --credentials and --no-credentials")
    given = None if no_credentials else _read_credentials(credentials)
    changes: dict[str, Any] = {
        "name": name or UNCHANGED,
        "config": UNCHANGED if config is None else _parse(config),
        "credentials": given if given is not None or no_credentials else UNCHANGED,
    }
    changed = {key: value for key, value in changes.items() if value is not UNCHANGED}
    if not changed:
        raise click.UsageError("say what to change: --name, --config, --credentials or --no-credentials")
    with open_session() as session:
        found = _find(session, connection, workspace, lock=True)
        change_connection(session, found, **changed)
        said = _said_of(given) if given is not None else {"credentials": None} if no_credentials else {}
        _audit(session, "connection.change", found, changed=sorted(changed), **said)
        described = _describe(session, found)
    tell(as_json, f"{found.name} is changed: {_credentials_words(described)}", **described)


@connections.command()
@_connection
@_workspace
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@as_json_option
def delete(connection: str, workspace: str, yes: bool, as_json: bool) -> None:
    """Delete a connection, its credentials, and the records that were copied through it."""
    with open_session() as session:
        name = _find(session, connection, workspace).name
        question = f"Delete {name} with all records that were copied through it?"
        if not (yes or agrees(session, question, as_json=as_json)):
            raise click.Abort
        found = _find(session, connection, workspace, lock=True)
        _audit(session, "connection.delete", found)
        delete_connection(session, found)
    tell(as_json, f"{found.name} is deleted", id=found.id, name=found.name, deleted=True)


@connections.command()
@_connection
@_workspace
@click.option("--stream", help="Default: the first there is.")
@as_json_option
def test(connection: str, workspace: str, stream: str | None, as_json: bool) -> None:
    """Ask for one page, and say what was found. Nothing is stored; exit code 1 when it does not work."""
    with open_session() as session:
        found = _find(session, connection, workspace)
        session.expunge(found)
        session.commit()
        tried = try_connection(session, found, stream=stream)
        _audit(session, "connection.test", found, ok=tried.ok)
    if as_json:
        print_json(plain(tried))
    else:
        click.echo(f"{found.name}: {tried.message}")
        if tried.fields:
            click.echo(f"fields: {', '.join(tried.fields)}")
    if not tried.ok:
        raise SystemExit(1)


@connections.command("seal-headers")
@_workspace
@as_json_option
def seal_headers_(workspace: str, as_json: bool) -> None:
    """Move secrets from the configurations of http_json connections, where older versions had them, to credentials."""
    moved, left = [], []
    with open_session() as session:
        workspace_id = find_known_workspace(session, workspace)
        for found in session.scalars(select(Connection).where(Connection.workspace_id == workspace_id)).all():
            match seal_headers(session, found):
                case None:
                    continue
                case True:
                    moved.append(found.name)
                    _audit(session, "connection.change", found, changed=["config", "credentials"])
                case False:
                    left.append(found.name)
    sentence = f"moved the secrets of {plural(len(moved), 'connection')}" + (f": {', '.join(moved)}" if moved else "")
    tell(as_json, sentence, moved=moved, left=left)
    if left:
        raise click.ClickException(
            f"{', '.join(left)}: more than one secret header, or credentials besides; change these by hand"
        )


# --------------------------------------------------------------------------------------------------------


def _find(session: Session, text: str, workspace: str, *, lock: bool = False) -> Connection:
    workspace_id = find_known_workspace(session, workspace)
    found = get_connection(session, workspace_id, find_connection_id(session, workspace_id, text), lock=lock)
    if found is None:
        raise _no_connection(text)
    return found


def find_connection_id(session: Session, workspace_id: UUID, text: str) -> UUID:
    """The id of a connection that is given by that or, where there is just one of that name, by its name."""
    try:
        return UUID(text)
    except ValueError:
        found = _named(session, workspace_id, text)
    if len(found) > 1:
        raise click.ClickException(several("connection", text, found))
    if not found:
        raise _no_connection(text)
    return found[0][0]


def _named(session: Session, workspace_id: UUID, name: str) -> list[tuple[UUID, datetime.datetime]]:
    named = (
        select(Connection.id, Connection.created_at)
        .where(Connection.workspace_id == workspace_id, Connection.name == name)
        .order_by(Connection.created_at, Connection.id)
    )
    return [(id, made) for id, made in session.execute(named)]


def _no_connection(text: str) -> click.ClickException:
    return click.ClickException(f"no connection {text!r} is there; see `jobplatform connections ls`")


def _parse(text: str) -> Any:
    try:
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:
                text = file.read()
        return json.loads(text)
    except OSError as error:
        raise click.BadParameter(f"the configuration cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"the configuration is not JSON: {error}") from error


def _read_credentials(file: IO[str] | None) -> Any:
    if file is None:
        return None
    try:
        return json.load(file)
    except ValueError:
        # What is wrong with it is not said: the words would be of the secret.
        raise click.BadParameter("the credentials are not JSON") from None


def _said_of(given: Any) -> dict[str, Any]:
    return {"credentials": given["scheme"]} if isinstance(given, dict) else {}


def _audit(session: Session, action: str, connection: Connection, **details: Any) -> None:
    audit(session, action, f"connection:{connection.id}", connection.workspace_id, name=connection.name, **details)


def _describe_all(session: Session, workspace_id: UUID) -> list[dict[str, Any]]:
    found: list[Connection] = []
    while page := list_connections(session, workspace_id, limit=PAGE, after=found[-1].id if found else None):
        found += page
    return [_describe(session, one) for one in found]


def _describe(session: Session, connection: Connection) -> dict[str, Any]:
    seen = credentials_seen(session, connection.workspace_id, [connection.id]).get(connection.id)
    attention = attention_of(connection.connector_type, connection.attention, has_credentials=seen is not None)
    return {
        "id": connection.id,
        "workspaceId": connection.workspace_id,
        "connectorType": connection.connector_type,
        "name": connection.name,
        "config": redact_configuration(connection.config),
        "hasCredentials": seen is not None,
        "credentialsScheme": seen.scheme if seen else None,
        "credentialsSetAt": seen.set_at if seen else None,
        "credentialsRenewedAt": seen.renewed_at if seen else None,
        "attention": attention,
        "attentionAt": connection.attention_at,
        "createdAt": connection.created_at,
        "updatedAt": connection.updated_at,
    }


def _credentials_words(described: dict[str, Any]) -> str:
    scheme = described["credentialsScheme"]
    return f"credentials of scheme {scheme} are sealed" if scheme else "it has no credentials"
