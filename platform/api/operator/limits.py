"""Limits of queues and of tasks."""

from __future__ import annotations

from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.editing import tag_of_queue_limit, tag_of_task_limits
from jobplatform.api.mounted import mounted
from jobplatform.api.operator.setting import Setting
from jobplatform.api.problems import not_found
from jobplatform.api.resource import EDITABLE, EDITED, Resource
from jobplatform.api.schemas.operator import (
    QueueLimitsChangeSchema,
    QueueLimitsSchema,
    QueuesSchema,
    TaskLimitsChangeSchema,
    TaskLimitsSchema,
    TasksSchema,
)
from jobplatform.models import PauseKind, QueueLimits, TaskLimits
from jobplatform.queue import (
    clear_task_limits,
    find_task_limits,
    list_pauses,
    list_queue_limits,
    list_queues,
    list_task_limits,
    set_queue_limit,
    set_task_limits,
)

queues = Resource("queues", __name__, description="Queues and their limits, for operators")
tasks = Resource("tasks", __name__, description="Tasks and their limits, for operators")

QUEUE_LIMITS = "/operator/queues/<queue>/limits"
TASK_LIMITS = "/operator/tasks/<task>/limits"
BODY = (400, 413, 415)

_QUEUES, _TASKS = QueuesSchema(), TasksSchema()


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
