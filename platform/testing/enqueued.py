"""What was enqueued, and whether it is what the test expects."""

from __future__ import annotations

import datetime
import difflib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select

from jobplatform.models import Job, Status
from jobplatform.queue import Task, reveal
from jobplatform.testing.matching import Difference, differences, shown
from jobplatform.testing.places import Place, reading
from jobplatform.wording import agreeing

P = TypeVar("P")

#: A message shows so many jobs, the nearest first.
_SHOWN = 5


def all_enqueued(
    where: Place,
    task: Task[P, Any] | str | None = None,
    payload: P | Mapping[str, Any] | None = None,
    *,
    workspace_id: uuid.UUID | None = None,
    status: Status | str | None = Status.PENDING,
    **facts: Any,
) -> list[Job]:
    """The jobs that wait (or are in another ``status``; None: in any), oldest first, narrowed by the same facts that
    :func:`assert_enqueued` takes. A Session also sees what it has not committed yet."""
    wanted = _Wanted.of(task, payload, facts)
    return [job for job in _jobs(where, workspace_id, status) if not wanted.differences(job)]


def assert_enqueued(
    where: Place,
    task: Task[P, Any] | str,
    payload: P | Mapping[str, Any] | None = None,
    *,
    workspace_id: uuid.UUID | None = None,
    status: Status | str | None = Status.PENDING,
    count: int | None = None,
    **facts: Any,
) -> list[Job]:
    """Fail unless a job like this waits, or exactly ``count`` of them; returns them.

    ``payload`` is a partial match: only the keys that it names have to be there, however deep; a value of the task's
    payload type has to be equal in all of its fields. ``facts`` are the job's own: ``queue``, ``priority``,
    ``run_after``, ``delay``, ``tags`` (these among others), ``unique_key``, ``resource``, ``units``, ``max_attempts``,
    ``timeout``, ``start_within``, ``request_id``. The failure's message shows what was enqueued instead, nearest first.
    """
    wanted = _Wanted.of(task, payload, facts)
    jobs = _jobs(where, workspace_id, status)
    found = [job for job in jobs if not wanted.differences(job)]
    if not found if count is None else len(found) != count:
        raise AssertionError(_message(wanted, jobs, found, status, count))
    return found


def refute_enqueued(
    where: Place,
    task: Task[P, Any] | str | None = None,
    payload: P | Mapping[str, Any] | None = None,
    *,
    workspace_id: uuid.UUID | None = None,
    status: Status | str | None = Status.PENDING,
    **facts: Any,
) -> None:
    """Fail when a job like this waits. Without a task: when any job does."""
    wanted = _Wanted.of(task, payload, facts)
    found = [job for job in _jobs(where, workspace_id, status) if not wanted.differences(job)]
    if found:
        lines = [f"there should be no {_kind(status)} of {wanted}, and there {_are(len(found))}:", *map(_line, found)]
        raise AssertionError("\n".join(lines[: _SHOWN + 1]))


@dataclass(frozen=True)
class _Wanted:
    """What a job should be like."""

    task: str | None
    payload: Any
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, task: Task[Any, Any] | str | None, payload: Any, facts: Mapping[str, Any]) -> _Wanted:
        if unknown := sorted(set(facts) - set(FACTS)):
            near = difflib.get_close_matches(unknown[0], FACTS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(FACTS))}"
            raise TypeError(f"a job has no fact {unknown[0]!r}{hint}")
        if payload is not None and not isinstance(payload, Mapping) and isinstance(task, Task):
            payload = task.payload.dump(payload)
        return cls(task.name if isinstance(task, Task) else task, payload, facts)

    def __str__(self) -> str:
        said = [] if self.payload is None else [f"payload {shown(self.payload)}"]
        said += [f"{name} {shown(value)}" for name, value in self.facts.items()]
        return " with ".join([repr(self.task) if self.task else "any task", *([", ".join(said)] if said else [])])

    def differences(self, job: Job) -> list[Difference]:
        return list(self._differences(job))

    def _differences(self, job: Job) -> Iterator[Difference]:
        if self.task is not None and job.job_type != self.task:
            yield Difference("task", repr(job.job_type), repr(self.task))
        if self.payload is not None:
            yield from differences(job.payload, self.payload, "payload")
        for name, expected in self.facts.items():
            yield from FACTS[name](job, name, expected)

    def distance(self, job: Job) -> tuple[float, int]:
        """How far a job is from this: first by its task's name, then by the number of differences."""
        likeness = difflib.SequenceMatcher(None, job.job_type, self.task or job.job_type).ratio()
        return (-likeness, len(self.differences(job)))


