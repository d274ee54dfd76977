"""Batches: how far they are, and cancelling them. They are made in code, in the caller's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields, validate

from jobplatform.api.answers import job_url, page_of, respond
from jobplatform.api.auditing import audit
from jobplatform.api.fields import CamelSchema, Moment
from jobplatform.api.mounted import mounted
from jobplatform.api.principals import Scope
from jobplatform.api.problems import not_found
from jobplatform.api.resource import LISTED, Resource
from jobplatform.api.schemas import PageQuerySchema
from jobplatform.models import RunIf, Status
from jobplatform.queue import (
    BatchSeen,
    Callback,
    cancel_batch,
    get_batch,
    list_batches,
    list_callbacks,
)

batches = Resource("batches", __name__, description="Sets of jobs that are counted together")

BATCHES = "/workspaces/<uuid:workspaceId>/batches"
BATCH = BATCHES + "/<uuid:batchId>"

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


_BATCH, _PAGE = BatchWithCallbacksSchema(), BatchPageSchema()


@batches.endpoint("GET", BATCHES, Scope.JOBS_READ, refuses=(404,))
@batches.query(BatchesQuerySchema)
@batches.answers(200, BatchPageSchema, headers=LISTED)
def list_workspace_batches(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List batches, newest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_batches(session, workspace_id, live_only=query["live"], limit=limit + 1, before=query["cursor"])
    return page_of(_PAGE, found, limit, lambda batch: batch.id)


@batches.endpoint("GET", BATCH, Scope.JOBS_READ, refuses=(404,))
@batches.answers(200, BatchWithCallbacksSchema)
def show_batch(workspace_id: UUID, batch_id: UUID) -> Response:
    """Show a batch and how far it is"""
    return _show(workspace_id, batch_id)


@batches.endpoint("POST", BATCH + "/cancel", Scope.JOBS_WRITE, refuses=(404,))
@batches.answers(200, BatchWithCallbacksSchema)
def cancel_whole_batch(workspace_id: UUID, batch_id: UUID) -> Response:
    """Close a batch and cancel all of its jobs that have not ended; what waits for it runs as it would anyway"""
    with mounted().transaction() as session:
        answer = cancel_batch(session, workspace_id, batch_id)
        if answer is not None:
            audit(session, "batch.cancel", f"batch:{batch_id}", workspace_id, **answer._asdict())
    return _show(workspace_id, batch_id)


def _show(workspace_id: UUID, batch_id: UUID) -> Response:
    with mounted().reading() as session:
        batch = get_batch(session, workspace_id, batch_id)
        callbacks = list_callbacks(session, workspace_id, batch_id)
    if batch is None:
        raise not_found()
    return respond(_BATCH, _describe(batch, callbacks))


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
