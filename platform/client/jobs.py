"""What the API says about jobs, as values. Does no input or output."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

#: The statuses in which a job has ended.
FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, in its own units."""

    current: float | None
    total: float | None
    message: str | None

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> Progress | None:
        if found is None:
            return None
        return cls(found.get("current"), found.get("total"), found.get("message"))


@dataclass(frozen=True, slots=True)
class JobError:
    """Why the last attempt did not succeed."""

    type: str
    message: str

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> JobError | None:
        return None if found is None else cls(found["type"], found["message"])


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when it was asked for. ``raw`` is the whole answer, with what this version does not know too."""

    id: str
    workspace_id: str
    job_type: str
    queue: str
    status: str
    outcome: str | None
    payload: Any
    progress: Progress | None
    result: Any
    error: JobError | None
    attempts: int
    max_attempts: int
    created_at: datetime.datetime
    run_after: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    raw: Mapping[str, Any] = dataclasses.field(repr=False)
    deduplicated: bool = False
    """Whether the enqueue found it there already."""
    start_by: datetime.datetime | None = None
    """If it has not begun by then it is cancelled; None once it has, or where it may begin at any time."""
    replaced: bool = False
    """Whether the enqueue found it waiting, and made it what it is now."""
    etag: str | None = dataclasses.field(default=None, repr=False, compare=False)
    """What the server calls this state of it; None of a job from a list or an enqueue, which do not say."""

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    def result_as(self, form: type[T]) -> T:
        """The result as a ``form``: of a dataclass one with the result's members, else the result, if it is one.

        Raises TypeError for a result that does not fit.
        """
        if dataclasses.is_dataclass(form) and isinstance(self.result, dict):
            return form(**self.result)
        if not isinstance(self.result, form):
            raise TypeError(f"the result of job {self.id} is no {form.__name__}: {self.result!r}")
        return self.result

    @classmethod
    def of(
        cls,
        found: Mapping[str, Any],
        *,
        deduplicated: bool = False,
        replaced: bool = False,
        etag: str | None = None,
    ) -> Job:
        return cls(
            id=found["id"],
            workspace_id=found["workspaceId"],
            job_type=found["jobType"],
            queue=found["queue"],
            status=found["status"],
            outcome=found["outcome"],
            payload=found["payload"],
            progress=Progress.of(found["progress"]),
            result=found["result"],
            error=JobError.of(found["error"]),
            attempts=found["attempts"],
            max_attempts=found["maxAttempts"],
            created_at=_moment(found["createdAt"]),
            run_after=_moment(found["runAfter"]),
            started_at=_moment(found["startedAt"]) if found["startedAt"] else None,
            completed_at=_moment(found["completedAt"]) if found["completedAt"] else None,
            raw=found,
            deduplicated=deduplicated,
            replaced=replaced,
            etag=etag,
            # A server of the version before does not say it.
            start_by=_moment(found["startBy"]) if found.get("startBy") else None,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: ``job.`` and a status, ``progress`` or ``log``; or ``stream.reset``.

    ``id`` is where a stream goes on after it.
    """

    name: str
    id: str
    data: Mapping[str, Any]

    @property
    def job_id(self) -> str | None:
        return self.data.get("jobId")

    @property
    def status(self) -> str | None:
        """The job's status from now on, of an event that is a change of it."""
        return self.data.get("status")

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def progress(self) -> Progress | None:
        return Progress.of(self.data.get("progress"))


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
