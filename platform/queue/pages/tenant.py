"""The tenant's portal: a workspace's syncs and jobs, for its own people.

Nothing here tells of another workspace, of a worker or of code: no traceback, and of an error only what is meant for
whoever uses the product.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jobplatform.models import PLATFORM_WORKSPACE, SUCCESSOR, Connection, Job, JobRecord, Schedule, Status, visit
from jobplatform.queue.pages.syncs import HAS_CREDENTIALS
from jobplatform.queue.reading.read import list_jobs
from jobplatform.queue.statement import run, text_array
from jobplatform.queue.sync_logs import SyncLogSeen, list_sync_logs
from jobplatform.wording import said_of

#: The task that a sync is a job of.
SYNC: Final = "sync"
#: Syncs that are looked through for the last ones of each connection.
MOST_SYNCS: Final = 50
MOST_CARDS: Final = 200
MOST_SCHEDULES: Final = 100
#: Messages of these are written for people who use the product.
FOR_PEOPLE: Final = frozenset({"SyncFailedError", "SourceError", "SourceBusyError", "SourceUnreachableError"})

CardState = Literal["never", "running", "waiting", "ok", "failed", "cancelled"]

# The guard of a sync is its task's name and what it is about, or the name alone for all of the workspace; whoever waits
# to replace a running one has a mark before it. Each key is looked up in their index.
GUARDS: Final = """
select
    ltrim(q.unique_key, chr(30)), q.id, q.state, coalesce(q.started_at, q.run_after), q.progress, r.created_at,
    r.payload
from jobplatform.job_queue q
cross join lateral (
    select r.created_at, r.payload
    from jobplatform.job_records r
    where r.workspace_id = q.workspace_id and r.id = q.id
    limit 1
) r
where q.workspace_id = %(workspace_id)s and q.unique_key = any(%(keys)s::text[])
order by q.state = 2 desc, q.id
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """A sync that has not ended, because of which no other that is about the same can begin."""

    job_id: uuid.UUID
    status: Status
    since: datetime.datetime
    progress: Mapping[str, Any] | None
    words: str


