"""``jobs`` is what a person with a SQL prompt reads."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.models import JobRecord, QueueRow
from jobplatform.queue import NewJob, enqueue_job

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
NINE_SECONDS = datetime.timedelta(seconds=9)

#: The columns of the table this platform grew out of, with what they are called for a job of their type.
SEED = """
select
    id, workspace_id, job_type, status, priority, payload, progress, result, error,
    attempts, max_attempts, created_at, started_at, completed_at, run_after, timeout_ms
from jobplatform.jobs
"""


def live(job_id: uuid.UUID, workspace_id: uuid.UUID, **change: Any) -> dict[str, Any]:
    return {
        "workspace_id": workspace_id,
        "id": job_id,
        "queue": "q",
        "task": "t",
        "state": 1,
        "priority": 0,
        "max_attempts": 3,
        "timeout_ms": 1000,
        "run_after": NOW,
        **change,
    }


RUNNING = {"state": 2, "epoch": 1, "attempts": 1, "worker_id": 7, "started_at": NOW}


def put(
    session: Session,
    workspace_id: uuid.UUID,
    record: dict[str, Any] | None = None,
    row: dict[str, Any] | None = None,
) -> Any:
    """A job with this record and, if it is live, this queue row; answered as the view shows it."""
    job_id = uuid.uuid4()
    values = {"workspace_id": workspace_id, "id": job_id, "task": "t", "queue": "q", "payload": {}, **(record or {})}
    session.execute(insert(JobRecord).values(**values))
    if row is not None:
        session.execute(insert(QueueRow).values(**live(job_id, workspace_id, **row)))
    return session.execute(text("select * from jobplatform.jobs where id = :id"), {"id": job_id}).one()


@pytest.mark.parametrize(
    ("record", "row", "status"),
    [
        ({}, {"state": 0}, "pending"),
        ({}, {"state": 1}, "pending"),
        ({}, RUNNING, "running"),
        ({"status": 3, "outcome": "ok", "completed_at": NOW}, None, "completed"),
        ({"status": 4, "outcome": "error", "completed_at": NOW}, None, "failed"),
        ({"status": 5, "outcome": "cancelled", "completed_at": NOW}, None, "cancelled"),
    ],
)
def test_a_job_has_one_of_five_statuses(
    session: Session, workspace_id: uuid.UUID, record: dict[str, Any], row: dict[str, Any] | None, status: str
) -> None:
    assert put(session, workspace_id, record, row).status == status


def test_the_columns_that_people_know_are_there(session: Session, workspace_id: uuid.UUID) -> None:
    enqueued = enqueue_job(
        session,
        NewJob(
            workspace_id=workspace_id, task="sync", payload={"a": 1}, priority=5, timeout=datetime.timedelta(seconds=9)
        ),
    )

    row = session.execute(text(SEED)).one()._mapping

    assert (row["id"], row["workspace_id"], row["job_type"]) == (enqueued.job_id, workspace_id, "sync")
    assert (row["status"], row["priority"], row["payload"], row["timeout_ms"]) == ("pending", 5, {"a": 1}, 9000)
    assert (row["attempts"], row["max_attempts"]) == (0, 3)
    assert row["created_at"] == row["run_after"] is not None
    assert {row[name] for name in ("progress", "result", "error", "started_at", "completed_at")} == {None}


def test_a_live_jobs_counters_are_those_of_its_queue_row(session: Session, workspace_id: uuid.UUID) -> None:
    job = put(
        session, workspace_id, {"attempts": 1, "epoch": 1}, {**RUNNING, "attempts": 2, "epoch": 2, "crash_count": 1}
    )

    assert (job.attempts, job.epoch, job.crash_count, job.worker_id) == (2, 2, 1, 7)


def test_an_attempt_that_has_reported_nothing_does_not_show_the_progress_of_the_one_before(
    session: Session, workspace_id: uuid.UUID
) -> None:
    job = put(session, workspace_id, {"progress": {"current": 90}}, {**RUNNING, "progress": None})

    assert job.progress is None


def test_a_finished_job_shows_the_last_progress(session: Session, workspace_id: uuid.UUID) -> None:
    ended = {"status": 3, "outcome": "ok", "completed_at": NOW}

    assert put(session, workspace_id, {**ended, "progress": {"current": 100}}).progress == {"current": 100}


def test_the_view_cannot_be_written(session: Session, workspace_id: uuid.UUID) -> None:
    put(session, workspace_id, {}, {})

    with pytest.raises(DBAPIError, match="cannot update view"):
        session.execute(text("update jobplatform.jobs set priority = 1"))


def test_a_reader_needs_rights_on_the_tables_behind_the_view(engine: Engine) -> None:
    """``security_invoker``: row security that a host puts on the tables holds for readers of the view too."""
    with engine.connect() as connection:
        options = connection.scalar(text("select reloptions from pg_class where oid = 'jobplatform.jobs'::regclass"))

    assert options == ["security_invoker=true"]
