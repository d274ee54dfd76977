"""Replay: a job's handler is run once more, for somebody who wants to see what it does, and nothing is kept.

    1. The job is read as it is stored: its payload, its attempt, what it has done (:func:`read_snapshot`).
    2. One connection is in one transaction, confined to the workspace as a worker's handlers are. Every Session of the
       handler takes part in it: what it commits is the end of a SAVEPOINT.
    3. The handler is run by :func:`execute`, as everywhere.
    4. The transaction is rolled back. Whoever would end it before, by the connection beneath a Session or a cursor of
       the driver, is refused, and everything that comes after it too.

Of the job itself nothing is written, in that transaction neither: its steps are kept in memory, and that it was
completed is only noted. Its own rows are never locked, so whoever runs it or retries it meanwhile does not wait for a
person who looks at a traceback, and a job that is running can be replayed too.

A Session of the handler's own, which knows nothing of that transaction, is rolled back where it is given to a step or
to ``complete_in``; what it commits by itself is beyond us. So is one text of several statements that rolls our
transaction back and then commits one of its own: the server has done it all before it answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from jobplatform.models import Role, Status, confine_connection, take_part
from jobplatform.queue.by_hand.from_step import done_before
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.claim import ClaimedJob
from jobplatform.queue.reading.read import get_job, list_steps
from jobplatform.queue.run.execute import Ended, decode_payload, execute
from jobplatform.queue.run.outcomes import JobInterrupted
from jobplatform.queue.run.running import Channel
from jobplatform.queue.run.unrecorded import UnrecordedJob
from jobplatform.queue.safe_json import LOG_LINE_LIMIT, strict_json
from jobplatform.queue.seal import MARK, sealed_form
from jobplatform.queue.shown import shown
from jobplatform.queue.statement import Lease
from jobplatform.queue.tasks.task import Task

NOT_TO_BE_COMMITTED = """
declare a_replay_is_not_committed cursor with hold for
select ('a replay is not committed' || left(random()::text, 0))::integer
"""
IS_IT_STILL_THERE = b"move 0 from a_replay_is_not_committed"
ENDED = "the transaction of this replay has been ended, and nothing more is done on its connection"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job as it is stored: its last attempt, or its first one when it has had none, and what it has done.

    ``done`` has the results of its steps, in their order and as stored, its checkpoint's state under an empty name, and
    that one's parts under names that begin with :data:`~jobplatform.models.CHECKPOINT_PART`.
    """

    job: ClaimedJob
    status: Status
    done: Mapping[str, Any] = field(default_factory=dict)


class ReplayChannel(Channel, Protocol):
    """How a replayed job reaches whoever looks."""

    def taken_back(self, what: str) -> None:
        """Say that a Session of the handler's own was rolled back."""

    def at_most(self) -> AbstractContextManager[None]:
        """What the handler is run within, and may be interrupted by."""


class Replayed(NamedTuple):
    """How the attempt ended. What is sealed is opened. ``result`` is JSON text, of a job that would have completed."""

    ended: Ended
    result: str | None


@checks_arguments()
def read_snapshot(
    session: Session, workspace_id: UUID, job_id: UUID, *, from_step: str | None = None, no_steps: bool = False
) -> Snapshot | None:
    """A job as it is now, or None when the workspace has no such job.

    Of what it has done only what comes before ``from_step``, or nothing with ``no_steps``. Raises
    :class:`InvalidJobError` for a step that it has not done.
    """
    job = get_job(session, workspace_id, job_id)
    if job is None:
        return None
    steps = [] if no_steps else list_steps(session, workspace_id, job_id, parts=True)
    if from_step is not None:
        steps = done_before(steps, from_step)
    claimed = ClaimedJob(
        lease=Lease(str(workspace_id), str(job_id), max(1, job.epoch)),
        queue=job.queue,
        task=job.job_type,
        attempt=max(1, job.attempts),
        max_attempts=job.max_attempts,
        crash_count=job.crash_count,
        timeout_ms=job.timeout_ms,
        payload=json.dumps(job.payload),
        payload_version=job.payload_version,
        request_id=job.request_id,
        trace_parent=job.trace_parent,
        resource=job.resource,
    )
    return Snapshot(claimed, Status(job.status), {step.name: step.value for step in steps})


def replay_job(
    connection: Connection, task: Task[Any, Any], snapshot: Snapshot, channel: ReplayChannel, *, payload: Any = None
) -> Replayed:
    """Run ``task``'s handler for the job of a snapshot, with a connection that is in no transaction, nor is afterwards.

    ``payload`` takes the place of the stored one. Raises :class:`InvalidPayloadError` when that does not fit,
    :class:`KeyMissingError` or :class:`SealBrokenError` when the stored one is sealed and cannot be opened here.
    """
    given = None if payload is None else json.loads(strict_json(task.payload.dump(payload)))
    with _never_committed(connection):
        confine_connection(connection, Role.HANDLER, snapshot.job.lease.workspace_id)
        job = ReplayedJob(connection, snapshot, channel)
        stored = decode_payload(snapshot.job.payload)
        if form := sealed_form(stored) if type(stored) is dict and MARK in stored else None:
            # Once more than execute() would, which has such a job wait for a worker that can.
            stored = json.loads(job.open_sealed(form))
        if given is not None:
            job.payload_version = None
        return _opened(job, _execute(task, job, stored if given is None else given, channel))


