"""A sync: pull every record of a workspace's connections, page by page.

Each page is one transaction with the job's checkpoint, which says where to go on: a sync that is killed anywhere goes
on with its next attempt, and no page is applied twice. A connection that fails does not keep the others from being
synced; a source that asks for patience is asked again when it said, and until then the job waits without a slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict
from uuid import UUID

from sqlalchemy import select

from jobplatform.connectors.opening import open_connector
from jobplatform.connectors.place import ConnectionPlace, SyncPlace, place_of
from jobplatform.connectors.source import Connector, Page
from jobplatform.connectors.storing import (
    begin_stream,
    finish_stream,
    open_log,
    saved_states,
    store_records,
    write_log,
)
from jobplatform.errors import SourceBusyError, SourceError, SyncFailedError
from jobplatform.models import Connection
from jobplatform.queue import RateLimited, RunningJob, Skip

Mode = Literal["initial", "incremental"]

#: So often a sync may wait for sources that are busy; then that is how it failed.
MOST_WAITS = 20


class ConnectionResult(TypedDict):
    """What became of one connection; ``written`` counts the records that were new or different, ``deleted`` those that
    an initial sync did not see any more."""

    connectionId: str
    connectorType: str
    name: str
    records: int
    written: int
    deleted: int
    status: Literal["completed", "failed"]


class SyncResult(TypedDict):
    """The result of a sync job."""

    results: list[ConnectionResult]
    totalRecords: int
    errors: list[str]
    syncLogId: str


def run_sync(
    job: RunningJob,
    *,
    connector_type: str | None = None,
    connection_id: UUID | None = None,
    mode: Mode = "incremental",
    allow_private: bool = False,
    reference: str | None = None,
) -> SyncResult | Skip:
    """Sync the workspace's connections, or those that the arguments choose.

    ``incremental`` begins where the last sync of each stream ended, if its connector can, and writes records that are
    new or differ from the copy. ``initial`` reads everything, writes every record anew and marks those as deleted that
    the source does not have any more. An entry in ``sync_logs`` stays when the job is deleted; ``reference`` is what
    the caller calls it. Raises :class:`SyncFailedError` when no connection at all could be synced, and
    :class:`RateLimited` when a source is busy: then the job is tried again and goes on where it was.
    """
    connections = _choose_connections(job, connector_type, connection_id)
    if not connections:
        return Skip("this workspace has no such connection to sync")
    if job.checkpoint_state is None and all(connection.attention for connection in connections):
        return Skip("; ".join(f"{connection.name}: {connection.attention}" for connection in connections))
    sync = _Sync(job, connections, mode, allow_private)
    sync.begin(reference)
    for connection in connections:
        sync.pull_connection(connection)
    return sync.end()


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
    """One attempt at a sync."""

    def __init__(self, job: RunningJob, connections: Sequence[Connection], mode: Mode, allow_private: bool) -> None:
        self.job = job
        self.connections = connections
        self.mode = mode
        self.initial = mode == "initial"
        self.allow_private = allow_private
        self.pause = 0.0
        self.may_do_better = False
        self.place = SyncPlace()

    def begin(self, reference: str | None) -> None:
        state = self.job.checkpoint_state
        if state is not None:
            self.place = place_of(state)
            return
        facts = {"job_id": self.job.id, "mode": self.mode, "reference": reference}
        open_log(self.job.session, self.job.workspace_id, self.place.log_id, **facts)
        self._save()

    def pull_connection(self, connection: Connection) -> None:
        place = self.place.of(connection.id)
        if place.status == "completed":
            return  # By an earlier attempt.
        place.status, place.error = "running", None
        try:
            self._pull_streams(connection, place)
            place.status = "completed"
        except SourceBusyError as error:
            self._note(connection, place, error)
            place.status = "busy"
            self.pause = max(self.pause, error.retry_after)
        except SourceError as error:
            self._note(connection, place, error)
            place.status = "failed"
            self.may_do_better |= getattr(error, "should_retry", True)

    def end(self) -> SyncResult:
        """The result, or what has the job tried again."""
        if self._may_wait():
            self.place.waits += 1
            self._write_log("running", ended=False)
            raise RateLimited(self.pause)
        result = self.result()
        if len(result["errors"]) == len(self.connections):
            self._write_log("failed", ended=True)
            raise SyncFailedError(result["errors"], should_retry=self.may_do_better)
        self._write_log("completed", ended=True)
        return result

    def result(self) -> SyncResult:
        results = [self._result_of(connection) for connection in self.connections]
        return SyncResult(
            results=results,
            totalRecords=sum(result["records"] for result in results),
            errors=[
                f"{connection.name}: {error}"
                for connection in self.connections
                if (error := self.place.of(connection.id).error) is not None
            ],
            syncLogId=self.place.log_id,
        )

    # -- one connection --------------------------------------------------------------------------

    def _pull_streams(self, connection: Connection, place: ConnectionPlace) -> None:
        with open_connector(self.job.session, connection, self.allow_private) as connector:
            streams = list(connector.streams())
            first = {} if place.stream or place.finished else self._first_pages(connector, connection, streams, place)
            if place.stream is not None:
                self._pull_pages(connector, connection, place, _fetch(connector, place.stream, place.cursor))
            starts = self._starts(connection)
            for stream in streams:
                if stream in place.finished:
                    continue
                page = first.pop(stream, None) or _fetch(connector, stream, starts.get(stream))
                generation = begin_stream(self.job.session, connection, stream, initial=self.initial)
                place.enter(stream, starts.get(stream), generation)
                self._pull_pages(connector, connection, place, page)

    def _first_pages(
        self, connector: Connector, connection: Connection, streams: Sequence[str], place: ConnectionPlace
    ) -> dict[str, Page]:
        """The first page of each stream tells its size; together they make an honest progress bar."""
        starts = self._starts(connection)
        pages = {stream: _fetch(connector, stream, starts.get(stream)) for stream in streams}
        totals = [page.total for page in pages.values()]
        place.expected = None if None in totals else sum(filter(None, totals))
        return pages

    def _starts(self, connection: Connection) -> Mapping[str, str | None]:
        if self.initial:
            return {}
        states = saved_states(self.job.session, connection)
        self.job.session.commit()  # A source may take its time; no transaction is kept open for that.
        return states

    def _pull_pages(self, connector: Connector, connection: Connection, place: ConnectionPlace, page: Page) -> None:
        stream = place.stream or ""
        while True:
            self._apply(connection, place, page)
            self.job.progress(self.place.records, self.place.expected, f"{connection.name}: {stream}")
            if page.next_cursor is None:
                return
            page = _fetch(connector, stream, page.next_cursor)

    def _apply(self, connection: Connection, place: ConnectionPlace, page: Page) -> None:
        """A page, and where to go on after it: one transaction."""
        session, stream, generation = self.job.session, place.stream or "", place.generation
        place.written += store_records(
            session, connection, stream, page.records, generation=generation, initial=self.initial
        )
        place.records += len(page.records)
        place.cursor, place.state = page.next_cursor, page.state if page.state is not None else place.state
        if page.next_cursor is None:
            place.deleted += finish_stream(
                session, connection, stream, generation=generation, state=place.state, initial=self.initial
            )
            place.leave()
        self._save()

    # --------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.job.checkpoint(self.place.as_state())

    def _note(self, connection: Connection, place: ConnectionPlace, error: SourceError) -> None:
        # What of a page had been written before it failed.
        self.job.session.rollback()
        place.error = str(error)
        self.job.log(f"{connection.name}: {error}", level="error")

    def _may_wait(self) -> bool:
        busy = any(self.place.of(connection.id).status == "busy" for connection in self.connections)
        return busy and self.place.waits < MOST_WAITS

    def _write_log(self, status: str, *, ended: bool) -> None:
        result = self.result()
        write_log(self.job.session, self.job.workspace_id, self.place.log_id, status=status, result=result, ended=ended)
        self._save()

    def _result_of(self, connection: Connection) -> ConnectionResult:
        place = self.place.of(connection.id)
        return ConnectionResult(
            connectionId=str(connection.id), connectorType=connection.connector_type, name=connection.name,
            records=place.records, written=place.written, deleted=place.deleted,
            status="completed" if place.status == "completed" else "failed",
        )  # fmt: skip


def _fetch(connector: Connector, stream: str, cursor: str | None) -> Page:
    try:
        page = connector.fetch(stream, cursor)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{stream}: {type(error).__name__}: {error}") from error
    if page.next_cursor is not None and page.next_cursor == cursor:
        raise SourceError(f"{stream}: the source answers cursor {cursor!r} with itself and would never end")
    return page
