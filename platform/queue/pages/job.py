"""Job: one job with its attempts, its log and why it is not running."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobplatform.models import CHECKPOINT_PART, Job, JobAttempt, JobLog, JobRecord, JobStep, Status, clock
from jobplatform.queue.find import Capped
from jobplatform.queue.reading.read import get_job, list_attempts
from jobplatform.queue.why import Why, why_waiting
from jobplatform.queue.workers import places_of_workers

MOST_CHILDREN = 100
#: Of a job with thousands of attempts the last ones are shown.
MOST_TRIES = 200


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt, as far as something is known of it.

    ``due_at`` is when it might have begun, ``wait_seconds`` how long it waited from then on. ``outcome`` is ``running``
    for one that has not ended. ``worker`` is the host and process that ran it.
    """

    attempt: int
    epoch: int
    outcome: str
    final: bool
    due_at: datetime.datetime | None
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    wait_seconds: float | None
    run_seconds: float | None
    worker_id: int | None
    worker: str | None
    error_type: str | None
    error: str | None
    traceback: str | None
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class EarlierEnding:
    """An ending that somebody took back by retrying the job."""

    epoch: int
    status: str
    outcome: str
    ended_at: datetime.datetime
    retried_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job and what there is to tell of it. ``logs`` are its last lines, oldest first; ``more_logs``: it has others.

    ``tries`` are its attempts: those that went badly, and then the one that runs or went well. ``why`` is None once it
    has ended. Sealed values are as they are stored: open them with ``reveal``.
    """

    job: Job
    tries: tuple[Try, ...]
    earlier_endings: tuple[EarlierEnding, ...]
    logs: tuple[JobLog, ...]
    more_logs: bool
    steps: int
    children: Capped
    why: Why | None
    worker: str | None = None
    """The host and process that run it, or ran its last attempt."""


def job_detail(
    session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, *, lines: int = 200, tells_all: bool = True
) -> JobDetail | None:
    """A job of this workspace; None when it has no such job. Of its log the last ``lines``.

    ``tells_all=False``: ``why`` is fit for the workspace's own people.
    """
    job = get_job(session, workspace_id, job_id)
    if job is None:
        return None
    logs = _logs(session, workspace_id, job_id, lines + 1)
    attempts = list_attempts(session, workspace_id, job_id)[-MOST_TRIES:]
    ended = job.completed_at is not None
    due_at, past = _first_due(session, job)
    places = places_of_workers(session, [job.last_worker_id, *(row.worker_id for row in attempts)])
    return JobDetail(
        job=job,
        tries=tuple(_tries(job, attempts, due_at, places, _now(session))),
        earlier_endings=tuple(_ending(ending) for ending in past),
        logs=tuple(reversed(logs[:lines])),
        more_logs=len(logs) > lines,
        steps=_count_steps(session, workspace_id, job_id),
        children=_children(session, workspace_id, job_id),
        why=None if ended else why_waiting(session, workspace_id, job_id, tells_all=tells_all),
        worker=places.get(job.last_worker_id or 0),
    )


def _tries(
    job: Job,
    attempts: Sequence[JobAttempt],
    due_at: datetime.datetime | None,
    workers: Mapping[int, str],
    now: datetime.datetime,
) -> Iterator[Try]:
    for row in attempts:
        yield _try_of(row, due_at, workers)
        # When the next one became due, nobody wrote down; it is known of the last one only.
        due_at = None
    status = Status(job.status)
    if status in (Status.RUNNING, Status.COMPLETED) and job.started_at is not None:
        yield _last_try(job, job.run_after if attempts and status is Status.RUNNING else due_at, workers, now)


def _try_of(row: JobAttempt, due_at: datetime.datetime | None, workers: Mapping[int, str]) -> Try:
    return Try(
        attempt=row.attempt,
        epoch=row.epoch,
        outcome=row.outcome,
        final=row.final,
        due_at=due_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        wait_seconds=_between(due_at, row.started_at),
        run_seconds=_between(row.started_at, row.ended_at),
        worker_id=row.worker_id,
        worker=workers.get(row.worker_id or 0),
        error_type=row.error_type,
        error=row.error,
        traceback=row.traceback,
        fingerprint=row.fingerprint,
    )


def _last_try(job: Job, due_at: datetime.datetime | None, workers: Mapping[int, str], now: datetime.datetime) -> Try:
    """One that runs, or went well: what is not kept of such an attempt is kept of its job."""
    is_running = job.status == Status.RUNNING
    return Try(
        attempt=job.attempts,
        epoch=job.epoch,
        outcome="running" if is_running else job.outcome or "ok",
        final=not is_running,
        due_at=due_at,
        started_at=job.started_at,
        ended_at=job.completed_at,
        wait_seconds=_between(due_at, job.started_at),
        run_seconds=_between(job.started_at, job.completed_at or now),
        worker_id=job.last_worker_id,
        worker=workers.get(job.last_worker_id or 0),
        error_type=None,
        error=None,
        traceback=None,
        fingerprint=None,
    )


def _between(first: datetime.datetime | None, last: datetime.datetime | None) -> float | None:
    return None if first is None or last is None else max(0.0, (last - first).total_seconds())


def _first_due(session: Session, job: Job) -> tuple[datetime.datetime | None, Sequence[Mapping[str, Any]]]:
    """When its first attempt might have begun, and the endings that were taken back. A retry by hand has changed when
    it may run, so of such a job the former is not known any more."""
    statement = select(JobRecord.run_after, JobRecord.past_endings)
    statement = statement.where(JobRecord.workspace_id == job.workspace_id, JobRecord.id == job.id)
    run_after, past = session.execute(statement).one()
    return None if past else max(job.created_at, run_after), past or ()


def _ending(ending: Mapping[str, Any]) -> EarlierEnding:
    return EarlierEnding(
        epoch=ending["epoch"],
        status=ending["status"],
        outcome=ending["outcome"],
        ended_at=datetime.datetime.fromisoformat(ending["endedAt"]),
        retried_at=datetime.datetime.fromisoformat(ending["retriedAt"]),
    )


def _logs(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, limit: int) -> Sequence[JobLog]:
    statement = (
        select(JobLog)
        .where(JobLog.workspace_id == workspace_id, JobLog.job_id == job_id)
        .order_by(JobLog.epoch.desc(), JobLog.line.desc())
        .limit(limit)
    )
    return session.scalars(statement).all()


def _count_steps(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> int:
    statement = select(func.count()).where(
        JobStep.workspace_id == workspace_id,
        JobStep.job_id == job_id,
        func.left(JobStep.name, 1).not_in(("", CHECKPOINT_PART)),
    )
    return session.scalar(statement) or 0


def _children(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Capped:
    found = (
        select(JobRecord.id)
        .where(JobRecord.workspace_id == workspace_id, JobRecord.parent_id == job_id)
        .limit(MOST_CHILDREN + 1)
        .subquery()
    )
    count = session.scalar(select(func.count()).select_from(found)) or 0
    return Capped(min(count, MOST_CHILDREN), more=count > MOST_CHILDREN)


def _now(session: Session) -> datetime.datetime:
    return session.execute(select(clock())).scalar_one()
