"""What a sync writes: records, what is known of a stream, and its entry in the log. Nothing here commits.

Two syncs may be about one connection, one of them waiting for its source in the middle of a stream. So what a page
writes has the generation that is the stream's newest just then, whoever began it: the sync has seen it, and an initial
one that began meanwhile may have passed the place where it is. And only the newest initial sync says what has vanished.
Each page, beginning and end holds the stream's row first, and so they take turns. Before that it holds its connection,
as whoever deletes that does: the other way round the two would wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ScalarSelect,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from jobplatform.connectors.blaming import blaming
from jobplatform.connectors.source import SourceRecord
from jobplatform.errors import SourceError
from jobplatform.models import SCHEMA, Connection, Record, SyncLog, SyncStream, clock
from jobplatform.queue import safe_json, safe_text

#: It is part of a key, and the database takes keys of up to 2,700 bytes in all.
LONGEST_ID = 1000


def saved_states(session: Session, connection: Connection) -> dict[str, str | None]:
    """Where the next incremental sync of each stream begins."""
    statement = select(SyncStream.stream, SyncStream.state).where(
        SyncStream.workspace_id == connection.workspace_id, SyncStream.connection_id == connection.id
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def hold_connection(session: Session, connection: Connection) -> None:
    """Keep it from being deleted until the transaction ends. Raises :class:`SourceError` when it has been."""
    mine = select(Connection.id).where(
        Connection.workspace_id == connection.workspace_id, Connection.id == connection.id
    )
    if session.execute(mine.with_for_update(read=True, key_share=True)).first() is None:
        raise SourceError("the connection was deleted while it was synced")


def begin_stream(session: Session, connection: Connection, stream: str, *, initial: bool) -> int:
    """The stream's generation from now on: for an initial sync a new one, whatever became of the last."""
    row = insert(SyncStream).values(
        workspace_id=connection.workspace_id, connection_id=connection.id, stream=stream, generation=int(initial)
    )
    upsert = row.on_conflict_do_update(
        index_elements=[SyncStream.workspace_id, SyncStream.connection_id, SyncStream.stream],
        set_={"generation": SyncStream.generation + int(initial)},
    )
    return session.execute(upsert.returning(SyncStream.generation)).scalar_one()


def finish_stream(
    session: Session,
    connection: Connection,
    stream: str,
    *,
    generation: int,
    state: str | None,
    initial: bool,
    complete: bool = True,
) -> int | None:
    """Keep where the next incremental sync begins, and mark as deleted what an initial one has not seen, if it has seen
    all there is. Says how many that were; None if another one has begun since ``generation``, which is to say so."""
    newest = session.execute(
        update(SyncStream)
        .where(
            SyncStream.workspace_id == connection.workspace_id,
            SyncStream.connection_id == connection.id,
            SyncStream.stream == stream,
        )
        .values(state=state if state is not None or initial else SyncStream.state, synced_at=clock())
        .returning(SyncStream.generation),
        execution_options={"synchronize_session": False},
    ).scalar_one_or_none()
    if not (initial and complete):
        return 0
    if newest != generation:
        return None
    vanished: Any = session.execute(
        update(Record)
        .where(
            Record.workspace_id == connection.workspace_id,
            Record.connection_id == connection.id,
            Record.stream == stream,
            Record.generation < generation,
            Record.deleted_at.is_(None),
        )
        .values(deleted_at=clock(), synced_at=clock()),
        execution_options={"synchronize_session": False},
    )
    return int(vanished.rowcount)


def store_records(
    session: Session, connection: Connection, stream: str, records: Sequence[SourceRecord], *, initial: bool
) -> int:
    """Store a page of a stream that was begun, and return how many rows were written. One statement.

    Raises :class:`SourceError`, before anything is written, for what is no record.
    """
    with blaming(stream):
        rows = _storable(records)
    if not rows:
        return 0
    given = {
        "ids": list(rows),
        "data": [data for data, _ in rows.values()],
        "gone": [is_gone for _, is_gone in rows.values()],
        "workspace": connection.workspace_id,
        "connection": connection.id,
        "of_stream": stream,
    }
    return len(session.execute(_STORE_ALL if initial else _STORE_CHANGED, given).all())


def _storable(records: Sequence[SourceRecord]) -> dict[str, tuple[str, bool]]:
    """Data as JSON, and whether it is gone, by external id. A record that comes twice in a page counts as its last
    copy, because a statement may not touch a row twice."""
    return {_storable_id(record.external_id): (_storable_data(record), bool(record.deleted)) for record in records}


