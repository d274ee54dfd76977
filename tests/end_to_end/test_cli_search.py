"""Jobs are found with one line, and workers are asked to do something about all of them."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from jobplatform.models import AuditEntry
from jobplatform.queue import NewJob, continue_bulk, enqueue_jobs
from tests.end_to_end.conftest import Cli, as_json


def test_jobs_are_found_cancelled_by_workers_and_watched(cli: Cli, session: Session, workspace_id: uuid.UUID) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="sync", tags=("eu",)) for _ in range(3)])
    session.commit()

    page = as_json(cli("jobs", "find", "task:sync tag:eu", "-n", "2", "--json"))
    rest = as_json(cli("jobs", "find", "task:sync tag:eu", "--before", page["next"], "--json"))
    assert [len(page["jobs"]), len(rest["jobs"])] == [2, 1]
    assert "go on with --before" in cli("jobs", "find", "task:sync", "-n", "1").stdout
    refused = cli("jobs", "find", "state:failed")
    assert "did you mean status:?" in refused.output

    assert "would cancel 3 pending" in cli("bulk", "begin", "cancel", "task:sync", "--dry-run").stdout
    asked = as_json(cli("bulk", "begin", "cancel", "task:sync", "--yes", "--json"))
    assert (asked["state"], asked["expected"]) == ("waiting", 3)
    while continue_bulk(session):
        session.commit()
    shown = as_json(cli("bulk", "show", asked["id"], "--json"))
    assert (shown["state"], shown["done"]) == ("done", 3)
    assert "cancel" in cli("bulk", "ls").stdout
    stopped = cli("bulk", "stop", asked["id"])
    assert "still to be done" in stopped.output

    session.rollback()
    (line,) = session.query(AuditEntry).filter_by(action="bulk.begin").all()
    assert (line.target, line.details["deed"]) == (f"bulk:{asked['id']}", "cancel")
