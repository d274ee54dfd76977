"""From a request to a job: what POST …/jobs and POST …/sync have in common."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from flask import Response

from jobplatform.api.answers import accept, duplicate
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import invalid, job_problems
from jobplatform.api.reading import read_existing
from jobplatform.api.requests import current_request_id, current_trace_parent
from jobplatform.errors import InvalidJobError
from jobplatform.models import Job
from jobplatform.queue import Edge, Enqueued, Task


def enqueue(
    task: Task[Any, Any], payload: Any, workspace_id: UUID, options: dict[str, Any], *, payload_at: str
) -> Response:
    """Enqueue and commit, then answer with the job as it is by then.

    ``payload_at`` is where the body has the payload. The job is read again after the commit, because in
    synchronous mode that is where it ran.
    """
    accepted = enqueue_quietly(task, payload, workspace_id, options, payload_at=payload_at)
    return accept(accepted.job, deduplicated=not accepted.created and not accepted.replaced, replaced=accepted.replaced)


class Accepted(NamedTuple):
    """The job that is there now, and whether this request made it, or made it what it is."""

    job: Job
    created: bool
    replaced: bool = False


def enqueue_quietly(
    task: Task[Any, Any], payload: Any, workspace_id: UUID, options: dict[str, Any], *, payload_at: str
) -> Accepted:
    """The same for whoever answers in another form. Raises the problem that stands in the way."""
    if_active = if_active_of(task, options)
    try:
        enqueued = _enqueue(task, payload, workspace_id, queue_options(options, if_active), if_active)
    except InvalidJobError as error:
        raise invalid(job_problems(error, payload_at)) from None
    job = read_existing(workspace_id, enqueued.job_id)
    if not enqueued.created and if_active == "refuse":
        raise duplicate(job, enqueued)
    return Accepted(job, enqueued.created, enqueued.replaced)


def _enqueue(
    task: Task[Any, Any], payload: Any, workspace_id: UUID, options: dict[str, Any], if_active: str
) -> Enqueued:
    with mounted().transaction() as session:
        enqueued = task.enqueue(
            session,
            payload,
            workspace_id=workspace_id,
            request_id=current_request_id(),
            trace_parent=current_trace_parent(),
            **options,
        )
        if enqueued.created or if_active != "refuse":
            facts = {"created": enqueued.created, **({"replaced": True} if enqueued.replaced else {})}
            audit(session, "job.enqueue", f"job:{enqueued.job_id}", workspace_id, **facts)
        return enqueued


def if_active_of(task: Task[Any, Any], options: dict[str, Any]) -> str:
    """What to do when the uniqueness guard is taken: as the request says, else as the task does, else refuse."""
    said: str | None = options.pop("if_active", None)
    return said or ("replace" if task.options.if_active == "replace" else "refuse")


def queue_options(options: dict[str, Any], if_active: str) -> dict[str, Any]:
    """The options of a body under the names, and in the units, of the queue."""
    named = dict(_QUEUE_OPTIONS.get(name, _same)(name, value) for name, value in options.items())
    return named | {"if_active": "replace" if if_active == "replace" else "return"}


def _same(name: str, value: Any) -> tuple[str, Any]:
    return name, value


def _duration(name: str, milliseconds: int) -> tuple[str, datetime.timedelta]:
    return name.removesuffix("_ms"), datetime.timedelta(milliseconds=milliseconds)


def edge_of(found: dict[str, Any]) -> Edge:
    """What :class:`EdgeSchema` loads, for the queue."""
    if "batch_id" in found:
        return Edge(found["batch_id"], found["run_if"], of_batch=True)
    return Edge(found["job_id"], found["run_if"])


_QUEUE_OPTIONS: dict[str, Callable[[str, Any], tuple[str, Any]]] = {
    "delay_ms": _duration,
    "longest_delay_ms": _duration,
    "start_within_ms": _duration,
    "timeout_ms": _duration,
    "unique_for_ms": _duration,
    "tags": lambda name, value: (name, tuple(value)),
    "after": lambda name, value: (name, tuple(map(edge_of, value))),
}
