"""The copy of a connection's source that syncs keep."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import ValidationError, fields, validate, validates_schema

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import page_with, respond
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import require_found
from jobplatform.api.resource import LISTED, Resource
from jobplatform.api.schemas.fields import CamelSchema, Digits, Moment, PlaceCursor, read_place, write_place
from jobplatform.api.schemas.jobs import LARGEST_PAGE, PAGE_LIMIT
from jobplatform.connectors import RecordPlace, RecordSeen, get_record, list_records
from jobplatform.models import Connection

records = Resource("records", __name__, description="The copy of a source's records")

RECORDS = "/workspaces/<uuid:workspaceId>/connections/<uuid:connectionId>/records"


class RecordSchema(CamelSchema):
    """One record of a source, as last seen. ``id`` is for the path; the source calls it ``externalId``."""

    id = fields.String(required=True)
    connection_id = fields.UUID(required=True)
    stream = fields.String(required=True)
    external_id = fields.String(required=True)
    data = fields.Raw(required=True, allow_none=True)
    synced_at = Moment(required=True, metadata={"description": "When a sync wrote it, or marked it as deleted."})
    deleted_at = Moment(required=True, allow_none=True)


class RecordPageSchema(CamelSchema):
    """One page of a list; ``nextCursor`` is null on the last. A page of large records has fewer than asked for."""

    items = fields.List(fields.Nested(RecordSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class RecordsQuerySchema(CamelSchema):
    """Which records, and which page of them."""

    stream = fields.String(validate=validate.Length(1, 200))
    updated_since = Moment(metadata={"description": "Written or deleted at this moment or later, in that order."})
    include_deleted = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})
    limit = Digits(load_default=PAGE_LIMIT, validate=validate.Range(1, LARGEST_PAGE))
    cursor = PlaceCursor(load_default=None)

    @validates_schema
    def of_this_list(self, data: dict[str, Any], **_: Any) -> None:
        cursor = data["cursor"]
        if cursor is not None and _place_of(cursor, timed="updated_since" in data) is None:
            raise ValidationError(PlaceCursor.default_error_messages["cursor"], "cursor")


_RECORD, _PAGE = RecordSchema(), RecordPageSchema()


@records.endpoint("GET", RECORDS, Scope.CONNECTIONS, refuses=(404,))
@records.query(RecordsQuerySchema)
@records.answers(200, RecordPageSchema, headers=LISTED)
def list_connection_records(query: dict[str, Any], workspace_id: UUID, connection_id: UUID) -> Response:
    """List records by stream and id, or since a moment in the order in which they were written"""
    since = query.get("updated_since")
    with mounted().reading() as session:
        require_found(session.get(Connection, (workspace_id, connection_id)))
        found = list_records(
            session,
            workspace_id,
            connection_id,
            stream=query.get("stream"),
            updated_since=since,
            include_deleted=query["include_deleted"],
            limit=query["limit"],
            after=_place_of(query["cursor"], timed=since is not None) if query["cursor"] else None,
        )
    return page_with(_PAGE, [_describe(record) for record in found.items], _cursor(found.next))


@records.endpoint("GET", RECORDS + "/<string:recordId>", Scope.CONNECTIONS, refuses=(404,))
@records.answers(200, RecordSchema)
def show_connection_record(workspace_id: UUID, connection_id: UUID, record_id: str) -> Response:
    """Show a record, deleted or not"""
    match read_place(record_id):
        case (str(stream), str(external_id)):
            with mounted().reading() as session:
                found = get_record(session, workspace_id, connection_id, stream, external_id)
        case _:
            found = None
    return respond(_RECORD, _describe(require_found(found)))


def _describe(record: RecordSeen) -> dict[str, Any]:
    return {**record._asdict(), "id": write_place(record.stream, record.external_id)}


def _cursor(place: RecordPlace | None) -> str | None:
    if place is None:
        return None
    at = () if place.synced_at is None else (place.synced_at.astimezone(datetime.UTC).isoformat(),)
    return write_place(place.stream, place.external_id, *at)


def _place_of(texts: tuple[str | None, ...], *, timed: bool) -> RecordPlace | None:
    """None for the cursor of another list: one in the other order, or of another kind."""
    match texts:
        case (str(stream), str(external_id)) if not timed:
            return RecordPlace(stream, external_id)
        case (str(stream), str(external_id), str(at)) if timed:
            try:
                moment = datetime.datetime.fromisoformat(at)
            except ValueError:
                return None
            return RecordPlace(stream, external_id, moment) if moment.tzinfo else None
        case _:
            return None
