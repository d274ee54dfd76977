"""Records, entries of syncs, files and exports over HTTP."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, select
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import uploads
from jobplatform.connectors import FolderStore
from jobplatform.models import AuditEntry, Connection, ExportFile, Record, SyncLog, UploadChunk, clock
from tests.api.conftest import PROBLEM, Client, MintToken

SINCE = "2020-01-01T00:00:00Z"


@pytest.fixture
def reader(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    return Client(app.test_client(), mint(workspace_id, ("connections", "jobs:read")))


@pytest.fixture
def connect(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> Callable[..., uuid.UUID]:
    def connect(connector: str = "csv", workspace: uuid.UUID = workspace_id) -> uuid.UUID:
        with sessions.begin() as session:
            connection_id = uuid.uuid4()
            session.add(
                Connection(
                    workspace_id=workspace,
                    id=connection_id,
                    connector_type=connector,
                    name="n",
                    config={"idColumn": "id"},
                )
            )
            return connection_id

    return connect


@pytest.fixture
def records_url(sessions: sessionmaker[Session], workspace_id: uuid.UUID, connect: Callable[..., uuid.UUID]) -> str:
    """Where a connection's six records are, one of them deleted."""
    connection_id = connect()
    with sessions.begin() as session:
        rows = [
            {
                "workspace_id": workspace_id, "connection_id": connection_id, "stream": stream,
                "external_id": f"https://x.example/{number}?a=ü", "data": {"n": number},
                "deleted_at": clock() if stream == "a" and number == 2 else None,
            }
            for stream in "ab"
            for number in range(3)
        ]  # fmt: skip
        for row in rows:
            session.execute(insert(Record).values(row))
    return f"/workspaces/{workspace_id}/connections/{connection_id}/records"


