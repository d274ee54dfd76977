"""From what the queue says to an HTTP answer: bodies, links, entity tags.

Bodies are written here and not by the application's JSON provider, which in somebody else's application may
have ideas of its own about dates and key order. Links are paths, never made from the Host header, and keep
the prefix that the request came in by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, request, url_for
from marshmallow import Schema

from jobplatform.api.mounted import serving_blueprint_name
from jobplatform.api.problems import ProblemError
from jobplatform.api.schemas.fields import write_cursor, write_moment
from jobplatform.api.schemas.jobs import AcceptedSchema, AttemptsSchema, JobSchema, PageSchema, StepsSchema
from jobplatform.models import Job, JobAttempt, JobStep, Status
from jobplatform.queue import Enqueued, JobsPage, Wait

Item = TypeVar("Item")

#: Seconds between two looks at a job that is not finished.
POLL_AFTER = 2
_JOB, _ACCEPTED, _PAGE, _ATTEMPTS = JobSchema(), AcceptedSchema(), PageSchema(), AttemptsSchema()
_STEPS = StepsSchema()
LIVE = (Status.PENDING, Status.RUNNING)


def respond(schema: Schema, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` through ``schema`` as the body of an answer."""
    body = json.dumps(schema.dump(value), ensure_ascii=False, separators=(",", ":"))
    answer = Response(body, status, content_type="application/json")
    answer.headers.update(headers or {})
    return answer


def show(job: Job) -> Response:
    """One job, with an entity tag; 304 when the client has this very state already."""
    return tagged(respond(_JOB, describe(job), headers=_poll_headers(job)))


def tagged(answer: Response) -> Response:
    """With an entity tag of its body; 304 when the client has it already."""
    answer.set_etag(_tag_of(answer))
    # Somebody's own: only its reader may keep it, and has to ask whether it is still so.
    answer.cache_control.private = True
    answer.cache_control.no_cache = True
    return unless_known(answer)


def unless_known(answer: Response) -> Response:
    """304 when the client has what this answer's tag stands for already."""
    # If-Match guards changes (require_match); of an answer that only shows something werkzeug would make a 412 with all
    # of it.
    answer.make_conditional({name: value for name, value in request.environ.items() if name != "HTTP_IF_MATCH"})
    return answer


def require_match(job: Job) -> None:
    """Raise the problem of a job that is another than what was changed was read from, as ``If-Match`` says."""
    require_tag(_tag_of(respond(_JOB, describe(job))), "The job")


def require_tag(tag: str | None, what: str = "It") -> None:
    """Raise the problem of ``what`` is another than ``If-Match`` says. ``tag``: its own, or None if there is none."""
    # A proxy that compresses makes tags weak; it is the same job all the same.
    if tag is None or not request.if_match.contains_weak(tag):
        raise ProblemError(
            412, f"{what} is not what If-Match says any more: read it again, and look what is different."
        )


def _tag_of(answer: Response) -> str:
    return hashlib.sha256(answer.get_data()).hexdigest()[:32]


def accept(job: Job, *, deduplicated: bool = False, replaced: bool = False) -> Response:
    """202: the job is durably there, and this is where to watch it."""
    described = describe(job)
    body = {
        "job_id": job.id,
        "status": job.status,
        "status_url": described["status_url"],
        "events_url": described["events_url"],
        "deduplicated": deduplicated,
        "replaced": replaced,
        "job": described,
    }
    headers = {"Location": described["status_url"], **_poll_headers(job)}
    return respond(_ACCEPTED, body, 202, headers)


def duplicate(job: Job, answer: Enqueued | None = None) -> ProblemError:
    """409: the uniqueness guard is taken, by this job; or it was made too recently, as an enqueue has answered."""
    status_url = job_url(job.workspace_id, job.id)
    detail = (
        f"An unfinished job has this uniqueness guard already: {job.id} is {job.status}. Watch that one, at statusUrl, "
        "or try again when it has ended."
    )
    extra = {"jobId": str(job.id), "jobStatus": job.status, "statusUrl": status_url}
    headers = {"Location": status_url}
    if answer is not None and answer.unique_until is not None:
        until = extra["uniqueUntil"] = write_moment(answer.unique_until)
        detail = f"Until {until} there is to be no other job after the last one of its key: {job.id} is {job.status}."
        headers["Retry-After"] = str(answer.retry_after)
    return ProblemError(409, detail, kind="duplicate-job", title="Duplicate job", extra=extra, headers=headers)


