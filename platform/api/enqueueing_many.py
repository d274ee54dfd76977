"""From one request to many jobs: all of them or none, in one transaction, with an answer for each in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.answers import duplicate, job_url, respond
from jobplatform.api.auditing import audit
from jobplatform.api.bodies import MOST_ERRORS
from jobplatform.api.enqueueing import edge_of, if_active_of, queue_options
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import invalid, job_problems
from jobplatform.api.reading import read_existing
from jobplatform.api.requests import current_request_id, current_trace_parent
from jobplatform.api.schemas.fields import write_moment
from jobplatform.api.schemas.jobs import JobsAcceptedSchema
from jobplatform.errors import InvalidJobError, Problem, UnknownTaskError
from jobplatform.queue import Edge, Enqueued, NewJob, statuses_of, strict_json

T = TypeVar("T")

_ACCEPTED = JobsAcceptedSchema()


class Wanted(NamedTuple):
    """A job that a request asks for, where in the body that is, and what to do when its guard is taken."""

    job: NewJob
    if_active: str
    at: str

    def of_batch(self, batch_id: UUID) -> Wanted:
        return self._replace(job=dataclasses.replace(self.job, batch_id=batch_id))


class GuardTakenError(Exception):
    """Raised within the transaction, so that nothing is kept of the others either."""

    def __init__(self, wanted: Sequence[Wanted], answers: Sequence[Enqueued]) -> None:
        self.wanted = wanted
        self.answers = answers
        super().__init__("a uniqueness guard is taken")


def enqueue_all(workspace_id: UUID, items: Sequence[dict[str, Any]]) -> Response:
    """Enqueue what is asked for and commit; one that cannot be is a reason to enqueue nothing."""
    wanted = read_wanted(workspace_id, numbered(items))

    def work(session: Session) -> list[Enqueued]:
        answers = enqueue_wanted(session, wanted)
        audit(session, "job.enqueue_many", f"workspace:{workspace_id}", workspace_id, **counts_of(answers))
        return answers

    return accept_many(workspace_id, all_or_none(workspace_id, wanted, work))


def accept_many(workspace_id: UUID, answers: Sequence[Enqueued]) -> Response:
    """202: what became of each, in order."""
    return respond(_ACCEPTED, {"items": describe_answers(workspace_id, answers)}, 202)


def numbered(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The jobs of a body's ``jobs``, by where they are."""
    return {f"/jobs/{position}": options for position, options in enumerate(items)}


def read_wanted(workspace_id: UUID, asked: Mapping[str, dict[str, Any]], **options: Any) -> list[Wanted]:
    """The jobs at these places of a body; ``options`` are for each. Raises the problem with all that is wrong."""
    problems: list[Problem] = []
    wanted: list[Wanted] = []
    for at, said in asked.items():
        with _collecting(problems, at):
            wanted.append(_read(workspace_id, at, {**said, **options}))
    _refuse(problems)
    by_place = {one.at: one.job for one in wanted}
    linked: list[Wanted] = []
    for one in wanted:
        with _collecting(problems, one.at):
            linked.append(_after(one, asked[one.at].get("after", ()), by_place))
    _refuse(problems)
    return linked


def enqueue_wanted(session: Session, wanted: Sequence[Wanted]) -> list[Enqueued]:
    """Enqueue them in a transaction of the caller's. Raises :class:`GuardTakenError`."""
    answers = mounted().tasks.enqueue_many(session, [one.job for one in wanted])
    if _refused(wanted, answers):
        raise GuardTakenError(wanted, answers)
    return answers


def counts_of(answers: Sequence[Enqueued]) -> dict[str, int]:
    """For the audit log."""
    return {"jobs": len(answers), "created": sum(answer.created for answer in answers)}


def all_or_none(workspace_id: UUID, wanted: Sequence[Wanted], work: Callable[[Session], T]) -> T:
    """Do it in one transaction. What one of these jobs cannot be undoes all of it, and is said of its place."""
    try:
        with mounted().transaction() as session:
            return work(session)
    except GuardTakenError as error:
        raise _refusal(workspace_id, error) from None
    except InvalidJobError as error:
        at = {one.job.id: one.at for one in wanted}
        places = [at.get(job_id, "") for job_id in error.job_ids] or [""] * len(error.problems)
        problems = [
            Problem(f"{place}{problem.path}", problem.message)
            for place, problem in zip(places, job_problems(error, "/payload"), strict=True)
        ]
        raise invalid(problems[:MOST_ERRORS]) from None


