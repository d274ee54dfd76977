"""Jobs that a running job enqueues: with its own rows or not at all, and it is known whose children they are."""

from __future__ import annotations

import uuid

from tests.worker.conftest import Database, StartWorker

TABLE = "create table written (id text)"


def test_a_handler_enqueues_children_together_with_its_own_rows(start_worker: StartWorker, database: Database) -> None:
    database.execute(TABLE)
    start_worker()

    parent = database.enqueue("spawn", {"fails": True}, request_id="r-1", trace_parent="t-1")
    database.wait_until_done()

    children = database.rows("select * from jobplatform.jobs where id <> :id order by payload ->> 'by'", id=parent)
    assert [child.payload["by"] for child in children] == ["job", "many", "task"]
    assert {(child.parent_id, child.workspace_id) for child in children} == {(parent, database.workspace_id)}
    assert {(child.request_id, child.trace_parent) for child in children} == {("r-1", "t-1")}
    assert {child.status for child in children} == {"completed"}
    # The first attempt failed, and what it had enqueued and written went with it.
    assert database.rows("select count(*) from written") == [(1,)]
    assert database.job(parent).attempts == 2


def test_a_handler_cannot_enqueue_for_another_workspace(start_worker: StartWorker, database: Database) -> None:
    start_worker()

    job = database.enqueue("trespass", {"workspace_id": str(uuid.uuid4())})

    ended = database.wait_for_status(job, "failed")
    assert ended.error_type == "InvalidJobError"
    assert "a running job enqueues for its own workspace" in ended.error
