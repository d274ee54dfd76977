"""Batches: sets of jobs that are counted together, with what runs when they have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields, validate
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import POLL_AFTER, job_url, page_of, respond, tagged
from jobplatform.api.auditing import audit
from jobplatform.api.enqueueing_many import (
    Wanted,
    accept_many,
    all_or_none,
    counts_of,
    describe_answers,
    enqueue_wanted,
    numbered,
    read_wanted,
)
from jobplatform.api.mounted import mounted, serving_url
from jobplatform.api.problems import PROBLEM_JSON, ProblemError, require_found
from jobplatform.api.resource import CONDITIONAL, DUPLICATE, LISTED, QUOTA, RETRY_AFTER, TAGGED, Resource
from jobplatform.api.schemas.fields import CamelSchema, Few, Flag, Moment, camel
from jobplatform.api.schemas.jobs import (
    MOST_JOBS,
    CancelQuerySchema,
    JobAcceptedSchema,
    JobsAcceptedSchema,
    NewJobSchema,
    NewMemberSchema,
    PageQuerySchema,
    ProblemSchema,
)
from jobplatform.errors import InvalidJobError
from jobplatform.models import RunIf, Status
from jobplatform.queue import (
    BatchSeen,
    Callback,
    Enqueued,
    OpenBatch,
    cancel_batch,
    get_batch,
    list_batches,
    list_callbacks,
)

batches = Resource("batches", __name__, description="Sets of jobs that are counted together")

BATCHES = "/workspaces/<uuid:workspaceId>/batches"
BATCH = BATCHES + "/<uuid:batchId>"

#: What is called when a batch has ended, as a body names it.
CALLBACKS = ("on_complete", "on_success", "on_failure")

#: What a batch can be.
STATUSES = ("open", "running", "completed", "failed", "cancelled")


class CallbackSchema(CamelSchema):
    """A job that waits for the batch, or did."""

    job_id = fields.UUID(required=True)
    job_type = fields.String(required=True)
    run_if = fields.String(required=True, validate=validate.OneOf(list(RunIf)))
    status = fields.String(required=True, validate=validate.OneOf([status.value for status in Status]))
    status_url = fields.String(required=True)


class BatchSchema(CamelSchema):
    """A batch as it is now. Each of its jobs is in one of the counts."""

    id = fields.UUID(required=True)
    name = fields.String(required=True, allow_none=True)
    status = fields.String(
        required=True,
        validate=validate.OneOf(STATUSES),
        metadata={"description": "open: more may be added. failed: it has ended, and not all of its jobs completed."},
    )
    total = fields.Integer(required=True)
    pending = fields.Integer(required=True)
    running = fields.Integer(required=True)
    completed = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    percent = fields.Integer(required=True, metadata={"description": "How much of it has ended; 100 is all of it."})
    created_at = Moment(required=True)
    closed_at = Moment(required=True, allow_none=True)
    cancelled_at = Moment(required=True, allow_none=True)
    ended_at = Moment(required=True, allow_none=True)


class BatchWithCallbacksSchema(BatchSchema):
    """A batch, and what runs when it has ended."""

    callbacks = fields.List(fields.Nested(CallbackSchema), required=True)


class BatchPageSchema(CamelSchema):
    """One page of a list; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(BatchSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class BatchesQuerySchema(PageQuerySchema):
    """Which batches, and which page of them."""

    live = fields.Boolean(load_default=False, metadata={"description": "Only those that have not ended."})


class NewBatchSchema(CamelSchema):
    """A batch to be opened, with what is to run when it has ended, and its first jobs."""

    name = fields.String(validate=validate.Length(1, 200), load_default=None, allow_none=True)
    on_complete = fields.Nested(
        NewJobSchema, metadata={"description": "Runs once when all of its jobs have ended, however."}
    )
    on_success = fields.Nested(NewJobSchema, metadata={"description": "Runs once when all of them completed."})
    on_failure = fields.Nested(
        NewJobSchema, metadata={"description": "Runs once when all have ended and one did not complete."}
    )
    jobs = Few(fields.Nested(NewMemberSchema), load_default=list, validate=validate.Length(max=MOST_JOBS))
    close = Flag(load_default=False, metadata={"description": "Nothing more is to be added."})


class NewMembersSchema(CamelSchema):
    """Jobs for an open batch: all or none."""

    jobs = Few(fields.Nested(NewMemberSchema), required=True, validate=validate.Length(1, MOST_JOBS))


class BatchOpenedSchema(BatchWithCallbacksSchema):
    """A new batch, and what became of the jobs that came with it, in their order."""

    items = fields.List(fields.Nested(JobAcceptedSchema), required=True)


_BATCH, _PAGE, _OPENED = BatchWithCallbacksSchema(), BatchPageSchema(), BatchOpenedSchema()

AN_ID = "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10"
A_JOB = "0199f0c2-5a4e-7d02-8e11-1d2f3a4b5c6d"
A_JOB_URL = f"/workspaces/0199f0c1-0b0a-7e11-8f00-2a3b4c5d6e7f/jobs/{A_JOB}"
NEW_EXAMPLE = {
    "name": "import 4711",
    "onSuccess": {"jobType": "report", "payload": {"import": 4711}},
    "jobs": [
        {"jobType": "fetch", "payload": {"page": 1}},
        {"jobType": "merge", "after": [{"position": 0}]},
    ],
    "close": True,
}
MEMBERS_EXAMPLE = {"jobs": [{"jobType": "fetch", "payload": {"page": 2}}]}
MEMBER_EXAMPLE = {
    "jobId": A_JOB,
    "status": "pending",
    "statusUrl": A_JOB_URL,
    "eventsUrl": f"{A_JOB_URL}/events",
    "deduplicated": False,
    "replaced": False,
}
EXAMPLE = {
    "id": AN_ID,
    "name": "import 4711",
    "status": "running",
    "total": 2,
    "pending": 1,
    "running": 1,
    "completed": 0,
    "failed": 0,
    "cancelled": 0,
    "percent": 0,
    "createdAt": "2026-01-05T09:00:00.000000Z",
    "closedAt": "2026-01-05T09:00:00.000000Z",
    "cancelledAt": None,
    "endedAt": None,
    "callbacks": [
        {"jobId": A_JOB, "jobType": "report", "runIf": "completed", "status": "pending", "statusUrl": A_JOB_URL}
    ],
}
OPENED = {
    "Location": {"description": "The batch's URL", "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": RETRY_AFTER,
}
CLOSED: dict[str, Any] = {
    "schema": ProblemSchema,
    "content_type": PROBLEM_JSON,
    "description": "The batch is closed, the uniqueness guard of a job is taken, or the same request is under way",
}


@batches.endpoint("GET", BATCHES, Scope.JOBS_READ, refuses=(404,))
@batches.query(BatchesQuerySchema)
@batches.answers(200, BatchPageSchema, headers=LISTED)
def list_workspace_batches(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List batches, newest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_batches(session, workspace_id, live_only=query["live"], limit=limit + 1, before=query["cursor"])
    return page_of(_PAGE, found, limit, lambda batch: batch.id)


@batches.endpoint("POST", BATCHES, Scope.JOBS_WRITE, refuses=(400, 404, 413, 415))
@batches.may_answer(409, **DUPLICATE)
@batches.may_answer(429, **QUOTA)
@batches.body(NewBatchSchema, example=NEW_EXAMPLE)
@batches.answers(201, BatchOpenedSchema, headers=OPENED, example={**EXAMPLE, "items": [MEMBER_EXAMPLE] * 2})
def open_new_batch(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Open a batch, with what is to run when it has ended, and its first jobs: all of it or nothing

    It ends when it is closed and all of its jobs have ended. A job that is not made, because with `ifActive`
    an unfinished one was returned in its place, is no member.
    """
    callbacks = read_wanted(workspace_id, {f"/{camel(name)}": body[name] for name in CALLBACKS if name in body})
    members = read_wanted(workspace_id, numbered(body["jobs"]))
    batch_id, answers = all_or_none(
        workspace_id, [*callbacks, *members], lambda session: _open(session, workspace_id, body, callbacks, members)
    )
    described = _described(workspace_id, batch_id)
    url = serving_url("batches.show_batch", workspaceId=workspace_id, batchId=batch_id)
    headers = {"Location": url, **_poll_headers(described)}
    return respond(_OPENED, {**described, "items": describe_answers(workspace_id, answers)}, 201, headers)


@batches.endpoint("GET", BATCH, Scope.JOBS_READ, refuses=(404,))
@batches.may_answer(304, description="The client has this state already", success=True)
@batches.answers(200, BatchWithCallbacksSchema, headers=TAGGED, example=EXAMPLE)
@batches.headers(*CONDITIONAL)
def show_batch(workspace_id: UUID, batch_id: UUID) -> Response:
    """Show a batch and how far it is"""
    return _show(workspace_id, batch_id)


@batches.endpoint("POST", BATCH + "/jobs", Scope.JOBS_WRITE, refuses=(400, 404, 413, 415))
@batches.may_answer(409, **CLOSED)
@batches.may_answer(429, **QUOTA)
@batches.body(NewMembersSchema, example=MEMBERS_EXAMPLE)
@batches.answers(202, JobsAcceptedSchema, example={"items": [MEMBER_EXAMPLE]})
def add_to_batch(body: dict[str, Any], workspace_id: UUID, batch_id: UUID) -> Response:
    """Add up to 1,000 jobs to an open batch in one transaction: all or none"""
    wanted = read_wanted(workspace_id, numbered(body["jobs"]), batch_id=batch_id)
    answers = all_or_none(workspace_id, wanted, lambda session: _add(session, workspace_id, batch_id, wanted))
    return accept_many(workspace_id, answers)


@batches.endpoint("POST", BATCH + "/close", Scope.JOBS_WRITE, refuses=(404,))
@batches.answers(200, BatchWithCallbacksSchema, example=EXAMPLE)
def close_open_batch(workspace_id: UUID, batch_id: UUID) -> Response:
    """Let nothing more be added to a batch, so that it ends with its last job; again it changes nothing"""
    with mounted().transaction() as session:
        batch = _find(session, workspace_id, batch_id)
        if batch.closed_at is None:
            OpenBatch(mounted().tasks, session, workspace_id, batch_id).close()
            audit(session, "batch.close", f"batch:{batch_id}", workspace_id)
    return _show(workspace_id, batch_id)


@batches.endpoint("POST", BATCH + "/cancel", Scope.JOBS_WRITE, refuses=(404,))
@batches.query(CancelQuerySchema)
@batches.answers(200, BatchWithCallbacksSchema, example=EXAMPLE)
def cancel_whole_batch(query: dict[str, Any], workspace_id: UUID, batch_id: UUID) -> Response:
    """Close a batch and cancel all of its jobs that have not ended

    What waits for it runs as it would anyway; with `tree` that is cancelled too, and what waits for that.
    """
    with mounted().transaction() as session:
        answer = cancel_batch(session, workspace_id, batch_id, tree=query["tree"])
        if answer is not None:
            told = {"tree": True} if query["tree"] else {}
            audit(session, "batch.cancel", f"batch:{batch_id}", workspace_id, **told, **answer._asdict())
    return _show(workspace_id, batch_id)


def _open(
    session: Session,
    workspace_id: UUID,
    body: dict[str, Any],
    callbacks: Sequence[Wanted],
    members: Sequence[Wanted],
) -> tuple[UUID, list[Enqueued]]:
    jobs = {one.at: one.job for one in callbacks}
    batch = mounted().tasks.batch(
        session,
        workspace_id=workspace_id,
        name=body["name"],
        on_complete=jobs.get("/onComplete"),
        on_success=jobs.get("/onSuccess"),
        on_failure=jobs.get("/onFailure"),
    )
    answers = enqueue_wanted(session, [one.of_batch(batch.id) for one in members]) if members else []
    if body["close"]:
        batch.close()
    about = {"name": body["name"], "callbacks": sorted(at.removeprefix("/") for at in jobs), "closed": body["close"]}
    audit(session, "batch.open", f"batch:{batch.id}", workspace_id, **about, **counts_of(answers))
    return batch.id, answers


def _add(session: Session, workspace_id: UUID, batch_id: UUID, wanted: Sequence[Wanted]) -> list[Enqueued]:
    if _find(session, workspace_id, batch_id).closed_at is not None:
        raise _closed(batch_id)
    try:
        answers = enqueue_wanted(session, wanted)
    except InvalidJobError as error:
        # Somebody closed it after we looked, and it is the database that says so.
        if all(problem.path == "/batchId" for problem in error.problems):
            raise _closed(batch_id) from None
        raise
    audit(session, "batch.add", f"batch:{batch_id}", workspace_id, **counts_of(answers))
    return answers


def _closed(batch_id: UUID) -> ProblemError:
    detail = f"The batch {batch_id} is closed: nothing can be added to it. Open another."
    return ProblemError(409, detail, kind="batch-closed", title="Batch closed")


def _find(session: Session, workspace_id: UUID, batch_id: UUID) -> BatchSeen:
    return require_found(get_batch(session, workspace_id, batch_id))


def _show(workspace_id: UUID, batch_id: UUID) -> Response:
    described = _described(workspace_id, batch_id)
    return tagged(respond(_BATCH, described, headers=_poll_headers(described)))


def _described(workspace_id: UUID, batch_id: UUID) -> dict[str, Any]:
    with mounted().reading() as session:
        batch = _find(session, workspace_id, batch_id)
        callbacks = list_callbacks(session, workspace_id, batch_id)
    return _describe(batch, callbacks)


def _poll_headers(described: dict[str, Any]) -> dict[str, str]:
    return {"Retry-After": str(POLL_AFTER)} if described["ended_at"] is None else {}


def _describe(batch: BatchSeen, callbacks: Sequence[Callback]) -> dict[str, Any]:
    names = (name for name in _BATCH.fields if name != "callbacks")
    described = [
        {
            "job_id": callback.job_id,
            "job_type": callback.task,
            "run_if": callback.run_if,
            "status": callback.status,
            "status_url": job_url(batch.workspace_id, callback.job_id),
        }
        for callback in callbacks
    ]
    return {**{name: getattr(batch, name) for name in names}, "callbacks": described}
