"""Syncs of one workspace that are about different connections wait for their turn."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from jobplatform.connectors import sync
from jobplatform.queue import NewJob, enqueue_job
from tests.worker.conftest import Database, StartWorker

CONNECT = """
insert into jobplatform.connections (workspace_id, id, connector_type, name, config)
values (:workspace, :id, 'held', 'Held', cast(:config as jsonb))
"""


def test_syncs_of_two_connections_run_one_after_the_other_and_none_is_lost(
    start_worker: StartWorker, database: Database, tmp_path: Path
) -> None:
    until, connections = tmp_path / "go", [uuid.uuid4(), uuid.uuid4()]
    for connection_id in connections:
        config = json.dumps({"until": str(until)})
        database.execute(CONNECT, workspace=database.workspace_id, id=connection_id, config=config)
    start_worker(tasks="tests.worker.held_syncs:tasks", slots=3, poll=0.05)
    one, two = (
        sync.new_job({"connectionId": str(connection_id)}, workspace_id=database.workspace_id)
        for connection_id in connections
    )
    with database.sessions.begin() as session:
        first = enqueue_job(session, one).job_id
    database.wait_for_status(first, "running")
    with database.sessions.begin() as session:
        second = enqueue_job(session, two).job_id
        beside = NewJob(workspace_id=database.workspace_id, task="beside", queue="sync", priority=-1)
        marker = enqueue_job(session, beside).job_id

    # It comes after the second sync: who runs it has passed that one over.
    database.wait_for_status(marker, "completed")
    assert (database.job(first).status, database.job(second).status) == ("running", "pending")

    until.touch()
    for job_id in (first, second):
        assert database.wait_for_status(job_id, "completed").result["errors"] == []
