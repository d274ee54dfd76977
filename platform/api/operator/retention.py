"""How long jobs are kept, by task and by workspace."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import not_found, require_found
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.fields import CamelSchema, WholeNumber, camel
from jobplatform.errors import InvalidLimitError, Problem
from jobplatform.queue import RetentionRule, clear_retention, find_workspace, list_retention, set_retention

retention = Resource("retention", __name__, description="How long jobs are kept, for operators")

RETENTION = "/operator/retention"
OF_TASK = RETENTION + "/tasks/<task>"
OF_WORKSPACE = RETENTION + "/workspaces/<uuid:workspaceId>"
OF_BOTH = OF_WORKSPACE + "/tasks/<task>"
BODY = (400, 404, 413, 415)

STATUSES = ("completed", "failed", "cancelled")


class RetentionChangeSchema(CamelSchema):
    """How many seconds jobs are kept after they ended. What is not named stays; null says nothing any more."""

    completed_seconds = WholeNumber(allow_none=True)
    failed_seconds = WholeNumber(
        allow_none=True, metadata={"description": "Counts for cancelled ones too, unless said"}
    )
    cancelled_seconds = WholeNumber(allow_none=True)


class RetentionRuleSchema(CamelSchema):
    """What is said of a task, of a workspace, or of a task in a workspace. For each status the more specific counts."""

    workspace_id = fields.UUID(required=True, allow_none=True)
    task = fields.String(required=True, allow_none=True)
    completed_seconds = fields.Float(required=True, allow_none=True)
    failed_seconds = fields.Float(required=True, allow_none=True)
    cancelled_seconds = fields.Float(required=True, allow_none=True)
    declared = fields.Boolean(required=True, metadata={"description": "By the task's code; it counts last."})


class RetentionRulesSchema(CamelSchema):
    """Everything that is said; of what is not, the settings decide."""

    items = fields.List(fields.Nested(RetentionRuleSchema), required=True)


class RetentionQuerySchema(CamelSchema):
    """Which rules."""

    workspace_id = fields.UUID(load_default=None)


_RULE, _RULES = RetentionRuleSchema(), RetentionRulesSchema()

A_CHANGE = {"completedSeconds": 86_400, "failedSeconds": 2_592_000}
EXAMPLE = {
    "workspaceId": None,
    "task": "sync",
    "completedSeconds": 86_400.0,
    "failedSeconds": 2_592_000.0,
    "cancelledSeconds": None,
    "declared": False,
}


@retention.endpoint("GET", RETENTION, Scope.OPERATOR)
@retention.query(RetentionQuerySchema)
@retention.answers(200, RetentionRulesSchema, example={"items": [EXAMPLE]})
def list_retention_rules(query: dict[str, Any]) -> Response:
    """List how long jobs are kept: what code declares of tasks, what was set for them, what was set for workspaces"""
    with mounted().reading() as session:
        found = list_retention(session, workspace_id=query["workspace_id"])
    return respond(_RULES, {"items": [_describe(one) for one in found]})


@retention.endpoint("PATCH", OF_TASK, Scope.OPERATOR, refuses=BODY)
@retention.body(RetentionChangeSchema, example=A_CHANGE)
@retention.answers(200, RetentionRuleSchema, example=EXAMPLE)
def change_retention_of_task(body: dict[str, Any], task: str) -> Response:
    """Keep jobs of a task longer or shorter; it counts for what has ended already, too"""
    return _change(body, None, task)


@retention.endpoint("DELETE", OF_TASK, Scope.OPERATOR, refuses=(404,))
@retention.answers(204)
def clear_retention_of_task(task: str) -> Response:
    """Take back what was set for a task; what its code declares counts again"""
    return _clear(None, task)


@retention.endpoint("PATCH", OF_WORKSPACE, Scope.OPERATOR, refuses=BODY)
@retention.body(RetentionChangeSchema, example=A_CHANGE)
@retention.answers(200, RetentionRuleSchema)
def change_retention_of_workspace(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Keep jobs of a workspace longer or shorter"""
    return _change(body, workspace_id, None)


@retention.endpoint("DELETE", OF_WORKSPACE, Scope.OPERATOR, refuses=(404,))
@retention.answers(204)
def clear_retention_of_workspace(workspace_id: UUID) -> Response:
    """Take back what was set for a workspace; what was set for single tasks of it stays"""
    return _clear(workspace_id, None)


@retention.endpoint("PATCH", OF_BOTH, Scope.OPERATOR, refuses=BODY)
@retention.body(RetentionChangeSchema, example=A_CHANGE)
@retention.answers(200, RetentionRuleSchema)
def change_retention_of_task_in_workspace(body: dict[str, Any], workspace_id: UUID, task: str) -> Response:
    """Keep jobs of a task in one workspace longer or shorter"""
    return _change(body, workspace_id, task)


@retention.endpoint("DELETE", OF_BOTH, Scope.OPERATOR, refuses=(404,))
@retention.answers(204)
def clear_retention_of_task_in_workspace(workspace_id: UUID, task: str) -> Response:
    """Take back what was set for a task in one workspace"""
    return _clear(workspace_id, task)


def _change(body: dict[str, Any], workspace_id: UUID | None, task: str | None) -> Response:
    with mounted().transaction() as session:
        if workspace_id is not None:
            require_found(find_workspace(session, workspace_id))
        try:
            keep = set_retention(session, _durations(body), workspace_id=workspace_id, task=task)
        except InvalidLimitError as error:
            raise InvalidLimitError([_in_seconds(problem) for problem in error.problems]) from None
        told = {camel(name): value for name, value in body.items()}
        audit(session, "retention.set", _target(workspace_id, task), workspace_id, task=task, **told)
    return respond(_RULE, _describe(RetentionRule(workspace_id, task, keep, declared=False)))


def _clear(workspace_id: UUID | None, task: str | None) -> Response:
    with mounted().transaction() as session:
        if not clear_retention(session, workspace_id=workspace_id, task=task):
            raise not_found()
        audit(session, "retention.clear", _target(workspace_id, task), workspace_id, task=task)
    return Response(status=204)


def _target(workspace_id: UUID | None, task: str | None) -> str:
    return f"task:{task}" if workspace_id is None else f"workspace:{workspace_id}"


def _durations(body: dict[str, Any]) -> dict[str, datetime.timedelta | None]:
    try:
        return {
            name.removesuffix("_seconds"): None if value is None else datetime.timedelta(seconds=value)
            for name, value in body.items()
        }
    except OverflowError:
        raise InvalidLimitError([Problem("", "a duration is too long")]) from None


def _in_seconds(problem: Problem) -> Problem:
    """Under the name that the body has for it."""
    named = problem.path.strip("/") in STATUSES
    return Problem(f"{problem.path}Seconds", problem.message) if named else problem


def _describe(one: RetentionRule) -> dict[str, Any]:
    seconds = {f"{name}_seconds": value for name, value in one.keep.as_seconds().items()}
    return {"workspace_id": one.workspace_id, "task": one.task, "declared": one.declared, **seconds}
