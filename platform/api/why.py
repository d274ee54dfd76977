"""Why a job is not running: what is in its way, who is before it, and when it will probably start."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields, validate

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.mounted import Reach, mounted
from jobplatform.api.problems import not_found
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment
from jobplatform.models import Role, RunIf, Status
from jobplatform.queue import BLOCKER_CODES, Blocker, Why, get_job, why_waiting

why = Resource("why", __name__, description="Why a job is not running")

WHY = "/workspaces/<uuid:workspaceId>/jobs/<uuid:jobId>/why"

A_JOB = "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10"
IN_LINE = {
    "jobId": A_JOB,
    "status": "pending",
    "askedAt": "2026-01-05T09:00:00.000000Z",
    "blockers": [
        {
            "code": "behind",
            "message": "it is in line: 12 jobs of its workspace and about 20 of others are before it; "
            "4 of 4 slots are in use",
            "until": None,
            "position": 12,
            "others": 20,
            "slots": 4,
            "slotsInUse": 4,
        }
    ],
    "position": 12,
    "ahead": {"ownJobs": 12, "otherJobs": 20, "otherWorkspaces": 2, "slots": 4, "slotsInUse": 4},
    "estimatedStartAt": "2026-01-05T09:00:16.000000Z",
}
HELD = {
    **IN_LINE,
    "blockers": [
        {
            "code": "paused-workspace",
            "message": "its workspace is paused by ada: unpaid",
            "until": None,
            "actor": "ada",
            "reason": "unpaid",
        },
        {
            "code": "workspace-limit",
            "message": "its workspace may have 2 jobs running at a time, and 2 run",
            "until": None,
            "limit": 2,
            "running": 2,
        },
    ],
    "estimatedStartAt": None,
}
RETRYING = {
    **IN_LINE,
    "blockers": [
        {
            "code": "retrying",
            "message": "it waits for attempt 2 of 3 after ConnectionError; that is due at 2026-01-05T09:05:00Z",
            "until": "2026-01-05T09:05:00.000000Z",
            "attempt": 2,
            "maxAttempts": 3,
            "errorType": "ConnectionError",
        }
    ],
    "position": None,
    "ahead": None,
    "estimatedStartAt": "2026-01-05T09:05:00.000000Z",
}
TOLD_TO_WAIT = {
    **IN_LINE,
    "blockers": [
        {
            "code": "scheduled",
            "message": "it is due at 2026-01-05T09:05:00Z, because its source asked for this wait "
            "(Our CRM: https://crm.example/contacts is busy (HTTP 429))",
            "until": "2026-01-05T09:05:00.000000Z",
            "waitsFor": "source",
            "reason": "Our CRM: https://crm.example/contacts is busy (HTTP 429)",
        }
    ],
    "position": None,
    "ahead": None,
    "estimatedStartAt": "2026-01-05T09:05:00.000000Z",
}
REPLACING = {
    **IN_LINE,
    "blockers": [
        {
            "code": "waiting-for-key",
            "message": "it waits for the running job of its key 'publish', 0199f0c2-4b1d-7d02-8e11-1d2f3a4b5c6d; "
            "a newer request replaces it meanwhile",
            "until": None,
            "waitsFor": "key",
            "jobId": "0199f0c2-4b1d-7d02-8e11-1d2f3a4b5c6d",
            "startedAt": "2026-01-05T08:59:30.000000Z",
        }
    ],
    "position": None,
    "ahead": None,
    "estimatedStartAt": None,
}
EXAMPLES = {
    "inLine": {"summary": "Nothing is in its way but others", "value": IN_LINE},
    "held": {"summary": "A pause and a limit", "value": HELD},
    "retrying": {"summary": "Its next attempt is not due yet", "value": RETRYING},
    "toldToWait": {"summary": "Its source asked for a break", "value": TOLD_TO_WAIT},
    "replacing": {"summary": "The job of its key still runs", "value": REPLACING},
}


class BlockerSchema(CamelSchema):
    """One thing in the job's way. Which of the further members there are depends on ``code``."""

    code = fields.String(required=True, validate=validate.OneOf(BLOCKER_CODES))
    message = fields.String(required=True)
    until = Moment(required=True, allow_none=True, metadata={"description": "When it ends by itself, if that is known"})
    attempt = fields.Integer()
    max_attempts = fields.Integer()
    error_type = fields.String(allow_none=True)
    started_at = Moment()
    requested_at = Moment()
    ended_at = Moment()
    actor = fields.String()
    reason = fields.String(allow_none=True)
    workers = fields.Integer(metadata={"description": "Live workers"})
    serving_queue = fields.Integer(metadata={"description": "Live workers that serve the job's queue"})
    knowing_task = fields.Integer(metadata={"description": "Live workers that know the job's task"})
    limit = fields.Integer()
    running = fields.Integer()
    waiting = fields.Integer()
    period_ms = fields.Integer()
    needed = fields.Integer()
    available = fields.Float()
    job_id = fields.UUID()
    resource = fields.String()
    least = fields.Integer(metadata={"description": "The limit is adaptive: never lower than this"})
    most = fields.Integer(metadata={"description": "And never higher"})
    job_ids = fields.List(fields.UUID(), metadata={"description": "Some of the workspace's own jobs that use it"})
    batch_id = fields.UUID()
    waits_for = fields.String(
        validate=validate.OneOf(["job", "batch", "key", "source"]),
        metadata={
            "description": "key: for the running job of its uniqueness guard, which is jobId; source: what it asks "
            "told it to come back then, as reason says"
        },
    )
    run_if = fields.String(validate=validate.OneOf(list(RunIf)))
    waits = fields.Integer(metadata={"description": "How many jobs and batches it waits for, in all"})
    position = fields.Integer()
    others = fields.Integer()
    slots = fields.Integer()
    slots_in_use = fields.Integer()


