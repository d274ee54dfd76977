"""Live events: what happens to a job, or to all jobs of a workspace, as it happens."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import fields, validate

from jobplatform.api.access.principals import Scope
from jobplatform.api.jobs import JOB
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import ProblemError, invalid, require_found
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.fields import CamelSchema
from jobplatform.api.schemas.jobs import JobErrorSchema, ProgressSchema
from jobplatform.api.streams.following import JobFollower, WorkspaceFollower
from jobplatform.api.streams.places import LONGEST, read_place
from jobplatform.api.streams.streaming import EVENT_STREAM, reader_of_request, render_event, stream, write_event
from jobplatform.errors import Problem
from jobplatform.models import Status
from jobplatform.queue import START, Position, get_job, read_position

events = Resource("events", __name__, description="Live events")

EVENTS = "/workspaces/<uuid:workspaceId>/events"
JOB_EVENTS = JOB + "/events"

LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The id of the last event that the client has: everything newer is sent, nothing twice.",
}
HEADERS = {"X-Accel-Buffering": {"description": "Asks proxies to pass on at once", "schema": {"type": "string"}}}


class StreamQuerySchema(CamelSchema):
    """Where a stream begins."""

    last_event_id = fields.String(
        load_default=None,
        validate=validate.Length(max=2 * LONGEST),
        metadata={"description": "As the header Last-Event-ID, for a client that cannot send one."},
    )
    token = fields.String(metadata={"description": "A token for one job, for a client that cannot send a header."})


class WorkspaceStreamQuerySchema(CamelSchema):
    """Where a stream begins."""

    last_event_id = fields.String(
        load_default=None,
        validate=validate.Length(max=2 * LONGEST),
        metadata={"description": "As the header Last-Event-ID, for a client that cannot send one."},
    )


class JobEventSchema(CamelSchema):
    """The `data` of an event. The event's name says which members it has: `job.` and a status, `progress` or `log`."""

    workspace_id = fields.UUID()
    job_id = fields.UUID(required=True)
    job_type = fields.String(required=True)
    epoch = fields.Integer(required=True, metadata={"description": "Which attempt it is about, from 1; 0 before all."})
    attempt = fields.Integer(allow_none=True, metadata={"description": "The same, without attempts given back."})
    status = fields.String(validate=validate.OneOf([status.value for status in Status]))
    at = fields.DateTime(allow_none=True, metadata={"description": "When; null where nobody has noted it."})
    run_after = fields.DateTime(allow_none=True)
    outcome = fields.String(allow_none=True)
    result = fields.Raw(allow_none=True)
    error = fields.Nested(JobErrorSchema, allow_none=True)
    progress = fields.Nested(ProgressSchema, allow_none=True)
    line = fields.Integer(metadata={"description": "The line's number within the attempt, from 1."})
    level = fields.String()
    message = fields.String()


EXAMPLE = (
    "event: job.running\nid: 1-0.1.0..0.0\n"
    'data: {"jobId":"0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d11","jobType":"export","epoch":1,"status":"running",'
    '"attempt":1,"at":"2026-01-05T09:00:00.000000Z"}\n\n'
)
STREAM: dict[str, Any] = {
    "content_type": EVENT_STREAM,
    "headers": HEADERS,
    "description": "Server-sent events; the schema is that of each event's data",
    "example": EXAMPLE,
}


@events.endpoint("GET", JOB_EVENTS, Scope.JOBS_READ, refuses=(404, 422), one_job=True, query_token=True)
@events.query(StreamQuerySchema)
@events.answers(200, JobEventSchema, **STREAM)
@events.headers(LAST_EVENT_ID)
def stream_job(query: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Stream what happens to a job, from its beginning or from an event on, until it has ended"""
    position = begin_at(query)
    require_job(workspace_id, job_id)
    return stream(JobFollower(reader_of_request(workspace_id), str(job_id), position, render_event))


@events.endpoint("GET", EVENTS, Scope.JOBS_READ, refuses=(404, 422))
@events.query(WorkspaceStreamQuerySchema)
@events.answers(200, JobEventSchema, **STREAM)
@events.headers(LAST_EVENT_ID)
def stream_workspace(query: dict[str, Any], workspace_id: UUID) -> Response:
    """Stream what happens to the jobs of a workspace, from now or from an event on"""
    place = _read(query, read_place)
    follower = WorkspaceFollower(reader_of_request(workspace_id), place, render_event, _render_reset)
    return stream(follower, lambda: _beat(follower))


def begin_at(query: dict[str, Any]) -> Position:
    """Where the client has got to, by the header or the query."""
    return _read(query, read_position) or START


def require_job(workspace_id: UUID, job_id: UUID) -> None:
    with mounted().reading() as session:
        require_found(get_job(session, workspace_id, job_id))


def _read(query: dict[str, Any], read: Any) -> Any:
    text = request.headers.get("Last-Event-ID") or query["last_event_id"]
    if not text:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise _not_a_position(error) from None


def _not_a_position(error: ValueError) -> ProblemError:
    return invalid([Problem("?lastEventId", f"This is {error}: send back the id of an event of this stream.")])


def _beat(follower: WorkspaceFollower) -> str:
    """With the place: one that was written down long ago is worth nothing."""
    return f": \nid: {follower.place}\n\n" if follower.knows_its_place else ": \n\n"


def _render_reset(exact: bool, position: str) -> str:
    """The client has to list the jobs again. What follows is complete if ``exact``."""
    return write_event("stream.reset", position, {"exact": exact})
