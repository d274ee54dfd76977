"""Pauses: what is not started for now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import not_found
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.operator import NewPauseSchema, PauseSchema, PausesQuerySchema, PausesSchema
from jobplatform.errors import InvalidLimitError
from jobplatform.models import PauseKind
from jobplatform.queue import list_pauses, pause, resume

pauses = Resource("pauses", __name__, description="Pauses, for operators")

PAUSES = "/operator/pauses"
PAUSE = PAUSES + "/<any(queue, task, workspace, resource):kind>/<path:key>"

_PAUSE, _PAUSES = PauseSchema(), PausesSchema()

A_PAUSE = {"reason": "the CRM is down", "until": "2026-01-05T12:00:00Z"}
EXAMPLE = {
    "kind": "resource",
    "key": "hubspot:4711",
    **A_PAUSE,
    "actor": "night shift",
    "pausedAt": "2026-01-05T09:00:00Z",
}


@pauses.endpoint("GET", PAUSES, Scope.OPERATOR)
@pauses.query(PausesQuerySchema)
@pauses.answers(200, PausesSchema, example={"items": [EXAMPLE]})
def list_all_pauses(query: dict[str, Any]) -> Response:
    """List what is paused now, by kind and key"""
    with mounted().reading() as session:
        return respond(_PAUSES, {"items": list_pauses(session, query["kind"])})


@pauses.endpoint("PUT", PAUSE, Scope.OPERATOR, refuses=(400, 404, 413, 415))
@pauses.body(NewPauseSchema, example=A_PAUSE)
@pauses.answers(200, PauseSchema, example=EXAMPLE)
def put_pause(body: dict[str, Any], kind: str, key: str) -> Response:
    """Pause a queue, a task, a workspace (by its id) or a resource

    Nothing more of it is started; what runs goes on to its end. Pausing again replaces reason and `until`.
    """
    with mounted().transaction() as session:
        made = pause(session, kind, key, actor=current_principal().name, **body)
        audit(session, f"{kind}.pause", f"{kind}:{made.key}", _workspace(kind, made.key), **body)
        return respond(_PAUSE, made)


@pauses.endpoint("DELETE", PAUSE, Scope.OPERATOR, refuses=(404,))
@pauses.answers(204)
def delete_pause(kind: str, key: str) -> Response:
    """Resume; idle workers look at once"""
    with mounted().transaction() as session:
        if not _resume(session, kind, key):
            raise not_found()
        workspace_id = _workspace(kind, key)
        audit(session, f"{kind}.resume", f"{kind}:{workspace_id or key}", workspace_id)
    return Response(status=204)


def _resume(session: Any, kind: str, key: str) -> bool:
    try:
        return resume(session, kind, key)
    except InvalidLimitError:
        # What cannot be the name of such a thing is not paused.
        return False


def _workspace(kind: str, key: str) -> UUID | None:
    return UUID(key) if kind == PauseKind.WORKSPACE else None
