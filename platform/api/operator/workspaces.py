"""Workspaces, for whoever runs the platform: what they have to do, and what they may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, url_for
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import page_of, respond
from jobplatform.api.auditing import audit
from jobplatform.api.editing import require_still, tag_of_workspace_limits
from jobplatform.api.mounted import mounted, serving_blueprint_name
from jobplatform.api.operator.setting import Setting
from jobplatform.api.problems import ProblemError, require_found
from jobplatform.api.resource import EDITABLE, EDITED, LISTED, Resource
from jobplatform.api.schemas.fields import camel
from jobplatform.api.schemas.jobs import PageQuerySchema, ProblemSchema
from jobplatform.api.schemas.operator import (
    LimitsChangeSchema,
    LimitsSchema,
    NewWorkspaceSchema,
    WorkspaceChangeSchema,
    WorkspaceLimitsSchema,
    WorkspacePageSchema,
    WorkspaceSchema,
)
from jobplatform.errors import InvalidLimitError, Problem
from jobplatform.models import PauseKind, Workspace, WorkspaceLimits
from jobplatform.queue import (
    LimitsOfWorkspace,
    WorkspaceSeen,
    clear_workspace_limits,
    find_workspace,
    limits_of_workspaces,
    list_workspaces,
    pauses_of,
    read_workspace_limits,
    set_workspace_limits,
)

workspaces = Resource("workspaces", __name__, description="Workspaces, for operators")

WORKSPACES = "/operator/workspaces"
WORKSPACE = WORKSPACES + "/<uuid:workspaceId>"

_WORKSPACE, _PAGE = WorkspaceSchema(), WorkspacePageSchema()
_LIMITS = Setting[LimitsOfWorkspace](
    "workspace", WorkspaceLimits, WorkspaceLimitsSchema(), read_workspace_limits, tag_of_workspace_limits
)

AN_ID = "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10"
A_CHANGE = {"plan": "gold", "maxRunning": 20}
LIMITS_EXAMPLE = {
    "workspaceId": AN_ID,
    "plan": "gold",
    "own": {**dict.fromkeys(map(camel, LimitsSchema().fields)), "maxRunning": 20},
    "effective": {
        "weight": 10, "maxRunning": 20, "maxPending": 10_000, "shed": False, "rateUnits": None, "ratePeriodMs": None,
    },
}  # fmt: skip
EXAMPLE = {
    "id": AN_ID,
    "name": "Acme",
    "createdAt": "2026-01-05T09:00:00.000000Z",
    "pending": 12,
    "ready": 2,
    "scheduled": 9,
    "blocked": 1,
    "running": 3,
    "pause": None,
    "limits": LIMITS_EXAMPLE,
}


@workspaces.endpoint("GET", WORKSPACES, Scope.OPERATOR)
@workspaces.query(PageQuerySchema)
@workspaces.answers(200, WorkspacePageSchema, headers=LISTED)
def list_all_workspaces(query: dict[str, Any]) -> Response:
    """List workspaces with what they have to do, by id

    Those that have jobs or limits and no row of their own, because an application keeps its workspaces itself, are
    there too.
    """
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_workspaces(session, limit=limit + 1, after=query["cursor"])
        described = _describe(session, found)
    return page_of(_PAGE, described, limit, lambda item: UUID(str(item["id"])))


@workspaces.endpoint("POST", WORKSPACES, Scope.OPERATOR, refuses=(400, 413, 415))
@workspaces.may_answer(409, schema=ProblemSchema, content_type="application/problem+json", description="It exists")
@workspaces.body(NewWorkspaceSchema, example={"name": "Acme", "limits": A_CHANGE})
@workspaces.answers(201, WorkspaceSchema, example=EXAMPLE)
def create_workspace(body: dict[str, Any]) -> Response:
    """Create a workspace, with an id of its own or of yours"""
    workspace_id = body.get("id") or uuid7()
    with mounted().transaction() as session:
        values = {"id": workspace_id, "name": body["name"]}
        made = session.execute(insert(Workspace).values(values).on_conflict_do_nothing().returning(Workspace.id))
        if made.first() is None:
            raise ProblemError(409, f"There is a workspace {workspace_id} already.")
        _set_limits(session, workspace_id, body)
        audit(session, "workspace.create", f"workspace:{workspace_id}", workspace_id, **_told(body))
        described = _describe_one(session, workspace_id)
    url = url_for(f"{serving_blueprint_name()}.workspaces.show_workspace", workspaceId=workspace_id)
    return respond(_WORKSPACE, described, 201, {"Location": url})


@workspaces.endpoint("GET", WORKSPACE, Scope.OPERATOR, refuses=(404,))
@workspaces.answers(200, WorkspaceSchema, example=EXAMPLE)
def show_workspace(workspace_id: UUID) -> Response:
    """Show a workspace"""
    with mounted().reading() as session:
        described = _describe_one(session, workspace_id)
    return respond(_WORKSPACE, described)


@workspaces.endpoint("PATCH", WORKSPACE, Scope.OPERATOR, refuses=(400, 404, 413, 415))
@workspaces.body(WorkspaceChangeSchema, example={"name": "Acme Ltd", "limits": A_CHANGE})
@workspaces.answers(200, WorkspaceSchema, example=EXAMPLE)
def change_workspace(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Change a workspace's name and limits

    What is not named stays; null clears a limit.
    """
    with mounted().transaction() as session:
        _require(session, workspace_id)
        if "name" in body:
            named = insert(Workspace).values(id=workspace_id, name=body["name"])
            session.execute(named.on_conflict_do_update(index_elements=["id"], set_={"name": body["name"]}))
        _set_limits(session, workspace_id, body)
        audit(session, "workspace.change", f"workspace:{workspace_id}", workspace_id, **_told(body))
        described = _describe_one(session, workspace_id)
    return respond(_WORKSPACE, described)


