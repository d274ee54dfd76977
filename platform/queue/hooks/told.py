"""Whose endings are told to webhooks: the condition that makes a job say when it ends."""

from __future__ import annotations

from jobplatform.queue.hooks.webhook_job import JOB_EVENTS, WEBHOOK_TASK

_OF_JOBS = ", ".join(f"'{event}'" for event in JOB_EVENTS)


def told(workspace_id: str, task: str) -> str:
    """That the subscription ``s`` is told of jobs of this workspace and task. That something was told never is."""
    return f"""s.workspace_id = {workspace_id}
            and s.disabled_at is null
            and s.events && array[{_OF_JOBS}]
            and (s.tasks is null or {task} = any(s.tasks))
            and {task} <> '{WEBHOOK_TASK}'"""
