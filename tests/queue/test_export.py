"""An export has everything of a workspace and nothing of another, from one moment, readable."""

from __future__ import annotations

import json
import tracemalloc
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Uuid, select
from sqlalchemy.orm import Session

from jobplatform.key_ring import generate_key
from jobplatform.models import Base, Connection, Role, confine, make_engine
from jobplatform.queue import NewJob, enqueue_job, enqueue_jobs, export_files, export_workspace
from jobplatform.queue.keep.belongings import belongings
from jobplatform.queue.keep.export import PASSING
from jobplatform.queue.keep.export_files import Write
from tests.queue.workspace_data import WITH_ROWS, canary, fill

Rows = dict[str, list[dict[str, Any]]]


class InMemory:
    """Keeps the files, for tests to look at."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[Write]:
        parts: list[str] = []
        yield parts.append
        self.files[name] = "".join(parts)

    def rows(self) -> Rows:
        return {
            name.removesuffix(".jsonl"): [json.loads(line) for line in text.splitlines()]
            for name, text in self.files.items()
            if name.endswith(".jsonl")
        }


@pytest.fixture
def one_moment(engine: Engine) -> Iterator[Session]:
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        yield session


@pytest.fixture
def export(one_moment: Session) -> Callable[..., InMemory]:
    def export(workspace_id: uuid.UUID, metadata: MetaData = Base.metadata) -> InMemory:
        files = InMemory()
        export_workspace(one_moment, workspace_id, files, metadata)
        one_moment.rollback()
        return files

    return export


def test_every_row_of_every_table_is_in_it_and_none_of_another_workspace(
    session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory]
) -> None:
    other = uuid.uuid4()
    for one in (workspace_id, other):
        fill(session, one)
    expected = {
        table.name: len(session.execute(select(table).where(mine)).all())
        for table, mine in belongings(workspace_id)
        if table.name not in PASSING
    }

    files = export(workspace_id)

    assert {name: len(rows) for name, rows in files.rows().items()} == expected
    assert {name for name, count in expected.items() if count} == WITH_ROWS - PASSING
    assert other.hex not in "".join(files.files.values())
    assert str(other) not in "".join(files.files.values())


PLACES = (
    "payload", "result", "error", "line", "key", "tag", "request", "name", "token", "connection", "config", "external",
    "data", "reason", "details",
)  # fmt: skip


def test_its_texts_are_all_there(session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory]) -> None:
    fill(session, workspace_id)

    everything = "".join(export(workspace_id).files.values())

    assert [place for place in PLACES if canary(place, workspace_id) not in everything] == []


def test_nothing_by_which_somebody_could_act_as_another_is_in_it(
    session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory], ring: None
) -> None:
    fill(session, workspace_id)
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", encrypted=True))
    session.commit()

    rows = export(workspace_id).rows()

    assert {"secret_hash", "signing_key"}.isdisjoint(rows["api_tokens"][0])
    assert "wrapped_key" not in rows["workspace_keys"][0]
    assert "sealed" not in rows["connection_credentials"][0]
    assert rows["connection_credentials"][0]["scheme"] == canary("scheme", workspace_id)


def test_a_secret_in_a_connection_s_older_configuration_is_not_in_it(
    session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory]
) -> None:
    config = {"headers": {"Authorization": "Bearer 7f3a7f3a"}, "streams": {"tokens": {"path": "/tokens"}}}
    session.add(
        Connection(workspace_id=workspace_id, id=uuid.uuid4(), connector_type="http_json", name="Old", config=config)
    )
    session.commit()

    files = export(workspace_id)

    assert "7f3a7f3a" not in "".join(files.files.values())
    assert files.rows()["connections"][0]["config"]["streams"] == config["streams"]


def test_an_operator_s_login_is_enough(
    session: Session, workspace_id: uuid.UUID, login_url: Callable[..., str], export: Callable[..., InMemory]
) -> None:
    fill(session, workspace_id)
    operators = make_engine(login_url(Role.OPERATOR), pool_size=1)
    files = InMemory()

    with Session(operators.execution_options(isolation_level="REPEATABLE READ")) as confined:
        confine(confined, Role.OPERATOR)
        export_workspace(confined, workspace_id, files)
    operators.dispose()

    assert files.rows() == export(workspace_id).rows()


def test_a_page_says_what_is_in_it(session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory]) -> None:
    fill(session, workspace_id)

    page = export(workspace_id).files["README.md"]

    assert str(workspace_id) in page
    assert "| `job_records.jsonl` | 6 |" in page
    assert "| `workspace_keys.jsonl` | 0 |" in page
    assert "`api_tokens.secret_hash`, `api_tokens.signing_key`" in page


def test_every_table_is_told_in_words(
    session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory]
) -> None:
    page = export(workspace_id).files["README.md"]

    assert [line for line in page.splitlines() if line.endswith("|  |")] == []


def test_a_table_that_nobody_thought_of_is_in_it(
    session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory]
) -> None:
    later = MetaData(schema="jobplatform")
    notes = Table("notes", later, Column("workspace_id", Uuid), Column("n", Integer))
    later.create_all(session.connection())
    session.execute(notes.insert(), [{"workspace_id": workspace_id, "n": 1}, {"workspace_id": uuid.uuid4(), "n": 2}])
    session.commit()

    assert export(workspace_id, later).rows() == {"notes": [{"workspace_id": str(workspace_id), "n": 1}]}


def test_what_changes_meanwhile_is_not_in_it(one_moment: Session, session: Session, workspace_id: uuid.UUID) -> None:
    """The transaction began before: all of it is from that moment."""
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))
    session.commit()
    one_moment.execute(select(1))
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))
    session.commit()

    counts = export_workspace(one_moment, workspace_id, InMemory())

    assert (counts["job_records"], counts["job_queue"]) == (1, 1)


def test_a_transaction_that_sees_several_moments_is_refused(session: Session, workspace_id: uuid.UUID) -> None:
    with pytest.raises(RuntimeError, match="REPEATABLE READ"):
        export_workspace(session, workspace_id, InMemory())


def test_a_large_table_is_never_in_memory_as_a_whole(
    one_moment: Session, session: Session, workspace_id: uuid.UUID, tmp_path: Path
) -> None:
    payload = {"text": "x" * 5_000}
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="work", payload=payload) for _ in range(2_000)])
    session.commit()

    tracemalloc.start()
    with export_files(tmp_path / "export.zip") as files:
        export_workspace(one_moment, workspace_id, files)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 6_000_000, "ten megabytes went through"


# Sealed


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


def test_what_is_sealed_is_written_in_the_clear_where_the_key_is(
    session: Session, workspace_id: uuid.UUID, export: Callable[..., InMemory], ring: None
) -> None:
    fill(session, workspace_id, encrypted=True)

    files = export(workspace_id)

    everything = "".join(files.files.values())
    assert "$sealed" not in everything
    for place in ("payload", "result", "error", "line", "progress"):
        assert canary(place, workspace_id) in everything
    assert {"text": canary("payload", workspace_id)} in [row["payload"] for row in files.rows()["job_records"]]


def test_what_cannot_be_opened_is_counted(
    session: Session,
    workspace_id: uuid.UUID,
    export: Callable[..., InMemory],
    ring: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", encrypted=True))
    session.commit()
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")

    files = export(workspace_id)

    assert [row["payload"] for row in files.rows()["job_records"]] == [{"sealed": True}]
    assert "1 sealed value could not be opened here and is written" in files.files["README.md"]


# Files


@pytest.mark.parametrize("name", ["export.zip", "folder"])
def test_it_goes_into_a_zip_file_or_a_folder_that_only_its_owner_reads(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    with export_files(path) as files, files.open("a.jsonl") as write:
        write('{"text": "ä"}\n')

    assert path.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    if path.is_dir():
        assert (path / "a.jsonl").read_text(encoding="utf-8") == '{"text": "ä"}\n'
    else:
        assert zipfile.ZipFile(path).read("a.jsonl").decode() == '{"text": "ä"}\n'


@pytest.mark.parametrize("name", ["export.zip", "folder"])
def test_what_is_interrupted_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt), export_files(tmp_path / name) as files, files.open("a.jsonl"):
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["export.zip", "folder"])
def test_what_is_there_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    with pytest.raises(FileExistsError), export_files(tmp_path / name):
        pass
