"""Execute: run a handler once and turn whatever happens into one value.

This is the edge where user code is called, and the only place where everything is caught. The worker's child
processes and synchronous mode both go through it, so a job ends the same way wherever it ran.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from jobplatform.errors import InvalidResultError, JobPlatformError, KeyMissingError, LeaseLostError, SettingsError
from jobplatform.models import Outcome
from jobplatform.queue.run.again import Again, again
from jobplatform.queue.run.asking import asked, unless_it_raises
from jobplatform.queue.run.infrastructure import is_infrastructure
from jobplatform.queue.run.outcomes import (
    Cancel,
    Discard,
    HandlerOutcome,
    JobInterrupted,
    LeaseLost,
    RateLimited,
    Retry,
    Skip,
    Snooze,
)
from jobplatform.queue.run.retry_after import says_too_often
from jobplatform.queue.run.running import RunningJob
from jobplatform.queue.safe_json import ERROR_LIMIT, RESULT_LIMIT, TRACEBACK_LIMIT, safe_json, safe_text
from jobplatform.queue.seal import MARK, Seal, sealed_form
from jobplatform.queue.shown import shown
from jobplatform.tracing import is_traced, processing

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

Kind = Literal["completed", "completed_in", "snoozed", "failed", "interrupted"]


class Ended(NamedTuple):
    """How an attempt ended.

    ``completed``: ``result`` and ``outcome`` count. ``completed_in``: the handler completed the job in its own
    transaction; there is nothing left to write. ``snoozed``: ``delay`` counts. ``failed``: the error, ``outcome``,
    ``retry`` and ``delay`` count. ``interrupted``: ``outcome`` is the reason of the interruption.

    What it says about an external resource: ``closed_for`` seconds nobody should use ``closes`` (None: the job's own);
    ``infrastructure``: it failed because something outside did; ``too_often``: that said "too often", and not for how
    long.
    """

    kind: Kind
    outcome: str = Outcome.OK
    result: str = "null"
    error_type: str = ""
    message: str = ""
    traceback: str | None = None
    delay: float = 0.0
    retry: bool = False
    closes: str | None = None
    closed_for: float = 0.0
    infrastructure: bool = False
    too_often: bool = False


_log = logging.getLogger("jobplatform.queue")

#: Seconds for which a job waits that this worker cannot open or read, different for each.
KEY_PAUSE = (20.0, 40.0)

#: Of what a class is named, or an interruption's reason.
LONGEST_NAME = 200

#: How the attempts of most tasks end.
RETURNED_NOTHING = Ended("completed")


def execute(task: Task[Any, Any], job: RunningJob, payload: Any, *, runner: asyncio.Runner | None = None) -> Ended:
    """Run ``task``'s handler for ``job``. ``payload`` is the decoded JSON value.

    Raises nothing an attempt could raise; only the death of the process itself gets past it. ``runner`` serves
    ``async`` handlers; without one each of them gets an event loop of its own.
    """
    if is_traced():
        return _execute_traced(task, job, payload, runner)
    return _execute_any(task, job, payload, runner)


def _execute_traced(task: Task[Any, Any], job: RunningJob, payload: Any, runner: asyncio.Runner | None) -> Ended:
    with processing(job.trace_parent, job.queue, job.facts()) as span:
        ended = _execute_any(task, job, payload, runner)
        span.ended(ended.outcome, ended.error_type, ended.message, ended.traceback)
        return ended


def _execute_any(task: Task[Any, Any], job: RunningJob, payload: Any, runner: asyncio.Runner | None) -> Ended:
    if job.payload_version is not None and job.payload_version > task.payload_version:
        return _wait_for_newer_code(task, job)
    if type(payload) is dict and MARK in payload and (form := sealed_form(payload)):
        return _execute_sealed(task, job, form, runner)
    return _execute(task, job, payload, runner)


class Prepared(NamedTuple):
    """A payload as the handler takes it."""

    payload: Any


def prepare(task: Task[Any, Any], job: RunningJob, payload: Any) -> Prepared | Ended:
    """What comes before a handler, for whoever calls one for several jobs: the payload, or how the attempt ended."""
    if job.payload_version is not None and job.payload_version > task.payload_version:
        return _wait_for_newer_code(task, job)
    opened = _opened(task, job, payload)
    if isinstance(opened, Ended):
        return opened
    job.result_type = task.result
    try:
        return Prepared(_loaded(task, job, opened.payload))
    except JobInterrupted:
        raise
    except BaseException as error:  # noqa: BLE001 - the task's own upgrade may raise anything
        ended = failure_of(task, job, error)
        return ended if job.seal is None else sealed_end(job.seal, ended)


def _opened(task: Task[Any, Any], job: RunningJob, payload: Any) -> Prepared | Ended:
    if type(payload) is dict and MARK in payload and (form := sealed_form(payload)):
        return _open(task, job, form)
    return Prepared(payload)


def _execute_sealed(task: Task[Any, Any], job: RunningJob, form: str, runner: asyncio.Runner | None) -> Ended:
    """The same, with what is said in between readable nowhere but here."""
    opened = _open(task, job, form)
    if isinstance(opened, Ended):
        return opened
    assert job.seal is not None
    return sealed_end(job.seal, _execute(task, job, opened.payload, runner))


def _open(task: Task[Any, Any], job: RunningJob, form: str) -> Prepared | Ended:
    try:
        payload = decode_payload(job.open_sealed(form))
        if job.epoch > 1:
            job.progress(0)  # An earlier attempt may have said that it waits for a key.
    except (KeyMissingError, SettingsError, SQLAlchemyError) as error:
        return _wait_for_key(job, error)
    except JobInterrupted as interruption:
        return Ended("interrupted", outcome=interruption.reason, message=str(interruption))
    except Exception as error:  # noqa: BLE001 - whatever a payload of unknown origin holds, this job ends
        return failure_of(task, job, error)
    return Prepared(payload)


def _wait_for_newer_code(task: Task[Any, Any], job: RunningJob) -> Ended:
    """Claims leave such a job alone. It gets here when its queue row was written by code that did not know versions."""
    message = f"waits for a worker that can read version {job.payload_version} of its payload"
    facts = {**job.facts(), "payload_version": job.payload_version, "known_version": task.payload_version}
    _log.error("a job's payload is newer than this code, and the job goes back", extra=facts)
    job.waits(message, "version")
    return Ended("snoozed", delay=random.uniform(*KEY_PAUSE))


def wait_for_task(job: RunningJob) -> Ended:
    """For whoever has a job of a task that this code does not have, or has only for single jobs and not for calls.

    It was claimed by a worker that began with other code than its handlers are run with now.
    """
    _log.error("a job's task is not in this code, and the job goes back", extra=job.facts())
    job.waits("waits for a worker that has its task", "version")
    return Ended("snoozed", delay=random.uniform(*KEY_PAUSE))


def _wait_for_key(job: RunningJob, error: Exception) -> Ended:
    """Not the job's fault, and another worker may have the key: it goes back with all its attempts."""
    facts = {**job.facts(), "error": str(error), "key_id": getattr(error, "key_id", None)}
    _log.error("an encrypted job cannot be opened here and goes back", extra=facts)
    if isinstance(error, JobPlatformError):
        job.waits(f"waits for a worker that can open it: {error}", "key")
    return Ended("snoozed", delay=random.uniform(*KEY_PAUSE))


def sealed_end(seal: Seal, ended: Ended) -> Ended:
    """The same end, with what it says of the payload sealed: its result, or its error and traceback."""
    if ended.kind == "completed":
        return ended._replace(result=seal.seal("result", ended.result))
    if ended.kind != "failed":
        return ended
    return ended._replace(
        message=seal.seal_text("error", ended.message, ERROR_LIMIT),
        traceback=ended.traceback and seal.seal_text("traceback", ended.traceback, TRACEBACK_LIMIT),
    )


def _execute(task: Task[Any, Any], job: RunningJob, payload: Any, runner: asyncio.Runner | None) -> Ended:
    ended = _attempt(task, job, payload, runner)
    try:
        job.close_session(commit=ended.kind in ("completed", "completed_in", "snoozed"))
    except BaseException as error:  # noqa: BLE001 - the handler's own commit failed: that is the attempt's failure
        return ended_by(task, job, error)
    return ended


def _attempt(task: Task[Any, Any], job: RunningJob, payload: Any, runner: asyncio.Runner | None) -> Ended:
    try:
        if task.result is not None:
            job.result_type = task.result
        try:
            value = task.handler(job, _loaded(task, job, payload))
            if inspect.iscoroutine(value):
                value = _run_coroutine(value, runner)
        except HandlerOutcome as outcome:
            value = outcome
        return ended_with(task, job, value)
    except LeaseLostError as error:
        return Ended("interrupted", outcome=LeaseLost.reason, message=_message(error))
    except BaseException as error:  # noqa: BLE001 - user code: SystemExit and KeyboardInterrupt are its failures too
        return ended_by(task, job, error)


def _loaded(task: Task[Any, Any], job: RunningJob, payload: Any) -> Any:
    version = job.payload_version
    if version is None or version == task.payload_version:
        return task.payload.load(payload)
    return task.read_payload(payload, version)


def _run_coroutine(coroutine: Any, runner: asyncio.Runner | None) -> Any:
    if runner is not None:
        return runner.run(coroutine)
    if not _in_a_loop():
        return asyncio.run(coroutine)
    # Whoever committed in synchronous mode, or a test, is itself a coroutine: a thread runs one loop at a time.
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(copy_context().run, asyncio.run, coroutine).result()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def ended_by(task: Task[Any, Any], job: RunningJob, error: BaseException) -> Ended:
    """The end of an attempt whose handler raised, or in which we did."""
    return interrupted_by(error) if isinstance(error, JobInterrupted) else failure_of(task, job, error)


def interrupted_by(interruption: JobInterrupted) -> Ended:
    """The end of an attempt that was told to stop, and did."""
    reason = asked(interruption, "reason")
    outcome = safe_text(reason, LONGEST_NAME) if isinstance(reason, str) else JobInterrupted.reason
    return Ended("interrupted", outcome=outcome, message=_message(interruption))


def ended_with(task: Task[Any, Any], job: RunningJob, value: Any) -> Ended:
    """The end of an attempt whose handler came to a value: a result, or one of our outcomes."""
    if job.completed_in_session:
        return Ended("completed_in")
    if isinstance(value, HandlerOutcome):
        return _said(task, job, value)
    if task.result is not None:
        try:
            value = task.result.dump(value)
        except InvalidResultError as error:
            return _final("InvalidResultError", str(error), Outcome.ERROR)
    return RETURNED_NOTHING if value is None else _completed(value)


def _said(task: Task[Any, Any], job: RunningJob, outcome: HandlerOutcome) -> Ended:
    """The handler answered with one of ours instead of a result."""
    if isinstance(outcome, Skip):
        return Ended("completed", outcome=Outcome.SKIPPED, result=safe_json({"reason": outcome.reason}))
    if isinstance(outcome, Snooze):
        return Ended("snoozed", delay=outcome.seconds)
    if isinstance(outcome, RateLimited):
        job.waits(outcome.reason, "source")
        if outcome.seconds is None:
            return Ended("snoozed", delay=task.retry.delay(job.attempt), closes=outcome.resource, too_often=True)
        return Ended("snoozed", delay=outcome.seconds, closes=outcome.resource, closed_for=outcome.seconds)
    if isinstance(outcome, Discard):
        return _final("Discard", outcome.reason, Outcome.DISCARDED)
    if isinstance(outcome, Cancel):
        return _final("Cancel", outcome.reason, Outcome.CANCELLED)
    if isinstance(outcome, Retry):
        delay = task.retry.delay(job.attempt) if outcome.seconds is None else outcome.seconds
        return _final("Retry", outcome.reason, Outcome.ERROR)._replace(retry=True, delay=delay)
    return _completed(outcome)


def _completed(value: Any) -> Ended:
    """The work is done: a result that cannot be kept fails the job, but nobody does the work again for it."""
    try:
        result = safe_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        return _final("ResultNotSerializable", f"the handler's result is not JSON: {error}", Outcome.ERROR)
    size = len(result.encode())
    if size > RESULT_LIMIT:
        message = f"the handler's result is {size} bytes of JSON; at most {RESULT_LIMIT} are kept"
        return _final("ResultTooLarge", message, Outcome.ERROR)
    return Ended("completed", result=result)


def _final(error_type: str, message: str, outcome: str) -> Ended:
    return Ended("failed", outcome=outcome, error_type=error_type, message=shown(message, ERROR_LIMIT))


def failure_of(task: Task[Any, Any], job: RunningJob, error: BaseException) -> Ended:
    """The end of an attempt whose handler raised. An order to stop that comes meanwhile is the end instead."""
    try:
        return _failure_of(task, job, error)
    except JobInterrupted as interruption:
        return interrupted_by(interruption)


def _failure_of(task: Task[Any, Any], job: RunningJob, error: BaseException) -> Ended:
    by_policy = Again(retry=True, delay=task.retry.delay(job.attempt))
    found = unless_it_raises(lambda: again(task.retry, task.options.decide, job.attempt, error), by_policy)
    message = _message(error)
    if found.asked and job.attempt < job.max_attempts:
        job.waits(message, "source")
    return Ended(
        "failed",
        outcome=Outcome.ERROR,
        error_type=_name(error),
        message=message,
        traceback=_traceback(error),
        retry=found.retry,
        delay=found.delay,
        closed_for=found.closed_for,
        infrastructure=unless_it_raises(lambda: is_infrastructure(error), False),
        too_often=found.closed_for == 0 and unless_it_raises(lambda: says_too_often(error), False),
    )


def _name(error: BaseException) -> str:
    return unless_it_raises(lambda: safe_text(type(error).__name__, LONGEST_NAME), "Exception")


def _message(error: BaseException) -> str:
    unshown = f"{_name(error)} (its message cannot be shown)"
    return unless_it_raises(lambda: shown(str(error), ERROR_LIMIT) or _name(error), unshown)


def _traceback(error: BaseException) -> str | None:
    # The first frame is ours, of no interest to whoever wrote the handler.
    frames = error.__traceback__ and error.__traceback__.tb_next
    whole = unless_it_raises(lambda: _as_text(traceback.format_exception(type(error), error, frames)), None)
    if whole is not None:
        return whole
    # Too deep, or with a cause that cannot be shown: where it was raised is told all the same.
    return unless_it_raises(
        lambda: _as_text([*traceback.format_tb(frames), f"{_name(error)}: {_message(error)}"]), None
    )


def _as_text(lines: Iterable[str]) -> str:
    return shown("".join(lines), TRACEBACK_LIMIT)


def decode_payload(text: str) -> Any:
    """The JSON value of a payload as it is stored."""
    return json.loads(text)
