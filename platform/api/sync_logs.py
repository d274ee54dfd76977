"""What came of syncs, for longer than their jobs are kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields, validate

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import job_url, page_of, respond
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import require_found
from jobplatform.api.resource import LISTED, Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment, camel
from jobplatform.api.schemas.jobs import PageQuerySchema
from jobplatform.api.syncs import SYNC
from jobplatform.queue import SYNC_LOG_STATUSES, SyncLogSeen, get_sync_log, list_sync_logs

sync_logs = Resource("sync_logs", __name__, description="What came of syncs")

LOGS = SYNC + "/logs"


class ConnectionResultSchema(CamelSchema):
    """What became of one connection in a sync."""

    connection_id = fields.UUID(required=True)
    connector_type = fields.String(required=True)
    name = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(["completed", "failed"]))
    records = fields.Integer(required=True)
    written = fields.Integer(required=True, metadata={"description": "Those that were new or different."})
    deleted = fields.Integer(required=True, metadata={"description": "Those that an initial sync saw no more."})
    skipped = fields.Integer(required=True, metadata={"description": "What was no record."})


class SyncLogSchema(CamelSchema):
    """One sync and what came of it."""

    id = fields.UUID(required=True)
    job_id = fields.UUID(required=True)
    job_url = fields.String(required=True, metadata={"description": "Its job, as long as that is kept."})
    reference = fields.String(required=True, allow_none=True, metadata={"description": "What who asked calls it."})
    mode = fields.String(required=True, validate=validate.OneOf(["initial", "incremental"]))
    status = fields.String(required=True, validate=validate.OneOf(SYNC_LOG_STATUSES))
    total_records = fields.Integer(required=True)
    results = fields.List(fields.Nested(ConnectionResultSchema), required=True)
    errors = fields.List(fields.String(), required=True)
    warnings = fields.List(fields.String(), required=True)
    started_at = Moment(required=True)
    ended_at = Moment(required=True, allow_none=True)


class SyncLogPageSchema(CamelSchema):
    """One page of a list; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(SyncLogSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


_LOG, _PAGE = SyncLogSchema(), SyncLogPageSchema()


@sync_logs.endpoint("GET", LOGS, Scope.JOBS_READ, refuses=(404,))
@sync_logs.query(PageQuerySchema)
@sync_logs.answers(200, SyncLogPageSchema, headers=LISTED)
def list_workspace_sync_logs(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List what came of syncs, newest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_sync_logs(session, workspace_id, limit=limit + 1, before=query["cursor"])
    return page_of(_PAGE, found, limit, lambda log: log.id, lambda log: _describe(workspace_id, log))


@sync_logs.endpoint("GET", LOGS + "/<uuid:syncLogId>", Scope.JOBS_READ, refuses=(404,))
@sync_logs.answers(200, SyncLogSchema)
def show_sync_log(workspace_id: UUID, sync_log_id: UUID) -> Response:
    """Show what came of a sync"""
    with mounted().reading() as session:
        found = require_found(get_sync_log(session, workspace_id, sync_log_id))
    return respond(_LOG, _describe(workspace_id, found))


def _describe(workspace_id: UUID, log: SyncLogSeen) -> dict[str, Any]:
    results = [{name: one.get(camel(name), default) for name, default in _RESULT.items()} for one in log.results]
    return {**log._asdict(), "results": results, "job_url": job_url(workspace_id, log.job_id)}


#: As the sync wrote it, which may have been an older version's.
_RESULT = {
    name: 0 if isinstance(field, fields.Integer) else None for name, field in ConnectionResultSchema().fields.items()
}
