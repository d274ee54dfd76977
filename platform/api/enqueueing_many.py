"""From one request to many jobs: all of them or none, in one transaction, with an answer for each in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.answers import duplicate, job_url, respond
from jobplatform.api.auditing import audit
from jobplatform.api.bodies import MOST_ERRORS
from jobplatform.api.enqueueing import if_active_of, queue_options
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import invalid, job_problems
from jobplatform.api.reading import read_existing
from jobplatform.api.requests import current_request_id, current_trace_parent
from jobplatform.api.schemas import JobsAcceptedSchema
from jobplatform.errors import InvalidJobError, Problem, UnknownTaskError
from jobplatform.queue import Enqueued, NewJob, statuses_of, strict_json

_ACCEPTED = JobsAcceptedSchema()


class _Wanted(NamedTuple):
    job: NewJob
    if_active: str


def enqueue_all(workspace_id: UUID, items: Sequence[dict[str, Any]]) -> Response:
    """Enqueue what is asked for and commit; one that cannot be is a reason to enqueue nothing."""
    wanted = _read(workspace_id, items)
    answers = _enqueue(workspace_id, wanted)
    with mounted().reading() as session:
        statuses = statuses_of(session, workspace_id, [answer.job_id for answer in answers])
    described = [_describe(workspace_id, answer, statuses) for answer in answers]
    return respond(_ACCEPTED, {"items": described}, 202)


def _read(workspace_id: UUID, items: Sequence[dict[str, Any]]) -> list[_Wanted]:
    problems: list[Problem] = []
    wanted: list[_Wanted] = []
    for position, options in enumerate(items):
        try:
            wanted.append(_new_job(workspace_id, options))
        except UnknownTaskError as error:
            problems.append(Problem(f"/jobs/{position}/jobType", str(error)))
        except InvalidJobError as error:
            found = job_problems(error, "/payload")
            problems += [Problem(f"/jobs/{position}{path}", message) for path, message in found]
    if problems:
        raise invalid(problems[:MOST_ERRORS])
    return wanted


def _new_job(workspace_id: UUID, options: dict[str, Any]) -> _Wanted:
    task = mounted().tasks[options.pop("job_type")]
    payload = options.pop("payload")
    if_active = if_active_of(task, options)
    job = task.new_job(
        payload,
        workspace_id=workspace_id,
        request_id=current_request_id(),
        trace_parent=current_trace_parent(),
        **queue_options(options, if_active),
    )
    strict_json(job.payload)  # What cannot be stored is said here, where it is known whose it is.
    return _Wanted(job, if_active)


def _enqueue(workspace_id: UUID, wanted: Sequence[_Wanted]) -> list[Enqueued]:
    with mounted().transaction() as session:
        answers = mounted().tasks.enqueue_many(session, [one.job for one in wanted])
        refused = [
            position
            for position, (one, answer) in enumerate(zip(wanted, answers, strict=True))
            if one.if_active == "refuse" and not answer.created
        ]
        if not refused:
            _audit(session, workspace_id, answers)
            return answers
        # Nothing is kept of the others either.
        session.rollback()
    raise _refusal(workspace_id, wanted, answers, refused)


def _audit(session: Session, workspace_id: UUID, answers: Sequence[Enqueued]) -> None:
    counts = {"jobs": len(answers), "created": sum(answer.created for answer in answers)}
    audit(session, "job.enqueue_many", f"workspace:{workspace_id}", workspace_id, **counts)


def _refusal(
    workspace_id: UUID, wanted: Sequence[_Wanted], answers: Sequence[Enqueued], refused: Sequence[int]
) -> Exception:
    """409 with the first job that stands in the way; but another of these is the request's own fault."""
    asked = {one.job.id: position for position, one in enumerate(wanted)}
    own = [
        Problem(f"/jobs/{position}", f"has the same uniqueness guard as /jobs/{asked[answers[position].job_id]}")
        for position in refused
        if answers[position].job_id in asked
    ]
    if own:
        return invalid(own[:MOST_ERRORS])
    problem = duplicate(read_existing(workspace_id, answers[refused[0]].job_id))
    problem.errors = tuple(
        Problem(f"/jobs/{position}", f"the job {answers[position].job_id} has its uniqueness guard")
        for position in refused[:MOST_ERRORS]
    )
    return problem


def _describe(workspace_id: UUID, answer: Enqueued, statuses: Mapping[UUID, str]) -> dict[str, Any]:
    return {
        "job_id": answer.job_id,
        # One that has ended and was pruned in this moment had certainly been pending.
        "status": statuses.get(answer.job_id, "pending"),
        "status_url": job_url(workspace_id, answer.job_id),
        "deduplicated": not answer.created and not answer.replaced,
        "replaced": answer.replaced,
    }
