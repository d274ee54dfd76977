from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobplatform.connectors import (
    CONNECTORS,
    AnyConfig,
    ConnectorType,
    Page,
    SourceRecord,
    SyncPayload,
    change_connection,
    create_connection,
    run_sync,
    sync,
    syncing,
    try_connection,
)
from jobplatform.connectors.demo_source import STREAMS, DemoSource, connection_config
from jobplatform.errors import (
    CursorLostError,
    InvalidConnectionError,
    SourceBusyError,
    SourceError,
    SyncFailedError,
)
from jobplatform.models import Connection, Record, SyncLog
from jobplatform.queue import RateLimited, RunningJob, Skip
from tests.connectors.conftest import Jobs

ALL = sum(STREAMS.values())

Connect = Callable[..., uuid.UUID]


class ListedConnector:
    """A connector that answers what a test lists; an exception in the list is raised."""

    def __init__(self, pages: dict[str | None, Page | Exception]) -> None:
        self.pages = pages

    def __enter__(self) -> ListedConnector:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def streams(self) -> list[str]:
        return ["things"]

    def fetch(self, stream: str, cursor: str | None) -> Page:
        page = self.pages[cursor]
        if isinstance(page, Exception):
            raise page
        return page


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str | None, Page | Exception]], None]:
    """Makes the connector type ``listed`` answer these pages."""

    def listed(pages: dict[str | None, Page | Exception]) -> None:
        monkeypatch.setitem(CONNECTORS, "listed", ConnectorType(lambda _opening: ListedConnector(pages), AnyConfig))

    return listed


def stored(session: Session, workspace_id: uuid.UUID) -> int:
    count = session.scalar(select(func.count()).select_from(Record).where(Record.workspace_id == workspace_id))
    session.commit()
    return count or 0


def run(job: RunningJob, **options: Any) -> Any:
    return run_sync(job, allow_private=True, **options)


def test_a_sync_stores_every_record_and_says_so(
    job: RunningJob, source: DemoSource, connect: Connect, session: Session, workspace_id: uuid.UUID, channel: Any
) -> None:
    connection_id = connect(source.url)

    result = run(job)

    assert result["totalRecords"] == ALL
    assert result["errors"] == []
    assert result["results"] == [
        {
            "connectionId": str(connection_id),
            "connectorType": "http_json",
            "name": "CRM",
            "records": ALL,
            "written": ALL,
            "deleted": 0,
            "skipped": 0,
            "status": "completed",
        }
    ]
    assert stored(session, workspace_id) == ALL
    reports = [json.loads(report) for report in channel.reports]
    assert [report["total"] for report in reports] == [ALL] * len(reports)
    assert reports[-1]["current"] == ALL


def test_a_second_sync_writes_nothing_and_an_initial_one_everything(
    jobs: Jobs, source: DemoSource, connect: Connect
) -> None:
    connect(source.url)
    run(jobs.start())

    again = run(jobs.start())
    anew = run(jobs.start(), mode="initial")

    assert (again["totalRecords"], again["results"][0]["written"]) == (ALL, 0)
    assert anew["results"][0]["written"] == ALL


def test_a_sync_of_many_connections_that_have_much_to_say_ends_and_a_further_attempt_knows_all_of_it(
    jobs: Jobs, connect: Connect, listed: Any, session: Session, workspace_id: uuid.UUID
) -> None:
    """Their words, and a cursor each, are more than a checkpoint takes in one piece."""
    listed({None: Page([SourceRecord("1", {})], "c" * 2_000), "c" * 2_000: SourceError("é" * 5_000)})
    for number in range(200):
        connect(name=f"shop {number}", connector="listed")
    job = jobs.start()

    for attempt in (1, 2):
        with pytest.raises(SyncFailedError) as caught:
            run(job)
        assert len(caught.value.reasons) == 200, attempt
        job = jobs.again(job)

    assert (len(job.checkpoint_parts), stored(session, workspace_id)) == (200, 200)
    log = session.scalars(select(SyncLog)).one()
    assert (log.total_records, len(log.results), len(log.errors)) == (200, 200, 200)


