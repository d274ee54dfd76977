"""What a handler gets: the job it runs, and ways to speak of it while it does."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sized
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from sqlalchemy.orm import Session

from jobplatform.errors import LeaseLostError
from jobplatform.queue.after.batches import BatchSeen, batch_of_job
from jobplatform.queue.after.predecessors import PredecessorResult, results_of_predecessors
from jobplatform.queue.attempts.complete import Completion, complete_jobs
from jobplatform.queue.enqueue.parent import Parent, remember_parent
from jobplatform.queue.run.steps import Step, Steps, do_step
from jobplatform.queue.safe_json import LOG_LINE_LIMIT, PROGRESS_LIMIT, safe_json, safe_text
from jobplatform.queue.seal import Seal
from jobplatform.queue.shown import shown
from jobplatform.queue.statement import Lease
from jobplatform.queue.vault import seals_of

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import Enqueued
    from jobplatform.queue.tasks.options import JobOptions
    from jobplatform.queue.tasks.payloads import ResultType
    from jobplatform.queue.tasks.task import Task

#: Of how much of it is done, and of how much there is.
LONGEST_AMOUNT = 500
#: Characters of why a job waits. It is told in a sentence.
LONGEST_REASON = 500

T = TypeVar("T")
P = TypeVar("P")

#: Seconds between two automatic reports of ``track()``: a loop of a million steps must not send a million reports.
TRACK_INTERVAL = 0.25


class Channel(Protocol):
    """How a running job reaches whoever runs it: the worker, or the caller in synchronous mode."""

    def progress(self, report: str) -> None:
        """Pass on a progress report (JSON text)."""

    def log(self, level: str, message: str) -> None:
        """Pass on a log line."""

    def completing(self) -> None:
        """Say that the handler completes the job in a transaction of its own, whose commit ends the lease."""

    def interruption(self) -> type[BaseException] | None:
        """Why this attempt should stop, if it should."""


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines carry the job: ``job_id``, ``workspace_id``, ``task``, ``attempt`` and ``request_id``."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def _short(amount: Any) -> Any:
    """A number of a report as it is; what is none, and far too long for one, cut as a text."""
    text = amount if isinstance(amount, str) else safe_json(amount)
    return amount if len(text) <= LONGEST_AMOUNT else safe_text(text, LONGEST_AMOUNT)


class RunningJob:
    """The job that a handler is running. One attempt, one object."""

    # Of the class, because hardly any job has one of its own.
    result_type: ResultType | None = None
    _amounts: tuple[Any, Any] = (0, None)
    _shared: Callable[[], Session] | None = None
    is_replay = False
    """Whether somebody only looks what the handler does (``jobplatform jobs replay``), and what it writes is taken
    back. For handlers that do outside what nobody could take back."""

    def __init__(
        self,
        *,
        lease: Lease,
        task: str,
        attempt: int,
        max_attempts: int,
        channel: Channel,
        open_session: Callable[[], Session],
        queue: str = "default",
        request_id: str | None = None,
        trace_parent: str | None = None,
        payload_version: int | None = None,
    ) -> None:
        self.lease = lease
        self.epoch = lease.epoch
        self.task = task
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.request_id = request_id
        self.trace_parent = trace_parent
        self.payload_version = payload_version
        """Which version of the code wrote its payload; None for this one."""
        self.completed_in_session = False
        self.seal: Seal | None = None
        """What this job says leaves the process sealed, when its payload came that way."""
        self._completing_session: Session | None = None
        self._channel = channel
        self._open_session = open_session
        self._session: Session | None = None

    # Made when a handler asks: a third of the time between two jobs that do nothing went into these.

    @cached_property
    def id(self) -> uuid.UUID:
        return uuid.UUID(self.lease.job_id)

    @cached_property
    def workspace_id(self) -> uuid.UUID:
        return uuid.UUID(self.lease.workspace_id)

    @cached_property
    def logger(self) -> JobLogger:
        """A logger whose lines carry :meth:`facts`."""
        return JobLogger(logging.getLogger(f"jobplatform.task.{self.task}"), self.facts())

    @cached_property
    def _steps(self) -> Steps:
        return Steps(self)

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} {self.task!r} attempt {self.attempt}>"

    def facts(self) -> dict[str, Any]:
        """What every log line of this job carries."""
        return {
            "job_id": self.lease.job_id,
            "workspace_id": self.lease.workspace_id,
            "task": self.task,
            "attempt": self.attempt,
            "request_id": self.request_id,
        }

    @property
    def fence(self) -> str:
        """This attempt's fencing token, ``<job id>:<epoch>``: higher epochs are later attempts. Never used twice."""
        return f"{self.lease.job_id}:{self.epoch}"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this job: pass it to services that deduplicate by such a key."""
        return str(self.id)

    @property
    def session(self) -> Session:
        """A Session for the handler's own rows, opened at first use.

        What it holds is committed when the handler returns and rolled back when it raises; committing earlier, page
        by page, is fine.
        """
        if self._shared is not None:
            return self._shared()
        if self._session is None:
            self._session = self._open_session()
            remember_parent(self._session, self._as_parent())
        return self._session

    @property
    def is_in_transaction(self) -> bool:
        """Whether something that was done with ``session`` is not committed."""
        return self._session is not None and self._session.in_transaction()

    def share_session(self, open_session: Callable[[], Session]) -> None:
        """Use a Session that others use too, and that they close. For whoever runs several jobs at once."""
        self._shared = open_session

    def _as_parent(self) -> Parent:
        return Parent(self.workspace_id, self.id, self.request_id, self.trace_parent)

    def enqueue(
        self, task: Task[P, Any], payload: P | Mapping[str, Any] | None = None, **options: Unpack[JobOptions]
    ) -> Enqueued:
        """Enqueue a job of ``task`` as a child of this one: for the same workspace, in the transaction of ``session``.

        It exists when what the handler has written there does, and not at all if that is rolled back. Options are
        those of :meth:`Task.enqueue`.
        """
        session = self.session
        remember_parent(session, self._as_parent())
        try:
            return task.enqueue(session, payload, **options)
        finally:
            if self._shared is not None:
                remember_parent(session, None)

    @property
    def batch(self) -> BatchSeen | None:
        """The batch that this job belongs to, or the one that it was to run after; as it is now, read each time.

        More is added to it, as long as it is open, by ``batch_id=job.batch.id`` at an enqueue.
        """
        with self._open_session() as session:
            return batch_of_job(session, self.workspace_id, self.id)

    def results_of_predecessors(self) -> list[PredecessorResult]:
        """What came of the jobs that this one waited for, in the order of its ``after``. Read when it is asked for."""
        with self._open_session() as session:
            return results_of_predecessors(session, self.workspace_id, self.id)

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should stop (cancelled, out of time, lease lost). For handlers that prefer to ask."""
        return self._channel.interruption() is not None

    def check(self) -> None:
        """Raise what interrupts this attempt, if anything does. ``progress()``, ``log()`` and ``track()`` call it."""
        interruption = self._channel.interruption()
        if interruption is not None:
            raise interruption(f"job {self.id} was told to stop")

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the job is. The newest report is kept; it is written at most a few times a second."""
        self.check()
        text = safe_text(message, PROGRESS_LIMIT // 2) if message is not None else None
        self._amounts = _short(current), _short(total)
        self._report(text)

    def track(self, items: Iterable[T], total: int | None = None, message: str | None = None) -> Iterator[T]:
        """Iterate over ``items`` and report progress on the way. The total comes from ``len()`` where there is one."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total, message)
        reported_at, done = time.monotonic(), 0
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - reported_at >= TRACK_INTERVAL:
                self.progress(done, total, message)
                reported_at = time.monotonic()
        self.progress(done, total, message)

    def log(self, message: str, level: str = "info") -> None:
        """Keep a line with the job, for the people who look at it; it goes to the logger too, unless it is sealed."""
        self.check()
        message = shown(str(message), LOG_LINE_LIMIT)
        if self.seal is not None:
            self._channel.log(level, self.seal.seal_text("log", safe_text(message, LOG_LINE_LIMIT)))
            return
        self._channel.log(level, message)
        self.logger.log(logging.getLevelNamesMapping().get(level.upper(), logging.INFO), "%s", message)

    @overload
    def step(self, name: str, /, *, session: Session | None = None) -> Step: ...
    @overload
    def step(self, name: str, work: Callable[[], T], /, *, session: Session | None = None) -> T: ...
    def step(self, name: str, work: Callable[[], T] | None = None, /, *, session: Session | None = None) -> Step | T:
        """Do a part of the work once, however many attempts the job takes.

        ``with job.step("page-12") as step:`` and ``if step:`` around what is to be done. At the end of the block what
        was written to ``job.session`` and the note that the step is done are committed together; when the block raises,
        neither is. With a ``session`` of your own both are written there, and the commit is yours.

        ``job.step("load", work)`` is the same for a function: it answers with what ``work()`` returned, now or in an
        earlier attempt, as JSON has it.

        Names are the job's own, 1,000 at most. Raises :class:`LeaseLostError` when the attempt is no longer ours, and
        then has rolled back the Session; :class:`StepError` for a step that is nested, named twice or never asked.
        """
        step = Step(self._steps, name, session)
        return step if work is None else do_step(step, work)

    @property
    def checkpoint_state(self) -> Any:
        """The state that was saved last, by this attempt or an earlier one; None when there is none yet."""
        return self._steps.state

    @property
    def checkpoint_parts(self) -> dict[str, Any]:
        """The parts of the checkpoint by name, as each was saved last. Asks the database each time."""
        return self._steps.parts

    def checkpoint(self, state: Any, *, parts: Mapping[str, Any] | None = None, session: Session | None = None) -> None:
        """Remember ``state`` (JSON) for the next attempt, and commit ``job.session`` with it.

        ``parts`` are for what would become too large in one piece, or too much to write each time: those that are
        named take the place of the ones before, and the others stay as they are. 10,000 at most.

        With a ``session`` of your own the state is written there, and the commit is yours. Raises as :meth:`step` does.
        """
        self._steps.checkpoint(state, parts or {}, session)

    def complete_in(self, session: Session, result: Any = None) -> None:
        """Complete the job inside ``session``'s transaction, so that rows and completion are one commit.

        Commit that Session yourself and return soon (``job.session`` is committed for you). What you still do then is
        not interrupted for the lease, which is gone, and what you still log is kept. Raises :class:`LeaseLostError`
        when the attempt is no longer ours: roll back, and what you wrote never happened.
        """
        if self.completed_in_session:
            raise RuntimeError(f"job {self.id} has already been completed in a session")
        text = safe_json(result if self.result_type is None else self.result_type.dump(result))
        if self.seal is not None:
            text = self.seal.seal("result", text)
        if not self._complete(session, text):
            raise LeaseLostError(self.id, self.epoch)
        # Before the commit can happen: whoever finds the lease gone after it must have heard why.
        self._channel.completing()
        self.completed_in_session = True
        # One that others use too is not for us to look after.
        self._completing_session = None if self._shared is not None and session is self._shared() else session

    def _complete(self, session: Session, result: str) -> bool:
        return bool(complete_jobs(session, [Completion(self.lease, result)]))

    def open_sealed(self, form: str) -> str:
        """The payload behind its sealed form; from now on what this job says is sealed too. For whoever runs it.

        Raises :class:`KeyMissingError` or :class:`SealBrokenError`.
        """
        session = self._open_session()
        try:
            opener, seal = seals_of(session, self.lease.workspace_id, self.lease.job_id, form)
        finally:
            session.close()
        text = opener.open("payload", form)
        self.seal = seal
        return text

    def looking(self) -> Session:
        """A Session to read what belongs to the job, apart from the handler's transaction. Close it soon."""
        return self._open_session()

    @property
    def opened_session(self) -> Session | None:
        """The handler's Session, if it has opened it."""
        return self._session

    def waits(self, message: str, waits_for: str) -> None:
        """Say with the job why it does not run. ``waits_for`` is for whoever counts such jobs, or tells why."""
        self._report(safe_text(message, LONGEST_REASON), waitsFor=waits_for)

    def _report(self, text: str | None, **more: str) -> None:
        if text is not None and self.seal is not None:
            text = self.seal.seal_text("progress", text, PROGRESS_LIMIT - 200)
        current, total = self._amounts
        self._channel.progress(safe_json({"current": current, "total": total, "message": text, **more}))

    def close_session(self, *, commit: bool) -> None:
        """Commit or roll back the handler's Session, if it opened one. For whoever runs the handler.

        Raises RuntimeError when the handler completed in a Session of its own and left that open.
        """
        own, self._session = self._session, None
        if own is not None:
            try:
                own.commit() if commit else own.rollback()
            finally:
                own.close()
        completing = self._completing_session
        if commit and completing is not None and completing is not own and completing.in_transaction():
            completing.rollback()
            raise RuntimeError("complete_in() was called and its Session never committed, so the completion is undone")
