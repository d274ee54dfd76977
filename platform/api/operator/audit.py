"""The audit log, for reading."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import page_of
from jobplatform.api.mounted import mounted
from jobplatform.api.resource import LISTED, Resource
from jobplatform.api.schemas.operator import AuditPageSchema, AuditQuerySchema
from jobplatform.queue import list_audit

audit_log = Resource("audit", __name__, description="The audit log, for operators")

_PAGE = AuditPageSchema()
#: The ids of lines are no larger; a cursor has room for more.
LARGEST_ID = 2**63 - 1

EXAMPLE = {
    "id": 42,
    "at": "2026-01-05T09:00:00.000000Z",
    "actor": "night shift",
    "tokenId": "0a1b2c3d4e5f6a7b8c",
    "workspaceId": "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10",
    "action": "workspace.pause",
    "target": "workspace:0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10",
    "requestId": "5f0c8b6a2e9d4c0f9a3b7d1e6c8f2a4b",
    "details": {"reason": "unpaid", "until": None},
}


@audit_log.endpoint("GET", "/operator/audit", Scope.OPERATOR)
@audit_log.query(AuditQuerySchema)
@audit_log.answers(200, AuditPageSchema, headers=LISTED, example={"items": [EXAMPLE], "nextCursor": None})
def list_audit_log(query: dict[str, Any]) -> Response:
    """List who did what to whom, newest first"""
    limit, cursor = query.pop("limit"), query.pop("cursor")
    before = min(cursor.int, LARGEST_ID) if cursor else None
    with mounted().reading() as session:
        found = list_audit(session, limit=limit + 1, before=before, **query)
    return page_of(_PAGE, found, limit, lambda entry: UUID(int=entry.id))
