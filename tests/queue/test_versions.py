"""Payload versions: a worker takes what its code can read, and what it cannot waits for one that can."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Failure,
    WorkerInfo,
    claim_jobs,
    compact_now,
    enqueue_jobs,
    fail_jobs,
    queue_health,
    register_worker,
    retry_job,
    why_waiting,
)
from jobplatform.testing import wait_until
from tests.queue.actors import Worker
from tests.queue.conftest import Fact, Look, Put
from tests.queue.test_edges import Play, new


def claimed(worker: Worker, limit: int = 10, **versions: int) -> list[uuid.UUID]:
    """What code that reads these versions gets."""
    claim = claim_jobs(
        worker.db, worker.ring, worker_id=worker.id, tasks=worker.tasks, limit=limit, versions=versions or None
    )
    return [uuid.UUID(job.lease.job_id) for job in claim.jobs]


def test_a_payload_of_newer_code_waits_for_a_worker_that_can_read_it(put: Put, worker: Worker, look: Look) -> None:
    old, new = put(), put(payload_version=2)

    assert claimed(worker, work=1) == [old]
    assert (look(new).status, look(new).attempts) == (Status.PENDING, 0)

    assert claimed(worker, work=2) == [new]


def test_newer_code_takes_what_older_code_has_enqueued(put: Put, worker: Worker) -> None:
    jobs = {put(), put(payload_version=2), put(payload_version=3)}

    assert set(claimed(worker, work=3)) == jobs


def test_code_that_says_nothing_of_versions_reads_all(put: Put, worker: Worker) -> None:
    job_id = put(payload_version=9)

    assert claimed(worker) == [job_id]


@pytest.mark.parametrize("limits", ["none", "some"])
def test_a_backlog_of_newer_payloads_does_not_stand_before_the_others(
    put: Put, worker: Worker, fact: Fact, limits: str
) -> None:
    """Also with the statement that weighs limits."""
    for _ in range(250):
        put(payload_version=2, priority=5)
    last = put()
    if limits == "some":
        fact("insert into jobplatform.task_limits (task, max_running) values ('work', 100) returning 1")

    assert claimed(worker, 1, work=1) == [last]


def test_a_worker_with_older_code_is_no_worker_for_a_newer_payload(
    put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    register_worker(db, WorkerInfo("w", "host", 1, "test", ("default",), ("other", "work"), 1, versions=(1, 2)))
    readable, newer = put(payload_version=2), put(payload_version=3)

    health = queue_health(db)
    why = why_waiting(db, workspace_id, newer)

    assert [alert.code for alert in health.alerts] == ["unserved"]
    assert health.unserved_tasks == ("work (payload version 3)",)
    assert why is not None
    assert [blocker.code for blocker in why.blockers] == ["no-worker"]
    assert "version 3 of its payload" in why.blockers[0].message
    fine = why_waiting(db, workspace_id, readable)
    assert fine is not None
    assert [blocker.code for blocker in fine.blockers] == ["behind"]


def test_a_retried_job_is_still_of_its_version(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    job_id = put(payload_version=2)
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "no", retry=False)])

    retry_job(db, workspace_id, job_id)

    assert claimed(worker, work=1) == []
    assert claimed(worker, work=2) == [job_id]


def test_a_job_that_is_brought_back_is_still_of_its_version(
    db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    play = Play(db)
    first = new(workspace_id)
    second = new(workspace_id, first, payload_version=2)
    enqueue_jobs(db, [first, second])
    play.fail(first)

    retry_job(db, workspace_id, first.id)
    play.complete(first)

    assert claimed(worker, work=1) == []
    assert claimed(worker, work=2) == [second.id]


@pytest.mark.direct("an exclusive lock is not to be had while the pooler's other connections look on")
def test_a_rewritten_queue_table_still_knows_versions(put: Put, db: Session, worker: Worker) -> None:
    job_id = put(payload_version=2)

    wait_until(lambda: compact_now(db.get_bind().engine), what="nobody to use the queue table")

    assert claimed(worker, work=1) == []
    assert claimed(worker, work=2) == [job_id]