def test_a_source_with_more_streams_than_can_be_remembered_fails_its_connection_alone(
    job: RunningJob, connect: Connect, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed({None: Page([SourceRecord("1", {})], None)})
    monkeypatch.setattr(ListedConnector, "streams", lambda _: [f"stream {number}" for number in range(10_000)])
    connect(name="wide", connector="listed")

    with pytest.raises(SyncFailedError, match="wide: the source has 10,000 streams"):
        run(job)


@pytest.mark.parametrize("length", [2, 3, 37])
def test_a_source_whose_cursors_go_round_in_a_circle_is_given_up(
    job: RunningJob, connect: Connect, listed: Any, length: int
) -> None:
    """After five pages that lead into it."""
    names = [str(number) for number in range(5 + length)]
    following = dict(zip([None, *names], [*names, "5"], strict=True))
    listed({cursor: Page([SourceRecord(str(cursor), {})], after) for cursor, after in following.items()})
    connect(name="round", connector="listed")

    with pytest.raises(SyncFailedError, match=r"round: things: the source comes to cursor '[0-9]+' again"):
        run(job)


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": iter([SourceRecord("1", {})])},
        {"total": "12"},
        {"skipped": None},
        {"warnings": None},
        {"warnings": [None]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_connector_that_gives_what_is_no_page_fails_its_connection_alone(
    job: RunningJob, source: DemoSource, connect: Connect, listed: Any, wrong: dict[str, Any]
) -> None:
    listed({None: Page(**{"records": [SourceRecord("1", {})], "next_cursor": None, **wrong})})
    connect(source.url, name="good")
    connect(name="bad", connector="listed")

    result = run(job)

    assert [error[:40] for error in result["errors"]] == ["bad: things: the connector gives a page "]
    assert result["totalRecords"] == ALL


def test_a_cursor_may_be_a_number(job: RunningJob, connect: Connect, listed: Any) -> None:
    pages: dict[Any, Any] = {None: Page([SourceRecord("1", {})], 1), 1: Page([SourceRecord("2", {})], None)}  # type: ignore[arg-type]  # as nobody checks theirs
    listed(pages)
    connect(name="numbers", connector="listed")

    assert run(job)["totalRecords"] == 2


def test_first_pages_are_kept_only_as_far_as_there_is_room_and_the_others_are_fetched_again(
    job: RunningJob, connect: Connect, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    fetch = ListedConnector.fetch

    def counted(self: ListedConnector, stream: str, cursor: str | None) -> Page:
        asked.append(stream)
        return fetch(self, stream, cursor)

    listed({None: Page([SourceRecord("1", {"text": "x" * 600}), SourceRecord("2", {})], None, 2)})
    monkeypatch.setattr(ListedConnector, "streams", lambda _: ["a", "b", "c", "d"])
    monkeypatch.setattr(ListedConnector, "fetch", counted)
    monkeypatch.setattr(syncing, "LARGEST_AHEAD", 1_000)
    connect(name="wide", connector="listed")

    result = run(job)

    assert asked == ["a", "b", "c", "d", "c", "d"]
    assert (result["totalRecords"], result["results"][0]["written"]) == (8, 8)


def test_a_connection_that_fails_does_not_keep_the_others_from_being_synced(
    job: RunningJob, source: DemoSource, connect: Connect, listed: Any, channel: Any
) -> None:
    listed({None: SourceError("the password is wrong")})
    connect(source.url, name="good")
    connect("http://x.example", name="bad", connector="listed")
    connect("http://x.example", name="odd", connector="unheard_of")

    result = run(job)

    assert result["totalRecords"] == ALL
    bad, odd = sorted(result["errors"])
    assert bad == "bad: the password is wrong"
    assert odd.startswith("odd: there is no connector type 'unheard_of'; there are csv, http_json,")
    assert {row["name"]: row["status"] for row in result["results"]} == {
        "good": "completed",
        "bad": "failed",
        "odd": "failed",
    }
    assert ("error", "bad: the password is wrong") in channel.lines


def test_a_fault_of_a_connector_is_its_connections_failure(job: RunningJob, connect: Connect, listed: Any) -> None:
    listed({None: KeyError("oops")})
    connect("http://x.example", connector="listed")

    with pytest.raises(SyncFailedError, match="KeyError: 'oops'"):
        run(job)


def test_when_every_connection_fails_the_job_fails_and_what_was_pulled_stays(
    job: RunningJob, connect: Connect, listed: Any, session: Session, workspace_id: uuid.UUID
) -> None:
    listed({None: Page([SourceRecord("1", {"a": 1})], next_cursor="2"), "2": SourceError("gone")})
    connect("http://x.example", connector="listed")

    with pytest.raises(SyncFailedError) as caught:
        run(job)

    assert caught.value.reasons == ("CRM: gone",)
    assert stored(session, workspace_id) == 1


def test_a_source_that_never_ends_is_noticed(job: RunningJob, connect: Connect, listed: Any) -> None:
    listed({None: Page([], next_cursor="2"), "2": Page([], next_cursor="2")})
    connect("http://x.example", connector="listed")

    with pytest.raises(SyncFailedError, match="would never end"):
        run(job)


def test_a_record_that_comes_twice_in_a_page_is_stored_once_as_its_last_copy(
    job: RunningJob, connect: Connect, listed: Any, session: Session
) -> None:
    listed({None: Page([SourceRecord("1", {"v": 1}), SourceRecord("1", {"v": 2})])})
    connect("http://x.example", connector="listed")

    run(job)

    assert session.scalars(select(Record.data)).all() == [{"v": 2}]


def test_what_postgresql_cannot_store_is_replaced_and_the_rest_is_kept(
    job: RunningJob, connect: Connect, listed: Any, session: Session
) -> None:
    listed({None: Page([SourceRecord("1", {"nul": "a\x00b", "half": "\ud800", "nan": float("nan"), "fine": 1})])})
    connect("http://x.example", connector="listed")

    run(job)

    (data,) = session.scalars(select(Record.data)).all()
    assert data["fine"] == 1
    assert "\x00" not in data["nul"]


def test_another_workspaces_connections_are_not_touched(
    job: RunningJob, source: DemoSource, connect: Connect, session: Session
) -> None:
    stranger = uuid.uuid4()
    connect(source.url)
    connect(source.url, workspace=stranger)

    run(job)

    assert stored(session, stranger) == 0


def test_a_sync_can_be_narrowed_to_a_connection_or_a_type(
    jobs: Jobs, source: DemoSource, connect: Connect, listed: Any
) -> None:
    listed({None: Page([SourceRecord("1", {})])})
    wanted = connect(source.url)
    connect("http://x.example", connector="listed")

    by_id = run(jobs.start(), connection_id=wanted)
    by_type = run(jobs.start(), connector_type="listed")

    assert [row["connectionId"] for row in by_id["results"]] == [str(wanted)]
    assert by_type["totalRecords"] == 1


def test_connections_of_one_name_are_told_apart_in_progress_log_lines_and_the_reason_of_a_wait(
    jobs: Jobs, connect: Connect, listed: Any, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a sync of one of them, too: whoever reads it sees those of the others beside it."""
    listed({None: Page([SourceRecord("1", {})], "2"), "2": SourceBusyError("it is closed", 60)})
    broken = ConnectorType(lambda _opening: ListedConnector({None: SourceError("it is broken")}), AnyConfig)
    monkeypatch.setitem(CONNECTORS, "broken", broken)
    busy, fails = connect(name="CRM", connector="listed"), connect(name="CRM", connector="broken")
    connect(name="Shop", connector="broken")

    with pytest.raises(RateLimited) as waiting:
        run(jobs.start())
    lines, reports = channel.lines[:], channel.reports[:]
    with pytest.raises(SyncFailedError) as failed:
        run(jobs.start(), connection_id=fails)

    assert sorted(text for _, text in lines) == sorted(
        [f"CRM ({busy}): it is closed", f"CRM ({fails}): it is broken", "Shop: it is broken"]
    )
    assert [json.loads(report)["message"] for report in reports] == [f"CRM ({busy}): things"]
    assert waiting.value.reason == f"CRM ({busy}): it is closed"
    assert failed.value.reasons == (f"CRM ({fails}): it is broken",)


def test_a_workspace_without_connections_is_skipped(job: RunningJob) -> None:
    answer = run(job)

    assert isinstance(answer, Skip)


def test_the_payload_is_read_with_the_names_of_the_api() -> None:
    connection_id = uuid.uuid4()

    payload = sync.payload.load({"connectorType": "http_json", "connectionId": str(connection_id), "mode": "initial"})

    assert payload == SyncPayload("http_json", connection_id, "initial")


def test_the_task_refuses_loopback_unless_development_says_otherwise(
    jobs: Jobs, source: DemoSource, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(source.url)

    with pytest.raises(SyncFailedError, match="use https"):
        sync(jobs.start(), SyncPayload())

    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")
    result = sync(jobs.start(), SyncPayload())
    assert not isinstance(result, Skip)
    assert result["totalRecords"] == ALL


def test_a_task_of_an_application_asks_whom_the_setting_allows(
    jobs: Jobs, source: DemoSource, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(source.url)
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")

    result = run_sync(jobs.start())

    assert not isinstance(result, Skip)
    assert result["totalRecords"] == ALL
    with pytest.raises(SyncFailedError, match="use https"):
        run_sync(jobs.start(), allow_private=False)


def test_a_connection_may_be_made_and_tried_where_the_setting_allows_it(
    session: Session, source: DemoSource, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"connector_type": "http_json", "name": "CRM", "config": connection_config(source.url)}
    with pytest.raises(InvalidConnectionError, match="use https"):
        create_connection(session, workspace_id, **made)

    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")
    connection = create_connection(session, workspace_id, **made)
    change_connection(session, connection, config=made["config"])
    session.flush()
    session.refresh(connection)
    session.expunge(connection)  # Read after the commit it would open a transaction.
    session.commit()

    assert try_connection(session, connection).ok


def test_a_deleted_connection_takes_its_records_along(
    job: RunningJob, source: DemoSource, connect: Connect, session: Session, workspace_id: uuid.UUID
) -> None:
    connection_id = connect(source.url)
    run(job)

    session.delete(session.get_one(Connection, (workspace_id, connection_id)))
    session.commit()

    assert stored(session, workspace_id) == 0


class Faulty(ListedConnector):
    """A connector that breaks, where a test says."""

    def __init__(self, place: str, record: Any) -> None:
        pages: dict[str | None, Any] = {None: None if record is None else Page([record])}
        super().__init__(pages)
        self.place = place

    def __enter__(self) -> Faulty:
        if self.place == "enter":
            raise ZeroDivisionError("enter")
        return self

    def __exit__(self, *_: object) -> None:
        if self.place == "exit":
            raise ZeroDivisionError("exit")

    def streams(self) -> list[str]:
        if self.place == "streams":
            raise ZeroDivisionError("streams")
        return super().streams()


GOOD_RECORD = SourceRecord("1", {"a": 1})
FAULTS: dict[str, Any] = {
    "open": GOOD_RECORD,
    "enter": GOOD_RECORD,
    "streams": GOOD_RECORD,
    "exit": GOOD_RECORD,
    "an empty id": SourceRecord("", {}),
    "a long id": SourceRecord("x" * 1001, {}),
    "no JSON": SourceRecord("1", {"a": {1, 2}}),
    "a number as id": SourceRecord(1, {}),  # type: ignore[arg-type]  # as careless code has it
    "no record": {"id": "1"},
    "no page": None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_breaks_in_a_connector_is_that_connection_s_failure_alone(
    job: RunningJob, source: DemoSource, connect: Connect, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def open_faulty(_opening: object) -> Faulty:
        if fault == "open":
            raise ZeroDivisionError("open")
        return Faulty(fault, FAULTS[fault])

    monkeypatch.setitem(CONNECTORS, "faulty", ConnectorType(open_faulty, AnyConfig))
    connect(source.url, name="good")
    connect(connector="faulty", name="faulty", config={})

    result = run(job)

    assert {row["name"]: row["status"] for row in result["results"]} == {"good": "completed", "faulty": "failed"}
    (error,) = result["errors"]
    assert error.startswith("faulty: ")
    assert job.session.in_transaction() is False


@pytest.mark.parametrize(
    "page",
    {
        "an error": SourceError("x" * 300_000),
        "a cursor": Page([GOOD_RECORD], "x" * 300_000),
        "a state": Page([GOOD_RECORD], state="x" * 300_000),
        "a state that cannot be kept": Page([GOOD_RECORD], state="a\ud800b"),
    }.items(),
    ids=lambda page: page[0],
)
def test_what_a_source_says_too_much_of_is_that_connection_s_failure_alone(
    job: RunningJob, source: DemoSource, connect: Connect, listed: Any, page: tuple[str, Page | Exception]
) -> None:
    """All of it would be in the checkpoint, which has a largest size."""
    listed({None: page[1]})
    connect("http://x.example", connector="listed", name="wordy")
    connect(source.url, name="good")

    result = run(job)

    assert {row["name"]: row["status"] for row in result["results"]} == {"wordy": "failed", "good": "completed"}
    (error,) = result["errors"]
    assert error.startswith("wordy: ")
    assert len(error) < 3_000


def test_a_record_s_id_and_data_are_stored_without_what_the_database_refuses(
    job: RunningJob, connect: Connect, listed: Any, session: Session
) -> None:
    listed({None: Page([SourceRecord("a\0b", {"text": "c\0d\ud800", "number": float("nan")})])})
    connect("http://x.example", connector="listed")

    run(job)

    record = session.scalars(select(Record)).one()
    assert record.external_id == "a\ufffdb"
    assert record.data == {"text": "c\ufffdd\ufffd", "number": None}


def test_a_source_that_lost_its_place_again_and_again_is_given_up(
    job: RunningJob, connect: Connect, listed: Any
) -> None:
    listed({None: Page([GOOD_RECORD], "1"), "1": CursorLostError("it has changed")})
    connect("http://x.example", connector="listed")

    with pytest.raises(SyncFailedError, match="it has changed"):
        run(job, mode="initial")
