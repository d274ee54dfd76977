"""Perform: run one handler by itself, with a real running job and without a row in the queue."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from jobplatform.models import Role, confine
from jobplatform.queue import (
    Ended,
    HandlerOutcome,
    JobInterrupted,
    Lease,
    Recorder,
    Task,
    UnrecordedJob,
    execute,
    strict_json,
)
from jobplatform.testing.places import Place, commit, engine_of

P = TypeVar("P")


@dataclass(frozen=True)
class Performed:
    """What became of the attempt."""

    ended: Ended
    """What a worker would write down: kind, outcome, error, whether it is tried again and when."""
    value: Any
    """What the handler returned, or the ``Skip``, ``Discard``, ``Snooze`` or ``RateLimited`` it returned or raised."""
    error: BaseException | None
    """What it raised."""
    progress: list[dict[str, Any]] = field(default_factory=list)
    """Its progress reports: ``current``, ``total`` and ``message``."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    """What it logged with the job: level and message."""
    steps: dict[str, Any] = field(default_factory=dict)
    """What its steps came to, by name."""
    checkpoint: Any = None
    """The state that it saved last."""

    @property
    def result(self) -> Any:
        """The result as the job would keep it: after a trip through JSON."""
        return json.loads(self.ended.result)

    @property
    def retries_in(self) -> datetime.timedelta | None:
        """When a failed attempt is followed by another one, if attempts are left; None when it is not."""
        return datetime.timedelta(seconds=self.ended.delay) if self.ended.retry else None

    def unwrap(self) -> Any:
        """The value; raises what the handler raised."""
        if self.error is not None and not isinstance(self.error, HandlerOutcome):
            raise self.error
        if self.ended.kind == "failed" and not isinstance(self.value, HandlerOutcome):
            raise RuntimeError(f"{self.ended.error_type}: {self.ended.message}")
        return self.value


def perform(
    task: Task[P, Any],
    payload: P | Mapping[str, Any] | None = None,
    *,
    where: Place | None = None,
    workspace_id: uuid.UUID | None = None,
    job_id: uuid.UUID | None = None,
    attempt: int = 1,
    max_attempts: int | None = None,
    request_id: str | None = None,
    interrupt: type[JobInterrupted] | None = None,
) -> Performed:
    """Run the handler of ``task`` once, as a worker would: the payload makes the trip through JSON and is checked, and
    whatever the handler returns or raises becomes a :class:`Performed`; nothing is raised but a payload's problems.

    Nothing is enqueued, so nothing is retried, and steps, a checkpoint and what ``job.complete_in`` is given are kept
    in the answer alone. With ``where`` (an engine or a Session, which is committed first) ``job.session`` works as in a
    worker: confined to the workspace, committed at the end and by each step, or rolled back. ``interrupt``
    (``Cancelled``, ``TimedOut`` …) is what the next ``job.check()``, ``progress()``, ``log()`` or ``track()`` raises in
    the handler.
    """
    _require_task(task)
    value = json.loads(strict_json(task.payload.dump(payload)))
    lease = Lease(str(workspace_id or uuid.uuid4()), str(job_id or uuid.uuid4()), attempt)
    channel = _Listener(interrupt)
    job = UnrecordedJob(
        lease=lease,
        task=task.name,
        attempt=attempt,
        max_attempts=task.retry.max_attempts if max_attempts is None else max_attempts,
        request_id=request_id,
        channel=channel,
        open_session=_sessions(where, lease),
    )
    recorder = Recorder()
    ended = execute(recorder.listen_to(task), job, value)
    if ended.kind == "completed_in" and job.completion is not None:
        ended = ended._replace(result=job.completion)
    said = recorder.error if isinstance(recorder.error, HandlerOutcome) else None
    return Performed(
        ended,
        value=recorder.value if said is None else said,
        error=recorder.error if said is None else None,
        progress=channel.reports,
        lines=channel.lines,
        steps=job.results_of_steps,
        checkpoint=job.last_checkpoint,
    )


def _require_task(said: object) -> None:
    if not isinstance(said, Task):
        hint = "; tasks[…] has it by its name" if isinstance(said, str) else ""
        raise TypeError(
            f"perform takes a task, which tasks.task(…) made of a handler, not a {type(said).__name__}{hint}"
        )


def _sessions(where: Place | None, lease: Lease) -> Callable[[], Session]:
    if where is None:
        return _no_session
    commit(where)
    engine = engine_of(where)
    return lambda: confine(Session(engine), Role.HANDLER, lease.workspace_id)


def _no_session() -> Session:
    raise RuntimeError("this handler uses job.session: pass an engine or a Session, as perform(task, payload, where=…)")


class _Listener:
    """Keeps what a running job says."""

    def __init__(self, interrupt: type[JobInterrupted] | None) -> None:
        self.reports: list[dict[str, Any]] = []
        self.lines: list[tuple[str, str]] = []
        self._interrupt = interrupt

    def progress(self, report: str) -> None:
        self.reports.append(json.loads(report))

    def log(self, level: str, message: str) -> None:
        self.lines.append((level, message))

    def completing(self) -> None:
        """There is nobody who would have to hear of it."""

    def interruption(self) -> type[JobInterrupted] | None:
        return self._interrupt