def describe_answers(workspace_id: UUID, answers: Sequence[Enqueued]) -> list[dict[str, Any]]:
    """What became of each, as it is by now."""
    with mounted().reading() as session:
        statuses = statuses_of(session, workspace_id, [answer.job_id for answer in answers])
    return [_describe(workspace_id, answer, statuses) for answer in answers]


@contextmanager
def _collecting(problems: list[Problem], at: str) -> Iterator[None]:
    """What is wrong with the job at this place is no reason not to look at the next."""
    try:
        yield
    except UnknownTaskError as error:
        problems.append(Problem(f"{at}/jobType", str(error)))
    except InvalidJobError as error:
        problems += [Problem(f"{at}{path}", message) for path, message in job_problems(error, "/payload")]


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise invalid(problems[:MOST_ERRORS])


def _read(workspace_id: UUID, at: str, options: dict[str, Any]) -> Wanted:
    task = mounted().tasks.offered(options.pop("job_type"))
    payload = options.pop("payload")
    options.pop("after", None)  # They may name jobs that are not read yet.
    if_active = if_active_of(task, options)
    job = task.new_job(
        payload,
        workspace_id=workspace_id,
        request_id=current_request_id(),
        trace_parent=current_trace_parent(),
        **queue_options(options, if_active),
    )
    strict_json(job.payload)  # What cannot be stored is said here, where it is known whose it is.
    return Wanted(job, if_active, at)


def _after(one: Wanted, said: Sequence[dict[str, Any]], by_place: Mapping[str, NewJob]) -> Wanted:
    """The same, waiting for what it names: by their ids, or others of the same request by their places."""
    if not said:
        return one
    unknown = [
        Problem(f"/after/{number}/position", "is not the place of a job in `jobs`")
        for number, edge in enumerate(said)
        if "position" in edge and f"/jobs/{edge['position']}" not in by_place
    ]
    if unknown:
        raise InvalidJobError(unknown)
    edges = [
        Edge(by_place[f"/jobs/{edge['position']}"], edge["run_if"]) if "position" in edge else edge_of(edge)
        for edge in said
    ]
    return one._replace(job=dataclasses.replace(one.job, after=edges))


def _refused(wanted: Sequence[Wanted], answers: Sequence[Enqueued]) -> list[int]:
    return [
        position
        for position, (one, answer) in enumerate(zip(wanted, answers, strict=True))
        if one.if_active == "refuse" and not answer.created
    ]


def _refusal(workspace_id: UUID, error: GuardTakenError) -> Exception:
    """409 with the first job that stands in the way; but another of these is the request's own fault."""
    wanted, answers, refused = error.wanted, error.answers, _refused(error.wanted, error.answers)
    asked = {one.job.id: one.at for one in wanted}
    own = [
        Problem(wanted[position].at, f"has the same uniqueness guard as {asked[answers[position].job_id]}")
        for position in refused
        if answers[position].job_id in asked
    ]
    if own:
        return invalid(own[:MOST_ERRORS])
    first = answers[refused[0]]
    problem = duplicate(read_existing(workspace_id, first.job_id), first)
    problem.errors = tuple(
        Problem(wanted[position].at, _why_refused(answers[position])) for position in refused[:MOST_ERRORS]
    )
    return problem


def _why_refused(answer: Enqueued) -> str:
    if answer.unique_until is None:
        return f"the job {answer.job_id} has its uniqueness guard"
    return f"there is to be no other after the job {answer.job_id} until {write_moment(answer.unique_until)}"


def _describe(workspace_id: UUID, answer: Enqueued, statuses: Mapping[UUID, str]) -> dict[str, Any]:
    url = job_url(workspace_id, answer.job_id)
    return {
        "job_id": answer.job_id,
        # One that has ended and was pruned in this moment had certainly been pending.
        "status": statuses.get(answer.job_id, "pending"),
        "status_url": url,
        "events_url": f"{url}/events",
        "deduplicated": not answer.created and not answer.replaced,
        "replaced": answer.replaced,
    }
