"""``jobplatform keys`` and ``workspaces encrypt|export|erase``, as an operator uses them."""

from __future__ import annotations

import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from jobplatform.key_ring import generate_key
from jobplatform.models import AuditEntry, Connection, Job, JobRecord, QueueRow, Role
from jobplatform.queue import NewJob, WorkerInfo, claim_job, enqueue_job, make_key, register_worker
from tests.end_to_end.conftest import Cli

OLD, NEW = generate_key("old"), generate_key("new")


@pytest.fixture
def workspace(cli: Cli) -> uuid.UUID:
    return uuid.UUID(cli("workspaces", "create", "Acme").stdout.strip())


def put(session: Session, workspace_id: uuid.UUID, **options: Any) -> uuid.UUID:
    job = NewJob(workspace_id=workspace_id, task="work", payload={"text": "canary"}, **options)
    enqueue_job(session, job)
    session.commit()
    return job.id


def start(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> None:
    worker_id = register_worker(session, WorkerInfo("w", "h", 1, "test", (), (), 1))
    assert claim_job(session, worker_id=worker_id, workspace_id=workspace_id, job_id=job_id)
    session.commit()


def test_a_login_that_migrates_erases_a_workspace_by_its_id(
    run: Cli, session: Session, workspace: uuid.UUID, login_url: Callable[..., str]
) -> None:
    put(session, workspace)
    url = login_url(Role.OWNER)

    by_name = run("workspaces", "erase", "Acme", "--yes", DATABASE_URL=url)
    by_id = run("workspaces", "erase", str(workspace), "--yes", DATABASE_URL=url)
    again = run("workspaces", "erase", str(workspace), "--yes", DATABASE_URL=url)

    assert by_name.exit_code == 2
    assert "connect with a login that may, or grant jobplatform_operator to " in by_name.stderr
    assert by_id.exit_code == 0, by_id.stderr
    assert session.scalars(select(JobRecord)).all() == []
    assert "there is nothing of a workspace" in again.stderr


def test_a_workspace_is_exported_and_erased(
    cli: Cli, run: Cli, session: Session, database_url: str, workspace: uuid.UUID, tmp_path: Path
) -> None:
    put(session, workspace)
    path = tmp_path / "acme.zip"

    exported = cli("workspaces", "export", "Acme", "-o", str(path))
    unsure = run("workspaces", "erase", "Acme", DATABASE_URL=database_url)
    erased = cli("workspaces", "erase", "Acme", "--yes")

    with zipfile.ZipFile(path) as archive:
        (record,) = map(json.loads, archive.read("job_records.jsonl").splitlines())
    assert str(path) in exported.stdout
    assert record["payload"] == {"text": "canary"}
    assert unsure.exit_code == 2
    assert "--yes" in unsure.stderr
    assert f"rows of {workspace} are erased" in erased.stdout
    assert session.scalars(select(JobRecord)).all() == []
    actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["workspace.create", "workspace.export", "workspace.erase"]


def test_an_export_never_overwrites(run: Cli, database_url: str, workspace: uuid.UUID, tmp_path: Path) -> None:
    (tmp_path / "there.zip").write_text("mine")

    answer = run("workspaces", "export", "Acme", "-o", str(tmp_path / "there.zip"), DATABASE_URL=database_url)

    assert answer.exit_code == 1
    assert "is there already" in answer.stderr
    assert (tmp_path / "there.zip").read_text() == "mine"


def test_a_misspelt_id_is_not_erased_and_what_an_interrupted_erase_left_is(
    run: Cli, session: Session, database_url: str, workspace_id: uuid.UUID
) -> None:
    """Of a workspace that a host keeps in tables of its own there may be nothing but records by then."""
    connection = {"workspace_id": workspace_id, "id": uuid.uuid4(), "connector_type": "x", "name": "n", "config": {}}
    session.execute(insert(Connection).values(connection))
    session.commit()

    unknown = run("workspaces", "erase", str(uuid.uuid4()), "--yes", DATABASE_URL=database_url)
    erased = run("workspaces", "erase", str(workspace_id), "--yes", DATABASE_URL=database_url)

    assert unknown.exit_code == 2
    assert "there is nothing of a workspace" in unknown.stderr
    assert erased.exit_code == 0
    assert session.scalars(select(Connection)).all() == []
    assert session.scalars(select(AuditEntry.action)).all() == ["workspace.erase"]


def test_what_runs_is_in_the_way_of_an_erase(
    run: Cli, session: Session, database_url: str, workspace: uuid.UUID
) -> None:
    start(session, workspace, put(session, workspace))

    refused = run("workspaces", "erase", "Acme", "--yes", DATABASE_URL=database_url)
    late = run("workspaces", "erase", "Acme", "--yes", "--cancel-running", "--wait", "0", DATABASE_URL=database_url)

    assert refused.exit_code == late.exit_code == 1
    assert "1 job of it runs; wait for it, or say --cancel-running" in refused.stderr
    assert "1 job still runs after 0 s" in late.stderr
    (row,) = session.scalars(select(QueueRow)).all()
    assert row.cancel_requested_at is not None

    session.execute(QueueRow.__table__.delete())
    session.commit()
    assert run("workspaces", "erase", "Acme", "--yes", DATABASE_URL=database_url).exit_code == 0


def test_a_workspace_can_be_told_to_encrypt(
    run: Cli, session: Session, database_url: str, workspace: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", OLD)
    told = run("workspaces", "encrypt", "Acme", DATABASE_URL=database_url)

    job_id = put(session, workspace)

    assert "are sealed" in told.stdout
    assert list(session.get_one(Job, (workspace, job_id)).payload) == ["$sealed"]
    shown = run("jobs", "show", str(job_id), "-w", "Acme", "--json", DATABASE_URL=database_url)
    assert json.loads(shown.stdout)["payload"] == {"text": "canary"}
    without = run(
        "jobs", "show", str(job_id), "-w", "Acme", "--json", DATABASE_URL=database_url, JOBPLATFORM_ENCRYPTION_KEYS=""
    )
    assert json.loads(without.stdout)["payload"] == {"sealed": True}

    assert run("workspaces", "encrypt", "Acme", "--off", DATABASE_URL=database_url).exit_code == 0


def test_without_a_key_ring_no_workspace_can_be_told_to_encrypt(
    run: Cli, database_url: str, workspace: uuid.UUID
) -> None:
    answer = run("workspaces", "encrypt", "Acme", DATABASE_URL=database_url)

    assert answer.exit_code == 1
    assert "JOBPLATFORM_ENCRYPTION_KEYS" in answer.stderr


def test_a_generated_key_is_an_entry_of_the_ring(run: Cli) -> None:
    made = run("keys", "generate", "2026").stdout.strip()
    bad = run("keys", "generate", "a,b")

    assert made.startswith("2026:")
    assert run("keys", "generate", "x", JOBPLATFORM_ENCRYPTION_KEYS=made).exit_code == 0
    assert bad.exit_code == 2


def test_data_keys_are_rotated_and_listed(
    run: Cli, session: Session, database_url: str, workspace: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", OLD)
    make_key(session, workspace)
    session.commit()

    def keys(command: str, ring: str, *options: str) -> Any:
        return run("keys", command, *options, DATABASE_URL=database_url, JOBPLATFORM_ENCRYPTION_KEYS=ring)

    missing = keys("ls", NEW)
    refused = keys("rotate", NEW)
    rotated = keys("rotate", f"{NEW},{OLD}")
    listed = keys("ls", NEW, "--json")

    assert (missing.exit_code, refused.exit_code, listed.exit_code) == (1, 1, 0)
    assert "'old'" in refused.stderr
    assert "1 data key is wrapped by new" in rotated.stdout
    assert json.loads(listed.stdout) == [{"id": "new", "here": True, "wraps": True, "dataKeys": 1}]
    secret = NEW.partition(":")[2]
    assert not any(secret in answer.output for answer in (missing, refused, rotated, listed))


@pytest.mark.usefixtures("prepared")
def test_the_key_of_an_embedded_database_is_listed_as_here(run: Cli) -> None:
    listed = run("keys", "ls", "--json", JOBPLATFORM_ENCRYPTION_KEYS="")

    assert listed.exit_code == 0
    assert json.loads(listed.stdout) == [{"id": "local", "here": True, "wraps": True, "dataKeys": 0}]


def test_a_ring_that_cannot_be_read_is_a_problem_of_the_settings(run: Cli, database_url: str) -> None:
    answer = run("keys", "ls", DATABASE_URL=database_url, JOBPLATFORM_ENCRYPTION_KEYS=f"{OLD},broken")

    assert answer.exit_code == 2
    assert "key 2 must look like id:base64" in answer.stderr
    assert OLD.partition(":")[2] not in answer.stderr