class AheadSchema(CamelSchema):
    """Who is before the job. What is said of other workspaces are counts, and ``otherJobs`` is an estimate."""

    own_jobs = fields.Integer(required=True)
    other_jobs = fields.Integer(required=True)
    other_workspaces = fields.Integer(required=True)
    slots = fields.Integer(required=True)
    slots_in_use = fields.Integer(required=True)


class WhySchema(CamelSchema):
    """Why a job is not running."""

    job_id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf([status.value for status in Status]))
    asked_at = Moment(required=True)
    blockers = fields.List(fields.Nested(BlockerSchema), required=True, validate=validate.Length(min=1))
    position = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "Jobs of its workspace and queue before it; null unless it is ready"},
    )
    ahead = fields.Nested(AheadSchema, required=True, allow_none=True)
    estimated_start_at = Moment(required=True, allow_none=True)


_WHY = WhySchema()


@why.endpoint("GET", WHY, Scope.JOBS_READ, refuses=(404,))
@why.answers(200, WhySchema, examples=EXAMPLES)
def explain_job(workspace_id: UUID, job_id: UUID) -> Response:
    """Explain why a job is not running

    The blockers come in the order in which to look at them; there is always one. Operators also read who paused
    something, and why; a workspace's own people read that only of pauses of their workspace.
    """
    found = _ask(workspace_id, job_id)
    if found is None:
        raise not_found()
    return respond(_WHY, _describe(found))


def _ask(workspace_id: UUID, job_id: UUID) -> Why | None:
    """Whether the job is theirs is asked first, and where row security is in force. What else counts (slots, other
    workspaces' turns) concerns all workspaces, so it is read as an operator reads; only counts of it are answered."""
    with mounted().reading() as session:
        if get_job(session, workspace_id, job_id) is None:
            return None
    with mounted().transaction(Reach(Role.OPERATOR)) as session:
        return why_waiting(session, workspace_id, job_id, tells_all=current_principal().is_operator)


def _describe(found: Why) -> dict[str, Any]:
    return {
        "job_id": found.job_id,
        "status": found.status,
        "asked_at": found.asked_at,
        "blockers": [_describe_blocker(blocker) for blocker in found.blockers],
        "position": found.position,
        "ahead": None if found.ahead is None else asdict(found.ahead),
        "estimated_start_at": found.estimated_start_at,
    }


def _describe_blocker(blocker: Blocker) -> dict[str, Any]:
    return {**blocker.details, "code": blocker.code, "message": blocker.message, "until": blocker.until}