def status_conflict(job: Job, verb: str) -> ProblemError:
    """409: what was asked for does not fit the job's status."""
    return ProblemError(
        409,
        f"The job is {job.status} and cannot be {verb}.",
        kind="status-conflict",
        title="The job's status does not allow this",
        extra={"jobId": str(job.id), "jobStatus": job.status, "statusUrl": job_url(job.workspace_id, job.id)},
    )


def page(found: JobsPage) -> Response:
    """A page of jobs."""
    cursor = write_cursor(found.jobs[-1].id) if found.more else None
    return page_with(_PAGE, [describe(job) for job in found.jobs], cursor)


def page_of(
    schema: Schema,
    found: Sequence[Item],
    limit: int,
    place: Callable[[Item], UUID],
    describe: Callable[[Item], Any] = lambda item: item,
) -> Response:
    """A page of anything; one more than ``limit`` was asked for, to learn whether another page follows. ``place`` is
    what a cursor holds: where a page ends, so that the next begins.
    """
    shown = found[:limit]
    cursor = write_cursor(place(shown[-1])) if len(found) > limit else None
    return page_with(schema, [describe(item) for item in shown], cursor)


def page_with(schema: Schema, items: Sequence[Any], cursor: str | None) -> Response:
    """A page of what has been described already, and the cursor of the next one, if there is one."""
    headers = {"Link": f'<{_next_url(cursor)}>; rel="next"'} if cursor else {}
    return respond(schema, {"items": items, "next_cursor": cursor}, headers=headers)


def list_of_attempts(attempts: Sequence[JobAttempt], places: Mapping[int, str]) -> Response:
    """Every attempt that the database keeps, in order. ``places`` says where workers ran, as far as its reader may
    know."""
    return respond(_ATTEMPTS, {"items": [_describe_attempt(attempt, places) for attempt in attempts]})


def list_of_steps(steps: Sequence[JobStep]) -> Response:
    """The steps that are done, in their order, and the checkpoint."""
    items = [{**_saved(step), "name": step.name, "result": step.value} for step in steps if step.name]
    checkpoint = next(({**_saved(step), "state": step.value} for step in steps if not step.name), None)
    return respond(_STEPS, {"items": items, "checkpoint": checkpoint})


def describe(job: Job) -> dict[str, Any]:
    """A job as :class:`JobSchema` takes it."""
    return {
        **columns_of(_JOB, job),
        "worker_id": job.last_worker_id,
        "worker": getattr(job, "worker", None),
        "after": [_describe_wait(wait) for wait in getattr(job, "waits", ())],
        "error": _describe_error(job.error_type, job.error),
        "status_url": (url := job_url(job.workspace_id, job.id)),
        "events_url": f"{url}/events",
    }


def columns_of(schema: Schema, row: Any) -> dict[str, Any]:
    """What ``row`` has of the fields of ``schema``, where both call it the same."""
    return {name: getattr(row, name) for name in schema.fields if hasattr(row, name)}


def _describe_wait(wait: Wait) -> dict[str, Any]:
    what = "batch_id" if wait.of_batch else "job_id"
    return {what: wait.after_id, "run_if": wait.run_if, "status": wait.status}


def job_url(workspace_id: UUID, job_id: UUID) -> str:
    """Where a job is to be read, below the prefix that this request came in by."""
    endpoint = f"{serving_blueprint_name()}.jobs.show_job"
    return url_for(endpoint, workspaceId=workspace_id, jobId=job_id)


def _describe_error(kind: str | None, message: str | None) -> dict[str, str] | None:
    if kind is None and message is None:
        return None
    return {"type": kind or "Error", "message": message or ""}


def _saved(step: JobStep) -> dict[str, Any]:
    return {"epoch": step.epoch, "saved_at": step.saved_at}


def _describe_attempt(attempt: JobAttempt, places: Mapping[int, str]) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "epoch": attempt.epoch,
        "worker_id": attempt.worker_id,
        "worker": places.get(attempt.worker_id or 0),
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
        "final": attempt.final,
        "error": _describe_error(attempt.error_type, attempt.error),
        "traceback": attempt.traceback,
    }


def _poll_headers(job: Job) -> dict[str, str]:
    return {"Retry-After": str(POLL_AFTER)} if job.status in LIVE else {}


def _next_url(cursor: str) -> str:
    query = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    return f"{request.script_root}{request.path}?{urlencode([*query, ('cursor', cursor)])}"