@workspaces.endpoint("GET", WORKSPACE + "/limits", Scope.OPERATOR, refuses=(404,))
@workspaces.answers(200, WorkspaceLimitsSchema, example=LIMITS_EXAMPLE, headers=EDITABLE)
def show_workspace_limits(workspace_id: UUID) -> Response:
    """Show what counts for a workspace: its own values, before its plan's, before the defaults"""
    with mounted().reading() as session:
        _require(session, workspace_id)
        return _LIMITS.answer(read_workspace_limits(session, workspace_id))


@workspaces.endpoint("PATCH", WORKSPACE + "/limits", Scope.OPERATOR, refuses=(400, 404, 412, 413, 415))
@workspaces.body(LimitsChangeSchema, example=A_CHANGE)
@workspaces.answers(200, WorkspaceLimitsSchema, example=LIMITS_EXAMPLE, headers=EDITABLE)
@workspaces.headers(*EDITED)
def change_workspace_limits(changes: dict[str, Any], workspace_id: UUID) -> Response:
    """Change a workspace's plan and its own limits

    What is not named stays; null clears, so that the plan's value counts again. Counts from the next claim on; what
    runs already goes on.
    """
    with mounted().transaction() as session:
        _require(session, workspace_id)
        require_still(
            session, WorkspaceLimits, lambda: read_workspace_limits(session, workspace_id), tag_of_workspace_limits
        )
        limits = set_workspace_limits(session, workspace_id, changes)
        audit(session, "workspace.limit", f"workspace:{workspace_id}", workspace_id, **_told(changes))
    return _LIMITS.answer(limits)


@workspaces.endpoint("DELETE", WORKSPACE + "/limits", Scope.OPERATOR, refuses=(404, 412))
@workspaces.answers(204)
@workspaces.headers(*EDITED)
def delete_workspace_limits(workspace_id: UUID) -> Response:
    """Take a workspace off its plan and back to the defaults"""
    return _LIMITS.clear("workspace.clear_limits", clear_workspace_limits, workspace_id)


def _set_limits(session: Session, workspace_id: UUID, body: dict[str, Any]) -> None:
    if "limits" not in body:
        return
    try:
        set_workspace_limits(session, workspace_id, body["limits"])
    except InvalidLimitError as error:
        raise InvalidLimitError([Problem("/limits" + path, message) for path, message in error.problems]) from None


def _require(session: Session, workspace_id: UUID) -> WorkspaceSeen:
    return require_found(find_workspace(session, workspace_id))


def _describe_one(session: Session, workspace_id: UUID) -> dict[str, Any]:
    return _describe(session, [_require(session, workspace_id)])[0]


def _describe(session: Session, found: Sequence[WorkspaceSeen]) -> list[dict[str, Any]]:
    """Workspaces as :class:`WorkspaceSchema` takes them."""
    limits = limits_of_workspaces(session, [one.id for one in found])
    paused = pauses_of(session, PauseKind.WORKSPACE, [str(one.id) for one in found])
    return [
        {**one._asdict(), "pending": one.pending, "limits": limits[one.id], "pause": paused.get(str(one.id))}
        for one in found
    ]


def _told(body: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, under the names it was asked for by."""
    return {camel(name): _told(value) if isinstance(value, dict) else value for name, value in body.items()}
