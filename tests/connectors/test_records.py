"""Reading the copy of a source."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from jobplatform.connectors import RecordPlace, get_record, list_records
from jobplatform.connectors.records import LARGEST_PAGE
from jobplatform.errors import InvalidConnectionError
from jobplatform.models import Record
from tests.queue.plans import explain

NEW_YEAR = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def connection_id(connect: Callable[..., uuid.UUID]) -> uuid.UUID:
    return connect("https://crm.example")


@pytest.fixture
def store(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> Callable[..., None]:
    def store(*names: str, stream: str = "a", day: int = 0, deleted: bool = False, **data: Any) -> None:
        at = NEW_YEAR + datetime.timedelta(days=day)
        rows = [
            {
                "workspace_id": workspace_id, "connection_id": connection_id, "stream": stream, "external_id": name,
                "data": data, "synced_at": at, "deleted_at": at if deleted else None,
            }
            for name in names
        ]  # fmt: skip
        session.execute(insert(Record), rows)
        session.commit()

    return store


def walk(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, **question: Any) -> list[str]:
    """Every record that a question finds, a page of two at a time."""
    found: list[str] = []
    after: RecordPlace | None = None
    while True:
        page = list_records(session, workspace_id, connection_id, limit=2, after=after, **question)
        assert 1 <= len(page.items) <= 2 or not found
        found += [f"{record.stream}/{record.external_id}" for record in page.items]
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"updated_since": NEW_YEAR.replace(tzinfo=None)}, "/updatedSince"),
        ({"stream": "a\0b"}, "/stream"),
        ({"include_deleted": "no"}, "/includeDeleted"),
        ({"after": "a/1"}, "/after"),
    ],
)
def test_records_are_not_asked_for_by_what_is_none(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, said: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidConnectionError) as refused:
        list_records(session, workspace_id, connection_id, **said)

    assert [problem.path for problem in refused.value.problems] == [path]


def test_records_are_listed_by_stream_and_id_without_the_deleted(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, store: Callable[..., None]
) -> None:
    store("2", "1", "3")
    store("1", stream="b")
    store("4", deleted=True)

    assert walk(session, workspace_id, connection_id) == ["a/1", "a/2", "a/3", "b/1"]
    assert walk(session, workspace_id, connection_id, stream="a", include_deleted=True) == ["a/1", "a/2", "a/3", "a/4"]
    assert walk(session, workspace_id, uuid.uuid4()) == []
    assert walk(session, uuid.uuid4(), connection_id) == []


def test_changes_are_listed_in_the_order_in_which_they_came(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, store: Callable[..., None]
) -> None:
    store("5", "6", "7", day=1)
    store("2", "3", day=2)
    store("1", day=3, deleted=True)
    store("0", day=0)
    since = NEW_YEAR + datetime.timedelta(days=1)

    changes = walk(session, workspace_id, connection_id, updated_since=since, include_deleted=True)

    assert changes == ["a/5", "a/6", "a/7", "a/2", "a/3", "a/1"]


def test_a_page_of_large_records_ends_early_and_shows_one_at_least(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, store: Callable[..., None]
) -> None:
    # What cannot be packed counts as what it is.
    noise = "".join(str(uuid.uuid4()) for _ in range(LARGEST_PAGE // 36 // 2))
    store("1", "2", "3", "4", noise=noise)

    page = list_records(session, workspace_id, connection_id, limit=4)

    assert 1 <= len(page.items) < 4
    assert page.next is not None
    assert walk(session, workspace_id, connection_id) == ["a/1", "a/2", "a/3", "a/4"]


def test_one_record_is_found_deleted_or_not(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, store: Callable[..., None]
) -> None:
    store("https://x.example/1?a=b", name="Ada")
    store("2", deleted=True)

    found = get_record(session, workspace_id, connection_id, "a", "https://x.example/1?a=b")

    assert found is not None
    assert found.data == {"name": "Ada"}
    assert get_record(session, workspace_id, connection_id, "a", "2") is not None
    assert get_record(session, workspace_id, connection_id, "b", "2") is None
    assert get_record(session, uuid.uuid4(), connection_id, "a", "2") is None


def test_a_page_reads_the_same_however_many_records_there_are(
    session: Session, engine: Engine, workspace_id: uuid.UUID, connection_id: uuid.UUID
) -> None:
    session.execute(
        text(
            "insert into jobplatform.records (workspace_id, connection_id, stream, external_id, data, synced_at) "
            "select :ws, :c, 's', lpad(n::text, 6, '0'), '{}', timestamptz '2026-01-01' + n * interval '1 second' "
            "from generate_series(1, 20000) n"
        ),
        {"ws": workspace_id, "c": connection_id},
    )
    session.commit()
    session.execute(text("analyze jobplatform.records"))
    session.commit()
    # The first time an engine is used it is asked what its login may see.
    list_records(session, workspace_id, connection_id)
    session.commit()
    middle = NEW_YEAR + datetime.timedelta(seconds=10_000)

    for index, place, since in (
        ("records_pkey", RecordPlace("s", "010000"), None),
        ("records_changed", RecordPlace("s", "010000", middle), NEW_YEAR),
    ):
        plan = explain(
            engine,
            lambda session, place=place, since=since: list_records(  # type: ignore[misc]
                session, workspace_id, connection_id, limit=20, after=place, updated_since=since
            ),
        )
        assert any(node.get("Index Name") == index for node in plan.nodes), index
        assert plan.rows_visited("records") <= 30, index
        assert plan.buffers < 40, (index, plan.buffers)