@contextmanager
def _never_committed(connection: Connection) -> Iterator[None]:
    """One transaction that is rolled back, also where the handler would end it beneath its Session.

    Within a block of its own the driver refuses to commit, and to roll back all of it. A statement that says so it does
    not see: there the server fails to commit, for it would have to keep the rows of that cursor. Whatever comes after
    the end of the transaction, however it ended, is not sent.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.transaction(force_rollback=True):
            driver.execute(NOT_TO_BE_COMMITTED)
            with _sending_nothing_after_it(driver), _never_another(connection):
                yield
    finally:
        connection.rollback()


@contextmanager
def _sending_nothing_after_it(driver: psycopg.Connection[Any]) -> Iterator[None]:
    """All that the driver sends passes here, be it of a cursor that SQLAlchemy knows nothing of.

    A transaction that goes on without our cursor is another one (``rollback and chain``), or would be committed
    (``close all``): to ask for the cursor where there is none makes the server refuse it.
    """
    send = driver.wait

    def wait(steps: Any, *args: Any, **options: Any) -> Any:
        if driver.info.transaction_status is TransactionStatus.IDLE:
            raise psycopg.ProgrammingError(ENDED)
        try:
            return send(steps, *args, **options)
        finally:
            if driver.info.transaction_status is TransactionStatus.INTRANS and not driver.info.pipeline_status:
                driver.pgconn.exec_(IS_IT_STILL_THERE)

    driver.wait = wait  # type: ignore[assignment, method-assign]  # of this connection alone, and for the time of a replay
    try:
        yield
    finally:
        del driver.wait


@contextmanager
def _never_another(connection: Connection) -> Iterator[None]:
    """Once the server is lost, no transaction begins on a new connection, which nobody guards."""

    def refuse(connection: Connection) -> None:
        if connection.invalidated:
            raise psycopg.ProgrammingError(ENDED)

    event.listen(connection, "begin", refuse)
    try:
        yield
    finally:
        event.remove(connection, "begin", refuse)


def is_replay(session: Session) -> bool:
    """Whether the Session is one of a replayed job: nothing that it writes is kept."""
    return isinstance(session, _Part)


class ReplayedJob(UnrecordedJob):
    """A job that its handler is run for once more. Made by :func:`replay_job`."""

    is_replay = True

    def __init__(self, connection: Connection, snapshot: Snapshot, channel: ReplayChannel) -> None:
        found = snapshot.job
        super().__init__(
            lease=found.lease,
            task=found.task,
            queue=found.queue,
            attempt=found.attempt,
            max_attempts=found.max_attempts,
            request_id=found.request_id,
            trace_parent=found.trace_parent,
            payload_version=found.payload_version,
            channel=_OpeningChannel(self, channel),
            open_session=lambda: take_part(_Part(connection, join_transaction_mode="create_savepoint")),
            done=snapshot.done,
        )
        self._told = channel

    def log(self, message: str, level: str = "info") -> None:
        """For whoever looks; the logger would say it to them once more."""
        self.check()
        self._told.log(level, shown(str(message), LOG_LINE_LIMIT))

    def take_back(self, session: Session, what: str) -> None:
        """Of a Session that is not part of our transaction: what it holds would be committed and kept."""
        if not is_replay(session):
            session.rollback()
            self._told.taken_back(what)

    def opened(self, field: str, text: str) -> str:
        """A text as it was before it was sealed, if it was."""
        form = None if self.seal is None else sealed_form(text)
        return text if form is None or self.seal is None else self.seal.open(field, form)


class _Part(Session):
    """A Session whose transactions are SAVEPOINTs of one that will be rolled back."""

    def in_nested_transaction(self) -> bool:
        """What is done after a commit (bells are rung, jobs run in synchronous mode) is not done after one of a
        SAVEPOINT."""
        return True


class _OpeningChannel:
    """What an encrypted job says leaves it sealed; whoever looks here has the key."""

    def __init__(self, job: ReplayedJob, told: ReplayChannel) -> None:
        self._job = job
        self._told = told

    def progress(self, report: str) -> None:
        said = json.loads(report)
        if said.get("message") is not None:
            said["message"] = self._job.opened("progress", said["message"])
        self._told.progress(json.dumps(said))

    def log(self, level: str, message: str) -> None:
        self._told.log(level, message)

    def completing(self) -> None:
        self._told.completing()

    def interruption(self) -> type[BaseException] | None:
        return self._told.interruption()


def _execute(task: Task[Any, Any], job: ReplayedJob, payload: Any, channel: ReplayChannel) -> Ended:
    try:
        with channel.at_most():
            return execute(task, job, payload)
    except JobInterrupted as interruption:
        # It came at the edge, outside of the handler.
        return Ended("interrupted", outcome=interruption.reason, message=str(interruption))


def _opened(job: ReplayedJob, ended: Ended) -> Replayed:
    result = ended.result if ended.kind == "completed" else job.completion
    opened = ended._replace(
        message=job.opened("error", ended.message),
        traceback=ended.traceback and job.opened("traceback", ended.traceback),
    )
    return Replayed(opened, None if result is None else job.opened("result", result))
