"""Jobs of any task: enqueue, look, list, change, cancel, retry, fork."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import (
    accept,
    duplicate,
    list_of_attempts,
    list_of_steps,
    require_match,
    show,
    status_conflict,
)
from jobplatform.api.auditing import audit
from jobplatform.api.enqueueing import enqueue
from jobplatform.api.enqueueing_many import enqueue_all
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import invalid, require_found, unavailable
from jobplatform.api.reading import (
    places_for_reader,
    read_existing,
    read_job,
    read_job_in,
    read_page,
    reader_sees_sealed,
)
from jobplatform.api.requests import current_request_id, current_trace_parent
from jobplatform.api.resource import CONDITIONAL, CONFLICT, DUPLICATE, GUARDED, LISTED, LOCATED, QUOTA, TAGGED, Resource
from jobplatform.api.schemas.jobs import (
    AcceptedSchema,
    AttemptsSchema,
    CancelQuerySchema,
    ForkSchema,
    JobChangeSchema,
    JobsAcceptedSchema,
    JobSchema,
    JobsQuerySchema,
    NewJobSchema,
    NewJobsSchema,
    PageSchema,
    RetryQuerySchema,
    StepsSchema,
    WaitQuerySchema,
)
from jobplatform.api.streams.streaming import show_after
from jobplatform.errors import InvalidJobError, Problem
from jobplatform.queue import (
    CancelAnswer,
    ChangeAnswer,
    ForkKind,
    JobChange,
    RetryKind,
    RunNowAnswer,
    cancel_job,
    cancel_tree,
    change_job,
    fork_job,
    get_job,
    hold_job,
    list_attempts,
    list_steps,
    retry_job,
    reveal,
    run_job_now,
)

jobs = Resource("jobs", __name__, description="Jobs of a workspace")

JOBS = "/workspaces/<uuid:workspaceId>/jobs"
JOB = JOBS + "/<uuid:jobId>"
#: A step's result is shown up to so many bytes: a job may have a thousand of them.
LARGEST_SHOWN = 4096


@jobs.endpoint("POST", JOBS, Scope.JOBS_WRITE, refuses=(400, 404, 413, 415))
@jobs.may_answer(409, **DUPLICATE)
@jobs.may_answer(429, **QUOTA)
@jobs.body(NewJobSchema, example={"jobType": "export", "payload": {"format": "csv"}})
@jobs.answers(202, AcceptedSchema, headers=LOCATED)
def enqueue_job(options: dict[str, Any], workspace_id: UUID) -> Response:
    """Enqueue a job of any registered task"""
    task = mounted().tasks.offered(options.pop("job_type"))
    return enqueue(task, options.pop("payload"), workspace_id, options, payload_at="/payload")


@jobs.endpoint("POST", JOBS + "/batch", Scope.JOBS_WRITE, refuses=(400, 404, 413, 415))
@jobs.may_answer(409, **DUPLICATE)
@jobs.may_answer(429, **QUOTA)
@jobs.body(NewJobsSchema, example={"jobs": [{"jobType": "export", "payload": {"format": "csv"}}]})
@jobs.answers(202, JobsAcceptedSchema)
def enqueue_many_jobs(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Enqueue up to 1,000 jobs of any registered tasks in one transaction: all or none"""
    return enqueue_all(workspace_id, body["jobs"])


