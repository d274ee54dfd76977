"""Connections of a workspace: its configured connectors, with credentials that only ever come in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import columns_of, page_of, respond
from jobplatform.api.auditing import audit
from jobplatform.api.editing import require_still_locked, tag_of_connection, tagged_as
from jobplatform.api.mounted import mounted, reach_of_request, serving_url
from jobplatform.api.problems import require_found, sealing
from jobplatform.api.resource import AT_ITS_URL, EDITABLE, EDITED, LISTED, Resource
from jobplatform.api.schemas.connections import (
    ConnectionChangeSchema,
    ConnectionPageSchema,
    ConnectionSchema,
    NewConnectionSchema,
    TriedSchema,
    TryConnectionSchema,
)
from jobplatform.api.schemas.jobs import PageQuerySchema
from jobplatform.connectors import (
    CredentialsSeen,
    attention_of,
    change_connection,
    create_connection,
    credentials_seen,
    delete_connection,
    get_connection,
    list_connections,
    try_connection,
)
from jobplatform.models import Connection, confine, set_free
from jobplatform.redaction import redact_configuration

connections = Resource("connections", __name__, description="Connections of a workspace to its sources")

CONNECTIONS = "/workspaces/<uuid:workspaceId>/connections"
CONNECTION = CONNECTIONS + "/<uuid:connectionId>"

A_BODY = {
    "connectorType": "http_json",
    "name": "Our CRM",
    "config": {"baseUrl": "https://crm.example.com", "streams": {"contacts": {"path": "/v1/contacts"}}},
    "credentials": {"scheme": "bearer", "token": "…"},
}

_CONNECTION, _PAGE, _TRIED = ConnectionSchema(), ConnectionPageSchema(), TriedSchema()


@connections.endpoint("GET", CONNECTIONS, Scope.CONNECTIONS, refuses=(404,))
@connections.query(PageQuerySchema)
@connections.answers(200, ConnectionPageSchema, headers=LISTED)
def list_workspace_connections(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List connections, oldest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_connections(session, workspace_id, limit=limit + 1, after=query["cursor"])
        described = _describe(session, workspace_id, found)
    return page_of(_PAGE, described, limit, lambda item: UUID(str(item["id"])))


@connections.endpoint("POST", CONNECTIONS, Scope.CONNECTIONS, refuses=(400, 404, 413, 415, 422))
@connections.body(NewConnectionSchema, example=A_BODY)
@connections.answers(201, ConnectionSchema, headers={**AT_ITS_URL, **EDITABLE})
def create_workspace_connection(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Connect a source

    What its configuration may say is the connector type's affair; a mistake is answered with its place. Credentials are
    sealed, and never answered.
    """
    with mounted().transaction() as session, sealing("/credentials", "Credentials"):
        made = create_connection(session, workspace_id, **body)
        _audit(session, "connection.create", made, connectorType=made.connector_type, **_said_of(body))
        answer = _answer(session, made, 201)
        answer.headers["Location"] = serving_url(
            "connections.show_workspace_connection", workspaceId=workspace_id, connectionId=made.id
        )
    return answer


@connections.endpoint("GET", CONNECTION, Scope.CONNECTIONS, refuses=(404,))
@connections.answers(200, ConnectionSchema, headers=EDITABLE)
def show_workspace_connection(workspace_id: UUID, connection_id: UUID) -> Response:
    """Show a connection"""
    with mounted().reading() as session:
        found = _found(session, workspace_id, connection_id)
        return _answer(session, found)


@connections.endpoint("PATCH", CONNECTION, Scope.CONNECTIONS, refuses=(400, 404, 412, 413, 415, 422))
@connections.body(ConnectionChangeSchema, example={"credentials": {"scheme": "bearer", "token": "…"}})
@connections.answers(200, ConnectionSchema, headers=EDITABLE)
@connections.headers(*EDITED)
def change_workspace_connection(body: dict[str, Any], workspace_id: UUID, connection_id: UUID) -> Response:
    """Change a connection

    What is not named stays; credentials of null are forgotten. New ones end that it needs attention. Credentials that
    were given for one address are not sent to another: with a new one they are given again.
    """
    with mounted().transaction() as session, sealing("/credentials", "Credentials"):
        found = _still(session, workspace_id, connection_id)
        change_connection(session, found, **body)
        _audit(session, "connection.change", found, changed=sorted(body), **_said_of(body))
        return _answer(session, found)


