"""Plans, and the limits of queues, tasks and external resources."""

from __future__ import annotations

from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.editing import (
    require_still,
    tag_of_plan,
    tag_of_queue_limit,
    tag_of_rate,
    tag_of_resource_limit,
    tag_of_task_limits,
    tagged_as,
)
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import PROBLEM_JSON, ProblemError, not_found
from jobplatform.api.resource import EDITABLE, EDITED, PUT, Resource
from jobplatform.api.schemas.fields import camel
from jobplatform.api.schemas.operator import (
    LimitsSchema,
    NewRateLimitSchema,
    PlanInUseSchema,
    PlanSchema,
    PlansSchema,
    QueueLimitsChangeSchema,
    QueueLimitsSchema,
    QueuesSchema,
    RateLimitChangeSchema,
    RateLimitSchema,
    RateLimitsSchema,
    ResourceLevelSchema,
    ResourceLevelsSchema,
    ResourceLimitChangeSchema,
    ResourceLimitSchema,
    ResourceLimitsSchema,
    TaskLimitsChangeSchema,
    TaskLimitsSchema,
    TasksSchema,
)
from jobplatform.models import PauseKind, Plan, QueueLimits, RateLimit, ResourceLimits, TaskLimits
from jobplatform.queue import (
    Adaptive,
    Limits,
    PlanDeletion,
    clear_rate_limit,
    clear_resource_limit,
    clear_task_limits,
    delete_plan,
    find_plan,
    find_rate_limit,
    find_resource_limit,
    find_task_limits,
    list_pauses,
    list_plans,
    list_queue_limits,
    list_queues,
    list_rate_limits,
    list_resource_levels,
    list_resource_limits,
    list_task_limits,
    set_plan,
    set_queue_limit,
    set_rate_limit,
    set_resource_limit,
    set_task_limits,
)
from jobplatform.wording import agreeing, plural

plans = Resource("plans", __name__, description="Plans, for operators")
queues = Resource("queues", __name__, description="Queues and their limits, for operators")
tasks = Resource("tasks", __name__, description="Tasks and their limits, for operators")
rates = Resource("rates", __name__, description="Rates of external resources, for operators")
resources = Resource("resources", __name__, description="How many jobs use a resource at a time, for operators")

PLAN = "/operator/plans/<name>"
QUEUE_LIMITS = "/operator/queues/<queue>/limits"
TASK_LIMITS = "/operator/tasks/<task>/limits"
RATE = "/operator/rate-limits/<path:resource>"
RESOURCE_LIMIT = "/operator/resource-limits/<path:resource>"
RESOURCE_LEVEL = "/operator/resource-levels/<path:resource>"
BODY = (400, 413, 415)

_PLAN, _PLANS = PlanSchema(), PlansSchema()
_QUEUES, _QUEUE = QueuesSchema(), QueueLimitsSchema()
_TASKS, _TASK = TasksSchema(), TaskLimitsSchema()
_RATES, _RATE = RateLimitsSchema(), RateLimitSchema()
_RESOURCES, _RESOURCE = ResourceLimitsSchema(), ResourceLimitSchema()
_LEVELS, _LEVEL = ResourceLevelsSchema(), ResourceLevelSchema()

A_PLAN = {"weight": 10, "maxRunning": 50, "maxPending": 10_000}
PLAN_EXAMPLE = {"name": "gold", **A_PLAN, "shed": None, "rateUnits": None, "ratePeriodMs": None}
A_RATE = {"units": 100, "periodMs": 10_000, "burst": 20}
RATE_EXAMPLE = {"resource": "hubspot:*", **A_RATE}
RESOURCE_EXAMPLE = {
    "resource": "account:*",
    "maxRunning": 1,
    "minRunning": None,
    "codeMaxRunning": 1,
    "codeMinRunning": None,
    "declaredBy": "billing:tasks",
}
LEVEL_EXAMPLE = {
    "resource": "hubspot:4711",
    "level": 7,
    "minRunning": 1,
    "maxRunning": 50,
    "running": 7,
    "loweredAt": "2026-11-30T08:15:00Z",
    "loweredFor": "too often",
}

#: A plan that is replaced forgets what the new one does not say.
_NOTHING_SAID = dict.fromkeys(Limits.__dataclass_fields__)


# Plans


@plans.endpoint("GET", "/operator/plans", Scope.OPERATOR)
@plans.answers(200, PlansSchema, example={"items": [PLAN_EXAMPLE]})
def list_all_plans() -> Response:
    """List plans, by name"""
    with mounted().reading() as session:
        return respond(_PLANS, {"items": list_plans(session)})


@plans.endpoint("GET", PLAN, Scope.OPERATOR, refuses=(404,))
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
def show_plan(name: str) -> Response:
    """Show a plan"""
    with mounted().reading() as session:
        plan = find_plan(session, name)
    if plan is None:
        raise not_found()
    return _answer_plan(plan)


