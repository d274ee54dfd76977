"""CSV files, at a URL and uploaded."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from marshmallow import ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from jobplatform.connectors import Opening, Page, Spool, keep_upload, run_sync
from jobplatform.connectors.csv_file import LARGEST_PAGE, NO_FOOTER, NOT_ALL, CsvConfig, CsvFile
from jobplatform.connectors.csv_text import LONGEST_FOOTER
from jobplatform.connectors.uploads import find_upload, read_upload
from jobplatform.errors import CursorLostError, SourceError, SyncFailedError
from jobplatform.models import Record, SyncLog
from tests.connectors.conftest import Jobs
from tests.connectors.site import Asked, Said, Site
from tests.queue.actors import Elsewhere

PEOPLE = "id,name\n1,Ada\n2,Alan\n3,Grace\n"

Connect = Callable[..., uuid.UUID]


def pages_of(site: Site, cursor: str | None = None, **config: Any) -> list[Page]:
    """Every page of the file at /people.csv, as one attempt at a sync asks for them."""
    given = {"url": site.url("/people.csv"), "idColumn": "id", **config}
    with CsvFile(Opening.of(CsvConfig, given, allow_private=True)) as connector:
        found = [connector.fetch("rows", cursor)]
        while (following := found[-1].next_cursor) is not None:
            found.append(connector.fetch("rows", following))
        return found


def ids(pages: list[Page]) -> list[str]:
    return [record.external_id for page in pages for record in page.records]


def serve(site: Site, text: str | bytes, **headers: str) -> None:
    site.pages["/people.csv"] = Said(200, text if isinstance(text, bytes) else text.encode(), headers)


def test_a_file_is_fetched_once_and_read_a_page_at_a_time(site: Site) -> None:
    serve(site, PEOPLE)

    pages = pages_of(site, pageSize=2)

    assert [len(page.records) for page in pages] == [2, 1]
    assert pages[0].records[0].data == {"id": "1", "name": "Ada"}
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("content", "config"),
    [
        (b"1;Ada\n2;Alan\n3;Grace\n", {"delimiter": ";", "header": False, "columns": ["id", "name"]}),
        ("id\tname\n1\tAda\n2\tAlan\n3\tGrace\n".encode("utf-16"), {"delimiter": "\t", "encoding": "utf-16"}),
        (b"id,name\n1,'A,da'\n2,Alan\n3,Grace\n", {"quote": "'"}),
        (b"\xef\xbb\xbf id , name \n1,Ada\n2,Alan\n3,Grace", {}),
        (b"number,who\n1,Ada\n2,Alan\n3,Grace\n", {"columns": ["id", "name"]}),
    ],
)
def test_files_of_all_kinds_are_read_as_they_are_configured(site: Site, content: bytes, config: Any) -> None:
    serve(site, content)

    assert ids(pages_of(site, **config)) == ["1", "2", "3"]


def test_bad_rows_are_left_out_and_counted_with_their_line(site: Site) -> None:
    serve(site, b"id,name\n1,Ada\n2\n,nobody\n4,\xff\n5,Grace\n")

    (page,) = pages_of(site)

    assert ids([page]) == ["1", "5"]
    assert page.skipped == 3
    assert page.warnings == [
        NOT_ALL,
        "line 3 has 1 value where there are 2 columns; it is left out",
        "line 4 has no id of 1 to 1000 bytes in the column 'id'; it is left out",
        "line 5 has bytes that are no characters in utf-8; it is left out",
    ]


def test_a_bad_row_fails_the_connection_where_that_is_wanted(site: Site) -> None:
    serve(site, "id,name\n1,Ada\n2\n")

    with pytest.raises(SourceError, match="line 3 has 1 value"):
        pages_of(site, onBadRow="fail")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("name,age\nAda,36\n", "no column 'id'; it has 'name', 'age'"),
        ("id,id\n1,2\n", "more than one column named 'id'"),
        ('id,"na"me\n', "line 1, the names of the columns, cannot be read"),
    ],
)
def test_a_header_that_cannot_be_used_says_why(site: Site, text: str, message: str) -> None:
    serve(site, text)

    with pytest.raises(SourceError, match=message):
        pages_of(site)


@pytest.mark.parametrize("row", ['"\n",' * 1_200_000, ('"' + "x\n" * 60_000 + '",') * 40], ids=["values", "lines"])
def test_a_row_without_end_is_not_read_into_memory(site: Site, row: str) -> None:
    serve(site, "id,name\n1,Ada\n" + row)

    with pytest.raises(SourceError, match="the row that begins in line 3 has more than"):
        pages_of(site)


def test_the_lines_of_a_long_value_are_no_rows(site: Site) -> None:
    """Each of them looks like one."""
    letter = "4,nobody\n" * 40_000
    serve(site, f'id,name\n1,Ada\n2,"{letter}"\n3,Grace\n')

    pages = pages_of(site)

    assert ids(pages) == ["1", "2", "3"]
    assert [page.skipped for page in pages] == [0]
    assert pages[0].records[1].data["name"] == letter


def test_a_page_is_shorter_where_its_records_are_large_by_the_names_of_their_columns(site: Site) -> None:
    names = ["id", *(f"{number}{'x' * 1_000}" for number in range(900))]
    rows = (f"{number}{',' * 900}" for number in range(30))
    serve(site, "\n".join([",".join(names), *rows]))

    pages = pages_of(site)

    assert ids(pages) == [str(number) for number in range(30)]
    assert max(len(json.dumps([record.data for record in page.records])) for page in pages) < 2 * LARGEST_PAGE


def test_half_of_a_character_is_none_in_any_encoding(site: Site) -> None:
    serve(site, "id,name\n+2AA-,Ada\n2,Bob\n")

    (page,) = pages_of(site, encoding="utf-7")

    assert [record.external_id for record in page.records] == ["2"]
    assert page.warnings == [NOT_ALL, "line 2 has bytes that are no characters in utf-7; it is left out"]


def test_a_file_that_has_not_changed_is_not_read_again(site: Site) -> None:
    serve(site, PEOPLE)
    state = pages_of(site)[-1].state

    # It says nothing of itself, so it is fetched, and known by its digest.
    assert ids(pages_of(site, state)) == []

    def answer(asked: Asked) -> Said:
        return Said(304) if asked.headers.get("if-none-match") == '"1"' else Said(200, PEOPLE.encode(), {"ETag": '"1"'})

    site.pages["/people.csv"] = answer
    state = pages_of(site, None)[-1].state
    assert ids(pages_of(site, state)) == []

    serve(site, PEOPLE + "4,Ken\n", ETag='"2"')
    assert ids(pages_of(site, state)) == ["1", "2", "3", "4"]


def test_that_nothing_has_changed_is_no_answer_to_who_has_nothing_and_marks_nothing_as_deleted(
    site: Site, jobs: Jobs, connect: Connect, session: Session
) -> None:
    """A cache in between may say so to anybody."""
    serve(site, PEOPLE)
    connect(connector="csv", config={"url": site.url("/people.csv"), "idColumn": "id"})
    run_sync(jobs.start(), mode="initial", allow_private=True)
    site.pages["/people.csv"] = Said(304)

    with pytest.raises(SyncFailedError, match=r"nothing has changed \(HTTP 304\), which was not asked"):
        run_sync(jobs.start(), mode="initial", allow_private=True)

    assert session.scalars(select(Record.deleted_at)).all() == [None] * 3


def test_a_redirect_to_nowhere_is_no_file_without_rows_and_marks_nothing_as_deleted(
    site: Site, jobs: Jobs, connect: Connect, session: Session
) -> None:
    serve(site, "1,Ada\n2,Alan\n")
    columns = {"header": False, "columns": ["id", "name"]}
    connect(connector="csv", config={"url": site.url("/people.csv"), "idColumn": "id", **columns})
    run_sync(jobs.start(), mode="initial", allow_private=True)
    site.pages["/people.csv"] = Said(302, b"to be continued")

    with pytest.raises(SyncFailedError, match=r"people.csv redirects \(HTTP 302\) and does not say where to"):
        run_sync(jobs.start(), mode="initial", allow_private=True)

    assert session.scalars(select(Record.deleted_at)).all() == [None] * 2


def test_an_interrupted_sync_goes_on_at_its_row_unless_it_is_another_file_by_then(site: Site) -> None:
    serve(site, PEOPLE)
    first = pages_of(site, pageSize=1)[0]

    assert ids(pages_of(site, first.next_cursor, pageSize=1)) == ["2", "3"]

    serve(site, PEOPLE.replace("Grace", "Ken"))
    with pytest.raises(CursorLostError, match="has changed"):
        pages_of(site, first.next_cursor, pageSize=1)


def test_a_file_that_changes_in_the_middle_of_an_initial_sync_is_read_from_its_beginning(
    site: Site, jobs: Jobs, connect: Connect, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(connector="csv", config={"url": site.url("/people.csv"), "idColumn": "id", "pageSize": 1})
    serve(site, PEOPLE)
    job = jobs.start()
    fetch = CsvFile.fetch

    def fetch_one(self: CsvFile, stream: str, cursor: str | None) -> Page:
        if cursor is not None:
            raise KeyboardInterrupt
        return fetch(self, stream, cursor)

    monkeypatch.setattr(CsvFile, "fetch", fetch_one)
    with pytest.raises(KeyboardInterrupt):
        run_sync(job, mode="initial", allow_private=True)
    monkeypatch.setattr(CsvFile, "fetch", fetch)
    serve(site, "id,name\n2,Alan\n4,Ken\n")

    result: Any = run_sync(jobs.again(job), mode="initial", allow_private=True)

    assert (result["errors"], result["results"][0]["deleted"]) == ([], 1)
    assert result["warnings"] == [
        "CRM: rows is read from its beginning: the file has changed since its first rows were read"
    ]
    there = select(Record.external_id).where(Record.deleted_at.is_(None))
    assert set(session.scalars(there)) == {"2", "4"}


@pytest.fixture
def elsewhere(engine: Engine) -> Iterator[Elsewhere]:
    elsewhere = Elsewhere(engine)
    yield elsewhere
    elsewhere.close()


def keep(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, text: str) -> None:
    with Spool() as spool:
        spool.write(text.encode())
        keep_upload(
            session, workspace_id, connection_id, name="people.csv", file=spool.file, size=spool.size,
            digest=spool.digest,
        )  # fmt: skip


def upload(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, text: str) -> None:
    keep(session, workspace_id, connection_id, text)
    session.commit()


@pytest.mark.parametrize("is_there", [True, False], ids=["in place of another", "the first"])
def test_of_two_files_that_are_uploaded_at_once_the_later_stays(
    connect: Connect, session: Session, workspace_id: uuid.UUID, elsewhere: Elsewhere, is_there: bool
) -> None:
    connection_id = connect(connector="csv", config={"idColumn": "id"})
    if is_there:
        upload(session, workspace_id, connection_id, "id\n0\n")

    keep(session, workspace_id, connection_id, "id\n1\n")
    later = elsewhere.start_and_wait_for_lock(lambda other: keep(other, workspace_id, connection_id, "id\n2\n"))
    session.commit()
    later.result()

    found = find_upload(session, workspace_id, connection_id)
    assert found is not None
    assert b"".join(read_upload(session, workspace_id, connection_id, found.id)) == b"id\n2\n"


def test_an_uploaded_file_is_read_and_read_again_when_another_takes_its_place(
    jobs: Jobs, connect: Connect, session: Session, workspace_id: uuid.UUID
) -> None:
    connection_id = connect(connector="csv", config={"idColumn": "id"})
    with pytest.raises(SyncFailedError, match="no file has been uploaded"):
        run_sync(jobs.start())
    rows = "".join(f"{number},{'x' * 100}\n" for number in range(3000))

    upload(session, workspace_id, connection_id, "id,name\n" + rows)
    first: Any = run_sync(jobs.start())
    again: Any = run_sync(jobs.start())
    upload(session, workspace_id, connection_id, PEOPLE)
    other: Any = run_sync(jobs.start(), mode="initial")

    assert [result["totalRecords"] for result in (first, again, other)] == [3000, 0, 3]
    assert other["results"][0]["deleted"] == 2997


def test_bad_rows_are_in_the_entry_of_the_sync(site: Site, jobs: Jobs, connect: Connect, session: Session) -> None:
    connect(connector="csv", config={"url": site.url("/people.csv"), "idColumn": "id"})
    serve(site, PEOPLE + "".join(f"{number}\n" for number in range(50)))

    result: Any = run_sync(jobs.start(), allow_private=True)

    assert (result["totalRecords"], result["results"][0]["skipped"]) == (3, 50)
    # A file that is odd is odd in all its rows.
    (log,) = session.scalars(select(SyncLog))
    assert log.warnings == result["warnings"]
    assert len(log.warnings) == 21
    assert log.warnings[0] == f"CRM: {NOT_ALL}"
    assert log.warnings[1] == "CRM: line 5 has 1 value where there are 2 columns; it is left out"
    assert log.warnings[-1] == "CRM: and more"


@pytest.mark.parametrize("now", ['id,name\n1,Ada\n2,"Al"an\n', 'id,name\n1,Ada\n2,"Al', "id,name\n1,Ada\n2\n"])
def test_what_cannot_be_read_in_the_file_any_more_is_not_taken_for_deleted(
    site: Site, jobs: Jobs, connect: Connect, session: Session, now: str
) -> None:
    connect(connector="csv", config={"url": site.url("/people.csv"), "idColumn": "id"})
    serve(site, PEOPLE)
    run_sync(jobs.start(), allow_private=True)

    serve(site, now)
    result: Any = run_sync(jobs.start(), mode="initial", allow_private=True)

    assert result["results"][0]["deleted"] == 0
    assert result["warnings"][0] == f"CRM: {NOT_ALL}"
    assert session.scalars(select(Record.external_id).where(Record.deleted_at.is_not(None))).all() == []


@pytest.mark.parametrize(
    "footer",
    ["Total,,\n", ",,Total 2\n", "Total\nMade by nobody\n", "Total,2,rows\n\n", "Total \xe9\nx\n"],
    ids=["as many values", "not at first", "notes", "an empty line", "bytes"],
)
def test_rows_that_are_gone_are_noticed_in_a_file_whose_footer_is_known(
    site: Site, jobs: Jobs, connect: Connect, session: Session, footer: str
) -> None:
    known = {"url": site.url("/people.csv"), "idColumn": "id", "footer": "Total", "onBadRow": "fail", "pageSize": 2}
    connect(connector="csv", config=known)
    serve(site, f"id,name,age\n1,Ada,36\n2,Alan,41\n3,Grace,85\n{footer}".encode("latin-1"))
    run_sync(jobs.start(), allow_private=True)

    serve(site, f"id,name,age\n1,Ada,36\n3,Grace,85\n{footer}".encode("latin-1"))
    result: Any = run_sync(jobs.start(), mode="initial", allow_private=True)

    assert (result["totalRecords"], result["results"][0]["deleted"], result["results"][0]["skipped"]) == (2, 1, 0)
    assert result["warnings"] == []
    assert session.scalars(select(Record.external_id).where(Record.deleted_at.is_not(None))).all() == ["2"]


@pytest.mark.parametrize("cut", ["id,name\n1,Ada\n2,Alan\n", "id,name\n1,Ada\n2,Alan\nTot"])
def test_a_file_without_its_footer_may_have_been_cut_off(site: Site, cut: str) -> None:
    serve(site, cut)

    pages = pages_of(site, footer="Total", pageSize=2)

    assert ids(pages) == ["1", "2"]
    assert not pages[-1].complete
    assert pages[-1].warnings[-1] == NO_FOOTER.format(footer="Total")


def test_a_missing_footer_fails_the_connection_where_that_is_wanted_of_bad_rows(site: Site) -> None:
    serve(site, PEOPLE)

    with pytest.raises(SourceError, match=r"does not end with its footer \('Total'\)"):
        pages_of(site, footer="Total", onBadRow="fail")


def test_what_begins_as_the_footer_does_and_is_followed_by_rows_is_a_bad_row(site: Site) -> None:
    serve(site, "id,name\n1,Ada\nTotal Ltd,x\n\nodd\n4,Grace\nTotal\n")

    (page,) = pages_of(site, footer="Total")

    assert ids([page]) == ["1", "4"]
    assert not page.complete
    assert page.warnings == [
        NOT_ALL,
        "line 3 begins as the footer does, and rows follow; it is left out",
        "line 5 has 1 value where there are 2 columns; it is left out",
    ]


def test_no_footer_is_longer_than_may_be_remembered(site: Site) -> None:
    serve(site, "id,name\n1,Ada\n" + "Total\n" * (LONGEST_FOOTER + 1))

    pages = pages_of(site, footer="Total")

    assert sum(page.skipped for page in pages) == LONGEST_FOOTER + 1


def test_a_row_with_nothing_in_it_is_no_bad_one(site: Site) -> None:
    serve(site, "id,name\n1,Ada\n,\n2,Alan\n , \n")

    (page,) = pages_of(site)

    assert ids([page]) == ["1", "2"]
    assert (page.complete, page.skipped, page.warnings) == (True, 0, [])


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({}, "idColumn"),
        ({"idColumn": "id", "url": "ftp://x.example/f.csv"}, "url"),
        ({"idColumn": "id", "delimiter": ";;"}, "delimiter"),
        ({"idColumn": "id", "delimiter": "\n"}, "delimiter"),
        ({"idColumn": "id", "encoding": "base64"}, "encoding"),
        ({"idColumn": "id", "header": False}, "columns"),
        ({"idColumn": "id", "columns": ["a", "b"]}, "idColumn"),
        ({"idColumn": "a", "columns": ["a", "a"]}, "columns"),
        ({"idColumn": "id", "onBadRow": "ignore"}, "onBadRow"),
        ({"idColumn": "id", "footer": " "}, "footer"),
        ({"idColumn": "id", "seperator": ","}, "seperator"),
    ],
)
def test_a_wrong_configuration_names_the_field(config: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        CsvConfig().load(config)

    assert json.dumps([*error.value.messages]) == json.dumps([place])  # type: ignore[misc]
