"""Files that are uploaded for a connection whose connector reads one."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import fields, validate
from sqlalchemy.orm import Session
from werkzeug.exceptions import RequestEntityTooLarge

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import ProblemError, invalid, not_found, require_found
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment
from jobplatform.connectors import Spool, find_upload, forget_upload, keep_upload
from jobplatform.errors import Problem
from jobplatform.models import Connection, Upload

uploads = Resource("uploads", __name__, description="Files of connections")

FILE = "/workspaces/<uuid:workspaceId>/connections/<uuid:connectionId>/file"
LARGEST_UPLOAD = 64 * 1024 * 1024
#: Connector types that read a file.
READERS = ("csv",)
TYPES = ("text/csv", "text/plain", "application/octet-stream")
USUAL_NAME = "file"
_CHUNK = 262_144
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class UploadQuerySchema(CamelSchema):
    """About the file."""

    name = fields.String(load_default=USUAL_NAME, validate=validate.Length(1, 200))


class UploadSchema(CamelSchema):
    """The file of a connection."""

    id = fields.UUID(required=True)
    connection_id = fields.UUID(required=True)
    name = fields.String(required=True)
    size = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    uploaded_at = Moment(required=True)


_UPLOAD = UploadSchema()
_EXAMPLE = "id,email\r\n1,ada@example.com\r\n"
_BODY = {
    "required": True,
    "content": {kind: {"schema": {"type": "string", "format": "binary"}, "example": _EXAMPLE} for kind in TYPES},
}


@uploads.endpoint("PUT", FILE, Scope.CONNECTIONS, refuses=(400, 404, 413, 415, 422), largest_body=LARGEST_UPLOAD)
@uploads.query(UploadQuerySchema)
@uploads.about(requestBody=_BODY)
@uploads.answers(200, UploadSchema)
def upload_file(query: dict[str, Any], workspace_id: UUID, connection_id: UUID) -> Response:
    """Upload a file, in place of the one before

    The body is the file itself. Up to 64 MiB; a larger one is better read from a URL.
    """
    if request.mimetype not in TYPES:
        raise ProblemError(415, f"The body is the file itself, as {', '.join(TYPES)}.")
    if _UNSTORABLE.search(query["name"]):
        raise invalid([Problem("?name", "contains a character that cannot be stored")])
    with mounted().transaction() as session:
        _require_reader(session, workspace_id, connection_id)
    with Spool() as spool:
        _receive(spool)
        # Only now: a slow client would keep a transaction open for as long as it likes.
        with mounted().transaction() as session:
            _require_reader(session, workspace_id, connection_id)
            upload = keep_upload(
                session,
                workspace_id,
                connection_id,
                name=query["name"],
                file=spool.file,
                size=spool.size,
                digest=spool.digest,
            )
            session.refresh(upload)
            target = f"connection:{connection_id}"
            audit(session, "connection.upload", target, workspace_id, size=spool.size, sha256=spool.digest.hex())
            session.expunge(upload)
    return respond(_UPLOAD, _describe(upload))


@uploads.endpoint("GET", FILE, Scope.CONNECTIONS, refuses=(404,))
@uploads.answers(200, UploadSchema)
def show_file(workspace_id: UUID, connection_id: UUID) -> Response:
    """Show what was uploaded for a connection, without what is in it"""
    with mounted().reading() as session:
        found = require_found(find_upload(session, workspace_id, connection_id))
    return respond(_UPLOAD, _describe(found))


@uploads.endpoint("DELETE", FILE, Scope.CONNECTIONS, refuses=(404,))
@uploads.answers(204)
def delete_file(workspace_id: UUID, connection_id: UUID) -> Response:
    """Delete a connection's file; the records that were read from it stay"""
    with mounted().transaction() as session:
        if not forget_upload(session, workspace_id, connection_id):
            raise not_found()
        audit(session, "connection.file.delete", f"connection:{connection_id}", workspace_id)
    return Response(status=204)


def _require_reader(session: Session, workspace_id: UUID, connection_id: UUID) -> None:
    connection = require_found(session.get(Connection, (workspace_id, connection_id)))
    if connection.connector_type not in READERS:
        problem = f"is of the type {connection.connector_type}, which reads no file"
        raise invalid([Problem("{connectionId}", problem)])


def _receive(spool: Spool) -> None:
    try:
        while chunk := request.stream.read(_CHUNK):
            if spool.size + len(chunk) > LARGEST_UPLOAD:
                raise RequestEntityTooLarge
            spool.write(chunk)
    except RequestEntityTooLarge:
        # werkzeug says so too, of a body that announces its length.
        largest = LARGEST_UPLOAD // 1024 // 1024
        raise ProblemError(413, f"The file is larger than {largest} MiB; have it read from a URL instead.") from None
    if not spool.size:
        raise ProblemError(400, "The body is empty; it has to be the file.")


def _describe(upload: Upload) -> dict[str, Any]:
    named = {name: getattr(upload, name) for name in ("id", "connection_id", "name", "size", "uploaded_at")}
    return {**named, "sha256": upload.digest.hex()}
