"""What goes over the wire below ``/operator``.

What a change may name, it may leave out: what is not named stays, and null clears.
"""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from jobplatform.api.access.principals import Scope
from jobplatform.api.schemas.fields import CamelSchema, Few, Flag, Moment, WholeNumber
from jobplatform.api.schemas.jobs import PageQuerySchema, ProblemSchema
from jobplatform.models import PauseKind

LARGEST = 2**31 - 1
#: The longest period of a rate: more than a year of milliseconds is a contract.
LONGEST_PERIOD = 366 * 86_400_000 - 1

_scopes = validate.OneOf([scope.value for scope in Scope])
_kinds = validate.OneOf([kind.value for kind in PauseKind])


def _number(low: int, high: int, about: str, **options: Any) -> WholeNumber:
    return WholeNumber(validate=validate.Range(low, high), metadata={"description": about}, **options)


def _text(longest: int, **options: Any) -> fields.String:
    return fields.String(validate=validate.Length(1, longest), **options)


class LimitsSchema(CamelSchema):
    """A share and limits; null where nothing is said."""

    weight = _number(1, 100, "The share of the slots, against other workspaces'", allow_none=True)
    max_running = _number(0, LARGEST, "Jobs that run at a time", allow_none=True)
    max_pending = _number(0, LARGEST, "Jobs that may wait", allow_none=True)
    shed = Flag(
        allow_none=True,
        metadata={"description": "With too many waiting, give up the least important instead of refusing the new one"},
    )
    rate_units = _number(1, LARGEST, "Jobs that start in each period; together with ratePeriodMs", allow_none=True)
    rate_period_ms = _number(1, LONGEST_PERIOD, "Milliseconds of that period", allow_none=True)


class PlanSchema(LimitsSchema):
    """A preset: what counts for a workspace on it, wherever the workspace has no value of its own."""

    name = fields.String(required=True)


class PlansSchema(CamelSchema):
    """Every plan, by name."""

    items = fields.List(fields.Nested(PlanSchema), required=True)


class PlanInUseSchema(ProblemSchema):
    """The problem of a plan that workspaces are on: how many, and up to a hundred of them."""

    uses = fields.Integer(required=True)
    workspace_ids = fields.List(fields.UUID(), required=True)


class WorkspaceLimitsSchema(CamelSchema):
    """What counts for a workspace, and why: its own values, before its plan's, before the defaults."""

    workspace_id = fields.UUID(required=True)
    plan = fields.String(required=True, allow_none=True)
    own = fields.Nested(LimitsSchema, required=True)
    effective = fields.Nested(LimitsSchema, required=True)


class LimitsChangeSchema(LimitsSchema):
    """A change of a workspace's plan and of its own limits."""

    plan = _text(100, allow_none=True)


class PauseSchema(CamelSchema):
    """Nothing of this is started, until it is resumed or the moment ``until``."""

    kind = fields.String(required=True, validate=_kinds)
    key = fields.String(required=True)
    reason = fields.String(required=True)
    actor = fields.String(required=True)
    paused_at = Moment(required=True)
    until = Moment(required=True, allow_none=True)


class PausesSchema(CamelSchema):
    """What is paused now, by kind and key."""

    items = fields.List(fields.Nested(PauseSchema), required=True)


class PausesQuerySchema(CamelSchema):
    """Which pauses."""

    kind = fields.Enum(PauseKind, by_value=True, load_default=None)


class NewPauseSchema(CamelSchema):
    """Why something is to be paused, and until when."""

    reason = _text(500, required=True)
    until = Moment(load_default=None, allow_none=True)


class WorkspaceSchema(CamelSchema):
    """A workspace as its operator sees it. One without a name has jobs or limits, and no row of its own."""

    id = fields.UUID(required=True)
    name = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True, allow_none=True)
    pending = fields.Integer(required=True)
    ready = fields.Integer(required=True)
    scheduled = fields.Integer(required=True)
    blocked = fields.Integer(required=True, metadata={"description": "Jobs that wait for other jobs"})
    running = fields.Integer(required=True)
    pause = fields.Nested(PauseSchema, required=True, allow_none=True)
    limits = fields.Nested(WorkspaceLimitsSchema, required=True)