def _equal(job: Job, name: str, expected: Any) -> Iterator[Difference]:
    yield from differences(getattr(job, name), expected, name)


def _timeout(job: Job, name: str, expected: Any) -> Iterator[Difference]:
    yield from differences(datetime.timedelta(milliseconds=job.timeout_ms), expected, name)


def _start_within(job: Job, name: str, expected: Any) -> Iterator[Difference]:
    within = None if job.start_within_ms is None else datetime.timedelta(milliseconds=job.start_within_ms)
    yield from differences(within, expected, name)


def _delay(job: Job, name: str, expected: Any) -> Iterator[Difference]:
    yield from differences(job.run_after - job.created_at, expected, name)


def _tags(job: Job, name: str, expected: Any) -> Iterator[Difference]:
    if missing := sorted({expected} - {*job.tags} if isinstance(expected, str) else {*expected} - {*job.tags}):
        yield Difference(name, shown(job.tags), f"also {shown(missing)}")


#: How each fact about a job is compared.
FACTS = {
    **dict.fromkeys(
        ("queue", "priority", "run_after", "unique_key", "resource", "units", "max_attempts", "request_id"), _equal
    ),
    "timeout": _timeout,
    "start_within": _start_within,
    "delay": _delay,
    "tags": _tags,
}


def _jobs(where: Place, workspace_id: uuid.UUID | None, status: Status | str | None) -> Sequence[Job]:
    """As they are now and detached. What is sealed is opened, where this process has the keys."""
    statement = select(Job).order_by(Job.id)
    if workspace_id is not None:
        statement = statement.where(Job.workspace_id == workspace_id)
    if status is not None:
        statement = statement.where(Job.status == Status(status).value)
    with reading(where) as session:
        jobs = session.scalars(statement, execution_options={"populate_existing": True}).all()
        reveal(session, jobs)
        for job in jobs:
            session.expunge(job)
    return jobs


def _message(
    wanted: _Wanted, jobs: Sequence[Job], found: Sequence[Job], status: Status | str | None, count: int | None
) -> str:
    number = "no" if not found else str(len(found))
    lines = [f"{number} {_kind(status)} of {wanted}" + (f", expected {count}" if count is not None else "")]
    lines += ["these are:", *map(_line, found[:_SHOWN])] if found else []
    others = sorted((job for job in jobs if job not in found), key=wanted.distance)
    if not others:
        return "\n".join([*lines, f"there is no {'other ' if found else ''}{_kind(status)} at all"])
    kind = agreeing(len(others), f"{'other ' if found else ''}{_kind(status)}")
    lines.append(f"there {_are(len(others))} {kind}, the nearest first:")
    for job in others[:_SHOWN]:
        lines += [_line(job), *(f"      {difference}" for difference in wanted.differences(job))]
    return "\n".join(lines)


def _kind(status: Status | str | None) -> str:
    return "job" if status is None else f"{Status(status).value} job"


def _are(number: int) -> str:
    return f"{agreeing(number, 'is', 'are')} {number}"


def _line(job: Job) -> str:
    return f"  - {job.job_type} {job.id} of workspace {job.workspace_id}, queue {job.queue}: {shown(job.payload)}"
