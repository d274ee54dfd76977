"""Files that records were exported to, and the links by which they are fetched."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, send_file
from marshmallow import fields
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import job_url, page_of, respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import Reach, mounted, serving_url
from jobplatform.api.problems import ProblemError, not_found, require_found
from jobplatform.api.resource import LISTED, Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment
from jobplatform.api.schemas.jobs import PageQuerySchema
from jobplatform.connectors import FolderStore, find_linked, open_store, read_link_token, renew_link
from jobplatform.models import ExportFile, Role, clock
from jobplatform.settings import Settings

exports = Resource("exports", __name__, description="Exported records")
downloads = Resource("downloads", __name__, description="Files behind links")

EXPORTS = "/workspaces/<uuid:workspaceId>/exports"
EXPORT = EXPORTS + "/<uuid:exportId>"


class ExportSchema(CamelSchema):
    """A file that records were exported to. Without ``rows`` it is still being written."""

    id = fields.UUID(required=True)
    job_id = fields.UUID(required=True)
    job_url = fields.String(required=True)
    name = fields.String(required=True)
    rows = fields.Integer(required=True, allow_none=True)
    bytes = fields.Integer(required=True, allow_none=True)
    sha256 = fields.String(required=True, allow_none=True)
    made_at = Moment(required=True)
    link_expires_at = Moment(required=True, allow_none=True)
    expires_at = Moment(required=True)


class ExportPageSchema(CamelSchema):
    """One page of a list; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(ExportSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class LinkSchema(CamelSchema):
    """A link by which anybody can fetch the file until it expires."""

    url = fields.String(required=True)
    expires_at = Moment(required=True)


_EXPORT, _PAGE, _LINK = ExportSchema(), ExportPageSchema(), LinkSchema()


@exports.endpoint("GET", EXPORTS, Scope.CONNECTIONS, refuses=(404,))
@exports.query(PageQuerySchema)
@exports.answers(200, ExportPageSchema, headers=LISTED)
def list_exports(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List exports, newest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = _newest(session, workspace_id, limit + 1, query["cursor"])
    return page_of(_PAGE, found, limit, lambda export: export.id, _describe)


@exports.endpoint("GET", EXPORT, Scope.CONNECTIONS, refuses=(404,))
@exports.answers(200, ExportSchema)
def show_export(workspace_id: UUID, export_id: UUID) -> Response:
    """Show an export"""
    with mounted().reading() as session:
        found = _find(session, workspace_id, export_id)
    return respond(_EXPORT, _describe(found))


@exports.endpoint("POST", EXPORT + "/link", Scope.CONNECTIONS, refuses=(404,), shows_secret=True)
@exports.answers(201, LinkSchema)
def create_export_link(workspace_id: UUID, export_id: UUID) -> Response:
    """Make a new link to an export; the one before ends, where this API serves it"""
    settings = Settings.from_env()
    lasts = datetime.timedelta(hours=settings.export_link_hours)
    store = open_store(settings)
    with mounted().transaction() as session:
        export = _find(session, workspace_id, export_id)
        if export.digest is None:
            raise not_found()
        token = renew_link(session, export, lasts)
        session.refresh(export)
        audit(session, "export.link", f"export:{export_id}", workspace_id)
        expires_at = export.link_expires_at
        url = store.link(export.key, export.name, int(lasts.total_seconds()))
    return respond(_LINK, {"url": url or _url_of(settings, token), "expires_at": expires_at}, 201)


@exports.endpoint("DELETE", EXPORT, Scope.CONNECTIONS, refuses=(404,))
@exports.answers(204)
def delete_export(workspace_id: UUID, export_id: UUID) -> Response:
    """Have an export deleted: its links end at once, its file goes within minutes"""
    with mounted().transaction() as session:
        export = _find(session, workspace_id, export_id)
        export.expires_at = clock()
        audit(session, "export.delete", f"export:{export_id}", workspace_id)
    return Response(status=204)


@downloads.endpoint("GET", "/exports/<string:token>", None, refuses=(404, 503))
@downloads.answers(200, description="The file", content_type="application/octet-stream")
def download_export(token: str) -> Response:
    """Fetch an exported file by its link, which is all that this needs"""
    claim = require_found(read_link_token(token))
    with mounted().transaction(Reach(Role.API, claim.workspace_id)) as session:
        export = find_linked(session, claim)
        if export is not None:
            session.expunge(export)
    store = open_store(Settings.from_env())
    if export is None or not isinstance(store, FolderStore):
        raise not_found()
    return _send(store, export)


def _send(store: FolderStore, export: ExportFile) -> Response:
    path = store.path_of(export.key)
    if not path.is_file():
        # The row says that it is there: this process looks at another folder than the workers.
        detail = "The file is not to be found by this server; JOBPLATFORM_EXPORTS has to be one folder for all."
        raise ProblemError(503, detail, headers={"Retry-After": "60"})
    answer = send_file(
        path,
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=export.name,
        # All of it, and nothing to be kept by whoever passes it on.
        conditional=False,
        etag=False,
    )
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "private, no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def _newest(session: Session, workspace_id: UUID, limit: int, before: UUID | None) -> Sequence[ExportFile]:
    statement = select(ExportFile).where(ExportFile.workspace_id == workspace_id, ExportFile.expires_at > clock())
    if before is not None:
        statement = statement.where(ExportFile.id < before)
    return session.scalars(statement.order_by(ExportFile.id.desc()).limit(limit)).all()


def _find(session: Session, workspace_id: UUID, export_id: UUID) -> ExportFile:
    statement = select(ExportFile).where(
        ExportFile.workspace_id == workspace_id, ExportFile.id == export_id, ExportFile.expires_at > clock()
    )
    return require_found(session.scalars(statement).one_or_none())


def _describe(export: ExportFile) -> dict[str, Any]:
    names = ("id", "job_id", "name", "rows", "made_at", "link_expires_at", "expires_at")
    return {
        **{name: getattr(export, name) for name in names},
        "bytes": export.size,
        "sha256": None if export.digest is None else export.digest.hex(),
        "job_url": job_url(export.workspace_id, export.job_id),
    }


def _url_of(settings: Settings, token: str) -> str:
    if settings.public_url:
        return f"{settings.public_url}/exports/{token}"
    return serving_url("downloads.download_export", token=token)
