"""Syncs: the same jobs under the name that a workspace's users know them by."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from jobplatform.api.access.principals import Scope
from jobplatform.api.enqueueing import enqueue
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import ProblemError, not_found
from jobplatform.api.reading import read_job, read_page
from jobplatform.api.resource import CONDITIONAL, DUPLICATE, LISTED, LOCATED, QUOTA, TAGGED, Resource
from jobplatform.api.schemas.fields import camel
from jobplatform.api.schemas.jobs import (
    AcceptedSchema,
    JobSchema,
    NewSyncSchema,
    PageQuerySchema,
    PageSchema,
    WaitQuerySchema,
)
from jobplatform.api.streams.streaming import show_after
from jobplatform.models import Job
from jobplatform.queue import Task

syncs = Resource("syncs", __name__, description="Syncs of a workspace")

SYNC = "/workspaces/<uuid:workspaceId>/sync"
#: The task that a sync is a job of.
TASK = "sync"
PAYLOAD = ("connector_type", "connection_id", "mode", "sync_log_id")


@syncs.endpoint("POST", SYNC, Scope.JOBS_WRITE, refuses=(400, 404, 413, 415, 422))
@syncs.may_answer(409, **DUPLICATE)
@syncs.may_answer(429, **QUOTA)
@syncs.body(NewSyncSchema, required=False, example={"mode": "incremental"})
@syncs.answers(202, AcceptedSchema, headers=LOCATED)
def start_sync(options: dict[str, Any], workspace_id: UUID) -> Response:
    """Sync a workspace, or one of its connections"""
    payload = {camel(name): str(options.pop(name)) for name in PAYLOAD if name in options}
    return enqueue(_task(), payload, workspace_id, options, payload_at="")


@syncs.endpoint("GET", SYNC + "/jobs", Scope.JOBS_READ, refuses=(404,))
@syncs.query(PageQuerySchema)
@syncs.answers(200, PageSchema, headers=LISTED)
def list_syncs(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List syncs, newest first"""
    return read_page(workspace_id, query, task=TASK)


@syncs.endpoint("GET", SYNC + "/jobs/<uuid:jobId>", Scope.JOBS_READ, refuses=(404,), one_job=True)
@syncs.query(WaitQuerySchema)
@syncs.may_answer(304, description="The client has this state already", success=True)
@syncs.answers(200, JobSchema, headers=TAGGED)
@syncs.headers(*CONDITIONAL)
def show_sync(query: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Show a sync"""
    return show_after(query["wait"], lambda: _read_sync(workspace_id, job_id))


def _read_sync(workspace_id: UUID, job_id: UUID) -> Job:
    job = read_job(workspace_id, job_id)
    if job.job_type != TASK:
        raise not_found()
    return job


def _task() -> Task[Any, Any]:
    tasks = mounted().tasks
    if TASK not in tasks:
        raise ProblemError(404, f"This installation has no task named {TASK!r}, so there is nothing to sync with.")
    return tasks[TASK]
