"""Connections and syncs, and the audit log: what an operator reads of them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from sqlalchemy import exists, select, tuple_
from sqlalchemy.orm import Session

from jobplatform.models import AuditEntry, Connection, ConnectionCredentials, Status, SyncLog, visit
from jobplatform.queue.find import Capped, status_of
from jobplatform.queue.statement import array, run
from jobplatform.wording import said_of

MOST_RECORDS: Final = 1_000
#: Syncs of a workspace that are looked through for the last one of a connection.
MOST_SYNCS: Final = 50

# Capped, and lateral: a connection with millions of records costs no more than one with a thousand.
RECORDS: Final = f"""
select asked.id, (
    select count(*)
    from (
        select
        from jobplatform.records r
        where r.workspace_id = asked.workspace_id and r.connection_id = asked.id
        limit {MOST_RECORDS + 1}
    ) these
)
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as asked(workspace_id, id)
"""
LAST_SYNCS: Final = f"""
select asked.id, s.id
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as asked(workspace_id, id)
cross join lateral (
    select newest.id
    from (
        select l.id, l.results
        from jobplatform.sync_logs l
        where l.workspace_id = asked.workspace_id
        order by l.id desc
        limit {MOST_SYNCS}
    ) newest
    where newest.results @> jsonb_build_array(jsonb_build_object('connectionId', asked.id::text))
    order by newest.id desc
    limit 1
) s
"""
STATUSES: Final = """
select asked.workspace_id, asked.id, r.status, q.state
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as asked(workspace_id, id)
cross join lateral (
    select r.status
    from jobplatform.job_records r
    where r.workspace_id = asked.workspace_id and r.id = asked.id
    limit 1
) r
left join lateral (
    select q.state
    from jobplatform.job_queue q
    where r.status is null and q.workspace_id = asked.workspace_id and q.id = asked.id
    limit 1
) q on true
"""

#: Of a connection.
HAS_CREDENTIALS: Final = (
    exists()
    .where(
        ConnectionCredentials.workspace_id == Connection.workspace_id,
        ConnectionCredentials.connection_id == Connection.id,
    )
    .label("has_credentials")
)

SyncState = Literal["waiting", "running", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class SyncLine:
    """A sync. ``job_status`` is its job's, while that is kept. ``errors``: a text for each connection that failed.

    ``state`` is what is so now: ``status`` is what the sync has written down, and one whose worker died has written
    nothing.
    """

    workspace_id: uuid.UUID
    id: uuid.UUID
    job_id: uuid.UUID
    mode: str
    status: str
    total_records: int
    reference: str | None
    results: tuple[dict[str, Any], ...]
    errors: tuple[str, ...]
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    job_status: Status | None

    @property
    def state(self) -> SyncState:
        return sync_state(self.status, self.job_status)

    def result_of(self, connection_id: uuid.UUID) -> dict[str, Any] | None:
        """What came of one connection, as far as that is written down."""
        return next((one for one in self.results if one.get("connectionId") == str(connection_id)), None)

    def errors_of(self, connection_id: uuid.UUID) -> tuple[str, ...]:
        """What was wrong with one connection, and with the sync as a whole if that tells of none of them."""
        result = self.result_of(connection_id)
        if result is None:
            return tuple(map(str, self.errors))
        return tuple(said_of(result.get("name"), connection_id, self.errors))


@dataclass(frozen=True, slots=True)
class SyncPage:
    """Syncs, newest first. ``next`` is what the next page is ``before``."""

    lines: tuple[SyncLine, ...]
    next: tuple[uuid.UUID, uuid.UUID] | None


@dataclass(frozen=True, slots=True)
class ConnectionLine:
    """A connection, without its configuration. ``records`` are those of its copy, capped; ``attention`` is why it was
    last of no use."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    connector_type: str
    name: str
    created_at: datetime.datetime
    attention: str | None
    has_credentials: bool
    records: Capped
    last_sync: SyncLine | None


