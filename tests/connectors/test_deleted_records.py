"""What a source says to be gone is marked in its copy."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.connectors.source import SourceRecord
from jobplatform.connectors.storing import store_records
from jobplatform.models import Connection, Record


def test_a_record_that_the_source_says_is_gone_is_marked_once_and_comes_back(
    session: Session, connect: Callable[..., uuid.UUID], workspace_id: uuid.UUID
) -> None:
    connection = session.get_one(Connection, (workspace_id, connect("https://crm.example")))
    deleted_at = select(Record.deleted_at).where(Record.connection_id == connection.id)

    def store(*, deleted: bool) -> int:
        record = SourceRecord("1", {"name": "Ada"}, deleted)
        written = store_records(session, connection, "contacts", [record], initial=False)
        session.commit()
        return written

    assert store(deleted=True) == 1
    first = session.scalar(deleted_at)
    assert first is not None

    assert store(deleted=True) == 0
    assert session.scalar(deleted_at) == first

    assert store(deleted=False) == 1
    assert session.scalar(deleted_at) is None
