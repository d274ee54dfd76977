"""A sync: pull every record of a workspace's connections, page by page.

Each page is one transaction with the job's checkpoint, which says where to go on: a sync that is killed anywhere goes
on with its next attempt, and no page is applied twice. A connection that fails does not keep the others from being
synced; a source that asks for patience is asked again when it said, and until then the job waits without a slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Literal
from uuid import UUID

from sqlalchemy import select

from jobplatform.connectors.allowing import allows_private
from jobplatform.connectors.blaming import blaming, opened, streams_of
from jobplatform.connectors.connections import credentials_seen
from jobplatform.connectors.opening import attention_of
from jobplatform.connectors.pacing import LONGEST_CLOSING
from jobplatform.connectors.place import (
    LARGEST_STREAMS,
    LONGEST_CURSOR,
    ConnectionPlace,
    SyncPlace,
    place_of,
    size_of,
)
from jobplatform.connectors.renewing import note_attention
from jobplatform.connectors.source import Connector, Page
from jobplatform.connectors.storing import (
    begin_stream,
    finish_stream,
    hold_connection,
    open_log,
    reopen_log,
    saved_states,
    store_records,
    write_log,
)
from jobplatform.connectors.summing_up import SyncResult, as_job_result, sum_up
from jobplatform.errors import (
    CursorLostError,
    SourceAnswerError,
    SourceBusyError,
    SourceError,
    SyncFailedError,
)
from jobplatform.models import Connection
from jobplatform.queue import RateLimited, RunningJob, Skip, safe_text
from jobplatform.wording import called

Mode = Literal["initial", "incremental"]

#: So often a sync may wait for sources that are busy; then that is how it failed.
MOST_WAITS = 20
#: So often a stream may have to be read from its beginning again, because its source cannot go on.
MOST_RESTARTS = 3
SHOWN_OF_A_CURSOR = 200
_OF_A_PAGE = {"records": Sequence, "total": int | float | None, "skipped": int, "warnings": Sequence}
#: Bytes of JSON of first pages that wait for their turn.
LARGEST_AHEAD = 8 << 20
OVERTAKEN = (
    "nothing of {stream} was marked as deleted: another initial sync of it has begun since this one did, "
    "and marks what it does not see"
)


def run_sync(
    job: RunningJob,
    *,
    connector_type: str | None = None,
    connection_id: UUID | None = None,
    mode: Mode = "incremental",
    allow_private: bool | None = None,
    reference: str | None = None,
) -> SyncResult | Skip:
    """Sync the workspace's connections, or those that the arguments choose.

    ``incremental`` begins where the last sync of each stream ended, if its connector can, and writes records that are
    new or differ from the copy. ``initial`` reads everything, writes every record anew and marks those as deleted that
    the source does not have any more. An entry in ``sync_logs`` stays when the job is deleted; ``reference`` is what
    the caller calls it. Whether private addresses are asked the settings say, unless ``allow_private`` does. Raises
    :class:`SyncFailedError` when no connection at all could be synced, and :class:`RateLimited` when a source is
    busy: then the job is tried again and goes on where it was.
    """
    connections = _choose_connections(job, connector_type, connection_id)
    if not connections:
        return Skip(_nothing_to_sync(connector_type, connection_id))
    names = _names_of(job, connections)
    attention = _attention_of(job, connections)
    if job.checkpoint_state is None and all(attention.values()):
        return Skip("; ".join(f"{names[id]}: {reason}" for id, reason in attention.items()))
    sync = _Sync(job, connections, names, mode, allows_private(allow_private))
    sync.begin(reference)
    for connection in sync.in_turn():
        sync.pull_connection(connection)
    return sync.end()


def _nothing_to_sync(connector_type: str | None, connection_id: UUID | None) -> str:
    if connection_id is not None:
        return "this workspace has no such connection to sync"
    return f"this workspace has no connection {f'of the type {connector_type} ' if connector_type else ''}to sync"


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


def _names_of(job: RunningJob, connections: Sequence[Connection]) -> Mapping[UUID, str]:
    """What these are called. Others of the workspace that have the name count, too: what is said of several syncs is
    read side by side."""
    statement = select(Connection.id, Connection.name).where(Connection.workspace_id == job.workspace_id)
    named = {connection.id: connection.name for connection in connections}
    named |= {row.id: row.name for row in job.session.execute(statement)}
    job.session.commit()
    return dict(zip(named, called([(name, id) for id, name in named.items()]), strict=True))


def _attention_of(job: RunningJob, connections: Sequence[Connection]) -> Mapping[UUID, str | None]:
    seen = credentials_seen(job.session, job.workspace_id, [connection.id for connection in connections])
    job.session.commit()
    return {
        one.id: attention_of(one.connector_type, one.attention, has_credentials=one.id in seen) for one in connections
    }


class _Sync:
    """One attempt at a sync. ``names`` say what its connections are called."""

    def __init__(
        self,
        job: RunningJob,
        connections: Sequence[Connection],
        names: Mapping[UUID, str],
        mode: Mode,
        allow_private: bool,
    ) -> None:
        self.job = job
        self.connections = connections
        self.names = names
        self.mode = mode
        self.initial = mode == "initial"
        self.allow_private = allow_private
        self.pause = 0.0
        self.may_do_better = False
        self.place = SyncPlace()

    def begin(self, reference: str | None) -> None:
        state = self.job.checkpoint_state
        if state is not None:
            self.place = place_of(state, self.job.checkpoint_parts)
            reopen_log(self.job.session, self.job.workspace_id, self.place.log_id)
            self.job.session.commit()
            return
        facts = {"job_id": self.job.id, "mode": self.mode, "reference": reference}
        open_log(self.job.session, self.job.workspace_id, self.place.log_id, **facts)
        self._save()

    def in_turn(self) -> Sequence[Connection]:
        """The connections, last of all those by which an earlier attempt was interrupted: one that takes all the time
        there is must not take it from the others again."""
        return sorted(self.connections, key=lambda connection: self.place.of(connection.id).status == "running")

    def pull_connection(self, connection: Connection) -> None:
        place = self.place.of(connection.id)
        if place.status == "completed":
            return  # By an earlier attempt.
        self.place.moved.add(str(connection.id))
        place.status, place.error = "running", None
        # Before it is asked for anything: what it does to this attempt the next one is to know.
        self._save()
        try:
            self._pull_streams(connection, place)
            place.status = "completed"
        except SourceBusyError as error:
            self._note(connection, place, error)
            place.status = "busy"
            # Nothing else of the workspace could be synced by such a job for as long.
            self.pause = max(self.pause, min(error.retry_after, LONGEST_CLOSING))
        except SourceError as error:
            self._note(connection, place, error)
            place.status = "failed"
            if isinstance(error, SourceAnswerError) and error.status == HTTPStatus.GONE:
                self._lay_off(connection, error)
            else:
                self.may_do_better |= getattr(error, "should_retry", True)

    def end(self) -> SyncResult:
        """The result, or what has the job tried again."""
        if self._may_wait():
            self.place.waits += 1
            self._write_log("running", ended=False)
            raise RateLimited(self.pause, reason=self._who_is_busy())
        if all(self.place.of(connection.id).error is not None for connection in self.connections):
            result = self._write_log("failed", ended=True)
            raise SyncFailedError(result["errors"], should_retry=self.may_do_better)
        return as_job_result(self._write_log("completed", ended=True))

    # -- one connection --------------------------------------------------------------------------

    def _pull_streams(self, connection: Connection, place: ConnectionPlace) -> None:
        with opened(self.job.session, connection, self.allow_private) as connector:
            streams = streams_of(connector)
            _require_countable(streams)
            place.finished = [stream for stream in place.finished if stream in streams]
            starts = self._starts(connection)
            first = {} if place.stream or place.finished else self._first_pages(connector, starts, streams, place)
            if place.stream is not None:
                self._pull_pages(connector, connection, place, place.stream, place.cursor)
            for stream in streams:
                if stream in place.finished:
                    continue
                self._enter(connection, place, stream, starts.get(stream))
                self._pull_pages(connector, connection, place, stream, starts.get(stream), first.pop(stream, None))

    def _enter(self, connection: Connection, place: ConnectionPlace, stream: str, cursor: str | None) -> None:
        hold_connection(self.job.session, connection)
        place.enter(stream, cursor, begin_stream(self.job.session, connection, stream, initial=self.initial))
        # Not left open while the source is asked. What was begun and goes no further is begun again.
        self.job.session.commit()

    def _first_pages(
        self, connector: Connector, starts: Mapping[str, str | None], streams: Sequence[str], place: ConnectionPlace
    ) -> dict[str, Page]:
        """The first page of each stream tells its size; together they make an honest progress bar.

        Those that are kept until it is their turn are in memory all at once: what is too much is fetched again then.
        It is the first one's now.
        """
        pages: dict[str, Page] = {}
        totals: list[int | None] = []
        room = LARGEST_AHEAD
        for stream in streams:
            page = _fetch_first(connector, stream, starts.get(stream))
            totals.append(page.total if page else None)
            if page is None:
                continue
            size = 0 if stream == streams[0] else _size_of_page(page, room)
            if size <= room:
                pages[stream] = page
                room -= size
        place.expected = None if None in totals else sum(filter(None, totals))
        return pages

    def _starts(self, connection: Connection) -> Mapping[str, str | None]:
        if self.initial:
            return {}
        states = saved_states(self.job.session, connection)
        self.job.session.commit()  # A source may take its time; no transaction is kept open for that.
        return states

    def _pull_pages(
        self,
        connector: Connector,
        connection: Connection,
        place: ConnectionPlace,
        stream: str,
        cursor: str | None,
        page: Page | None = None,
    ) -> None:
        """The pages of a stream from ``cursor`` on; ``page`` is the first of them where it has been fetched already."""
        while True:
            try:
                page = page or _fetch(connector, stream, cursor)
            except CursorLostError as error:
                self._begin_again(connection, place, stream, cursor, error)
                cursor = None
                continue
            self._apply(connection, place, page)
            self.job.progress(self.place.records, self.place.expected, f"{self.names[connection.id]}: {stream}")
            if page.next_cursor is None:
                return
            cursor, page = page.next_cursor, None

    def _begin_again(
        self, connection: Connection, place: ConnectionPlace, stream: str, cursor: str | None, error: CursorLostError
    ) -> None:
        """Read the stream from its beginning, as a new generation: what was stored so far may have vanished since."""
        if cursor is None or place.restarts >= MOST_RESTARTS:
            raise SourceError(str(error)) from error
        place.restarts += 1
        place.warn([f"{stream} is read from its beginning: {error}"])
        self._enter(connection, place, stream, None)

    def _apply(self, connection: Connection, place: ConnectionPlace, page: Page) -> None:
        """A page, and where to go on after it: one transaction."""
        session, stream = self.job.session, place.stream or ""
        hold_connection(session, connection)
        place.written += store_records(session, connection, stream, page.records, initial=self.initial)
        place.records += len(page.records)
        place.skipped += page.skipped
        place.warn(page.warnings)
        place.complete = place.complete and page.complete
        if page.next_cursor is not None and not place.turn(page.next_cursor):
            raise SourceError(
                f"{stream}: the source comes to cursor {_brief(page.next_cursor)} again and would never end"
            )
        place.cursor, place.state = page.next_cursor, page.state if page.state is not None else place.state
        if page.next_cursor is None:
            self._finish(connection, place, stream)
        self.place.moved.add(str(connection.id))
        self._save()

    def _finish(self, connection: Connection, place: ConnectionPlace, stream: str) -> None:
        vanished = finish_stream(
            self.job.session,
            connection,
            stream,
            generation=place.generation,
            state=place.state,
            initial=self.initial,
            complete=place.complete,
        )
        if vanished is None:
            place.warn([OVERTAKEN.format(stream=stream)])
        place.deleted += vanished or 0
        place.leave()

    # --------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.job.checkpoint(self.place.as_state(), parts=self.place.moved_parts())
        self.place.moved.clear()

    def _note(self, connection: Connection, place: ConnectionPlace, error: SourceError) -> None:
        # What of a page had been written before it failed.
        self.job.session.rollback()
        place.fail(error)
        self.job.log(f"{self.names[connection.id]}: {place.error}", level="error")

    def _lay_off(self, connection: Connection, error: SourceError) -> None:
        """What is gone for good is not asked again until somebody has looked after the connection."""
        note_attention(self.job.session, connection, f"{error}; it is gone for good, and not asked again")
        self.job.session.commit()

    def _may_wait(self) -> bool:
        busy = any(self.place.of(connection.id).status == "busy" for connection in self.connections)
        return busy and self.place.waits < MOST_WAITS

    def _who_is_busy(self) -> str:
        places = [(self.names[connection.id], self.place.of(connection.id)) for connection in self.connections]
        return "; ".join(f"{name}: {place.error}" for name, place in places if place.status == "busy")

    def _write_log(self, status: str, *, ended: bool) -> SyncResult:
        result = sum_up(self.connections, self.names, self.place)
        write_log(self.job.session, self.job.workspace_id, self.place.log_id, status=status, result=result, ended=ended)
        self._save()
        return result


def _size_of_page(page: Page, room: int) -> int:
    """Bytes of JSON, as far as they are of interest: of what is more than the room, that it is."""
    size = 0
    for record in page.records:
        size += size_of(record.data)
        if size > room:
            break
    return size


def _fetch_first(connector: Connector, stream: str, cursor: str | None) -> Page | None:
    try:
        return _fetch(connector, stream, cursor)
    except CursorLostError:
        # Its turn comes, and then it is read from the beginning.
        return None


def _fetch(connector: Connector, stream: str, cursor: str | None) -> Page:
    with blaming(stream):
        page = connector.fetch(stream, cursor)
        _require_page(stream, page)
        if page.next_cursor is not None and page.next_cursor == cursor:
            raise SourceError(f"{stream}: the source answers cursor {_brief(cursor)} with itself and would never end")
        _require_keepable(stream, page.next_cursor, page.state)
        return page


def _brief(cursor: str | None) -> str:
    return repr(cursor if cursor is None or len(cursor) <= SHOWN_OF_A_CURSOR else f"{cursor[:SHOWN_OF_A_CURSOR]}…")


def _require_countable(streams: Sequence[str]) -> None:
    """A sync remembers which of them it has finished."""
    with blaming("asking for the streams"):
        size = size_of(streams)
    if size > LARGEST_STREAMS:
        raise SourceError(
            f"the source has {len(streams):,} streams, whose names are more than {LARGEST_STREAMS} bytes of JSON"
        )


def _require_page(stream: str, page: Page) -> None:
    """What is done with a page is done for the whole job, and one connector's mistake is not everybody's."""
    for name, kind in _OF_A_PAGE.items():
        if not isinstance(value := getattr(page, name), kind):
            raise SourceError(
                f"{stream}: the connector gives a page whose {name} is of the type {type(value).__name__}"
            )
    if not all(isinstance(warning, str) for warning in page.warnings):
        raise SourceError(f"{stream}: the connector gives a page with a warning that is no text")


def _require_keepable(stream: str, *said: str | None) -> None:
    """A sync goes on with the very cursor, or not at all."""
    for text in said:
        if not isinstance(text, str):
            continue
        if size_of(text) > LONGEST_CURSOR:
            raise SourceError(f"{stream}: the source goes on at a cursor of more than {LONGEST_CURSOR} bytes of JSON")
        if safe_text(text, len(text)) != text:
            raise SourceError(f"{stream}: the source goes on at a cursor with characters that cannot be kept")