@dataclass(frozen=True, slots=True)
class ConnectionPage:
    """Connections by workspace and id. ``next`` is what the next page is ``after``."""

    lines: tuple[ConnectionLine, ...]
    next: tuple[uuid.UUID, uuid.UUID] | None


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Lines of the audit log, newest first. ``next`` is what the next page is ``before``."""

    lines: tuple[AuditEntry, ...]
    next: int | None


def connection_lines(
    session: Session,
    *,
    workspace_id: uuid.UUID | None = None,
    limit: int = 50,
    after: tuple[uuid.UUID, uuid.UUID] | None = None,
) -> ConnectionPage:
    """A page of the connections of a workspace, or of all, each with its last sync."""
    if workspace_id is not None:
        visit(session, workspace_id)
    # Not the configuration: nothing on a page needs it.
    table = Connection.__table__.c
    statement = select(
        table.workspace_id,
        table.id,
        table.connector_type,
        table.name,
        table.created_at,
        table.attention,
        HAS_CREDENTIALS,
    )
    statement = statement.order_by(table.workspace_id, table.id).limit(limit + 1)
    if workspace_id is not None:
        statement = statement.where(table.workspace_id == workspace_id)
    if after is not None:
        statement = statement.where(tuple_(table.workspace_id, table.id) > after)
    found = session.execute(statement).all()
    page = found[:limit]
    following = (page[-1].workspace_id, page[-1].id) if len(found) > limit else None
    return ConnectionPage(_connections(session, page), following)


def sync_lines(
    session: Session,
    *,
    workspace_id: uuid.UUID | None = None,
    limit: int = 50,
    before: tuple[uuid.UUID, uuid.UUID] | None = None,
) -> SyncPage:
    """A page of the syncs of a workspace, or of all, newest first. ``before`` is the ``next`` of the page before it."""
    statement = select(SyncLog.workspace_id, SyncLog.id).order_by(SyncLog.id.desc(), SyncLog.workspace_id.desc())
    if workspace_id is not None:
        visit(session, workspace_id)
        statement = statement.where(SyncLog.workspace_id == workspace_id)
    if before is not None:
        last_workspace, last_id = before
        statement = statement.where(tuple_(SyncLog.id, SyncLog.workspace_id) < (last_id, last_workspace))
    keys = [(row[0], row[1]) for row in session.execute(statement.limit(limit + 1))]
    page = keys[:limit]
    return SyncPage(_syncs(session, page), page[-1] if len(keys) > limit else None)


def audit_lines(
    session: Session,
    *,
    workspace_id: uuid.UUID | None = None,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> AuditPage:
    """A page of the audit log. Who looks for an actor, an action or a target gets what of it is among the newest 20,000
    lines before that."""
    if workspace_id is not None:
        visit(session, workspace_id)
    newest = select(AuditEntry.id).order_by(AuditEntry.id.desc()).limit(20_000)
    if before is not None:
        newest = newest.where(AuditEntry.id < before)
    if workspace_id is not None:
        newest = newest.where(AuditEntry.workspace_id == workspace_id)
    some = newest.add_columns(AuditEntry.actor, AuditEntry.action, AuditEntry.target).subquery()
    chosen = select(some.c.id).order_by(some.c.id.desc()).limit(limit + 1)
    for column, value in ((some.c.actor, actor), (some.c.action, action), (some.c.target, target)):
        if value is not None:
            chosen = chosen.where(column == value)
    ids = session.scalars(chosen).all()
    page = ids[:limit]
    statement = select(AuditEntry).where(AuditEntry.id.in_(page)).order_by(AuditEntry.id.desc())
    return AuditPage(tuple(session.scalars(statement)), page[-1] if len(ids) > limit else None)


def _connections(session: Session, rows: Sequence[Any]) -> tuple[ConnectionLine, ...]:
    keys = {"workspace_ids": array(row.workspace_id for row in rows), "ids": array(row.id for row in rows)}
    records = {row[0]: row[1] for row in run(session, RECORDS, **keys)}
    last = {row[0]: row[1] for row in run(session, LAST_SYNCS, **keys)}
    # A sync is known by its id within its workspace only.
    keys_of = {row.id: (row.workspace_id, last[row.id]) for row in rows if row.id in last}
    syncs = {(line.workspace_id, line.id): line for line in _syncs(session, list(keys_of.values()))}
    return tuple(
        ConnectionLine(
            workspace_id=row.workspace_id,
            id=row.id,
            connector_type=row.connector_type,
            name=row.name,
            created_at=row.created_at,
            attention=row.attention,
            has_credentials=row.has_credentials,
            records=Capped(min(records[row.id], MOST_RECORDS), more=records[row.id] > MOST_RECORDS),
            last_sync=syncs.get(keys_of[row.id]) if row.id in keys_of else None,
        )
        for row in rows
    )


def _syncs(session: Session, keys: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> tuple[SyncLine, ...]:
    if not keys:
        return ()
    statement = select(SyncLog).where(tuple_(SyncLog.workspace_id, SyncLog.id).in_(keys))
    found = {
        (row.workspace_id, row.id): row
        for row in session.scalars(statement, execution_options={"populate_existing": True})
    }
    statuses = _statuses(session, list(found.values()))
    return tuple(sync_line(found[key], statuses.get((key[0], found[key].job_id))) for key in keys if key in found)


def _statuses(session: Session, logs: Sequence[SyncLog]) -> dict[tuple[uuid.UUID, uuid.UUID], Status]:
    rows = run(
        session,
        STATUSES,
        workspace_ids=array(log.workspace_id for log in logs),
        ids=array(log.job_id for log in logs),
    )
    return {(row[0], row[1]): found for row in rows if (found := status_of(row[2], row[3])) is not None}


def sync_state(status: str, job_status: Status | None) -> SyncState:
    """How a sync is, from what it has written down and its job's status; None: the job is deleted, so it has ended.

    One that was interrupted is what its job is: it waits for another try, or has begun it.
    """
    if status not in ("running", "interrupted"):
        return cast(SyncState, status)
    if job_status is None:
        return "failed"
    return "waiting" if job_status is Status.PENDING else cast(SyncState, job_status.value)


def sync_line(row: SyncLog, job_status: Status | None) -> SyncLine:
    """A sync as a list shows it."""
    return SyncLine(
        workspace_id=row.workspace_id,
        id=row.id,
        job_id=row.job_id,
        mode=row.mode,
        status=row.status,
        total_records=row.total_records,
        reference=row.reference,
        results=tuple(row.results or ()),
        errors=tuple(str(error) for error in row.errors or ()),
        started_at=row.started_at,
        ended_at=row.ended_at,
        job_status=job_status,
    )
