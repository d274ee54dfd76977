"""Synchronous mode: a job runs in the process that enqueued it, right after that transaction has committed.

The same validation, the same guard, the same rows: the job is claimed, executed and finished by the verbs a worker
uses, under a lease of its own that a small thread renews. Retries follow at once instead of after their delay; a
snoozed or scheduled job stays pending. Time limits are the one thing missing: there is no process to kill.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from jobplatform.models import Role, confine, make_engine, on_our_driver
from jobplatform.queue.after.settle import settle_endings
from jobplatform.queue.after.succeed import succeed_jobs
from jobplatform.queue.attempts.begin import begin_jobs
from jobplatform.queue.attempts.complete import Completion, complete_jobs
from jobplatform.queue.attempts.fail import Failure, fail_jobs
from jobplatform.queue.attempts.logs import LogLine, append_log_lines
from jobplatform.queue.attempts.progress import ProgressReport, report_progress
from jobplatform.queue.attempts.release import Release, release_jobs
from jobplatform.queue.claim import ClaimedJob, claim_job
from jobplatform.queue.hooks.webhook_job import WEBHOOK_TASK
from jobplatform.queue.limits.breaker import note_of, note_resources
from jobplatform.queue.run.execute import Ended, decode_payload, execute
from jobplatform.queue.run.running import RunningJob
from jobplatform.queue.statement import Lease
from jobplatform.queue.workers import WorkerInfo, deregister_worker, heartbeat, register_worker

if TYPE_CHECKING:
    from jobplatform.queue.tasks.registry import Tasks
    from jobplatform.queue.tasks.task import Task

_log = logging.getLogger("jobplatform.queue")

#: Seconds after which a run says again that it lives.
HEARTBEAT = 10.0
_PENDING = "jobplatform.inline"


def run_after_commit(session: Session, tasks: Tasks, workspace_id: UUID, job_ids: Sequence[UUID] = ()) -> None:
    """Run these jobs of a workspace, and what waited for them, once this Session's transaction has committed.

    A rollback forgets them. Without any, what waits for something else that happened in the transaction is run.
    """
    wanted: Sequence[UUID | None] = job_ids or [None]
    asked = session.info.setdefault(_PENDING, {}).setdefault(tasks, [])
    asked += [(workspace_id, job_id) for job_id in wanted]


@event.listens_for(Session, "after_commit")
def _run_pending(session: Session) -> None:
    if not session.info.get(_PENDING) or session.in_nested_transaction():
        return
    pending = session.info.pop(_PENDING)
    bind = session.get_bind()
    engine = bind.engine if isinstance(bind, Connection) else bind
    # The caller's commit has happened; the jobs are durable and a worker or a retry can still run them.
    for tasks, asked in pending.items():
        try:
            with _inline_worker(engine, tasks) as worker:
                for workspace_id, job_id in asked:
                    worker.try_to_run(workspace_id, job_id)
        except SQLAlchemyError:
            _log.exception("synchronous worker failed", extra={"jobs": len(asked)})


@event.listens_for(Session, "after_soft_rollback")
def _forget_pending(session: Session, ended: SessionTransaction) -> None:
    # The rollback of a SAVEPOINT leaves the rest of the transaction to be committed.
    if not ended.nested:
        session.info.pop(_PENDING, None)


def run_inline(engine: Engine, tasks: Tasks, workspace_id: UUID, job_id: UUID) -> None:
    """Run one ready job to its end here and now, and then what waited for it and is ready by that.

    Does nothing when the job is not ready.
    """
    with _inline_worker(engine, tasks) as worker:
        worker.run(workspace_id, job_id)


class _InlineWorker(NamedTuple):
    """Whoever runs jobs in this thread. ``session`` commits each statement; handlers' Sessions are of ``engine``."""

    engine: Engine
    session: Session
    tasks: Tasks
    worker_id: int

    def run(self, workspace_id: UUID, job_id: UUID | None) -> None:
        """Run a job, if one is named, and then what is ready by that."""
        if job_id is not None:
            self._run_to_its_end(workspace_id, job_id)
        self._run_what_follows(workspace_id)

    def try_to_run(self, workspace_id: UUID, job_id: UUID | None) -> None:
        """The same. When the database fails that is logged, and the next job begins with a new connection."""
        try:
            self.run(workspace_id, job_id)
        except SQLAlchemyError:
            facts = {"job_id": str(job_id), "workspace_id": str(workspace_id)}
            _log.exception("synchronous run failed", extra=facts)
            self.session.rollback()

    def _run_to_its_end(self, workspace_id: UUID, job_id: UUID) -> None:
        place = {"workspace_id": workspace_id, "job_id": job_id}
        while claimed := claim_job(self.session, worker_id=self.worker_id, **place):
            # No delay: whoever waits for the answer would wait for the retries too.
            run_claimed(self.engine, self.session, self.tasks[claimed.task], claimed, retry_at_once=True)

    def _run_what_follows(self, workspace_id: UUID) -> None:
        """Settle what ended in this workspace, let go on what waited for the key of a job, and run what is ready by
        that, until there is nothing more of it."""
        while True:
            settled = settle_endings(self.session, workspace_id)
            for job in settled.released:
                # A receiver outside is not waited for here: that is for a worker.
                if job.task in self.tasks and job.task != WEBHOOK_TASK:
                    self._run_to_its_end(workspace_id, UUID(job.job_id))
            successors = [job for job in succeed_jobs(self.session, workspace_id).jobs if job.task in self.tasks]
            for successor in successors:
                self._run_to_its_end(workspace_id, UUID(successor.job_id))
            if successors:
                continue
            # What somebody else has locked is left to whoever settles next.
            if not settled.notices or settled.wait is not None:
                return


