"""``jobplatform queues`` and ``jobplatform tasks``."""

from __future__ import annotations

from typing import Any

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import Count
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.models import PauseKind, TaskLimits
from jobplatform.queue import list_pauses, list_queues, list_task_limits, set_queue_limit, set_task_limits


@click.group()
def queues() -> None:
    """List queues, and limit them."""


@queues.command("ls")
@as_json_option
def ls_queues(as_json: bool) -> None:
    """List the queues with what waits and runs in them, over all workspaces."""
    with open_session() as session:
        found = list_queues(session)
        paused = {one.key for one in list_pauses(session, PauseKind.QUEUE)}
    if as_json:
        print_json([{**_as_dict(one), "paused": one.queue in paused} for one in found])
        return
    columns = ["queue", "ready", "scheduled", "blocked", "running", "max running", "oldest ready", "workers", "paused"]
    rows = [
        (
            one.queue, one.ready, one.scheduled, one.blocked, one.running, one.max_running,
            _seconds(one.oldest_ready_seconds), one.workers, "yes" if one.queue in paused else "no",
        )
        for one in found
    ]  # fmt: skip
    print_table(columns, rows)


@queues.command("limit")
@click.argument("queue")
@click.argument("max_running", type=Count(0))
@as_json_option
def limit_queue(queue: str, max_running: tuple[int | None], as_json: bool) -> None:
    """Let at most MAX_RUNNING jobs of QUEUE run at a time, over all workspaces and workers; `none` for no limit."""
    (most,) = max_running
    with open_session() as session:
        set_queue_limit(session, queue, most)
        audit(session, "queue.limit", f"queue:{queue}", maxRunning=most)
    tell(as_json, f"queue {queue}: {_words(most)}", queue=queue, max_running=most)


@click.group()
def tasks() -> None:
    """List the limits of tasks, and set them."""


@tasks.command("ls")
@as_json_option
def ls_tasks(as_json: bool) -> None:
    """List the tasks that have limits."""
    with open_session() as session:
        found = list_task_limits(session)
    if as_json:
        print_json([_task_as_dict(one) for one in found])
    else:
        rows = [
            (
                one.task, one.max_running, one.max_running_per_workspace, one.code_max_running,
                one.code_max_running_per_workspace,
            )
            for one in found
        ]  # fmt: skip
        print_table(["task", "max running", "per workspace", "in code", "per workspace in code"], rows)


@tasks.command("limit")
@click.argument("task")
@click.option("--max-running", type=Count(0), help="Jobs that run at a time, in all.")
@click.option("--per-workspace", type=Count(0), help="The same within each workspace.")
@as_json_option
def limit_task(
    task: str, max_running: tuple[int | None] | None, per_workspace: tuple[int | None] | None, as_json: bool
) -> None:
    """Limit how many jobs of TASK run at a time. What is not said stays; `none` clears."""
    given = {"max_running": max_running, "max_running_per_workspace": per_workspace}
    changes: dict[str, Any] = {name: value[0] for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("say --max-running or --per-workspace")
    with open_session() as session:
        limits = set_task_limits(session, task, changes)
        audit(session, "task.limit", f"task:{task}", **changes)
        facts = _task_as_dict(limits)
    in_all, in_each = _words(limits.max_running), _words(limits.max_running_per_workspace)
    tell(as_json, f"task {task}: {in_all} in all, {in_each} in each workspace", **facts)


def _words(most: int | None) -> str:
    return "no limit" if most is None else f"at most {most} at a time"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.0f} s"


def _as_dict(one: Any) -> dict[str, Any]:
    return {
        "queue": one.queue,
        "ready": one.ready,
        "scheduled": one.scheduled,
        "blocked": one.blocked,
        "running": one.running,
        "maxRunning": one.max_running,
        "oldestReadySeconds": one.oldest_ready_seconds,
        "workers": one.workers,
    }


def _task_as_dict(one: TaskLimits) -> dict[str, Any]:
    return {
        "task": one.task,
        "maxRunning": one.max_running,
        "maxRunningPerWorkspace": one.max_running_per_workspace,
        "codeMaxRunning": one.code_max_running,
        "codeMaxRunningPerWorkspace": one.code_max_running_per_workspace,
    }