@jobs.endpoint("GET", JOBS, Scope.JOBS_READ, refuses=(404,))
@jobs.query(JobsQuerySchema)
@jobs.answers(200, PageSchema, headers=LISTED)
def list_workspace_jobs(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List jobs, newest first"""
    return read_page(workspace_id, query)


@jobs.endpoint("GET", JOB, Scope.JOBS_READ, refuses=(404,), one_job=True)
@jobs.query(WaitQuerySchema)
@jobs.may_answer(304, description="The client has this state already", success=True)
@jobs.answers(200, JobSchema, headers=TAGGED)
@jobs.headers(*CONDITIONAL)
def show_job(query: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Show a job"""
    return show_after(query["wait"], lambda: read_job(workspace_id, job_id))


@jobs.endpoint("GET", JOB + "/attempts", Scope.JOBS_READ, refuses=(404,))
@jobs.answers(200, AttemptsSchema)
def list_job_attempts(workspace_id: UUID, job_id: UUID) -> Response:
    """List the attempts of a job that did not simply succeed"""
    with mounted().reading() as session:
        require_found(get_job(session, workspace_id, job_id))
        found = list_attempts(session, workspace_id, job_id)
        reveal(session, found, to_reader=reader_sees_sealed())
        return list_of_attempts(found, places_for_reader(session, (attempt.worker_id for attempt in found)))


@jobs.endpoint("GET", JOB + "/steps", Scope.JOBS_READ, refuses=(404,))
@jobs.answers(200, StepsSchema)
def list_job_steps(workspace_id: UUID, job_id: UUID) -> Response:
    """List the steps that a job has done, and its checkpoint"""
    with mounted().reading() as session:
        require_found(get_job(session, workspace_id, job_id))
        found = list_steps(session, workspace_id, job_id, largest=LARGEST_SHOWN)
        reveal(session, found, to_reader=reader_sees_sealed())
    return list_of_steps(found)


@jobs.endpoint("PATCH", JOB, Scope.JOBS_WRITE, refuses=(400, 404, 412, 413, 415), keyed=True)
@jobs.may_answer(409, **CONFLICT)
@jobs.body(JobChangeSchema, example={"priority": 10, "runAfter": None})
@jobs.answers(200, JobSchema, headers=TAGGED)
@jobs.headers(*GUARDED)
def alter_job(change: JobChange, workspace_id: UUID, job_id: UUID) -> Response:
    """Change a job that has not begun: its priority, its queue, when it runs

    What is not named stays. It may wait for its next attempt, or for other jobs, and goes on waiting for those.
    """
    with mounted().transaction() as session:
        if "If-Match" in request.headers:
            hold_job(session, workspace_id, job_id)
            require_match(read_job_in(session, workspace_id, job_id))
        answer = change_job(session, workspace_id, job_id, change)
        if answer is ChangeAnswer.CHANGED:
            audit(session, "job.change", f"job:{job_id}", workspace_id, **change.as_json())
    job = read_job(workspace_id, job_id)
    if answer is ChangeAnswer.BUSY:
        raise unavailable("The job changed hands too often to be changed; try again.", retry_after=1)
    if answer is not ChangeAnswer.CHANGED:
        raise status_conflict(job, "changed")
    return show(job)


@jobs.endpoint("POST", JOB + "/cancel", Scope.JOBS_WRITE, refuses=(404,))
@jobs.may_answer(409, **CONFLICT)
@jobs.query(CancelQuerySchema)
@jobs.answers(200, JobSchema)
def cancel(query: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Cancel a job: at once while it waits, through its worker while it runs

    With ``tree`` also everything that waits for it, whether or not the job itself has ended.
    """
    if query["tree"]:
        return _cancel_tree(workspace_id, job_id)
    with mounted().transaction() as session:
        answer = cancel_job(session, workspace_id, job_id)
        if answer in (CancelAnswer.CANCELLED, CancelAnswer.REQUESTED):
            audit(session, "job.cancel", f"job:{job_id}", workspace_id, answer=answer.value)
    job = read_job(workspace_id, job_id)
    if answer is CancelAnswer.FINISHED:
        raise status_conflict(job, "cancelled")
    if answer is CancelAnswer.BUSY:
        raise unavailable("The job changed hands too often to be cancelled; try again.", retry_after=1)
    return show(job)


def _cancel_tree(workspace_id: UUID, job_id: UUID) -> Response:
    with mounted().transaction() as session:
        answer = cancel_tree(session, workspace_id, job_id)
        if answer is not None:
            audit(session, "job.cancel", f"job:{job_id}", workspace_id, tree=True, **answer._asdict())
    return show(read_job(workspace_id, job_id))


@jobs.endpoint("POST", JOB + "/retry", Scope.JOBS_WRITE, refuses=(404, 422))
@jobs.may_answer(409, **CONFLICT)
@jobs.may_answer(429, **QUOTA)
@jobs.query(RetryQuerySchema)
@jobs.answers(200, JobSchema)
def retry(query: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Make a failed or cancelled job pending again, with all its attempts ahead of it"""
    with mounted().transaction() as session:
        try:
            answer = retry_job(session, workspace_id, job_id, **query)
        except InvalidJobError as error:
            raise invalid([Problem("?fromStep", problem.message) for problem in error.problems]) from None
        if answer.kind is RetryKind.RETRIED:
            told = {name: said for name, said in query.items() if said}
            audit(session, "job.retry", f"job:{job_id}", workspace_id, **told)
    if answer.kind is RetryKind.DUPLICATE and answer.existing:
        raise duplicate(read_existing(workspace_id, answer.existing))
    job = read_job(workspace_id, job_id)
    if answer.kind is RetryKind.BUSY:
        raise unavailable("The job changed hands too often to be retried; try again.", retry_after=1)
    if answer.kind is not RetryKind.RETRIED:
        raise status_conflict(job, "retried")
    return show(job)


@jobs.endpoint("POST", JOB + "/fork", Scope.JOBS_WRITE, refuses=(400, 404, 413, 415, 422))
@jobs.may_answer(409, **DUPLICATE)
@jobs.may_answer(429, **QUOTA)
@jobs.body(ForkSchema, required=False, example={"fromStep": "page-3"})
@jobs.answers(202, AcceptedSchema, headers=LOCATED)
def fork(body: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Enqueue a job like one that has ended, to go on after what that has done

    The old job stays as it is, and is the parent of the new one. Steps that are kept are not done again.
    """
    asked = {**body, "request_id": current_request_id(), "trace_parent": current_trace_parent()}
    with mounted().transaction() as session:
        answer = fork_job(session, mounted().tasks, workspace_id, job_id, **asked)
        if answer.kind is ForkKind.FORKED and answer.enqueued is not None:
            said = {name: body[name] for name in ("from_step", "from_start") if body.get(name)}
            facts = {"from_job": str(job_id), **said, "new_payload": "payload" in body}
            audit(session, "job.fork", f"job:{answer.enqueued.job_id}", workspace_id, **facts)
    if answer.enqueued is None:
        raise status_conflict(read_job(workspace_id, job_id), "forked")
    job = read_existing(workspace_id, answer.enqueued.job_id)
    if answer.kind is ForkKind.DUPLICATE:
        raise duplicate(job, answer.enqueued)
    return accept(job)


@jobs.endpoint("POST", JOB + "/run-now", Scope.JOBS_WRITE, refuses=(404,))
@jobs.may_answer(409, **CONFLICT)
@jobs.answers(200, JobSchema)
def run_now(workspace_id: UUID, job_id: UUID) -> Response:
    """Make a job ready that was to run, or to be tried again, later

    It takes its turn among what is ready: pauses, limits and the fair share count as ever.
    """
    with mounted().transaction() as session:
        answer = run_job_now(session, workspace_id, job_id)
        if answer is RunNowAnswer.READY:
            audit(session, "job.run_now", f"job:{job_id}", workspace_id)
    job = read_job(workspace_id, job_id)
    if answer is RunNowAnswer.BUSY:
        raise unavailable("The job changed hands too often to be run now; try again.", retry_after=1)
    if answer is not RunNowAnswer.READY:
        raise status_conflict(job, "run now, as it waits for others" if answer is RunNowAnswer.BLOCKED else "run now")
    return show(job)
