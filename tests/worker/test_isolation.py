"""What a handler can see of other workspaces with SQL of its own: nothing."""

from __future__ import annotations

import uuid

import pytest

from jobplatform.queue import NewJob, enqueue_jobs
from tests.worker.conftest import Database, StartWorker
from tests.worker.curious_tasks import tasks

TASKS = "tests.worker.curious_tasks:tasks"
#: Refused by the database: permission denied, or a row of another workspace.
REFUSED = "42501"


@pytest.fixture
def theirs(database: Database) -> uuid.UUID:
    """Another workspace, with a job that nobody will run."""
    theirs = uuid.uuid4()
    with database.sessions.begin() as session:
        enqueue_jobs(session, [NewJob(workspace_id=theirs, task="nobody_knows", payload={"secret": 1})])
    return theirs


def enqueue(database: Database, task: str, payload: dict[str, object] | None = None) -> uuid.UUID:
    job = tasks[task].new_job(payload or {}, workspace_id=database.workspace_id)
    with database.sessions.begin() as session:
        return enqueue_jobs(session, [job])[0].job_id


@pytest.mark.usefixtures("theirs")
def test_a_handler_s_select_from_jobs_shows_its_own_workspace_only(
    start_worker: StartWorker, database: Database
) -> None:
    job = enqueue(database, "look_around")

    start_worker(tasks=TASKS)

    seen = database.wait_for_status(job, "completed").result["seen"]
    assert seen == [[str(database.workspace_id)]] * 3


def test_a_handler_can_neither_change_nor_make_anything_of_others(
    start_worker: StartWorker, database: Database, theirs: uuid.UUID
) -> None:
    statements = {
        f"select * from jobplatform.job_records where workspace_id = '{theirs}'": 0,
        f"delete from jobplatform.job_queue where workspace_id = '{theirs}'": 0,
        f"update jobplatform.job_records set status = 5 where workspace_id = '{theirs}'": 0,
        f"insert into jobplatform.connections values ('{theirs}', gen_random_uuid(), 'x', 'x', '{{}}')": REFUSED,
        "truncate jobplatform.job_queue": REFUSED,
        "select * from jobplatform.api_tokens": REFUSED,
        "select * from jobplatform.audit_log": REFUSED,
        "alter table jobplatform.job_records disable row level security": REFUSED,
    }
    job = enqueue(database, "try_sql", {"statements": list(statements)})

    start_worker(tasks=TASKS)

    assert database.wait_for_status(job, "completed").result == statements
    assert database.rows(f"select status from jobplatform.jobs where workspace_id = '{theirs}'")[0][0] == "pending"


def test_a_handler_enqueues_for_its_own_workspace_only(
    start_worker: StartWorker, database: Database, theirs: uuid.UUID
) -> None:
    database.execute("create table notes (note text)")
    own, others = (
        enqueue(database, "enqueue_for", {"workspace": str(workspace)}) for workspace in (database.workspace_id, theirs)
    )

    start_worker(tasks=TASKS)

    assert database.wait_for_status(own, "completed").result == "enqueued"
    assert database.wait_for_status(others, "completed").result == REFUSED


def test_a_handler_s_rows_and_its_completion_are_one_commit_all_the_same(
    start_worker: StartWorker, database: Database
) -> None:
    database.execute("create table notes (note text)")
    job = enqueue(database, "write_down")

    start_worker(tasks=TASKS)

    assert database.wait_for_status(job, "completed").result == "written"
    assert database.rows("select note from notes") == [("done",)]
