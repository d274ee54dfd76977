"""Editing: whoever changes what they have read takes nothing back that somebody else has changed since.

What can be changed as a whole has an entity tag: of what a change of it may name, and of nothing else. A schedule that
has run meanwhile is still the one that was read. So the tag is a weak one, and good for ``If-Match`` alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Response, request
from marshmallow import Schema
from sqlalchemy.orm import Session

from jobplatform.api.answers import require_tag
from jobplatform.api.problems import ProblemError
from jobplatform.api.schemas.hooks import HookChangeSchema
from jobplatform.api.schemas.operator import (
    LimitsChangeSchema,
    LimitsSchema,
    QueueLimitsChangeSchema,
    RateLimitChangeSchema,
    ResourceLimitChangeSchema,
    TaskLimitsChangeSchema,
)
from jobplatform.api.schemas.schedules import PlatformScheduleChangeSchema
from jobplatform.api.schemas.webhooks import WebhookChangeSchema
from jobplatform.connectors import CredentialsSeen
from jobplatform.models import (
    Connection,
    Hook,
    Plan,
    QueueLimits,
    RateLimit,
    ResourceLimits,
    Schedule,
    TaskLimits,
    WebhookSubscription,
)
from jobplatform.queue import AlertRule, LimitsOfWorkspace, hold_all
from jobplatform.redaction import redact_configuration

Setting = TypeVar("Setting")

_PLAN, _WORKSPACE, _QUEUE, _TASK = (
    LimitsSchema(),
    LimitsChangeSchema(),
    QueueLimitsChangeSchema(),
    TaskLimitsChangeSchema(),
)
_RATE, _RESOURCE, _SCHEDULE = RateLimitChangeSchema(), ResourceLimitChangeSchema(), PlatformScheduleChangeSchema()
_WEBHOOK, _HOOK = WebhookChangeSchema(), HookChangeSchema()


def tagged_as(answer: Response, tag: str) -> Response:
    """With this tag."""
    answer.set_etag(tag, weak=True)
    answer.cache_control.private = True
    answer.cache_control.no_cache = True
    return answer


def require_still(
    session: Session, model: type[Any], find: Callable[[], Setting | None], tag_of: Callable[[Setting], str]
) -> None:
    """Raise the problem of what has been changed since it was read, as ``If-Match`` says, or of what is there although
    ``If-None-Match: *`` says that it is new; without either, nothing.

    From then on nobody else changes a row of ``model``, until the transaction ends.
    """
    said = request.headers.get("If-None-Match")
    if said not in (None, "*"):
        raise ProblemError(400, "If-None-Match can be * here, for what is to be new; a tag is for If-Match.")
    is_new = said == "*"
    if "If-Match" not in request.headers and not is_new:
        return
    hold_all(session, model)
    found = find()
    if is_new and found is not None:
        raise ProblemError(412, "It is there already: read it, and change it if it is to be another.")
    if "If-Match" in request.headers:
        require_tag(None if found is None else tag_of(found))


def require_still_locked(tag: str) -> None:
    """The same of what has been found, has this tag, and whose row is locked already."""
    if "If-Match" in request.headers:
        require_tag(tag)


def tag_of_plan(plan: Plan) -> str:
    return _tag_of(_PLAN, plan)


def tag_of_workspace_limits(limits: LimitsOfWorkspace) -> str:
    """Its own values and its plan; what the plan says is the plan's."""
    return _tag_of(_WORKSPACE, {"plan": limits.plan, **dataclasses.asdict(limits.own)})


def tag_of_queue_limit(limit: QueueLimits) -> str:
    return _tag_of(_QUEUE, limit)


def tag_of_task_limits(limits: TaskLimits) -> str:
    return _tag_of(_TASK, limits)


def tag_of_rate(rate: RateLimit) -> str:
    return _tag_of(_RATE, rate)


def tag_of_resource_limit(limit: ResourceLimits) -> str:
    return _tag_of(_RESOURCE, limit)


def tag_of_rule(rule: AlertRule) -> str:
    return _digest(dataclasses.asdict(rule))


def tag_of_schedule(schedule: Schedule) -> str:
    """Its payload counts as it stands in the row: also for those who may not see what is sealed."""
    return _digest({**_SCHEDULE.dump(schedule), "jobType": schedule.task})


def tag_of_webhook(webhook: WebhookSubscription) -> str:
    return _digest({**_WEBHOOK.dump(webhook), "jobTypes": webhook.tasks})


def tag_of_hook(hook: Hook) -> str:
    return _digest({**_HOOK.dump(hook), "jobType": hook.task, "publicUrl": hook.url})


def tag_of_connection(connection: Connection, credentials: CredentialsSeen | None) -> str:
    """Of credentials counts which they are and since when, not that they have been renewed. What looks like a secret in
    an old configuration is not in it, as a tag is seen by those who may not see that."""
    return _digest(
        {
            "name": connection.name,
            "config": redact_configuration(connection.config),
            "credentials": credentials and [credentials.scheme, credentials.set_at.isoformat()],
        }
    )


def _tag_of(change: Schema, state: Any) -> str:
    return _digest(change.dump(state))


def _digest(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:32]
