"""Short forms, for clients whose token names its one workspace: run a task, look at the run, stream it.

The words are those of task services that such clients come from: a run of a task, QUEUED, EXECUTING, COMPLETED.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields, validate

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.enqueueing import enqueue_quietly
from jobplatform.api.mounted import mounted, serving_url
from jobplatform.api.problems import ProblemError, unknown_task
from jobplatform.api.reading import read_job
from jobplatform.api.resource import DUPLICATE, LOCATED, QUOTA, Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment
from jobplatform.api.schemas.jobs import JobOptionsSchema, ProgressSchema
from jobplatform.api.streams.events import HEADERS, LAST_EVENT_ID, StreamQuerySchema, begin_at, require_job
from jobplatform.api.streams.following import JobFollower
from jobplatform.api.streams.streaming import EVENT_STREAM, reader_of_request, stream, write_event
from jobplatform.errors import UnknownTaskError
from jobplatform.models import Job, Status
from jobplatform.queue import Change, Task

short_forms = Resource("short_forms", __name__, description="Short forms: runs of tasks")

WORDS = {
    Status.PENDING.value: "QUEUED",
    Status.RUNNING.value: "EXECUTING",
    Status.COMPLETED.value: "COMPLETED",
    Status.FAILED.value: "FAILED",
    Status.CANCELLED.value: "CANCELLED",
}
TRIGGER = "/trigger"
RUN = "/trigger/runs/<uuid:jobId>"
STREAM = "/jobs/stream/<uuid:jobId>"


class TriggerSchema(JobOptionsSchema):
    """A request to run a task."""

    task_id = fields.String(required=True, validate=validate.Length(1, 100))
    payload = fields.Raw(load_default=dict, allow_none=True, metadata={"description": "What the task takes."})


class TriggeredSchema(CamelSchema):
    """The run, by which it is looked at."""

    id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(WORDS.values())))


class TaskRunSchema(TriggeredSchema):
    """A run of a task. ``error`` is the message of the last failure."""

    task_id = fields.String(required=True)
    output = fields.Raw(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    progress = fields.Nested(ProgressSchema, required=True, allow_none=True)
    created_at = Moment()
    started_at = Moment(allow_none=True)
    completed_at = Moment(allow_none=True)


EXAMPLE = (
    'id: 1-0.1.0..0.0\ndata: {"id":"0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d11","status":"EXECUTING","taskId":"export",'
    '"output":null,"error":null,"progress":null}\n\n'
)
_TRIGGERED, _RUN = TriggeredSchema(), TaskRunSchema()


@short_forms.endpoint("POST", TRIGGER, Scope.JOBS_WRITE, refuses=(400, 404, 413, 415))
@short_forms.may_answer(409, **DUPLICATE)
@short_forms.may_answer(429, **QUOTA)
@short_forms.body(TriggerSchema, example={"taskId": "export", "payload": {"format": "csv"}})
@short_forms.answers(202, TriggeredSchema, headers=LOCATED)
def trigger(options: dict[str, Any]) -> Response:
    """Run a task"""
    workspace_id = _workspace()
    task = _task(options.pop("task_id"))
    job = enqueue_quietly(task, options.pop("payload"), workspace_id, options, payload_at="/payload").job
    where = {"Location": serving_url("short_forms.show_run", jobId=job.id), "Retry-After": "2"}
    return respond(_TRIGGERED, {"id": job.id, "status": WORDS[job.status]}, 202, where)


@short_forms.endpoint("GET", RUN, Scope.JOBS_READ, refuses=(404,), one_job=True)
@short_forms.answers(200, TaskRunSchema)
def show_run(job_id: UUID) -> Response:
    """Show a run"""
    return respond(_RUN, _describe(read_job(_workspace(), job_id)))


@short_forms.endpoint("GET", STREAM, Scope.JOBS_READ, refuses=(404, 422), one_job=True, query_token=True)
@short_forms.query(StreamQuerySchema)
@short_forms.answers(
    200,
    TaskRunSchema,
    content_type=EVENT_STREAM,
    headers=HEADERS,
    description="Server-sent events: the run as it becomes",
    example=EXAMPLE,
)
@short_forms.headers(LAST_EVENT_ID)
def stream_run(query: dict[str, Any], job_id: UUID) -> Response:
    """Stream a run until it has ended

    Its events have no name: they are messages.
    """
    position, workspace_id = begin_at(query), _workspace()
    require_job(workspace_id, job_id)
    return stream(JobFollower(reader_of_request(workspace_id), str(job_id), position, _render))


def _task(name: str) -> Task[Any, Any]:
    try:
        return mounted().tasks.offered(name)
    except UnknownTaskError as error:
        raise unknown_task(error, at="/taskId") from None


def _workspace() -> UUID:
    workspace_id = current_principal().workspace_id
    if workspace_id is None:
        raise ProblemError(404, "An operator's token names no workspace: use the paths below /workspaces.")
    return workspace_id


def _describe(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "task_id": job.job_type,
        "status": WORDS[job.status],
        "output": job.result,
        "error": job.error,
        "progress": job.progress,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
    }


def _render(change: Change, position: str) -> str | None:
    """The run after a change. Lines of its log are not part of one."""
    if change.kind == "log":
        return None
    about = change.about
    run = {
        "id": about["job_id"],
        "taskId": about["job_type"],
        "status": WORDS.get(change.kind, "EXECUTING"),
        "output": about.get("result"),
        "error": (about.get("error") or {}).get("message"),
        "progress": about.get("progress"),
    }
    return write_event(None, position, run)
