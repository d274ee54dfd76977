"""Given: whether an enqueue is called with what it takes. Not every caller has a type checker. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.queue.allowed import list_problem, session_problem
from jobplatform.queue.enqueue.new_job import NewJob

T = TypeVar("T")


def require_session(said: object) -> None:
    """Raises TypeError for what is no Session."""
    if problem := session_problem(said):
        raise TypeError(f"the first argument is the Session in whose transaction to enqueue, and {problem}")


def several(said: Iterable[T], what: str) -> list[T]:
    """The list of them. Raises :class:`InvalidJobError` for a single one."""
    if list_problem(said):
        kind = type(said).__name__
        raise InvalidJobError([Problem("", f"a list of {what} is asked for, and this is a {kind}: write […]")])
    return list(said)


def require_jobs(said: Iterable[NewJob]) -> list[NewJob]:
    """The list of these jobs. Raises :class:`InvalidJobError` naming the place of each that is none."""
    jobs = several(said, "jobs")
    if problems := [Problem(f"/{number}", _no_job(job)) for number, job in enumerate(jobs) if _is_no_job(job)]:
        raise InvalidJobError(problems)
    return jobs


def _is_no_job(said: object) -> bool:
    return not isinstance(said, NewJob)


def _no_job(said: object) -> str:
    return f"is a {type(said).__name__}, and not a job: the new_job(…) of a task makes one"