def everything(client: Client, url: str, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list, following its links."""
    found = []
    answer = client.get(url, query_string={"limit": 2, **query})
    while True:
        assert answer.status_code == 200, answer.text
        found += answer.get_json()["items"]
        link = answer.headers.get("Link")
        if link is None:
            assert answer.get_json()["nextCursor"] is None
            return found
        following = re.fullmatch(r'<(.*)>; rel="next"', link)
        assert following is not None
        answer = client.get(following[1])


def test_records_are_listed_a_page_at_a_time_and_shown_by_their_id(reader: Client, records_url: str) -> None:
    found = everything(reader, records_url)

    assert [(one["stream"], one["data"]["n"]) for one in found] == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    for one in found:
        assert reader.get(f"{records_url}/{one['id']}").get_json() == one
    assert len(everything(reader, records_url, stream="b")) == 3
    deleted = everything(reader, records_url, includeDeleted="true", stream="a")[-1]
    assert deleted["deletedAt"] is not None
    assert reader.get(f"{records_url}/{deleted['id']}").status_code == 200


def test_changes_are_listed_since_a_moment(reader: Client, records_url: str) -> None:
    changes = everything(reader, records_url, updatedSince=SINCE, includeDeleted="true")

    moments = [one["syncedAt"] for one in changes]
    assert (len(changes), moments) == (6, sorted(moments))
    assert everything(reader, records_url, updatedSince="2090-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "nonsense"},
        {"cursor": "WyJhIl0"},
        {"cursor": "WyJhIiwiMSJd", "updatedSince": SINCE},
        {"cursor": "WyJhIiwiMSIsIm5vIG1vbWVudCJd", "updatedSince": SINCE},
        {"limit": "0"},
        {"limit": "201"},
        {"includeDeleted": "perhaps"},
        {"updatedSince": "yesterday"},
        {"order": "desc"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_place(
    reader: Client, records_url: str, query: dict[str, str]
) -> None:
    answer = reader.get(records_url, query_string=query)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert answer.get_json()["errors"][0]["path"] == f"?{next(iter(query))}"


@pytest.mark.parametrize(
    "record_id", ["nonsense", "WyJhIl0", "WyJhIixudWxsXQ", "WyJhIiwibm8gc3VjaCJd", "%00", "WyJhIiwiMSJd"]
)
def test_an_id_of_no_record_is_not_found(reader: Client, records_url: str, record_id: str) -> None:
    assert reader.get(f"{records_url}/{record_id}").status_code == 404


def test_records_of_another_workspace_are_not_there(
    stranger: Client, app: Flask, mint: MintToken, reader: Client, records_url: str, other_workspace: uuid.UUID
) -> None:
    theirs = Client(app.test_client(), mint(other_workspace, ("connections",)))
    record = reader.get(records_url).get_json()["items"][0]["id"]
    path = records_url.split("/", 3)[3]

    for suffix in ("", f"/{record}"):
        answer = theirs.get(f"/workspaces/{other_workspace}/{path}{suffix}")
        unknown = theirs.get(f"/workspaces/{other_workspace}/connections/{uuid.uuid4()}/records{suffix}")
        assert (answer.status_code, unknown.status_code) == (404, 404)
        assert answer.get_json()["detail"] == unknown.get_json()["detail"]


# Entries of syncs


def test_what_came_of_syncs_is_listed_and_shown(
    reader: Client, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    result = {
        "connectionId": str(uuid.uuid4()),
        "connectorType": "rss",
        "name": "News",
        "records": 2,
        "status": "failed",
    }
    ids = [uuid.UUID(int=number) for number in range(1, 4)]
    with sessions.begin() as session:
        session.add_all(
            SyncLog(
                workspace_id=workspace_id, id=one, job_id=one, mode="initial", reference="mine", total_records=2,
                results=[result], errors=["News: gone"], warnings=["odd"], status="completed", ended_at=clock(),
            )
            for one in ids
        )  # fmt: skip
        session.add(SyncLog(workspace_id=workspace_id, id=uuid.UUID(int=9), job_id=uuid.UUID(int=9), mode="initial"))

    url = f"/workspaces/{workspace_id}/sync/logs"
    found = everything(reader, url)

    assert [one["id"] for one in found[1:]] == [str(one) for one in ids[::-1]]
    shown = reader.get(f"{url}/{ids[0]}").get_json()
    assert shown == found[-1]
    assert shown["results"] == [{**result, "written": 0, "deleted": 0, "skipped": 0}]
    assert (shown["errors"], shown["warnings"], shown["reference"]) == (["News: gone"], ["odd"], "mine")
    # Its job is nowhere, so it does not run.
    assert (found[0]["status"], found[0]["endedAt"] is None) == ("failed", False)
    assert reader.get(f"{url}/{uuid.uuid4()}").status_code == 404


# Files


def put(client: Client, workspace_id: uuid.UUID, connection_id: uuid.UUID, content: bytes, **options: Any) -> Any:
    url = f"/workspaces/{workspace_id}/connections/{connection_id}/file"
    return client.request("PUT", url, data=content, **{"content_type": "text/csv", **options})


def test_a_file_is_uploaded_replaced_shown_and_deleted_with_lines_in_the_audit_log(
    reader: Client, sessions: sessionmaker[Session], workspace_id: uuid.UUID, connect: Callable[..., uuid.UUID]
) -> None:
    connection_id = connect()
    large = b"id,name\n" + b"1,x\n" * 500_000

    first = put(reader, workspace_id, connection_id, b"id\n1\n", query_string={"name": "a.csv"})
    second = put(reader, workspace_id, connection_id, large, query_string={"name": "b.csv"})

    assert (first.status_code, second.status_code) == (200, 200), second.text
    shown = reader.get(f"/workspaces/{workspace_id}/connections/{connection_id}/file").get_json()
    assert shown == second.get_json()
    assert (shown["name"], shown["size"], shown["sha256"]) == ("b.csv", len(large), hashlib.sha256(large).hexdigest())
    with sessions() as session:
        chunks = session.scalars(select(UploadChunk.content).order_by(UploadChunk.number)).all()
    assert b"".join(chunks) == large
    url = f"/workspaces/{workspace_id}/connections/{connection_id}/file"
    assert [reader.request("DELETE", url).status_code for _ in range(2)] == [204, 404]
    with sessions() as session:
        assert session.scalars(select(UploadChunk)).all() == []
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["connection.upload", "connection.upload", "connection.file.delete"]


def test_a_file_that_cannot_be_taken_is_refused(
    reader: Client, workspace_id: uuid.UUID, connect: Callable[..., uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    csv, rss = connect(), connect("rss")
    answers = {
        "empty": put(reader, workspace_id, csv, b""),
        "a form": put(reader, workspace_id, csv, b"x", content_type="multipart/form-data; boundary=x"),
        "of a feed": put(reader, workspace_id, rss, b"x"),
        "of nothing": put(reader, workspace_id, uuid.uuid4(), b"x"),
        "a bad name": put(reader, workspace_id, csv, b"x", query_string={"name": "a\x00b"}),
    }
    monkeypatch.setattr(uploads, "LARGEST_UPLOAD", 100)
    answers["too large"] = put(reader, workspace_id, csv, b"x" * 101)

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "empty": 400, "a form": 415, "of a feed": 422, "of nothing": 404, "a bad name": 422, "too large": 413
    }  # fmt: skip


def test_a_file_larger_than_may_be_is_refused_before_it_is_read(
    reader: Client, workspace_id: uuid.UUID, connect: Callable[..., uuid.UUID]
) -> None:
    announced = {"CONTENT_LENGTH": str(uploads.LARGEST_UPLOAD + 2)}
    answer = put(reader, workspace_id, connect(), b"x", environ_overrides=announced)

    assert answer.status_code == 413
    assert "64 MiB" in answer.get_json()["detail"]


def test_other_bodies_are_limited_as_ever(reader: Client, client: Client, jobs_url: str) -> None:
    assert client.post(jobs_url, data=b"x" * 2_000_000, content_type="application/json").status_code == 413


# Exports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBPLATFORM_EXPORTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def exported(sessions: sessionmaker[Session], workspace_id: uuid.UUID, folder: Path) -> uuid.UUID:
    """An export with a file of two bytes."""
    export_id = uuid.uuid4()
    source = folder / "source"
    source.write_bytes(b"ab")
    FolderStore(folder).put(f"{workspace_id}/{export_id}.csv", source, "r.csv", "text/csv")
    with sessions.begin() as session:
        session.execute(
            insert(ExportFile).values(
                workspace_id=workspace_id, id=export_id, job_id=export_id, name="r.csv", rows=1, size=2,
                digest=hashlib.sha256(b"ab").digest(), key=f"{workspace_id}/{export_id}.csv",
                expires_at=clock() + _days(7),
            )
        )  # fmt: skip
    return export_id


def _days(count: int) -> Any:
    import datetime

    return datetime.timedelta(days=count)


def test_an_export_is_fetched_by_its_newest_link_and_nothing_else(
    reader: Client, nobody: Client, workspace_id: uuid.UUID, exported: uuid.UUID
) -> None:
    url = f"/workspaces/{workspace_id}/exports/{exported}"
    old, new = (reader.post(f"{url}/link").get_json()["url"] for _ in range(2))

    with nobody.get(new) as fetched:
        assert (fetched.status_code, fetched.data) == (200, b"ab")
        assert fetched.headers["Content-Disposition"] == "attachment; filename=r.csv"
        assert fetched.headers["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in fetched.headers["Cache-Control"]
    for wrong in (old, new[:-2], new + "A", "/exports/jpe_"):
        assert nobody.get(wrong).status_code == 404, wrong


def test_links_keep_the_prefix_or_begin_with_the_public_url(
    reader: Client, workspace_id: uuid.UUID, exported: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/workspaces/{workspace_id}/exports/{exported}/link"

    below = reader.post(f"/api{path}").get_json()["url"]
    monkeypatch.setenv("JOBPLATFORM_PUBLIC_URL", "https://jobs.example.com/api/")
    public = reader.post(path).get_json()["url"]

    assert below.startswith("/api/exports/jpe_")
    assert public.startswith("https://jobs.example.com/api/exports/jpe_")


def test_exports_are_listed_shown_and_deleted(
    reader: Client,
    nobody: Client,
    operator: Client,
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
    exported: uuid.UUID,
) -> None:
    url = f"/workspaces/{workspace_id}/exports"
    link = reader.post(f"{url}/{exported}/link").get_json()["url"]

    (listed,) = reader.get(url).get_json()["items"]

    assert listed == reader.get(f"{url}/{exported}").get_json()
    assert (listed["rows"], listed["bytes"], listed["sha256"]) == (1, 2, hashlib.sha256(b"ab").hexdigest())
    assert reader.request("DELETE", f"{url}/{exported}").status_code == 204
    assert reader.get(url).get_json()["items"] == []
    assert [reader.get(f"{url}/{exported}").status_code, nobody.get(link).status_code] == [404, 404]
    with sessions() as session:
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["export.link", "export.delete"]


def test_a_link_to_a_file_that_this_server_does_not_see_says_what_is_wrong(
    reader: Client, nobody: Client, workspace_id: uuid.UUID, exported: uuid.UUID, folder: Path
) -> None:
    link = reader.post(f"/workspaces/{workspace_id}/exports/{exported}/link").get_json()["url"]
    (folder / str(workspace_id) / f"{exported}.csv").unlink()

    answer = nobody.get(link)

    assert (answer.status_code, answer.content_type) == (503, PROBLEM)
    assert "JOBPLATFORM_EXPORTS" in answer.get_json()["detail"]


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-05T09:00:00", "2026-13-01T00:00:00Z"])
def test_what_is_no_moment_is_told_how_to_write_one(reader: Client, records_url: str, moment: str) -> None:
    answer = reader.get(records_url, query_string={"updatedSince": moment})

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["message"].endswith("as 2026-01-31T09:00:00Z.")
