"""Batches and chains in real workers, with the rights of a worker and of a handler and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobplatform.queue import Edge, chain, close_batch, enqueue_jobs, open_batch
from jobplatform.testing import wait_until
from tests.worker.conftest import Database, StartWorker
from tests.worker.handlers import tasks


@pytest.mark.direct("LISTEN: without it each step would wait for the poll")
def test_a_chain_and_a_batch_go_on_at_once_and_not_only_at_the_next_poll(
    start_worker: StartWorker, database: Database, tmp_path: Path
) -> None:
    ws = database.workspace_id
    start_worker(poll=300.0)

    with database.sessions.begin() as session:
        steps = [tasks["part"].new_job({"number": number}, workspace_id=ws) for number in range(3)]
        end = tasks["sum_up"].new_job({}, workspace_id=ws)
        enqueue_jobs(session, chain(*steps, end))
    assert database.wait_for_status(end.id, "completed").result == {"batch": None, "results": [{"number": 2}]}

    with database.sessions.begin() as session:
        batch_id = open_batch(session, ws)
        members = [
            tasks["part"].new_job({"number": number, "adds": number == 0}, workspace_id=ws, batch_id=batch_id)
            for number in range(5)
        ]
        report = tasks["sum_up"].new_job({}, workspace_id=ws, after=[Edge(batch_id, of_batch=True)])
        enqueue_jobs(session, [*members, report])
    for member in members:
        database.wait_for_status(member.id, "completed")
    with database.sessions.begin() as session:
        close_batch(session, ws, batch_id)

    assert database.wait_for_status(report.id, "completed").result == {"batch": ["completed", 6, 6], "results": []}

    # What waits for the running job of its key goes on at once too. (It shares this worker.)
    go = tmp_path / "go"
    replace = {"unique_key": "k", "if_active": "replace"}
    first = database.enqueue("wait", {"file": str(tmp_path / "told"), "until": str(go)}, **replace)
    database.wait_for_status(first, "running")
    second = database.enqueue("noop", **replace)
    follows = "select followed from jobplatform.job_queue where id = :id"
    wait_until(lambda: database.rows(follows, id=first)[0][0], what="the worker to follow the running job")
    go.touch()
    database.wait_for_status(second, "completed")
    database.wait_until_done()
