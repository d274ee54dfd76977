"""The tenant's portal: a workspace's syncs and jobs, for its own people.

Nothing here tells of another workspace, of a worker or of code: no traceback, and of an error only what is meant for
whoever uses the product.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jobplatform.models import PLATFORM_WORKSPACE, Connection, Job, Schedule, Status, SyncLog, visit
from jobplatform.queue.read import list_jobs
from jobplatform.queue.statement import run

#: The task that a sync is a job of.
SYNC: Final = "sync"
#: Syncs that are looked through for the last ones of each connection.
MOST_SYNCS: Final = 50
MOST_CARDS: Final = 200
MOST_SCHEDULES: Final = 100
#: Messages of these are written for people who use the product.
FOR_PEOPLE: Final = frozenset({"SyncFailedError", "SourceError", "SourceBusyError", "SourceUnreachableError"})

CardState = Literal["never", "running", "waiting", "ok", "failed"]

# The guard of a sync is its task's name; whoever waits to replace a running one has a mark before it.
GUARD: Final = """
select q.id, q.state, coalesce(q.started_at, q.run_after), q.progress, r.created_at, r.payload
from jobplatform.job_queue q
cross join lateral (
    select r.created_at, r.payload
    from jobplatform.job_records r
    where r.workspace_id = q.workspace_id and r.id = q.id
    limit 1
) r
where q.workspace_id = %(workspace_id)s and q.unique_key = %(key)s
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """The sync that has not ended, because of which no other can begin."""

    job_id: uuid.UUID
    status: Status
    since: datetime.datetime
    progress: Mapping[str, Any] | None
    words: str


@dataclass(frozen=True, slots=True)
class SyncCard:
    """A connection as its owner sees it.

    ``records`` were read by the last sync that went well. ``job_id`` is the sync that runs or waits, else the last one.
    """

    connection_id: uuid.UUID
    name: str
    connector_type: str
    state: CardState
    last_success_at: datetime.datetime | None
    last_ended_at: datetime.datetime | None
    records: int | None
    error: str | None
    next_run_at: datetime.datetime | None
    job_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class TenantSyncs:
    """Cards by connection, and whether a sync can begin now; ``why_not`` says it in words, and is empty when it can."""

    cards: tuple[SyncCard, ...]
    guard: Guard | None
    why_not: str

    @property
    def can_sync(self) -> bool:
        return not self.why_not


@dataclass(frozen=True, slots=True)
class ActivityLine:
    """A job of the workspace as its people see it. ``error`` is fit for them; support asks for ``request_id``."""

    job_id: uuid.UUID
    task: str
    status: Status
    outcome: str | None
    created_at: datetime.datetime
    run_after: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    duration_seconds: float | None
    progress: Mapping[str, Any] | None
    error: str | None
    request_id: str | None
    can_cancel: bool
    can_retry: bool


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """Jobs, newest first. ``next`` is what the next page is ``before``."""

    lines: tuple[ActivityLine, ...]
    next: uuid.UUID | None


def tenant_syncs(session: Session, workspace_id: uuid.UUID) -> TenantSyncs:
    """A card for each connection of the workspace, and whether "sync now" would do anything."""
    visit(session, workspace_id)
    connections = _connections(session, workspace_id)
    guard, payload = _guard(session, workspace_id)
    logs = _logs(session, workspace_id)
    schedules = _schedules(session, workspace_id)
    cards = tuple(_card(connection, guard, payload, logs, schedules) for connection in connections)
    if not connections:
        return TenantSyncs(cards, guard, "nothing is connected yet")
    return TenantSyncs(cards, guard, guard.words if guard else "")


def tenant_activity(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, before: uuid.UUID | None = None
) -> ActivityPage:
    """The newest jobs of the workspace. ``before`` is the id of the last one seen."""
    jobs = list_jobs(session, workspace_id, limit=limit + 1, before=before)
    page = jobs[:limit]
    return ActivityPage(tuple(activity_line(job) for job in page), page[-1].id if len(jobs) > limit else None)


def activity_line(job: Job) -> ActivityLine:
    """One job as the workspace's people see it."""
    status = Status(job.status)
    began, ended = job.started_at, job.completed_at
    return ActivityLine(
        job_id=job.id,
        task=job.job_type,
        status=status,
        outcome=job.outcome,
        created_at=job.created_at,
        run_after=job.run_after,
        started_at=began,
        completed_at=ended,
        duration_seconds=None if began is None or ended is None else max(0.0, (ended - began).total_seconds()),
        progress=job.progress if isinstance(job.progress, Mapping) else None,
        error=friendly_error(job),
        request_id=job.request_id,
        can_cancel=status in (Status.PENDING, Status.RUNNING) and job.cancel_requested_at is None,
        can_retry=status in (Status.FAILED, Status.CANCELLED),
    )