@dataclass(frozen=True, slots=True)
class SyncCard:
    """A connection as its owner sees it.

    ``state`` is of the sync that runs or waits (``guard``), else of the last one, and ``job_id`` is its job.
    ``can_sync``: none of this connection alone is under way. ``records`` were read by the last one that went well.
    ``attention`` is why the connection was last of no use.
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
    guard: Guard | None
    can_sync: bool
    attention: str | None
    has_credentials: bool


class _Active(NamedTuple):
    """A sync that has not ended."""

    key: str
    guard: Guard
    payload: Any


class _Ended(NamedTuple):
    """A sync that is over, and what came of it for one connection: None if it never came to that."""

    log: SyncLogSeen
    result: Mapping[str, Any] | None

    @property
    def state(self) -> CardState:
        if self.log.status == "cancelled":
            return "cancelled"
        return "ok" if self.result is not None and self.result.get("status") == "completed" else "failed"


@dataclass(frozen=True, slots=True)
class TenantSyncs:
    """Cards by connection, and the syncs that have not ended, running ones first. ``why_not`` says in words why none of
    the whole workspace can begin now, and is empty when one can."""

    cards: tuple[SyncCard, ...]
    guards: tuple[Guard, ...]
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
    """A card for each connection of the workspace, and whether "sync now" and "sync everything" would do anything."""
    visit(session, workspace_id)
    connections = _connections(session, workspace_id)
    active = _active(session, workspace_id, connections)
    logs = list_sync_logs(session, workspace_id, limit=MOST_SYNCS)
    asked_for = _payloads(session, workspace_id, logs)
    schedules = _schedules(session, workspace_id)
    cards = tuple(
        _card(connection, active, tuple(_ended(connection, logs, asked_for)), schedules) for connection in connections
    )
    return TenantSyncs(cards, tuple(one.guard for one in active), _why_not(connections, active))


def tenant_activity(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, before: uuid.UUID | None = None
) -> ActivityPage:
    """The newest jobs of the workspace. ``before`` is the id of the last one seen."""
    jobs = list_jobs(session, workspace_id, limit=limit + 1, before=before, contents=False)
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
    statement = select(table.id, table.name, table.connector_type, table.attention, HAS_CREDENTIALS)
    statement = statement.where(table.workspace_id == workspace_id)
    return session.execute(statement.order_by(table.id).limit(MOST_CARDS)).all()


def _active(session: Session, workspace_id: uuid.UUID, connections: Sequence[Any]) -> list[_Active]:
    """The syncs of all these connections, of some or of one that have not ended, running ones first."""
    keys = {SYNC}.union(*map(_keys, connections))
    marked = text_array([*keys, *(f"{SUCCESSOR}{key}" for key in keys)])
    return [
        _Active(key, _guard(*facts), payload)
        for key, *facts, payload in run(session, GUARDS, workspace_id=workspace_id, keys=marked)
    ]


def _guard(job_id: uuid.UUID, state: int, since: Any, progress: Any, created_at: Any) -> Guard:
    if state == 2:
        return Guard(job_id, Status.RUNNING, since, progress, "a sync is running")
    return Guard(job_id, Status.PENDING, created_at, progress, "a sync is waiting for its turn")


def _keys(connection: Any) -> set[str]:
    """Of the syncs that are about a connection: all of the workspace, those of its type, and it alone."""
    return {SYNC, f"{SYNC}:{connection.connector_type}", _own_key(connection)}


def _own_key(connection: Any) -> str:
    return f"{SYNC}:{connection.id}"


def _why_not(connections: Sequence[Any], active: Sequence[_Active]) -> str:
    if not connections:
        return "nothing is connected yet"
    return next((one.guard.words for one in active if one.key == SYNC), "")


def _payloads(session: Session, workspace_id: uuid.UUID, logs: Sequence[SyncLogSeen]) -> dict[uuid.UUID, Any]:
    """What those syncs were to do that have not come to any connection; by job, where that is kept."""
    ids = [log.job_id for log in logs if not log.results]
    statement = select(JobRecord.id, JobRecord.payload)
    statement = statement.where(JobRecord.workspace_id == workspace_id, JobRecord.id.in_(ids))
    return {row.id: row.payload for row in session.execute(statement)} if ids else {}


def _schedules(session: Session, workspace_id: uuid.UUID) -> Sequence[Any]:
    """The workspace's own schedules of syncs, soonest first; of the platform's a workspace sees none."""
    table = Schedule.__table__.c
    statement = select(table.next_run_at, table.payload).where(
        or_(table.workspace_id == workspace_id, table.workspace_id == PLATFORM_WORKSPACE),
        table.task == SYNC,
        table.next_run_at.is_not(None),
    )
    return session.execute(statement.order_by(table.next_run_at).limit(MOST_SCHEDULES)).all()


def _card(connection: Any, active: Sequence[_Active], ended: Sequence[_Ended], schedules: Sequence[Any]) -> SyncCard:
    good = next((one for one in ended if one.result is not None and one.result.get("status") == "completed"), None)
    mine = next((one.guard for one in active if _is_about(one, connection)), None)
    return SyncCard(
        connection_id=connection.id,
        name=connection.name,
        connector_type=connection.connector_type,
        state=_state(mine, ended),
        last_success_at=(good.log.ended_at or good.log.started_at) if good else None,
        last_ended_at=ended[0].log.ended_at if ended else None,
        records=good.result.get("records") if good and good.result else None,
        error=_error(ended[0]) if ended else None,
        next_run_at=next((row.next_run_at for row in schedules if _concerns(row.payload, connection)), None),
        job_id=mine.job_id if mine else ended[0].log.job_id if ended else None,
        guard=mine,
        can_sync=all(one.key != _own_key(connection) for one in active),
        attention=connection.attention,
        has_credentials=connection.has_credentials,
    )


def _ended(connection: Any, logs: Iterable[SyncLogSeen], asked_for: Mapping[uuid.UUID, Any]) -> Iterator[_Ended]:
    """The syncs of a connection that are over, newest first; also those that were to come to it and never did."""
    for log in logs:
        result = next((one for one in log.results if one.get("connectionId") == str(connection.id)), None)
        never_came = log.status in ("failed", "cancelled") and log.job_id in asked_for
        if log.status in ("running", "interrupted"):
            continue
        if result is not None or (never_came and _concerns(asked_for[log.job_id], connection)):
            yield _Ended(log, result)


def _is_about(sync: _Active, connection: Any) -> bool:
    """The key of one that is sealed says more than its payload; the payload more where somebody gave the key."""
    return sync.key in _keys(connection) and _concerns(sync.payload, connection)


def _concerns(payload: Any, connection: Any) -> bool:
    """Whether a sync with this payload is about a connection. One that is sealed may be about any."""
    if not isinstance(payload, Mapping):
        return True
    chosen_type, chosen = payload.get("connectorType"), payload.get("connectionId")
    return chosen_type in (None, connection.connector_type) and chosen in (None, str(connection.id))


def _state(guard: Guard | None, ended: Sequence[_Ended]) -> CardState:
    if guard is not None:
        return "running" if guard.status is Status.RUNNING else "waiting"
    return ended[0].state if ended else "never"


def _error(last: _Ended) -> str | None:
    if last.state != "failed":
        return None
    if last.result is None:
        return "The last sync ended before this source was read."
    mine = said_of(last.result.get("name"), last.result.get("connectionId"), last.log.errors)
    return mine[0] if mine else "The source could not be read."