class WorkspacePageSchema(CamelSchema):
    """One page of workspaces; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(WorkspaceSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewWorkspaceSchema(CamelSchema):
    """A new workspace; ``id`` when the application has one for it already."""

    id = fields.UUID()
    name = _text(200, required=True)
    limits = fields.Nested(LimitsChangeSchema)


class WorkspaceChangeSchema(CamelSchema):
    """A change of a workspace."""

    name = _text(200)
    limits = fields.Nested(LimitsChangeSchema)


class QueueSchema(CamelSchema):
    """A queue over all workspaces."""

    queue = fields.String(required=True)
    ready = fields.Integer(required=True)
    scheduled = fields.Integer(required=True)
    blocked = fields.Integer(required=True, metadata={"description": "Jobs that wait for other jobs"})
    running = fields.Integer(required=True)
    oldest_ready_seconds = fields.Float(required=True, allow_none=True)
    workers = fields.Integer(required=True)
    max_running = fields.Integer(required=True, allow_none=True)
    pause = fields.Nested(PauseSchema, required=True, allow_none=True)


class QueuesSchema(CamelSchema):
    """Every queue that has jobs, a worker, a limit or a pause, by name."""

    items = fields.List(fields.Nested(QueueSchema), required=True)


class QueueLimitsSchema(CamelSchema):
    """The limit of a queue, over all workspaces and workers."""

    queue = fields.String(required=True)
    max_running = fields.Integer(required=True, allow_none=True)


class QueueLimitsChangeSchema(CamelSchema):
    """A change of a queue's limit."""

    max_running = _number(0, LARGEST, "Jobs of this queue that run at a time", allow_none=True, required=True)


_IN_CODE = "What the task's code declares, as the last worker that started said"


class TaskLimitsChangeSchema(CamelSchema):
    """A change of a task's limits."""

    max_running = _number(0, LARGEST, "Jobs of this task that run at a time", allow_none=True)
    max_running_per_workspace = _number(0, LARGEST, "The same within each workspace", allow_none=True)


class TaskLimitsSchema(TaskLimitsChangeSchema):
    """The limits of a task, in all and in each workspace. One that is as the code declares follows the code."""

    task = fields.String(required=True)
    code_max_running = fields.Integer(required=True, allow_none=True, metadata={"description": _IN_CODE})
    code_max_running_per_workspace = fields.Integer(required=True, allow_none=True, metadata={"description": _IN_CODE})


class TaskSchema(TaskLimitsSchema):
    """A task of this installation, or one that has limits; ``registered`` says whether it is the former."""

    registered = fields.Boolean(required=True)
    pause = fields.Nested(PauseSchema, required=True, allow_none=True)


class TasksSchema(CamelSchema):
    """Tasks, by name."""

    items = fields.List(fields.Nested(TaskSchema), required=True)


class RateLimitChangeSchema(CamelSchema):
    """A change of a rate."""

    units = _number(1, LARGEST, "Units that may be used in each period")
    period_ms = _number(1, LONGEST_PERIOD, "Milliseconds of that period")
    burst = _number(1, LARGEST, "Units that may be used at once; null for as many as units", allow_none=True)


class NewRateLimitSchema(RateLimitChangeSchema):
    """A rate."""

    units = _number(1, LARGEST, "Units that may be used in each period", required=True)
    period_ms = _number(1, LONGEST_PERIOD, "Milliseconds of that period", required=True)
    burst = _number(
        1, LARGEST, "Units that may be used at once; null for as many as units", allow_none=True, load_default=None
    )


class RateLimitSchema(CamelSchema):
    """How many units of a resource jobs may use. ``hubspot:*`` is each resource of a kind by itself."""

    resource = fields.String(required=True)
    units = fields.Integer(required=True)
    period_ms = fields.Integer(required=True)
    burst = fields.Integer(required=True)


class RateLimitsSchema(CamelSchema):
    """Every rate, by resource."""

    items = fields.List(fields.Nested(RateLimitSchema), required=True)


class ResourceLimitChangeSchema(CamelSchema):
    """A limit of a resource. Null says that it has none, whatever its kind or the code of a task has."""

    max_running = _number(0, LARGEST, "Jobs that use it at a time", allow_none=True, required=True)
    min_running = _number(
        1,
        LARGEST,
        "With it the limit is adaptive: as many as the resource turns out to take, no fewer and no more than the two",
        allow_none=True,
        load_default=None,
    )


