"""``jobplatform records``, ``syncs`` and ``exports``; and what becomes of exported files when a workspace is erased."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from jobplatform.connectors import FolderStore, create_connection
from jobplatform.models import ExportFile, Record, SyncLog, clock
from tests.end_to_end.conftest import Cli, as_json


@pytest.fixture
def connection_id(session: Session, acme: uuid.UUID) -> str:
    """A connection with three records, one of them deleted."""
    made = create_connection(session, acme, connector_type="csv", name="People", config={"idColumn": "id"})
    for name in ("Ada", "Alan", "Grace"):
        session.add(
            Record(
                workspace_id=acme,
                connection_id=made.id,
                stream="people",
                external_id=name.lower(),
                data={"name": name, "firstSeen": "x" * 300},
                deleted_at=clock() if name == "Alan" else None,
            )
        )
    session.commit()
    return str(made.id)


def test_records_are_listed_and_shown(cli: Cli, connection_id: str) -> None:
    listed = cli("records", "ls", connection_id, "-w", "Acme").stdout
    every = as_json(cli("records", "ls", connection_id, "-w", "Acme", "--deleted", "--json", "-n", "2"))
    changed = as_json(
        cli("records", "ls", connection_id, "-w", "Acme", "--since", "2020-01-01T00:00:00Z", "--deleted", "--json")
    )
    shown = cli("records", "show", connection_id, "people", "ada", "-w", "Acme").stdout
    missing = cli("records", "show", connection_id, "people", "ken", "-w", "Acme")

    assert "grace" in listed
    assert "alan" not in listed
    assert [(one["externalId"], one["deletedAt"] is None) for one in every] == [("ada", True), ("alan", False)]
    # The source's own names stay as they are.
    assert set(every[0]["data"]) == {"name", "firstSeen"}
    assert len(changed) == 3
    assert "Ada" in shown
    assert (missing.exit_code, "no record 'ken'" in missing.stderr) == (1, True)


def test_the_connection_of_records_may_be_given_by_its_name_where_that_is_enough(
    cli: Cli, connection_id: str, session: Session, acme: uuid.UUID
) -> None:
    listed = cli("records", "ls", "People", "-w", "Acme").stdout
    shown = cli("records", "show", "People", "people", "ada", "-w", "Acme").stdout
    nobody = cli("records", "ls", "Persons", "-w", "Acme")
    create_connection(session, acme, connector_type="csv", name="People", config={"idColumn": "id"})
    session.commit()
    either = cli("records", "show", "People", "people", "ada", "-w", "Acme")

    assert "grace" in listed
    assert "Ada" in shown
    assert (nobody.exit_code, "see `jobplatform connections ls`" in nobody.stderr) == (1, True)
    assert (either.exit_code, "2 connections are named 'People'" in either.stderr) == (1, True)
    assert connection_id in either.stderr


def test_what_came_of_syncs_is_listed_and_shown(cli: Cli, session: Session, acme: uuid.UUID) -> None:
    log = SyncLog(
        workspace_id=acme,
        id=uuid.uuid4(),
        job_id=uuid.uuid4(),
        mode="initial",
        status="completed",
        total_records=3,
        results=[{"name": "People", "connectorType": "csv", "status": "completed", "records": 3}],
        warnings=["People: line 7 is odd"],
        ended_at=clock(),
    )
    session.add(log)
    session.commit()

    listed = as_json(cli("syncs", "ls", "-w", "Acme", "--json"))
    table = cli("syncs", "ls", "-w", "Acme").stdout
    shown = cli("syncs", "show", str(log.id), "-w", "Acme").stdout
    missing = cli("syncs", "show", str(uuid.uuid4()), "-w", "Acme")

    assert [(one["id"], one["totalRecords"], one["status"]) for one in listed] == [(str(log.id), 3, "completed")]
    assert str(log.id) in table
    assert "line 7 is odd" in shown
    assert "People" in shown
    assert (missing.exit_code, "is not a sync" in missing.stderr) == (1, True)


def test_exports_are_listed_and_go_with_their_workspace(
    cli: Cli, session: Session, acme: uuid.UUID, connection_id: str, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"ab")
    export_id = uuid.uuid4()
    FolderStore(tmp_path).put(f"{acme}/{export_id}.csv", tmp_path / "source", "r.csv", "text/csv")
    session.add(
        ExportFile(
            workspace_id=acme,
            id=export_id,
            job_id=export_id,
            name="r.csv",
            key=f"{acme}/{export_id}.csv",
            rows=1,
            size=2,
            digest=bytes(32),
            expires_at=clock() + datetime.timedelta(days=1),
        )
    )
    session.commit()

    listed = as_json(cli("exports", "ls", "-w", "Acme", "--json"))
    table = cli("exports", "ls", "-w", "Acme").stdout
    erased = cli("workspaces", "erase", "Acme", "--yes", JOBPLATFORM_EXPORTS=str(tmp_path))

    assert [(one["id"], one["rows"], one["bytes"]) for one in listed] == [(str(export_id), 1, 2)]
    assert "r.csv" in table
    assert erased.exit_code == 0, erased.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