@connections.endpoint("DELETE", CONNECTION, Scope.CONNECTIONS, refuses=(404, 412))
@connections.answers(204)
@connections.headers(*EDITED)
def delete_workspace_connection(workspace_id: UUID, connection_id: UUID) -> Response:
    """Delete a connection, its credentials, and the records that were copied through it"""
    with mounted().transaction() as session:
        found = _still(session, workspace_id, connection_id)
        _audit(session, "connection.delete", found)
        delete_connection(session, found)
    return Response(status=204)


@connections.endpoint("POST", CONNECTION + "/test", Scope.CONNECTIONS, refuses=(400, 404, 413, 415, 422))
@connections.body(TryConnectionSchema, required=False, example={"stream": "contacts"})
@connections.answers(200, TriedSchema)
def test_workspace_connection(body: dict[str, Any], workspace_id: UUID, connection_id: UUID) -> Response:
    """Ask for one page, and say what was found; nothing is stored

    It is asked once, for ten seconds at most, and as long for a new token where one is needed. A source that does not
    accept the credentials is an answer, too.
    """
    with mounted().reading() as session:
        found = _found(session, workspace_id, connection_id)
    with _asking() as session:
        tried = try_connection(session, found, stream=body.get("stream"))
    with mounted().transaction() as session:
        _audit(session, "connection.test", found, ok=tried.ok)
    return respond(_TRIED, tried)


# --------------------------------------------------------------------------------------------------------


@contextmanager
def _asking() -> Iterator[Session]:
    """A Session for the short transactions of a client, which are not the request's own."""
    reach = reach_of_request()
    with mounted().sessions() as session:
        confine(session, reach.role, reach.workspace_id)
        try:
            yield session
        finally:
            session.rollback()
            set_free(session)


def _found(session: Session, workspace_id: UUID, connection_id: UUID, *, lock: bool = False) -> Connection:
    return require_found(get_connection(session, workspace_id, connection_id, lock=lock))


def _still(session: Session, workspace_id: UUID, connection_id: UUID) -> Connection:
    """Locked, to be changed or deleted by somebody who has read it; 412 where that is another by now."""
    found = _found(session, workspace_id, connection_id, lock=True)
    require_still_locked(tag_of_connection(found, _seen_of(session, found)))
    return found


def _answer(session: Session, connection: Connection, status: int = 200) -> Response:
    seen = _seen_of(session, connection)
    answer = respond(_CONNECTION, _describe_one(connection, seen), status)
    return tagged_as(answer, tag_of_connection(connection, seen))


def _seen_of(session: Session, connection: Connection) -> CredentialsSeen | None:
    return credentials_seen(session, connection.workspace_id, [connection.id]).get(connection.id)


def _said_of(body: dict[str, Any]) -> dict[str, Any]:
    """Of credentials the audit log learns their scheme, or that they were taken away."""
    if "credentials" not in body:
        return {}
    given = body["credentials"]
    return {"credentials": None if given is None else given["scheme"]}


def _audit(session: Session, action: str, connection: Connection, **details: Any) -> None:
    audit(session, action, f"connection:{connection.id}", connection.workspace_id, name=connection.name, **details)


def _describe(session: Session, workspace_id: UUID, found: Sequence[Connection]) -> list[dict[str, Any]]:
    seen = credentials_seen(session, workspace_id, [one.id for one in found])
    return [_describe_one(one, seen.get(one.id)) for one in found]


def _describe_one(connection: Connection, seen: CredentialsSeen | None) -> dict[str, Any]:
    attention = attention_of(connection.connector_type, connection.attention, has_credentials=seen is not None)
    return {
        **columns_of(_CONNECTION, connection),
        # One of before there were credentials may hold some.
        "config": redact_configuration(connection.config),
        "has_credentials": seen is not None,
        "credentials_scheme": seen.scheme if seen else None,
        "credentials_set_at": seen.set_at if seen else None,
        "credentials_renewed_at": seen.renewed_at if seen else None,
        "status": "ready" if attention is None else "needs_attention",
        "attention": attention,
    }
