"""Connections of a workspace: made, changed, found and deleted. Nothing here commits.

What somebody writes is checked here, whoever it comes from (the API, a command, the host's own code), and every
mistake is told at once, with its place.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from marshmallow import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.allowing import allows_private
from jobplatform.connectors.credentials import credentials_problems, end_attention, give_credentials, take_credentials
from jobplatform.connectors.http_json import looks_secret
from jobplatform.connectors.opening import account_of
from jobplatform.connectors.pacing import forget_resource
from jobplatform.connectors.registry import CONNECTORS, ConnectorType, unknown_type
from jobplatform.connectors.schemas import problems_of
from jobplatform.errors import AddressRefusedError, InvalidConnectionError, Problem, refuse
from jobplatform.models import Connection, ConnectionCredentials, clock, visit
from jobplatform.queue import delete_hooks_of
from jobplatform.queue.locks import PLACES_OF_CONNECTIONS
from jobplatform.queue.snapshot import says_what_it_cannot_see

#: Connections of one workspace.
MOST_CONNECTIONS: Final = 500
LONGEST_NAME: Final = 100
LARGEST_CONFIG: Final = 64 << 10

# Two that are made at once must not both find the last place free: they take turns until their ends.
TAKE_TURNS = f"select pg_advisory_xact_lock({PLACES_OF_CONNECTIONS}, hashtext(cast(:workspace_id as text)))"


class _Unchanged:
    """Stands for what is not named, where None means something."""


UNCHANGED: Final = _Unchanged()


_BIND = {"mapper": Connection.__mapper__}


class CredentialsSeen(NamedTuple):
    """What may be seen of credentials: that they are there, of which scheme, since when."""

    scheme: str
    set_at: Any
    renewed_at: Any


def create_connection(
    session: Session,
    workspace_id: uuid.UUID,
    *,
    connector_type: str,
    name: str,
    config: Any,
    credentials: Any = None,
    allow_private: bool | None = None,
) -> Connection:
    """Make a connection. Raises :class:`InvalidConnectionError` with every problem, and
    :class:`~jobplatform.errors.KeyMissingError` for credentials where nothing can be sealed. Whether a private address
    is a problem the settings say, unless ``allow_private`` does.
    """
    kind, private = _kind(connector_type), allows_private(allow_private)
    problems = [*_name_problems(name), *config_problems(kind, config, allow_private=private)]
    if credentials is not None:
        problems += _credentials_problems(kind, credentials, allow_private=private)
    refuse(InvalidConnectionError, problems)
    visit(session, workspace_id)
    _require_room(session, workspace_id)
    made = Connection(
        workspace_id=workspace_id, id=uuid7(), connector_type=connector_type, name=name, config=dict(config)
    )
    session.add(made)
    session.flush()
    if credentials is not None:
        give_credentials(session, made, kind, credentials)
    session.flush()
    session.refresh(made)
    return made


def change_connection(
    session: Session,
    connection: Connection,
    *,
    name: str | _Unchanged = UNCHANGED,
    config: Any = UNCHANGED,
    credentials: Any = UNCHANGED,
    allow_private: bool | None = None,
) -> None:
    """Change what is named; credentials of None are forgotten. Raises like :func:`create_connection`.

    Credentials that were given for one address are not sent to another: who changes it has to give them again.
    """
    kind, private = _kind(connection.connector_type), allows_private(allow_private)
    problems = [] if isinstance(name, _Unchanged) else _name_problems(name)
    if config is not UNCHANGED:
        problems += config_problems(kind, config, allow_private=private)
        if not problems and credentials is UNCHANGED:
            problems += _audience_problems(session, connection, kind, config)
    if credentials is not UNCHANGED and credentials is not None:
        problems += _credentials_problems(kind, credentials, allow_private=private)
    refuse(InvalidConnectionError, problems)
    if not isinstance(name, _Unchanged):
        connection.name = name
    if config is not UNCHANGED:
        connection.config = dict(config)
        end_attention(session, connection)
    if credentials is None:
        take_credentials(session, connection)
    elif credentials is not UNCHANGED:
        give_credentials(session, connection, kind, credentials)
    connection.updated_at = clock()
    session.flush()
    session.refresh(connection)


def delete_connection(session: Session, connection: Connection) -> None:
    """Delete a connection with all that was copied through it, and the hooks that belong to it."""
    delete_hooks_of(session, connection.workspace_id, connection.id)
    forget_resource(session, connection.workspace_id, account_of(connection, {}))
    session.delete(connection)
    session.flush()


def list_connections(
    session: Session, workspace_id: uuid.UUID, *, limit: int, after: uuid.UUID | None = None
) -> Sequence[Connection]:
    """Connections, oldest first."""
    visit(session, workspace_id)
    statement = select(Connection).where(Connection.workspace_id == workspace_id).order_by(Connection.id).limit(limit)
    if after is not None:
        statement = statement.where(Connection.id > after)
    return session.scalars(statement).all()


@says_what_it_cannot_see
def get_connection(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, *, lock: bool = False
) -> Connection | None:
    """One of a workspace's connections. ``lock`` it to change it."""
    visit(session, workspace_id)
    statement = select(Connection).where(Connection.workspace_id == workspace_id, Connection.id == connection_id)
    if lock:
        # Not the key: what a sync writes meanwhile refers to that.
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(statement).one_or_none()