class ResourceLimitSchema(ResourceLimitChangeSchema):
    """How many jobs, of all tasks and workspaces, use a resource at a time. ``hubspot:*`` is each resource of a kind by
    itself. One that is as the code declares follows the code."""

    resource = fields.String(required=True)
    code_max_running = fields.Integer(required=True, allow_none=True, metadata={"description": _IN_CODE})
    code_min_running = fields.Integer(required=True, allow_none=True, metadata={"description": _IN_CODE})
    declared_by = fields.String(
        required=True, allow_none=True, metadata={"description": "Whose code that is: a worker's JOBPLATFORM_TASKS"}
    )


class ResourceLimitsSchema(CamelSchema):
    """Every limit of a resource, by its name."""

    items = fields.List(fields.Nested(ResourceLimitSchema), required=True)


class ResourceLevelSchema(CamelSchema):
    """How many jobs may use a resource with an adaptive limit at a time now, and why that was lowered last."""

    resource = fields.String(required=True)
    level = fields.Integer(required=True)
    min_running = fields.Integer(required=True)
    max_running = fields.Integer(required=True)
    running = fields.Integer(required=True, metadata={"description": "Jobs that use it now"})
    lowered_at = Moment(required=True, allow_none=True)
    lowered_for = fields.String(
        required=True, allow_none=True, metadata={"description": "`too often`, or the name of an error"}
    )


class ResourceLevelsSchema(CamelSchema):
    """At most a hundred of them, those first that were lowered last."""

    items = fields.List(fields.Nested(ResourceLevelSchema), required=True)


class TokenSchema(CamelSchema):
    """A token, without its secret. One without a workspace is an operator's."""

    id = fields.String(required=True)
    workspace_id = fields.UUID(required=True, allow_none=True)
    name = fields.String(required=True)
    scopes = fields.List(fields.String(validate=_scopes), required=True)
    created_at = Moment(required=True)
    expires_at = Moment(required=True, allow_none=True)
    last_used_at = Moment(required=True, allow_none=True)
    revoked_at = Moment(required=True, allow_none=True)


class NewTokenAnswerSchema(TokenSchema):
    """A new token. This is the only answer with its text; the database keeps a hash."""

    token = fields.String(required=True)


class TokenPageSchema(CamelSchema):
    """One page of tokens, newest first; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(TokenSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewTokenSchema(CamelSchema):
    """A token to be made: of a workspace, or an operator's."""

    workspace_id = fields.UUID(load_default=None, allow_none=True)
    name = _text(200, required=True)
    scopes = Few(fields.String(validate=_scopes), required=True, validate=validate.Length(1, len(Scope)))
    expires_at = Moment(load_default=None, allow_none=True)

    @validates_schema
    def operator_or_workspace(self, data: dict[str, Any], **_: Any) -> None:
        if (data["workspace_id"] is None) != (Scope.OPERATOR in data["scopes"]):
            raise ValidationError("Has either a workspace or the scope operator.", "workspaceId")


class TokensQuerySchema(PageQuerySchema):
    """Which tokens, and which page of them."""

    workspace_id = fields.UUID(load_default=None)


class WorkerSchema(CamelSchema):
    """A worker that is alive, as far as anybody knows."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    host = fields.String(required=True)
    pid = fields.Integer(required=True)
    version = fields.String(required=True)
    queues = fields.List(fields.String(), required=True)
    tasks = fields.List(fields.String(), required=True)
    slots = fields.Integer(required=True)
    running = fields.Integer(required=True)
    draining = fields.Boolean(required=True)
    drain_requested = fields.Boolean(required=True)
    started_at = Moment(required=True)
    heartbeat_at = Moment(required=True)


class WorkersSchema(CamelSchema):
    """The workers that are alive, oldest first."""

    items = fields.List(fields.Nested(WorkerSchema), required=True)


class AuditEntrySchema(CamelSchema):
    """Who did what to whom."""

    id = fields.Integer(required=True)
    at = Moment(required=True)
    actor = fields.String(required=True)
    token_id = fields.String(required=True, allow_none=True)
    workspace_id = fields.UUID(required=True, allow_none=True)
    action = fields.String(required=True)
    target = fields.String(required=True)
    request_id = fields.String(required=True, allow_none=True)
    details = fields.Dict(required=True)


class AuditPageSchema(CamelSchema):
    """One page of the audit log, newest first; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(AuditEntrySchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class AuditQuerySchema(PageQuerySchema):
    """Which lines, and which page of them."""

    workspace_id = fields.UUID(load_default=None)
    actor = _text(500, load_default=None)
    action = _text(100, load_default=None)
