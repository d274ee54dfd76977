"""Plans, and the limits of queues, tasks and external resources."""

from __future__ import annotations

from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.editing import (
    tag_of_plan,
    tag_of_queue_limit,
    tag_of_rate,
    tag_of_resource_limit,
    tag_of_task_limits,
)
from jobplatform.api.mounted import mounted
from jobplatform.api.operator.setting import Setting
from jobplatform.api.problems import PROBLEM_JSON, ProblemError, not_found
from jobplatform.api.resource import EDITABLE, EDITED, PUT, Resource
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

_PLANS, _QUEUES, _TASKS = PlansSchema(), QueuesSchema(), TasksSchema()
_RATES, _RESOURCES = RateLimitsSchema(), ResourceLimitsSchema()
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

_PLAN = Setting[Plan]("plan", Plan, PlanSchema(), find_plan, tag_of_plan)


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
    return _PLAN.show(name)


@plans.endpoint("PUT", PLAN, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@plans.body(LimitsSchema, example=A_PLAN)
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
@plans.headers(*PUT)
def put_plan(body: dict[str, Any], name: str) -> Response:
    """Make a plan, or replace it

    It counts at once for every workspace on it. What is not named is not limited by it.
    """
    values = {**_NOTHING_SAID, **body}
    return _PLAN.set("plan.set", lambda session: set_plan(session, name, values), body, name)


@plans.endpoint("PATCH", PLAN, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@plans.body(LimitsSchema, example={"maxRunning": 60})
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
@plans.headers(*EDITED)
def change_plan(body: dict[str, Any], name: str) -> Response:
    """Change a plan

    What is not named stays; null clears.
    """
    return _PLAN.set("plan.set", lambda session: set_plan(session, name, body), body, name, must_exist=True)


@plans.endpoint("DELETE", PLAN, Scope.OPERATOR, refuses=(404, 412))
@plans.may_answer(409, schema=PlanInUseSchema, content_type=PROBLEM_JSON, description="Workspaces are on it")
@plans.answers(204)
@plans.headers(*EDITED)
def delete_a_plan(name: str) -> Response:
    """Delete a plan that no workspace is on"""
    return _PLAN.clear("plan.delete", _delete_unused, name)


def _delete_unused(session: Session, name: str) -> bool:
    answer = delete_plan(session, name)
    if answer.existed and not answer.deleted:
        raise _plan_in_use(name, answer)
    return answer.existed


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


def _limit_of_queue(session: Session, queue: str) -> QueueLimits:
    """One that is not set limits nothing."""
    found = (row for row in list_queue_limits(session) if row.queue == queue)
    return next(found, QueueLimits(queue=queue, max_running=None))


_QUEUE = Setting[QueueLimits]("queue", QueueLimits, QueueLimitsSchema(), _limit_of_queue, tag_of_queue_limit)


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
    return _QUEUE.show(queue)


@queues.endpoint("PATCH", QUEUE_LIMITS, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@queues.body(QueueLimitsChangeSchema, example={"maxRunning": 20})
@queues.answers(200, QueueLimitsSchema, example={"queue": "sync", "maxRunning": 20}, headers=EDITABLE)
@queues.headers(*EDITED)
def change_queue_limits(body: dict[str, Any], queue: str) -> Response:
    """Limit how many jobs of a queue run at a time, over all workspaces; null for no limit"""

    def limit(session: Session) -> QueueLimits:
        set_queue_limit(session, queue, body["max_running"])
        return QueueLimits(queue=queue, **body)

    return _QUEUE.set("queue.limit", limit, body, queue)


# Tasks


def _limits_of_task(session: Session, task: str) -> TaskLimits:
    """Without a row nothing is limited."""
    return find_task_limits(session, task) or TaskLimits(task=task)


_TASK = Setting[TaskLimits]("task", TaskLimits, TaskLimitsSchema(), _limits_of_task, tag_of_task_limits)


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
        return _TASK.answer(_limits_of_task(session, task))


@tasks.endpoint("PATCH", TASK_LIMITS, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@tasks.body(TaskLimitsChangeSchema, example={"maxRunningPerWorkspace": 1})
@tasks.answers(200, TaskLimitsSchema, headers=EDITABLE)
@tasks.headers(*EDITED)
def change_task_limits(body: dict[str, Any], task: str) -> Response:
    """Limit how many jobs of a task run at a time, in all and in each workspace

    What is not named stays; null clears. The task may be one that this process does not know.
    """
    return _TASK.set("task.limit", lambda session: set_task_limits(session, task, body), body, task)


@tasks.endpoint("DELETE", TASK_LIMITS, Scope.OPERATOR, refuses=(404, 412))
@tasks.answers(204)
@tasks.headers(*EDITED)
def delete_task_limits(task: str) -> Response:
    """Clear the limits of a task"""
    return _TASK.clear("task.clear_limits", clear_task_limits, task)


def _describe_task(name: str, limits: TaskLimits | None) -> dict[str, Any]:
    names = ("max_running", "max_running_per_workspace", "code_max_running", "code_max_running_per_workspace")
    return {"task": name, **{limit: getattr(limits, limit, None) for limit in names}}


# Rates

_RATE = Setting[RateLimit]("resource", RateLimit, RateLimitSchema(), find_rate_limit, tag_of_rate)


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
    return _RATE.show(resource)


@rates.endpoint("PUT", RATE, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@rates.body(NewRateLimitSchema, example=A_RATE)
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
@rates.headers(*PUT)
def put_rate_limit(body: dict[str, Any], resource: str) -> Response:
    """Limit how many units of a resource jobs use in a period

    `hubspot:4711` is one resource, `hubspot:*` each of its kind by itself. What has been used already stays used.
    """
    return _RATE.set("rate.set", lambda session: set_rate_limit(session, resource, body), body, resource)


@rates.endpoint("PATCH", RATE, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@rates.body(RateLimitChangeSchema, example={"units": 50})
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
@rates.headers(*EDITED)
def change_rate_limit(body: dict[str, Any], resource: str) -> Response:
    """Change the rate of a resource

    What is not named stays.
    """
    return _RATE.set(
        "rate.set", lambda session: set_rate_limit(session, resource, body), body, resource, must_exist=True
    )


@rates.endpoint("DELETE", RATE, Scope.OPERATOR, refuses=(404, 412))
@rates.answers(204)
@rates.headers(*EDITED)
def delete_rate_limit(resource: str) -> Response:
    """Let jobs use a resource as often as they like"""
    return _RATE.clear("rate.clear", clear_rate_limit, resource)


# Limits of resources

_RESOURCE = Setting[ResourceLimits](
    "resource", ResourceLimits, ResourceLimitSchema(), find_resource_limit, tag_of_resource_limit
)


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
    return _RESOURCE.show(resource)


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
    limit = most if least is None else Adaptive(least, most)
    return _RESOURCE.set("resource.limit", lambda session: set_resource_limit(session, resource, limit), told, resource)


@resources.endpoint("DELETE", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(404, 412))
@resources.answers(204)
@resources.headers(*EDITED)
def delete_resource_limit(resource: str) -> Response:
    """Clear the limit of a resource

    What the code of a task declares, or its kind has, counts again.
    """
    return _RESOURCE.clear("resource.clear_limit", clear_resource_limit, resource)


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