def _storable_id(external_id: str) -> str:
    text = safe_text(external_id, len(external_id) + 1)
    if not 1 <= len(text.encode()) <= LONGEST_ID:
        raise SourceError(f"a record's id must have 1 to {LONGEST_ID} bytes; {text[:50]!r} has {len(text.encode())}")
    return text


def _storable_data(record: SourceRecord) -> str:
    """What PostgreSQL cannot store (NUL, lone surrogates, NaN) is replaced rather than fatal."""
    try:
        return safe_json(record.data)
    except TypeError as error:
        raise SourceError(f"the record {record.external_id!r} cannot be stored: {error}") from error


def _newest_generation() -> ScalarSelect[int]:
    """Of the stream, whose row is held until the page is committed: no initial sync begins or ends in between."""
    return (
        select(SyncStream.generation)
        .where(
            SyncStream.workspace_id == bindparam("workspace", type_=Uuid),
            SyncStream.connection_id == bindparam("connection", type_=Uuid),
            SyncStream.stream == bindparam("of_stream", type_=Text),
        )
        .with_for_update(key_share=True)
        .scalar_subquery()
    )


def _store(*, unchanged_too: bool) -> ReturningInsert[tuple[str]]:
    """Rows as lists, so that the statement is the same for every page and is compiled once."""
    rows = (
        func.unnest(
            bindparam("ids", type_=ARRAY(Text)),
            bindparam("data", type_=ARRAY(Text)),
            bindparam("gone", type_=ARRAY(Boolean)),
        )
        .table_valued(column("external_id", Text), column("data", Text), column("is_gone", Boolean))
        .render_derived("rows")
    )
    # Of the table: what is inserted as Record's is made for rows of their own.
    given = insert(Record.metadata.tables[f"{SCHEMA}.{Record.__tablename__}"]).from_select(
        ["workspace_id", "connection_id", "stream", "external_id", "data", "generation", "deleted_at"],
        select(
            bindparam("workspace", type_=Uuid),
            bindparam("connection", type_=Uuid),
            bindparam("of_stream", type_=Text),
            rows.c.external_id,
            cast(rows.c.data, JSONB),
            func.coalesce(_newest_generation(), 0),
            case((rows.c.is_gone, clock())),
        ),
    )
    upsert = given.on_conflict_do_update(
        index_elements=[Record.workspace_id, Record.connection_id, Record.stream, Record.external_id],
        set_={
            "data": given.excluded.data,
            "generation": func.greatest(Record.generation, given.excluded.generation),
            "synced_at": clock(),
            # One that is said again to be gone has been gone since it was first said.
            "deleted_at": case(
                (given.excluded.deleted_at.is_not(None), func.coalesce(Record.deleted_at, given.excluded.deleted_at))
            ),
        },
        where=None
        if unchanged_too
        else or_(
            Record.data.is_distinct_from(given.excluded.data),
            Record.deleted_at.is_(None) != given.excluded.deleted_at.is_(None),
        ),
    )
    return upsert.returning(Record.external_id)


_STORE_ALL = _store(unchanged_too=True)
_STORE_CHANGED = _store(unchanged_too=False)


def reopen_log(session: Session, workspace_id: UUID, log_id: str) -> None:
    """Its job is tried again after it had ended: the entry, which was closed, tells of one sync still."""
    session.execute(
        update(SyncLog)
        .where(SyncLog.workspace_id == workspace_id, SyncLog.id == UUID(log_id), SyncLog.status != "running")
        .values(status="running", ended_at=None),
        execution_options={"synchronize_session": False},
    )


def open_log(session: Session, workspace_id: UUID, log_id: str, **facts: Any) -> None:
    """An entry for a sync that begins."""
    session.execute(insert(SyncLog).values(workspace_id=workspace_id, id=UUID(log_id), **facts))


def write_log(
    session: Session, workspace_id: UUID, log_id: str, *, status: str, result: Mapping[str, Any], ended: bool
) -> None:
    """What became of it, or what has so far."""
    session.execute(
        update(SyncLog)
        .where(SyncLog.workspace_id == workspace_id, SyncLog.id == UUID(log_id))
        .values(
            status=status,
            total_records=result["totalRecords"],
            results=result["results"],
            errors=json.loads(safe_json(result["errors"])),
            warnings=json.loads(safe_json(result["warnings"])),
            ended_at=clock() if ended else None,
        ),
        execution_options={"synchronize_session": False},
    )
