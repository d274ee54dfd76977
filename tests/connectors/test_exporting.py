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
from sqlalchemy import Engine, delete, event, func, insert, select, update
from sqlalchemy.orm import Session

from jobplatform.connectors import FolderStore, S3Store, Store, open_store, require_store, run_export
from jobplatform.connectors.exporting import DELETED, Lifetimes, delete_expired
from jobplatform.connectors.links import find_linked, link_token, read_link_token, renew_link
from jobplatform.connectors.stores import PART
from jobplatform.errors import SettingsError, StoreError
from jobplatform.models import ExportFile, Record, Role, confine
from jobplatform.queue import (
    Cancel,
    NewJob,
    RunningJob,
    Skip,
    Tasks,
    enqueue_job,
    expire_exports,
    set_workspace_limits,
)
from jobplatform.settings import Settings
from jobplatform.testing import Clock, drain
from tests.connectors.conftest import Jobs, RecordingChannel
from tests.connectors.s3 import KEY_ID, REGION, SECRET, Guarded, serving_s3


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


def test_exports_whose_time_is_over_are_asked_for_once(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, clock: Clock
) -> None:
    for _ in range(3):
        export(jobs.start(), store)
    clock.travel(days=8)
    job = jobs.start()
    reads: list[str] = []

    def note(_connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        if sql.startswith("SELECT") and "FROM jobplatform.exports" in sql:
            reads.append(sql)

    bind = job.session.get_bind()
    event.listen(bind, "before_cursor_execute", note)
    try:
        assert delete_expired(job, store) == 3
    finally:
        event.remove(bind, "before_cursor_execute", note)

    assert len(reads) == 1


def test_exports_go_also_where_the_quota_is_full(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, session: Session, engine: Engine, clock: Clock
) -> None:
    export(jobs.start(), store)
    set_workspace_limits(session, jobs.workspace_id, {"max_pending": 1})
    enqueue_job(session, NewJob(workspace_id=jobs.workspace_id, task="waits"))
    session.commit()
    clock.travel(days=8)

    with confine(Session(engine), Role.WORKER) as worker, worker.begin():
        assert expire_exports(worker) == 1


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


@pytest.mark.parametrize("swept", [True, False], ids=["row gone", "row to go"])
def test_an_export_that_is_deleted_while_it_is_written_is_cancelled_and_leaves_no_file(
    jobs: Jobs,
    store: FolderStore,
    connection_id: uuid.UUID,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    swept: bool,
) -> None:
    """Nothing would know of the file any more."""
    put = store.put

    def put_too_late(*what: Any) -> None:
        session.execute(update(ExportFile).values(expires_at=func.now() - timedelta(seconds=1)))
        session.commit()
        if swept:
            assert delete_expired(jobs.start(), store) == 1
        put(*what)

    monkeypatch.setattr(store, "put", put_too_late)

    with pytest.raises(Cancel, match="deleted while it was written"):
        export(jobs.start(), store)

    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
    assert delete_expired(jobs.start(), store) == (0 if swept else 1)


def test_an_export_that_is_deleted_is_not_read_to_its_end(
    jobs: Jobs, store: FolderStore, connection_id: uuid.UUID, session: Session, channel: RecordingChannel
) -> None:
    job = jobs.start()
    report = channel.progress

    def delete_it(text: str) -> None:
        report(text)
        session.execute(delete(ExportFile))
        session.commit()

    channel.progress = delete_it  # type: ignore[method-assign]  # whoever looks at its progress changes their mind

    with pytest.raises(Cancel, match="deleted while it was written"):
        export(job, store)

    assert len(channel.reports) == 1


def test_an_export_that_is_deleted_ends_its_job_for_good(
    session: Session, connection_id: uuid.UUID, workspace_id: uuid.UUID, store: FolderStore
) -> None:
    tasks = Tasks()

    @tasks.task("deleted-export", max_attempts=5)
    def deleted_export(job: RunningJob, payload: dict[str, Any]) -> Any:
        class Late(FolderStore):
            def put(self, *what: Any) -> None:
                job.session.execute(delete(ExportFile))
                job.session.commit()
                super().put(*what)

        return run_export(job, Late(store.folder), LIFETIMES)

    job_id = deleted_export.enqueue(session, workspace_id=workspace_id).job_id
    session.commit()
    (ran,) = drain(session, tasks, raise_errors=False)

    assert (ran.id, ran.status, ran.attempts, ran.error) == (job_id, "cancelled", 1, DELETED)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
    assert session.scalars(select(ExportFile)).all() == []


def test_a_key_cannot_lead_out_of_the_folder(store: FolderStore) -> None:
    for key in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(StoreError, match="no key"):
            store.delete(key)


# A store that speaks S3


@pytest.fixture(scope="module")
def store_server() -> Iterator[Guarded]:
    with serving_s3() as server:
        yield server


@pytest.fixture
def s3(store_server: Guarded, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """The server, and credentials for it where boto3 finds them."""
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    store_server.offset, store_server.refuses = 0.0, lambda _method, _query: None
    store_server.turned_away.clear()
    store_server.seen.clear()
    return store_server


@pytest.fixture
def by_hand(s3: Guarded) -> Any:
    """A client of the store, to look what is there."""
    import boto3

    return boto3.client("s3", endpoint_url=s3.url)


@pytest.fixture
def bucket(by_hand: Any) -> str:
    name = f"exports-{uuid.uuid4()}"
    by_hand.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


def left_in(by_hand: Any, bucket: str) -> tuple[list[str], list[str]]:
    """Whole files, and those that were never finished."""
    files = [one["Key"] for one in by_hand.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return files, [one["Key"] for one in by_hand.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def test_an_export_goes_to_an_s3_store_and_its_link_is_the_store_s_until_it_is_over(
    jobs: Jobs, s3: Guarded, bucket: str, by_hand: Any, connection_id: uuid.UUID
) -> None:
    store = open_store(Settings(exports=f"s3://{bucket}/jobs/exports", exports_endpoint=s3.url))
    assert isinstance(store, S3Store)

    result = export(jobs.start(), store, format="jsonl")

    assert result["url"].startswith(f"{s3.url}/{bucket}/jobs/exports/{jobs.workspace_id}/")
    fetched = httpx.get(result["url"], trust_env=False, timeout=60)
    assert hashlib.sha256(fetched.content).hexdigest() == result["sha256"]
    assert fetched.headers["content-disposition"] == f'attachment; filename="{result["name"]}"'
    assert s3.turned_away == []

    for link in (result["url"].partition("?")[0], result["url"].replace(".jsonl?", ".csv?")):
        assert httpx.get(link, trust_env=False, timeout=60).status_code == 403
    s3.offset = 3590.0
    assert httpx.get(result["url"], trust_env=False, timeout=60).status_code == 200
    s3.offset = 3610.0
    assert httpx.get(result["url"], trust_env=False, timeout=60).status_code == 403
    s3.offset = 0.0
    assert s3.turned_away == ["AccessDenied", "SignatureDoesNotMatch", "AccessDenied"]

    store.delete(f"{jobs.workspace_id}/{result['exportId']}.jsonl")
    assert left_in(by_hand, bucket) == ([], [])


def test_a_store_that_does_not_know_our_secret_is_told_in_its_words(
    s3: Guarded, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")

    with pytest.raises(StoreError, match="SignatureDoesNotMatch") as error:
        S3Store(bucket, "", s3.url).put("a", path, "a", "text/csv")

    assert "another" not in str(error.value)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Three parts."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2 * PART + 1)
    return path


def test_a_large_file_goes_in_parts(s3: Guarded, bucket: str, by_hand: Any, large: Path) -> None:
    store = S3Store(bucket, "", s3.url)

    store.put("a/b.csv", large, "b.csv", "text/csv")

    parts = sorted(query["partNumber"] for method, query in s3.seen if method == "PUT" and "partNumber" in query)
    assert parts == ["1", "2", "3"]
    link = store.link("a/b.csv", "b.csv", 60)
    assert link is not None
    assert len(httpx.get(link, trust_env=False, timeout=60).content) == large.stat().st_size
    assert left_in(by_hand, bucket) == (["a/b.csv"], [])


def test_a_large_file_whose_upload_fails_half_way_leaves_nothing(
    s3: Guarded, bucket: str, by_hand: Any, large: Path
) -> None:
    s3.refuses = lambda method, query: "AccessDenied" if (method, query.get("partNumber")) == ("PUT", "3") else None

    with pytest.raises(StoreError, match="AccessDenied"):
        S3Store(bucket, "", s3.url).put("a/b.csv", large, "b.csv", "text/csv")

    assert left_in(by_hand, bucket) == ([], [])


def test_what_a_worker_that_was_killed_had_sent_goes_with_its_export(
    s3: Guarded, bucket: str, by_hand: Any, jobs: Jobs, session: Session, clock: Clock, connection_id: uuid.UUID
) -> None:
    """A part of a file is nobody's object, and costs all the same."""
    store = S3Store(bucket, "below", s3.url)

    class Killed(S3Store):
        def put(self, key: str, path: Path, name: str, media_type: str) -> None:
            begun = by_hand.create_multipart_upload(Bucket=bucket, Key=f"below/{key}")
            by_hand.upload_part(Bucket=bucket, Key=f"below/{key}", UploadId=begun["UploadId"], PartNumber=1, Body=b"a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(jobs.start(), Killed(bucket, "below", s3.url))
    others = by_hand.create_multipart_upload(Bucket=bucket, Key="below/another.csv")
    files, unfinished = left_in(by_hand, bucket)
    assert (files, len(unfinished)) == ([], 2)

    clock.travel(days=8)
    assert delete_expired(jobs.start(), store) == 1
    clock.reset()

    assert left_in(by_hand, bucket) == ([], [others["Key"]])


def test_an_export_goes_where_nobody_may_ask_for_what_is_unfinished(
    s3: Guarded, bucket: str, by_hand: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    store = S3Store(bucket, "", s3.url)
    store.put("a.csv", path, "a.csv", "text/csv")
    s3.refuses = lambda _method, query: "AccessDenied" if "uploads" in query else None

    store.delete("a.csv")

    s3.refuses = lambda _method, _query: None
    assert left_in(by_hand, bucket) == ([], [])
    assert "unfinished uploads" in caplog.text


def test_a_store_that_cannot_be_used_says_so_without_its_secrets(
    s3: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")

    with pytest.raises(StoreError, match="s3://no-such-bucket/a") as error:
        S3Store("no-such-bucket", "", s3.url).put("a", path, "a", "text/csv")

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
