"""One job at a time for each account, with several workers."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest

from jobplatform.queue import NewJob, enqueue_jobs, set_resource_limit
from tests.worker import account_tasks
from tests.worker.conftest import Database, Lines, StartWorker

ACCOUNTS, JOBS_OF_EACH = 8, 20
TASKS = "tests.worker.account_tasks:tasks"


@pytest.fixture
def begun(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "begun")


@pytest.fixture
def met(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "met")


def enqueue(database: Database, folder: Path, workspaces: list[uuid.UUID], go: str = "") -> None:
    """Jobs of each account, by turns of either task and of these workspaces."""
    jobs: list[NewJob] = []
    for number in range(JOBS_OF_EACH):
        task = account_tasks.tasks["charge" if number % 2 else "refund"]
        for account in range(ACCOUNTS):
            payload = {"account": account, "folder": str(folder), "go": go}
            jobs.append(task.new_job(payload, workspace_id=workspaces[number % len(workspaces)]))
    with database.sessions.begin() as session:
        enqueue_jobs(session, jobs)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_two_jobs_of_an_account_meet_and_those_of_others_run_meanwhile(
    start_worker: StartWorker, database: Database, begun: Lines, met: Lines, tmp_path: Path, threads: int
) -> None:
    for _ in range(3):
        start_worker(tasks=TASKS, slots=4, threads=threads, poll=0.1)
    go = tmp_path / "go"
    enqueue(database, tmp_path, [database.workspace_id, uuid.UUID(int=5)], go=str(go))

    # As none of them ends before the test says so, all these run at once.
    together = begun.wait(ACCOUNTS)
    go.touch()
    database.wait_until_done()

    assert len({line.split()[0] for line in together[:ACCOUNTS]}) == ACCOUNTS
    assert met.read() == []
    assert Counter(line.split()[0] for line in begun.read()) == {
        str(account): JOBS_OF_EACH for account in range(ACCOUNTS)
    }
    assert database.statuses() == {"completed": ACCOUNTS * JOBS_OF_EACH}


def test_a_limit_that_an_operator_lifted_lets_them_meet(
    start_worker: StartWorker, database: Database, begun: Lines, met: Lines, tmp_path: Path
) -> None:
    """The measure itself: jobs that do meet are seen to."""
    start_worker(tasks=TASKS, slots=4, poll=0.1)
    with database.sessions.begin() as session:
        set_resource_limit(session, "account:*", None)
    go = tmp_path / "go"
    payload = {"account": 1, "folder": str(tmp_path), "go": str(go)}
    jobs = [account_tasks.charge.new_job(payload, workspace_id=database.workspace_id) for _ in range(4)]
    with database.sessions.begin() as session:
        enqueue_jobs(session, jobs)

    begun.wait(4)
    go.touch()
    database.wait_until_done()

    assert len(met.read()) == 3


def test_workspaces_that_share_an_account_have_it_by_turns(
    start_worker: StartWorker, database: Database, begun: Lines, tmp_path: Path
) -> None:
    workspaces = [uuid.UUID(int=number) for number in (1, 2)]
    jobs = [
        account_tasks.charge.new_job({"account": 1, "folder": str(tmp_path)}, workspace_id=workspace_id)
        for workspace_id in workspaces
        for _ in range(30)
    ]
    with database.sessions.begin() as session:
        enqueue_jobs(session, jobs)

    start_worker(tasks=TASKS, slots=4, poll=0.1)
    database.wait_until_done()

    order = [line.split()[1] for line in begun.read()]
    # Neither has to wait for all of the other's.
    assert {order.index(str(workspace_id)) < 30 for workspace_id in workspaces} == {True}


def test_a_worker_that_starts_writes_down_what_its_code_says(start_worker: StartWorker, database: Database) -> None:
    start_worker(tasks=TASKS)

    assert database.rows("select resource, max_running, declared_by from jobplatform.resource_limits") == [
        ("account:*", 1, TASKS)
    ]