@contextmanager
def _inline_worker(engine: Engine, tasks: Tasks) -> Iterator[_InlineWorker]:
    own = make_engine(on_our_driver(engine), application_name="jobplatform-inline", pool_size=3, autocommit=True)
    try:
        with Session(own) as session, as_worker(own, session, tasks) as worker_id:
            yield _InlineWorker(engine, session, tasks, worker_id)
    finally:
        own.dispose()


@contextmanager
def as_worker(engine: Engine, session: Session, tasks: Tasks) -> Iterator[int]:
    """A worker id for this thread, with a heartbeat for as long as it takes."""
    host = socket.gethostname()
    info = WorkerInfo(f"inline-{host}-{os.getpid()}", host, os.getpid(), "inline", (), tuple(tasks.names()), 1)
    worker_id = register_worker(session, info)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(engine, worker_id, stop), name="jobplatform-inline", daemon=True)
    beat.start()
    try:
        yield worker_id
    finally:
        stop.set()
        beat.join()
        deregister_worker(session, worker_id)


def _beat(engine: Engine, worker_id: int, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        try:
            with Session(engine) as session:
                heartbeat(session, worker_id, ())
        except SQLAlchemyError:
            _log.exception("synchronous heartbeat failed", extra={"worker_id": worker_id})


def run_claimed(
    engine: Engine, session: Session, task: Task[Any, Any], claimed: ClaimedJob, *, retry_at_once: bool = False
) -> Ended | None:
    """Execute a claimed job in this thread and write down how it ended. ``session`` commits each statement;
    ``engine`` is where the handler's own Session comes from. None: it came too late, and was not started."""
    job = RunningJob(
        lease=claimed.lease,
        task=claimed.task,
        queue=claimed.queue,
        attempt=claimed.attempt,
        max_attempts=claimed.max_attempts,
        request_id=claimed.request_id,
        trace_parent=claimed.trace_parent,
        payload_version=claimed.payload_version,
        channel=_DirectChannel(session, claimed.lease),
        open_session=lambda: confine(Session(engine), Role.HANDLER, claimed.lease.workspace_id),
    )
    if claimed.start_within is not None and not _begin(session, claimed):
        return None
    ended = execute(task, job, decode_payload(claimed.payload))
    # As a worker does: once the attempt is over, nobody can say when it was started.
    if note := note_of(claimed.resource, ended._asdict(), claimed.lease):
        note_resources(session, [note])
    _finish(session, claimed.lease, ended._replace(delay=0.0) if retry_at_once and ended.kind == "failed" else ended)
    return ended


def _begin(session: Session, claimed: ClaimedJob) -> bool:
    """Begin a job that must have begun by some moment. False when that is over: going back, it ends."""
    if claimed.start_within is not None and claimed.start_within <= 0:
        release_jobs(session, [Release(claimed.lease, unstarted=True)])
        return False
    begin_jobs(session, [claimed.lease])
    return True


def _finish(session: Session, lease: Lease, ended: Ended) -> None:
    if ended.kind == "completed":
        complete_jobs(session, [Completion(lease, ended.result, ended.outcome)])
    elif ended.kind == "snoozed":
        release_jobs(session, [Release(lease, ended.delay)])
    elif ended.kind == "failed":
        failure = Failure(
            lease, ended.outcome, ended.error_type, ended.message, ended.traceback, delay=ended.delay, retry=ended.retry
        )
        fail_jobs(session, [failure])
    elif ended.kind == "interrupted":
        fail_jobs(session, [Failure(lease, "cancelled", "Cancelled", ended.message, retry=False)])


class _DirectChannel:
    """What a running job says goes straight to the database."""

    def __init__(self, session: Session, lease: Lease) -> None:
        self._session = session
        self._lease = lease
        self._lines = 0

    def progress(self, report: str) -> None:
        report_progress(self._session, [ProgressReport(self._lease, report)])

    def log(self, level: str, message: str) -> None:
        self._lines += 1
        append_log_lines(self._session, [LogLine(self._lease, self._lines, level, message)])

    def completing(self) -> None:
        """Nobody interrupts a job here."""

    def interruption(self) -> type[BaseException] | None:
        return None
