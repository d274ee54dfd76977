"""A sync: pull every record of a workspace's connections, page by page.

Each page is one transaction, so what was pulled stays when the attempt is interrupted, and pulling it again changes
nothing. A connection that fails does not keep the others from being synced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.connectors.http_json import HttpJson
from jobplatform.connectors.source import Connector, Page, SourceRecord
from jobplatform.errors import SourceError, SyncFailedError
from jobplatform.models import Connection, Record, clock
from jobplatform.queue import RunningJob, Skip, safe_json

Mode = Literal["initial", "incremental"]
OpenConnector = Callable[[Mapping[str, Any], bool], Connector]

#: Connector types by name. A connection's ``connector_type`` is one of these.
CONNECTORS: dict[str, OpenConnector] = {
    "http_json": lambda config, allow_private: HttpJson(config, allow_private=allow_private),
}


class ConnectionResult(TypedDict):
    """What became of one connection; ``written`` counts the records that were new or different."""

    connectionId: str
    connectorType: str
    name: str
    records: int
    written: int
    status: Literal["completed", "failed"]


class SyncResult(TypedDict):
    """The result of a sync job."""

    results: list[ConnectionResult]
    totalRecords: int
    errors: list[str]


def run_sync(
    job: RunningJob,
    *,
    connector_type: str | None = None,
    connection_id: UUID | None = None,
    mode: Mode = "incremental",
    allow_private: bool = False,
) -> SyncResult | Skip:
    """Sync the workspace's connections, or those that the arguments choose.

    ``incremental`` writes records that are new or differ from the copy; ``initial`` writes every one anew. Raises
    :class:`SyncFailedError` when no connection at all could be synced, so that the job is tried again.
    """
    connections = _choose_connections(job, connector_type, connection_id)
    if not connections:
        return Skip("this workspace has no such connection to sync")
    sync = _Sync(job, mode, allow_private)
    for connection in connections:
        sync.pull_connection(connection)
    if len(sync.errors) == len(connections):
        raise SyncFailedError(sync.errors)
    return SyncResult(
        results=sync.results,
        totalRecords=sum(result["records"] for result in sync.results),
        errors=sync.errors,
    )


def _choose_connections(
    job: RunningJob, connector_type: str | None, connection_id: UUID | None
) -> Sequence[Connection]:
    statement = select(Connection).where(Connection.workspace_id == job.workspace_id).order_by(Connection.id)
    if connector_type is not None:
        statement = statement.where(Connection.connector_type == connector_type)
    if connection_id is not None:
        statement = statement.where(Connection.id == connection_id)
    connections = job.session.scalars(statement).all()
    # Used after later commits, which would otherwise read each of them again.
    job.session.expunge_all()
    job.session.commit()
    return connections


class _Sync:
    """One run: what was pulled so far, and what is known of the size of the whole."""

    def __init__(self, job: RunningJob, mode: Mode, allow_private: bool) -> None:
        self.job = job
        self.mode = mode
        self.allow_private = allow_private
        self.results: list[ConnectionResult] = []
        self.errors: list[str] = []
        self.pulled = 0
        self.expected: int | None = 0

    def pull_connection(self, connection: Connection) -> None:
        result = ConnectionResult(
            connectionId=str(connection.id), connectorType=connection.connector_type, name=connection.name,
            records=0, written=0, status="completed",
        )  # fmt: skip
        self.results.append(result)
        try:
            self._pull_streams(connection, result)
        except SourceError as error:
            result["status"] = "failed"
            self.errors.append(f"{connection.name}: {error}")
            self.job.log(f"{connection.name}: {error}", level="error")

    def _pull_streams(self, connection: Connection, result: ConnectionResult) -> None:
        with _open_connector(connection, self.allow_private) as connector:
            # The first page of each stream tells its size; together they make an honest progress bar.
            first = {stream: _fetch(connector, stream, None) for stream in connector.streams()}
            self._expect(first.values())
            for stream, page in first.items():
                self._pull_pages(connector, connection, stream, page, result)

    def _expect(self, pages: Any) -> None:
        for page in pages:
            known = self.expected is not None and page.total is not None
            self.expected = self.expected + page.total if known else None

    def _pull_pages(
        self, connector: Connector, connection: Connection, stream: str, page: Page, result: ConnectionResult
    ) -> None:
        while True:
            result["written"] += self._store(connection, stream, page.records)
            result["records"] += len(page.records)
            self.pulled += len(page.records)
            self.job.progress(self.pulled, self.expected, f"{connection.name}: {stream}")
            if page.next_cursor is None:
                return
            cursor, page = page.next_cursor, _fetch(connector, stream, page.next_cursor)
            if page.next_cursor == cursor:
                raise SourceError(f"{stream}: the source answers cursor {cursor!r} with itself and would never end")

    def _store(self, connection: Connection, stream: str, records: Sequence[SourceRecord]) -> int:
        written = _upsert(self.job.session, connection, stream, records, rewrite=self.mode == "initial")
        self.job.session.commit()
        return written


def _open_connector(connection: Connection, allow_private: bool) -> Connector:
    open_connector = CONNECTORS.get(connection.connector_type)
    if open_connector is None:
        raise SourceError(f"there is no connector type {connection.connector_type!r}")
    return open_connector(connection.config, allow_private)


def _fetch(connector: Connector, stream: str, cursor: str | None) -> Page:
    try:
        return connector.fetch(stream, cursor)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{stream}: {type(error).__name__}: {error}") from error


def _upsert(
    session: Session, connection: Connection, stream: str, records: Sequence[SourceRecord], *, rewrite: bool
) -> int:
    """Store a page, and return how many rows were written. One statement; a record that comes twice in a page
    counts as its last copy, because a statement may not touch a row twice."""
    rows = {record.external_id: record.data for record in records}
    if not rows:
        return 0
    values = [
        {
            "workspace_id": connection.workspace_id,
            "connection_id": connection.id,
            "stream": stream,
            "external_id": external_id,
            # What PostgreSQL cannot store (NUL, lone surrogates, NaN) is replaced rather than fatal.
            "data": json.loads(safe_json(data)),
        }
        for external_id, data in rows.items()
    ]
    given = insert(Record).values(values)
    upsert = given.on_conflict_do_update(
        index_elements=[Record.workspace_id, Record.connection_id, Record.stream, Record.external_id],
        set_={"data": given.excluded.data, "synced_at": clock()},
        where=None if rewrite else Record.data.is_distinct_from(given.excluded.data),
    )
    return len(session.execute(upsert.returning(Record.external_id)).all())