def credentials_seen(
    session: Session, workspace_id: uuid.UUID, connection_ids: Iterable[uuid.UUID]
) -> dict[uuid.UUID, CredentialsSeen]:
    """What may be seen of the credentials of those connections that have any."""
    statement = select(
        ConnectionCredentials.connection_id,
        ConnectionCredentials.scheme,
        ConnectionCredentials.set_at,
        ConnectionCredentials.renewed_at,
    ).where(
        ConnectionCredentials.workspace_id == workspace_id,
        ConnectionCredentials.connection_id.in_(list(connection_ids)),
    )
    return {row[0]: CredentialsSeen(row[1], row[2], row[3]) for row in session.execute(statement)}


def seal_headers(session: Session, connection: Connection) -> bool | None:
    """Move the secret header of an ``http_json`` connection, where older versions had it, from its configuration to
    its credentials. None where there is none, False where a person has to look: there are two, or credentials besides.
    """
    headers = connection.config.get("headers", {}) if connection.connector_type == "http_json" else {}
    secret = {name: value for name, value in headers.items() if looks_secret(name, value)}
    if not secret:
        return None
    if len(secret) > 1 or credentials_seen(session, connection.workspace_id, [connection.id]):
        return False
    ((name, value),) = secret.items()
    give_credentials(session, connection, CONNECTORS["http_json"], _as_credentials(name, value))
    kept = {name: value for name, value in headers.items() if name not in secret}
    connection.config = {**connection.config, "headers": kept}
    connection.updated_at = clock()
    session.flush()
    return True


def config_problems(kind: ConnectorType, config: Any, *, allow_private: bool) -> list[Problem]:
    """What is wrong with a configuration as somebody writes it."""
    problems = problems_of(kind.config, config, "/config")
    if problems:
        return problems
    if not _is_storable(config):
        return [Problem("/config", f"Must be at most {LARGEST_CONFIG // 1024} KiB of JSON.")]
    if kind.check is None:
        return []
    loaded = dict(kind.config().load(config))
    return [Problem("/config" + problem.path, problem.message) for problem in kind.check(loaded, allow_private)]


# --------------------------------------------------------------------------------------------------------


def _kind(connector_type: str) -> ConnectorType:
    kind = CONNECTORS.get(connector_type)
    if kind is None:
        words = unknown_type(connector_type)
        raise InvalidConnectionError([Problem("/connectorType", words[:1].upper() + words[1:])])
    return kind


def _as_credentials(name: str, value: str) -> dict[str, str]:
    scheme, _, token = value.partition(" ")
    if name.lower() == "authorization" and scheme.lower() == "bearer" and token.strip():
        return {"scheme": "bearer", "token": token.strip()}
    return {"scheme": "header", "name": name, "value": value}


def _is_storable(config: Any) -> bool:
    try:
        return len(json.dumps(config, allow_nan=False).encode()) <= LARGEST_CONFIG
    except (TypeError, ValueError, RecursionError):
        return False


def _name_problems(name: str) -> list[Problem]:
    if 1 <= len(name) <= LONGEST_NAME and name.strip():
        return []
    return [Problem("/name", f"Must be a text of 1 to {LONGEST_NAME} characters.")]


def _credentials_problems(kind: ConnectorType, given: Any, *, allow_private: bool) -> list[Problem]:
    if problems := credentials_problems(kind, given):
        return problems
    return [
        problem
        for name in ("tokenUrl", "authorizeUrl")
        if name in given
        for problem in _address_problems(f"/credentials/{name}", given[name], allow_private=allow_private)
    ]


def _address_problems(path: str, url: str, *, allow_private: bool) -> list[Problem]:
    try:
        check_url(url, allow_private=allow_private)
    except AddressRefusedError as error:
        return [Problem(path, str(error))]
    return []


def _audience_problems(
    session: Session, connection: Connection, kind: ConnectorType, config: Mapping[str, Any]
) -> list[Problem]:
    before, after = asked_by(kind, connection.config), asked_by(kind, config)
    if before == after or not credentials_seen(session, connection.workspace_id, [connection.id]):
        return []
    return [
        Problem(
            "/credentials",
            f"The credentials were given for {before}: to have them sent to {after}, give them again with this change.",
        )
    ]


def asked_by(kind: ConnectorType, config: Mapping[str, Any]) -> str | None:
    """To which origin the credentials of this configuration are sent."""
    try:
        return kind.asks(dict(kind.config().load(config)))
    except ValidationError:
        return None  # It was written for another version.


def _require_room(session: Session, workspace_id: uuid.UUID) -> None:
    session.execute(text(TAKE_TURNS), {"workspace_id": str(workspace_id)}, bind_arguments=_BIND)
    counted = select(func.count()).select_from(Connection).where(Connection.workspace_id == workspace_id)
    if session.scalars(counted).one() >= MOST_CONNECTIONS:
        raise InvalidConnectionError(
            [Problem("", f"A workspace may have {MOST_CONNECTIONS} connections and this one has; delete one first.")]
        )