@plans.endpoint("PUT", PLAN, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@plans.body(LimitsSchema, example=A_PLAN)
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
@plans.headers(*PUT)
def put_plan(body: dict[str, Any], name: str) -> Response:
    """Make a plan, or replace it

    It counts at once for every workspace on it. What is not named is not limited by it.
    """
    return _set_plan(name, {**_NOTHING_SAID, **body}, body)


@plans.endpoint("PATCH", PLAN, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@plans.body(LimitsSchema, example={"maxRunning": 60})
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
@plans.headers(*EDITED)
def change_plan(body: dict[str, Any], name: str) -> Response:
    """Change a plan

    What is not named stays; null clears.
    """
    return _set_plan(name, body, body, must_exist=True)


@plans.endpoint("DELETE", PLAN, Scope.OPERATOR, refuses=(404, 412))
@plans.may_answer(409, schema=PlanInUseSchema, content_type=PROBLEM_JSON, description="Workspaces are on it")
@plans.answers(204)
@plans.headers(*EDITED)
def delete_a_plan(name: str) -> Response:
    """Delete a plan that no workspace is on"""
    with mounted().transaction() as session:
        require_still(session, Plan, lambda: find_plan(session, name), tag_of_plan)
        answer = delete_plan(session, name)
        if not answer.existed:
            raise not_found()
        if not answer.deleted:
            raise _plan_in_use(name, answer)
        audit(session, "plan.delete", f"plan:{name}")
    return Response(status=204)


def _set_plan(name: str, changes: dict[str, Any], told: dict[str, Any], *, must_exist: bool = False) -> Response:
    with mounted().transaction() as session:
        if must_exist and find_plan(session, name) is None:
            raise not_found()
        require_still(session, Plan, lambda: find_plan(session, name), tag_of_plan)
        plan = set_plan(session, name, changes)
        audit(session, "plan.set", f"plan:{name}", **_told(told))
        return _answer_plan(plan)


def _answer_plan(plan: Plan) -> Response:
    return tagged_as(respond(_PLAN, plan), tag_of_plan(plan))


def _plan_in_use(name: str, answer: PlanDeletion) -> ProblemError:
    return ProblemError(
        409,
        f"{plural(answer.uses, 'workspace is', 'workspaces are')} on the plan {name}; "
        f"put {agreeing(answer.uses, 'it', 'them')} on another first.",
        kind="plan-in-use",
        title="Plan in use",
        extra={"uses": answer.uses, "workspaceIds": [str(workspace_id) for workspace_id in answer.used_by]},
    )


# Queues


@queues.endpoint("GET", "/operator/queues", Scope.OPERATOR)
@queues.answers(200, QueuesSchema)
def list_all_queues() -> Response:
    """List queues with their jobs by state, how long the oldest ready one has been waiting, and their limits"""
    with mounted().reading() as session:
        paused = {found.key: found for found in list_pauses(session, PauseKind.QUEUE)}
        items = [{**one._asdict(), "pause": paused.get(one.queue)} for one in list_queues(session)]
        return respond(_QUEUES, {"items": items})


@queues.endpoint("GET", QUEUE_LIMITS, Scope.OPERATOR)
@queues.answers(200, QueueLimitsSchema, example={"queue": "sync", "maxRunning": 20}, headers=EDITABLE)
def show_queue_limits(queue: str) -> Response:
    """Show how many jobs of a queue run at a time; null for no limit"""
    with mounted().reading() as session:
        return _answer_queue(_limit_of_queue(session, queue))


@queues.endpoint("PATCH", QUEUE_LIMITS, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@queues.body(QueueLimitsChangeSchema, example={"maxRunning": 20})
@queues.answers(200, QueueLimitsSchema, example={"queue": "sync", "maxRunning": 20}, headers=EDITABLE)
@queues.headers(*EDITED)
def change_queue_limits(body: dict[str, Any], queue: str) -> Response:
    """Limit how many jobs of a queue run at a time, over all workspaces; null for no limit"""
    with mounted().transaction() as session:
        require_still(session, QueueLimits, lambda: _limit_of_queue(session, queue), tag_of_queue_limit)
        set_queue_limit(session, queue, body["max_running"])
        audit(session, "queue.limit", f"queue:{queue}", **_told(body))
    return _answer_queue(QueueLimits(queue=queue, **body))


def _limit_of_queue(session: Session, queue: str) -> QueueLimits:
    """One that is not set limits nothing."""
    found = (row for row in list_queue_limits(session) if row.queue == queue)
    return next(found, QueueLimits(queue=queue, max_running=None))


def _answer_queue(limit: QueueLimits) -> Response:
    return tagged_as(respond(_QUEUE, limit), tag_of_queue_limit(limit))


# Tasks


@tasks.endpoint("GET", "/operator/tasks", Scope.OPERATOR)
@tasks.answers(200, TasksSchema)
def list_all_tasks() -> Response:
    """List the tasks of this installation, and those that have limits, by name"""
    registered = set(mounted().tasks.names())
    with mounted().reading() as session:
        limited = {row.task: row for row in list_task_limits(session)}
        paused = {found.key: found for found in list_pauses(session, PauseKind.TASK)}
        items = [
            {**_describe_task(name, limited.get(name)), "registered": name in registered, "pause": paused.get(name)}
            for name in sorted(registered | set(limited) | set(paused))
        ]
    return respond(_TASKS, {"items": items})


@tasks.endpoint("GET", TASK_LIMITS, Scope.OPERATOR, refuses=(404,))
@tasks.answers(200, TaskLimitsSchema, headers=EDITABLE)
def show_task_limits(task: str) -> Response:
    """Show the limits of a task; nulls where there are none"""
    with mounted().reading() as session:
        if find_task_limits(session, task) is None and task not in mounted().tasks:
            raise not_found()
        return _answer_task(_limits_of_task(session, task))


@tasks.endpoint("PATCH", TASK_LIMITS, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@tasks.body(TaskLimitsChangeSchema, example={"maxRunningPerWorkspace": 1})
@tasks.answers(200, TaskLimitsSchema, headers=EDITABLE)
@tasks.headers(*EDITED)
def change_task_limits(body: dict[str, Any], task: str) -> Response:
    """Limit how many jobs of a task run at a time, in all and in each workspace

    What is not named stays; null clears. The task may be one that this process does not know.
    """
    with mounted().transaction() as session:
        require_still(session, TaskLimits, lambda: _limits_of_task(session, task), tag_of_task_limits)
        limits = set_task_limits(session, task, body)
        audit(session, "task.limit", f"task:{task}", **_told(body))
        return _answer_task(limits)


@tasks.endpoint("DELETE", TASK_LIMITS, Scope.OPERATOR, refuses=(404, 412))
@tasks.answers(204)
@tasks.headers(*EDITED)
def delete_task_limits(task: str) -> Response:
    """Clear the limits of a task"""
    with mounted().transaction() as session:
        require_still(session, TaskLimits, lambda: _limits_of_task(session, task), tag_of_task_limits)
        if not clear_task_limits(session, task):
            raise not_found()
        audit(session, "task.clear_limits", f"task:{task}")
    return Response(status=204)


def _describe_task(name: str, limits: TaskLimits | None) -> dict[str, Any]:
    names = ("max_running", "max_running_per_workspace", "code_max_running", "code_max_running_per_workspace")
    return {"task": name, **{limit: getattr(limits, limit, None) for limit in names}}


def _limits_of_task(session: Session, task: str) -> TaskLimits:
    """Without a row nothing is limited."""
    return find_task_limits(session, task) or TaskLimits(task=task)


def _answer_task(limits: TaskLimits) -> Response:
    return tagged_as(respond(_TASK, limits), tag_of_task_limits(limits))


# Rates


@rates.endpoint("GET", "/operator/rate-limits", Scope.OPERATOR)
@rates.answers(200, RateLimitsSchema, example={"items": [RATE_EXAMPLE]})
def list_all_rate_limits() -> Response:
    """List rates, by resource"""
    with mounted().reading() as session:
        return respond(_RATES, {"items": list_rate_limits(session)})


@rates.endpoint("GET", RATE, Scope.OPERATOR, refuses=(404,))
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
def show_rate_limit(resource: str) -> Response:
    """Show the rate of a resource, or of each of a kind (`hubspot:*`)"""
    with mounted().reading() as session:
        rate = find_rate_limit(session, resource)
    if rate is None:
        raise not_found()
    return _answer_rate(rate)


@rates.endpoint("PUT", RATE, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@rates.body(NewRateLimitSchema, example=A_RATE)
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
@rates.headers(*PUT)
def put_rate_limit(body: dict[str, Any], resource: str) -> Response:
    """Limit how many units of a resource jobs use in a period

    `hubspot:4711` is one resource, `hubspot:*` each of its kind by itself. What has been used already stays used.
    """
    return _set_rate(resource, body)


@rates.endpoint("PATCH", RATE, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@rates.body(RateLimitChangeSchema, example={"units": 50})
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
@rates.headers(*EDITED)
def change_rate_limit(body: dict[str, Any], resource: str) -> Response:
    """Change the rate of a resource

    What is not named stays.
    """
    return _set_rate(resource, body, must_exist=True)


@rates.endpoint("DELETE", RATE, Scope.OPERATOR, refuses=(404, 412))
@rates.answers(204)
@rates.headers(*EDITED)
def delete_rate_limit(resource: str) -> Response:
    """Let jobs use a resource as often as they like"""
    with mounted().transaction() as session:
        require_still(session, RateLimit, lambda: find_rate_limit(session, resource), tag_of_rate)
        if not clear_rate_limit(session, resource):
            raise not_found()
        audit(session, "rate.clear", f"resource:{resource}")
    return Response(status=204)


def _set_rate(resource: str, body: dict[str, Any], *, must_exist: bool = False) -> Response:
    with mounted().transaction() as session:
        if must_exist and find_rate_limit(session, resource) is None:
            raise not_found()
        require_still(session, RateLimit, lambda: find_rate_limit(session, resource), tag_of_rate)
        rate = set_rate_limit(session, resource, body)
        audit(session, "rate.set", f"resource:{resource}", **_told(body))
        return _answer_rate(rate)


def _answer_rate(rate: RateLimit) -> Response:
    return tagged_as(respond(_RATE, rate), tag_of_rate(rate))


# Limits of resources


@resources.endpoint("GET", "/operator/resource-limits", Scope.OPERATOR)
@resources.answers(200, ResourceLimitsSchema, example={"items": [RESOURCE_EXAMPLE]})
def list_all_resource_limits() -> Response:
    """List how many jobs use a resource at a time, by resource"""
    with mounted().reading() as session:
        return respond(_RESOURCES, {"items": list_resource_limits(session)})


@resources.endpoint("GET", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(404,))
@resources.answers(200, ResourceLimitSchema, example=RESOURCE_EXAMPLE, headers=EDITABLE)
def show_resource_limit(resource: str) -> Response:
    """Show the limit of a resource, or of each of a kind (`account:*`)"""
    with mounted().reading() as session:
        limit = find_resource_limit(session, resource)
    if limit is None:
        raise not_found()
    return _answer_resource(limit)


@resources.endpoint("PUT", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@resources.body(ResourceLimitChangeSchema, example={"maxRunning": 1})
@resources.answers(200, ResourceLimitSchema, example=RESOURCE_EXAMPLE, headers=EDITABLE)
@resources.headers(*PUT)
def put_resource_limit(body: dict[str, Any], resource: str) -> Response:
    """Limit how many jobs use a resource at a time, of all tasks and workspaces

    `account:4711` is one resource, `account:*` each of its kind by itself; the very resource counts before its kind.
    Null says that it has no limit, whatever its kind or the code of a task has. With `minRunning` it is adaptive: each
    resource finds out for itself how many it takes. Stops nothing that runs.
    """
    told = {name: value for name, value in body.items() if name != "min_running" or value is not None}
    least, most = body["min_running"], body["max_running"]
    with mounted().transaction() as session:
        require_still(session, ResourceLimits, lambda: find_resource_limit(session, resource), tag_of_resource_limit)
        limit = set_resource_limit(session, resource, most if least is None else Adaptive(least, most))
        audit(session, "resource.limit", f"resource:{resource}", **_told(told))
        return _answer_resource(limit)


@resources.endpoint("DELETE", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(404, 412))
@resources.answers(204)
@resources.headers(*EDITED)
def delete_resource_limit(resource: str) -> Response:
    """Clear the limit of a resource

    What the code of a task declares, or its kind has, counts again.
    """
    with mounted().transaction() as session:
        require_still(session, ResourceLimits, lambda: find_resource_limit(session, resource), tag_of_resource_limit)
        if not clear_resource_limit(session, resource):
            raise not_found()
        audit(session, "resource.clear_limit", f"resource:{resource}")
    return Response(status=204)


def _answer_resource(limit: ResourceLimits) -> Response:
    return tagged_as(respond(_RESOURCE, limit), tag_of_resource_limit(limit))


@resources.endpoint("GET", "/operator/resource-levels", Scope.OPERATOR)
@resources.answers(200, ResourceLevelsSchema, example={"items": [LEVEL_EXAMPLE]})
def list_all_resource_levels() -> Response:
    """List how many jobs may use each resource with an adaptive limit now

    Those that have been used; at most a hundred, first those that were lowered last.
    """
    with mounted().reading() as session:
        return respond(_LEVELS, {"items": list_resource_levels(session)})


@resources.endpoint("GET", RESOURCE_LEVEL, Scope.OPERATOR, refuses=(404,))
@resources.answers(200, ResourceLevelSchema, example=LEVEL_EXAMPLE)
def show_resource_level(resource: str) -> Response:
    """Show how many jobs may use a resource with an adaptive limit now"""
    with mounted().reading() as session:
        found = list_resource_levels(session, resource)
    if not found:
        raise not_found()
    return respond(_LEVEL, found[0])


def _told(body: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, under the names it was asked for by."""
    return {camel(name): value for name, value in body.items()}