def friendly_error(job: Job) -> str | None:
    """Why a job did not do what it was to, for the people of its workspace; None if it did, or may still."""
    if job.status != Status.FAILED:
        return "It was called off." if job.status == Status.CANCELLED else None
    if job.error_type in FOR_PEOPLE and job.error:
        return job.error
    known = {"timeout": "It took too long.", "lost": "It was interrupted again and again."}
    return known.get(job.outcome or "", "Something went wrong.")


def _connections(session: Session, workspace_id: uuid.UUID) -> Sequence[Any]:
    table = Connection.__table__.c
    statement = select(table.id, table.name, table.connector_type).where(table.workspace_id == workspace_id)
    return session.execute(statement.order_by(table.id).limit(MOST_CARDS)).all()


def _guard(session: Session, workspace_id: uuid.UUID) -> tuple[Guard | None, Any]:
    row = run(session, GUARD, workspace_id=workspace_id, key=SYNC).one_or_none()
    if row is None:
        return None, None
    job_id, state, since, progress, created_at, payload = row
    if state == 2:
        return Guard(job_id, Status.RUNNING, since, progress, "a sync is running"), payload
    return Guard(job_id, Status.PENDING, created_at, progress, "a sync is waiting for its turn"), payload


def _logs(session: Session, workspace_id: uuid.UUID) -> Sequence[SyncLog]:
    statement = select(SyncLog).where(SyncLog.workspace_id == workspace_id)
    return session.scalars(statement.order_by(SyncLog.id.desc()).limit(MOST_SYNCS)).all()


def _schedules(session: Session, workspace_id: uuid.UUID) -> Sequence[Any]:
    """The workspace's own schedules of syncs, soonest first; of the platform's a workspace sees none."""
    table = Schedule.__table__.c
    statement = select(table.next_run_at, table.payload).where(
        or_(table.workspace_id == workspace_id, table.workspace_id == PLATFORM_WORKSPACE),
        table.task == SYNC,
        table.next_run_at.is_not(None),
    )
    return session.execute(statement.order_by(table.next_run_at).limit(MOST_SCHEDULES)).all()


def _card(
    connection: Any, guard: Guard | None, payload: Any, logs: Sequence[SyncLog], schedules: Sequence[Any]
) -> SyncCard:
    ended = [(log, found) for log in logs if (found := _result(log, connection.id)) is not None]
    good = [(log, found) for log, found in ended if found.get("status") == "completed"]
    concerned = guard is not None and _concerns(payload, connection)
    return SyncCard(
        connection_id=connection.id,
        name=connection.name,
        connector_type=connection.connector_type,
        state=_state(guard if concerned else None, ended),
        last_success_at=good[0][0].ended_at or good[0][0].started_at if good else None,
        last_ended_at=ended[0][0].ended_at if ended else None,
        records=good[0][1].get("records") if good else None,
        error=_error(ended),
        next_run_at=next((row.next_run_at for row in schedules if _concerns(row.payload, connection)), None),
        job_id=guard.job_id if guard and concerned else ended[0][0].job_id if ended else None,
    )


def _result(log: SyncLog, connection_id: uuid.UUID) -> Mapping[str, Any] | None:
    results: Iterable[Mapping[str, Any]] = log.results or ()
    return next((found for found in results if found.get("connectionId") == str(connection_id)), None)


def _concerns(payload: Any, connection: Any) -> bool:
    """Whether a sync with this payload is about a connection. One that is sealed may be about any."""
    if not isinstance(payload, Mapping):
        return True
    chosen_type, chosen = payload.get("connectorType"), payload.get("connectionId")
    return chosen_type in (None, connection.connector_type) and chosen in (None, str(connection.id))


def _state(guard: Guard | None, ended: Sequence[tuple[SyncLog, Mapping[str, Any]]]) -> CardState:
    if guard is not None:
        return "running" if guard.status is Status.RUNNING else "waiting"
    if not ended:
        return "never"
    return "ok" if ended[0][1].get("status") == "completed" else "failed"


def _error(ended: Sequence[tuple[SyncLog, Mapping[str, Any]]]) -> str | None:
    if not ended or ended[0][1].get("status") == "completed":
        return None
    log, result = ended[0]
    mine = [str(error) for error in log.errors or () if str(error).startswith(f"{result.get('name')}: ")]
    return mine[0].partition(": ")[2] if mine else "The source could not be read."
