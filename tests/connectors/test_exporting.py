"""Exports: whole files under links that end."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from jobplatform.connectors import FolderStore, S3Store, Store, open_store, require_store, run_export
from jobplatform.connectors.exporting import Lifetimes, delete_expired
from jobplatform.connectors.links import find_linked, link_token, read_link_token, renew_link
from jobplatform.errors import SettingsError, StoreError
from jobplatform.models import ExportFile, Record, Role, confine
from jobplatform.queue import Skip, expire_exports
from jobplatform.settings import Settings
from jobplatform.testing import Clock
from tests.connectors.conftest import Jobs


@pytest.fixture
def clock(engine: Engine) -> Iterator[Clock]:
    clock = Clock(engine)
    yield clock
    clock.reset()


LIFETIMES = Lifetimes(timedelta(hours=1), timedelta(days=7))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "exports")


@pytest.fixture
def connection_id(connect: Callable[..., uuid.UUID], session: Session, workspace_id: uuid.UUID) -> uuid.UUID:
    """A connection with 1,203 records of two streams, one of them deleted."""
    connection_id = connect("https://crm.example")
    rows = [
        {
            "workspace_id": workspace_id, "connection_id": connection_id, "stream": stream,
            "external_id": f"{number:04}", "data": {"name": f"=Ada {number}"}, "deleted_at": None,
        }
        for stream, count in (("people", 1200), ("deals", 3))
        for number in range(count)
    ]  # fmt: skip
    session.execute(insert(Record), rows)
    session.execute(Record.__table__.update().where(Record.external_id == "0002").values(deleted_at="2026-01-01"))
    session.commit()
    return connection_id


def export(job: Any, store: Store, **options: Any) -> Any:
    result = run_export(job, store, LIFETIMES, **options)
    job.session.commit()
    return result


def test_a_csv_export_has_all_records_and_nothing_that_runs(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, session: Session
) -> None:
    result = export(jobs.start(), store)

    path = store.folder / str(jobs.workspace_id) / f"{result['exportId']}.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), result["rows"]) == (1201, 1201)
    assert [row["_stream"] for row in rows[:3]] == ["deals", "deals", "people"]
    assert rows[0]["name"] == "'=Ada 0"
    assert result["bytes"] == path.stat().st_size
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    row = session.scalars(select(ExportFile)).one()
    assert (row.rows, row.size, str(row.id)) == (1201, result["bytes"], result["exportId"])


def test_a_lines_export_of_one_stream_has_what_is_deleted_too_where_that_is_wanted(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID
) -> None:
    result = export(
        jobs.start(), store, format="jsonl", connection_id=connection_id, stream="deals", include_deleted=True
    )

    path = store.folder / str(jobs.workspace_id) / f"{result['exportId']}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["externalId"], line["deletedAt"] is not None) for line in lines] == [
        ("0000", False), ("0001", False), ("0002", True)
    ]  # fmt: skip
    assert lines[0]["data"] == {"name": "=Ada 0"}


def test_a_connection_that_is_not_there_is_nothing_to_export(jobs: Jobs, store: FolderStore) -> None:
    assert isinstance(export(jobs.start(), store, connection_id=uuid.uuid4()), Skip)


def test_a_link_is_good_for_its_file_and_its_time_and_ends_with_the_next(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, session: Session, clock: Clock
) -> None:
    result = export(jobs.start(), store, public_url="https://jobs.example.com/api")
    prefix, _, token = result["url"].rpartition("/")
    claim = read_link_token(token)

    assert prefix == "https://jobs.example.com/api/exports"
    assert claim is not None
    found = find_linked(session, claim)
    assert found is not None
    assert str(found.id) == result["exportId"]
    for wrong in (
        claim._replace(secret=bytes(32)),
        claim._replace(export_id=uuid.uuid4()),
        claim._replace(workspace_id=uuid.uuid4()),
    ):
        assert find_linked(session, wrong) is None
    newer = read_link_token(renew_link(session, found, timedelta(hours=1)))
    assert newer is not None
    assert find_linked(session, claim) is None
    session.expire_all()
    assert find_linked(session, newer) is not None
    session.commit()
    clock.travel(seconds=3601)
    assert find_linked(session, newer) is None


@pytest.mark.parametrize("text", ["", "jpe_", "jpe_AAAA", "x" * 90, "jpe_" + "A" * 87, "jpe_é"])
def test_what_is_no_token_of_a_link_is_none(text: str) -> None:
    assert read_link_token(text) is None
    good = link_token(uuid.uuid4(), uuid.uuid4(), bytes(32))
    assert read_link_token(good) is not None
    assert read_link_token(good[:-1] + "B") is None


def test_exports_go_when_their_time_is_over_by_a_job_of_their_workspace(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, session: Session, engine: Engine, clock: Clock
) -> None:
    results = [export(jobs.start(), store) for _ in range(2)]
    files = store.folder / str(jobs.workspace_id)

    def enqueued() -> int:
        with confine(Session(engine), Role.WORKER) as worker, worker.begin():
            return expire_exports(worker)

    assert enqueued() == 0
    clock.travel(days=8)
    assert (enqueued(), enqueued()) == (1, 0)
    assert delete_expired(jobs.start(), store) == 2

    assert len(results) == 2
    assert not files.exists()
    assert session.scalars(select(ExportFile)).all() == []


def test_an_export_that_fails_half_way_leaves_nothing_under_its_name_and_is_cleared_away(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, session: Session, clock: Clock
) -> None:
    (store.folder.parent / "exports").write_text("no folder")

    job = jobs.start()
    with pytest.raises(StoreError, match="cannot write"):
        export(job, store)
    job.session.rollback()
    (store.folder.parent / "exports").unlink()

    row = session.scalars(select(ExportFile)).one()
    assert (row.digest, row.link_hash) == (None, None)
    session.commit()
    clock.travel(days=8)
    assert delete_expired(jobs.start(), store) == 1


def test_a_key_cannot_lead_out_of_the_folder(store: FolderStore) -> None:
    for key in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(StoreError, match="no key"):
            store.delete(key)


# A store that speaks S3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    name = f"exports-{uuid.uuid4()}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    return name


def test_an_export_goes_to_an_s3_store_and_its_link_is_the_store_s(
    jobs: Jobs, s3: str, bucket: str, connection_id: uuid.UUID
) -> None:
    store = open_store(Settings(exports=f"s3://{bucket}/jobs/exports", exports_endpoint=s3))
    assert isinstance(store, S3Store)

    result = export(jobs.start(), store, format="jsonl")

    assert result["url"].startswith(f"{s3}/{bucket}/jobs/exports/{jobs.workspace_id}/")
    assert "X-Amz-Expires=3600" in result["url"]
    fetched = httpx.get(result["url"], trust_env=False)
    assert hashlib.sha256(fetched.content).hexdigest() == result["sha256"]
    assert fetched.headers["content-disposition"] == f'attachment; filename="{result["name"]}"'

    store.delete(f"{jobs.workspace_id}/{result['exportId']}.jsonl")
    assert httpx.get(result["url"], trust_env=False).status_code in (403, 404)


def test_a_large_file_goes_in_parts(s3: str, bucket: str, tmp_path: Path) -> None:
    store = S3Store(bucket, "", s3)
    path = tmp_path / "large"
    path.write_bytes(bytes(17 * 1024 * 1024))

    store.put("a/b.csv", path, "b.csv", "text/csv")

    link = store.link("a/b.csv", "b.csv", 60)
    assert link is not None
    assert len(httpx.get(link, trust_env=False).content) == path.stat().st_size


def test_a_store_that_cannot_be_used_says_so_without_its_secrets(
    s3: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")

    with pytest.raises(StoreError, match="s3://no-such-bucket/a") as error:
        S3Store("no-such-bucket", "", s3).put("a", path, "a", "text/csv")

    assert "NoSuchBucket" in str(error.value)
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(SettingsError, match=r"jobplatform\[s3\]"):
        open_store(Settings(exports="s3://bucket"))


def test_a_folder_that_cannot_be_used_is_told_when_a_process_starts(tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    (tmp_path / "exports").mkdir()

    for name, said in (("missing", "is not there"), ("a_file", "no folder")):
        for writes in (True, False):
            with pytest.raises(SettingsError, match=said):
                require_store(Settings(exports=str(tmp_path / name)), writes=writes)
    for writes in (True, False):
        require_store(Settings(exports=str(tmp_path / "exports")), writes=writes)
        require_store(Settings(data_dir=tmp_path / "nowhere"), writes=writes)


def test_a_folder_that_may_only_be_read_is_enough_for_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is root may do everything, so the system's answer is the test's."""
    settings = Settings(exports=str(tmp_path))
    monkeypatch.setattr("os.access", lambda _path, mode, **_: not mode & os.W_OK)

    require_store(settings, writes=False)
    with pytest.raises(SettingsError, match="may not write there"):
        require_store(settings, writes=True)
