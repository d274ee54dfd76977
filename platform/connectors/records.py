"""Reading the copy that syncs keep, a page at a time.

In the order of the key, or of change for whoever asks what is new. Both are read from an index, from where the page
before ended, so a page costs the same however many records there are. A page ends early where its records are large.
"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, select, tuple_
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidConnectionError
from jobplatform.models import Record, visit
from jobplatform.queue.callers import checks_arguments

#: Bytes of records, as they are stored, after which a page ends. One record is always shown.
LARGEST_PAGE = 4 * 1024 * 1024


class RecordSeen(NamedTuple):
    """One record of a source, as last seen."""

    connection_id: UUID
    stream: str
    external_id: str
    data: Any
    synced_at: datetime.datetime
    deleted_at: datetime.datetime | None


class RecordPlace(NamedTuple):
    """Where a page of records ended. ``synced_at`` is only there when they are in the order of change."""

    stream: str
    external_id: str
    synced_at: datetime.datetime | None = None


class Records(NamedTuple):
    """A page of records, and the place of the last when others follow."""

    items: list[RecordSeen]
    next: RecordPlace | None


@checks_arguments(InvalidConnectionError)
def list_records(
    session: Session,
    workspace_id: UUID,
    connection_id: UUID,
    *,
    stream: str | None = None,
    updated_since: datetime.datetime | None = None,
    include_deleted: bool = False,
    limit: int = 20,
    after: RecordPlace | None = None,
) -> Records:
    """Records of a connection, by stream and external id; with ``updated_since`` those that were written or marked as
    deleted at that moment or later, in the order in which that happened.

    ``after`` is the ``next`` of the page before, for the same question.
    """
    visit(session, workspace_id)
    statement = _of(workspace_id, connection_id, stream)
    if not include_deleted:
        statement = statement.where(Record.deleted_at.is_(None))
    order: list[Any] = [Record.stream, Record.external_id]
    place: list[Any] = [] if after is None else [after.stream, after.external_id]
    if updated_since is not None:
        statement = statement.where(Record.synced_at >= updated_since)
        order.insert(0, Record.synced_at)
        place = [] if after is None else [after.synced_at, *place]
    if place:
        statement = statement.where(tuple_(*order) > tuple_(*place))
    # Written into the text: of a limit that it does not know the planner thinks the worst, and reads everything.
    most = bindparam("most", limit + 1, Integer, literal_execute=True)
    return _page(session, statement.order_by(*order).limit(most), order, limit)


@checks_arguments(InvalidConnectionError)
def get_record(
    session: Session, workspace_id: UUID, connection_id: UUID, stream: str, external_id: str
) -> RecordSeen | None:
    """One record, deleted or not, or None when there is none of that id."""
    visit(session, workspace_id)
    statement = _of(workspace_id, connection_id, stream).where(Record.external_id == external_id)
    row = session.execute(statement).one_or_none()
    return RecordSeen(*row[:-1]) if row else None


def _of(workspace_id: UUID, connection_id: UUID, stream: str | None) -> Select[Any]:
    size: ColumnElement[int] = func.pg_column_size(Record.data).label("size")
    statement = select(
        Record.connection_id,
        Record.stream,
        Record.external_id,
        Record.data,
        Record.synced_at,
        Record.deleted_at,
        size,
    ).where(Record.workspace_id == workspace_id, Record.connection_id == connection_id)
    return statement if stream is None else statement.where(Record.stream == stream)


def _page(session: Session, statement: Select[Any], order: list[Any], limit: int) -> Records:
    """One more than asked for, to learn whether others follow; and of those only as many as are not too much."""
    found = statement.subquery("found")
    in_order = [found.c[column.key] for column in order]
    weighed = select(
        found,
        (func.sum(found.c.size).over(order_by=in_order) - found.c.size).label("before"),
        func.count().over().label("there"),
    ).subquery("weighed")
    shown = (
        select(*(weighed.c[name] for name in RecordSeen._fields), weighed.c.there)
        .where(weighed.c.before < LARGEST_PAGE)
        .order_by(*(weighed.c[column.key] for column in order))
    )
    rows = session.execute(shown).all()
    items = [RecordSeen(*row[:-1]) for row in rows[:limit]]
    if not items or rows[0].there <= len(items):
        return Records(items, None)
    last = items[-1]
    return Records(items, RecordPlace(last.stream, last.external_id, last.synced_at if len(order) == 3 else None))
