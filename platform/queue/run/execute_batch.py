"""Execute a batch: call a handler once for several jobs and turn whatever happens into one value for each.

What :mod:`jobplatform.queue.run.execute` is for one job. An exception fails all items that are not over by then; one
item's failure is nobody else's.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from jobplatform.queue.run.execute import Ended, ended_by, ended_with, failure_of, prepare, sealed_end
from jobplatform.queue.run.items import NOTHING, Item, Items
from jobplatform.queue.run.outcomes import HandlerOutcome, JobInterrupted
from jobplatform.queue.run.running import RunningJob
from jobplatform.tracing import is_traced, processing_many

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

Report = Callable[[Sequence[tuple[RunningJob, Ended]]], None]

_log = logging.getLogger("jobplatform.queue")


def execute_batch(
    task: Task[Any, Any],
    jobs: Sequence[RunningJob],
    payloads: Sequence[Any],
    *,
    told: Callable[[RunningJob], bool],
    open_session: Callable[[], Session],
    report: Report,
    runner: asyncio.Runner | None = None,
) -> None:
    """Run ``task``'s batch handler for ``jobs`` and ``report`` each end once, as soon as it counts; those that begin to
    count together are reported together. The last one is reported when the handler has returned: until then it is under
    the time limit of a job that is not over.

    ``told`` says whether one of them alone should stop. Raises only what interrupts the call outside of the handler.
    """
    assert task.batch is not None
    items: list[Item[Any]] = []
    for job, payload in zip(jobs, payloads, strict=True):
        prepared = prepare(task, job, payload)
        if isinstance(prepared, Ended):
            report([(job, prepared)])
        else:
            items.append(Item(job, prepared.payload, told))
    if not items:
        return
    told_of = Reporter(task, len(items), report)
    batch = Items(items, open_session, told_of.over)
    for job in (item.job for item in items):
        job.share_session(lambda: batch.session)
    try:
        error = _call_traced(task, batch, runner) if is_traced() else _call(task, batch, runner)
        error = _close(batch, error)
    finally:
        told_of.returned()
    left = batch.open_items()
    for item in left:
        item.settled = True
    if left:
        report([(item.job, _end(task, item) if error is None else _end_by(task, item, error)) for item in left])


class Reporter:
    """Reports who is over while the handler goes on, but for the last one."""

    def __init__(self, task: Task[Any, Any], open_items: int, report: Report) -> None:
        self._task = task
        self._open = open_items
        self._report = report
        self._last: list[tuple[RunningJob, Ended]] = []

    def over(self, item: Item[Any]) -> None:
        self._open -= 1
        end = (item.job, _end(self._task, item))
        if self._open:
            self._report([end])
        else:
            self._last.append(end)

    def returned(self) -> None:
        if self._last:
            self._report(self._last)


def _call_traced(task: Task[Any, Any], batch: Items[Any], runner: asyncio.Runner | None) -> BaseException | None:
    jobs = [item.job for item in batch]
    with processing_many([job.trace_parent for job in jobs], jobs[0].queue, task.name, len(jobs)) as span:
        error = _call(task, batch, runner)
        if error is not None and jobs[0].seal is None:
            failed = failure_of(task, jobs[0], error)
            span.ended(failed.outcome, failed.error_type, failed.message, failed.traceback)
        return error


def _call(task: Task[Any, Any], batch: Items[Any], runner: asyncio.Runner | None) -> BaseException | None:
    """Call the handler; what it raised is what became of all that are not over."""
    assert task.batch is not None
    try:
        answer = task.batch.handler(batch)
        if inspect.iscoroutine(answer):
            answer = runner.run(answer) if runner is not None else asyncio.run(answer)
        batch.take(answer)
    except HandlerOutcome as outcome:
        for item in batch.open_items():
            if not item.is_done:
                item.value = outcome
        return None
    except BaseException as error:  # noqa: BLE001 - user code, see execute
        return error
    return None


def _close(batch: Items[Any], error: BaseException | None) -> BaseException | None:
    """Commit or roll back the Session they share. A commit that fails fails all that are not over."""
    session = batch.opened_session
    if session is None:
        return error
    try:
        session.commit() if error is None else session.rollback()
    except BaseException as failed:  # noqa: BLE001 - the handler's own commit failed: that is the attempts' failure
        return error or failed
    finally:
        session.close()
    return error


def _end(task: Task[Any, Any], item: Item[Any]) -> Ended:
    job, value = item.job, item.value
    try:
        job.close_session(commit=True)
    except RuntimeError as error:
        return _sealed(job, failure_of(task, job, error))
    if isinstance(value, BaseException) and not isinstance(value, HandlerOutcome):
        return _sealed(job, failure_of(task, job, value))
    if value is NOTHING and not job.completed_in_session:
        # Nobody said how it ended, because it should stop.
        return Ended("interrupted", outcome="cancelled", message="stopped on request")
    return _sealed(job, _end_with(task, job, None if value is NOTHING else value))


def _end_with(task: Task[Any, Any], job: RunningJob, value: Any) -> Ended:
    try:
        return ended_with(task, job, value)
    except JobInterrupted:
        raise
    except BaseException as error:  # noqa: BLE001 - what a handler has made may raise anything while it is written
        return failure_of(task, job, error)


def _end_by(task: Task[Any, Any], item: Item[Any], error: BaseException) -> Ended:
    return _sealed(item.job, ended_by(task, item.job, error))


def _sealed(job: RunningJob, ended: Ended) -> Ended:
    return ended if job.seal is None else sealed_end(job.seal, ended)
