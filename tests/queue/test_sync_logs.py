"""The entry of a sync is closed when its job has ended in any way."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.connectors.storing import reopen_log
from jobplatform.models import Role, SyncLog, confine
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    NewJob,
    SyncLogSeen,
    WorkerInfo,
    bury_workers,
    cancel_job,
    claim_job,
    complete_jobs,
    enqueue_job,
    fail_jobs,
    get_sync_log,
    list_sync_logs,
    promote_jobs,
    register_worker,
    rescue_jobs,
    tend_sync_logs,
)
from jobplatform.testing import Clock

KEPT = datetime.timedelta(days=90)


@pytest.fixture
def start(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> Callable[..., tuple[uuid.UUID, uuid.UUID]]:
    """A job, and an entry that says that its sync runs; their ids."""

    def start(errors: list[str] | None = None, max_attempts: int = 1) -> tuple[uuid.UUID, uuid.UUID]:
        with sessions.begin() as session:
            wanted = NewJob(workspace_id=workspace_id, task="sync", max_attempts=max_attempts)
            job_id = enqueue_job(session, wanted).job_id
            log = SyncLog(
                workspace_id=workspace_id, id=uuid.uuid4(), job_id=job_id, mode="initial", errors=errors or []
            )
            session.add(log)
            return job_id, log.id

    return start


def end(sessions: sessionmaker[Session], workspace_id: uuid.UUID, job_id: uuid.UUID, how: str) -> None:
    with sessions.begin() as session:
        if how == "cancelled":
            cancel_job(session, workspace_id, job_id)
            return
        worker = register_worker(session, WorkerInfo("by hand", "here", 1, "0", (), (), 1))
        claimed = claim_job(session, worker_id=worker, workspace_id=workspace_id, job_id=job_id)
        assert claimed is not None
        if how == "failed":
            fail_jobs(session, [Failure(claimed.lease, "timeout", "TimedOut", "x")])
        elif how == "completed":
            complete_jobs(session, [Completion(claimed.lease, "{}")])
    if how == "deleted":
        with sessions.begin() as session:
            session.execute(text("delete from jobplatform.job_queue"))
            session.execute(text("delete from jobplatform.job_records"))


def tend(sessions: sessionmaker[Session], after: datetime.timedelta = KEPT) -> tuple[int, int]:
    """As a worker's process does, with its rights."""
    with confine(sessions(), Role.WORKER) as session, session.begin():
        return tend_sync_logs(session, after=after)


ENDS = {
    "cancelled": ("cancelled", ["its job was cancelled"]),
    "failed": ("failed", ["its job ended as failed (timeout)"]),
    "completed": ("completed", []),
    "deleted": ("failed", ["its job was deleted before it said how it ended"]),
}


@pytest.mark.parametrize("how", ENDS)
def test_an_entry_whose_job_has_ended_does_not_say_that_it_runs(
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
    start: Callable[..., tuple[uuid.UUID, uuid.UUID]],
    how: str,
) -> None:
    job_id, log_id = start(errors=["CRM: busy"])
    _, other = start()
    end(sessions, workspace_id, job_id, how)
    status, reasons = ENDS[how]

    # To a reader at once, and in the table when a worker has come round.
    with sessions() as session:
        seen = get_sync_log(session, workspace_id, log_id)
    assert seen is not None
    assert (seen.status, seen.errors) == (status, ["CRM: busy", *reasons])
    assert seen.ended_at is not None

    closed = 1 if how != "deleted" else 2
    assert tend(sessions) == (closed, 0)
    with sessions() as session:
        row = session.get_one(SyncLog, (workspace_id, log_id))
        assert (row.status, row.errors) == (status, ["CRM: busy", *reasons])
        assert row.ended_at is not None
        still = session.get_one(SyncLog, (workspace_id, other))
        assert still.status == ("running" if how != "deleted" else "failed")
    assert tend(sessions) == (0, 0)


def test_an_entry_of_a_job_that_waits_for_its_next_attempt_goes_on(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, start: Callable[..., tuple[uuid.UUID, uuid.UUID]]
) -> None:
    _, log_id = start()

    assert tend(sessions) == (0, 0)
    with sessions() as session:
        seen = get_sync_log(session, workspace_id, log_id)
    assert seen is not None
    assert (seen.status, seen.ended_at) == ("running", None)


def test_old_entries_are_forgotten_and_those_of_syncs_under_way_never(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, start: Callable[..., tuple[uuid.UUID, uuid.UUID]]
) -> None:
    ids = [start() for _ in range(3)]
    for job_id, _ in ids[:2]:
        end(sessions, workspace_id, job_id, "cancelled")
    old = "update jobplatform.sync_logs set started_at = started_at - interval '91 days' where id = any(:ids)"
    with sessions.begin() as session:
        session.execute(text(old), {"ids": [ids[0][1], ids[2][1]]})

    assert tend(sessions) == (2, 1)

    with sessions() as session:
        assert set(session.scalars(select(SyncLog.id))) == {ids[1][1], ids[2][1]}


def test_one_process_tends_the_entries_in_a_minute(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, start: Callable[..., tuple[uuid.UUID, uuid.UUID]]
) -> None:
    assert tend(sessions) == (0, 0)
    job_id, _ = start()
    end(sessions, workspace_id, job_id, "cancelled")

    with sessions.begin() as session:
        assert tend_sync_logs(session, after=KEPT, now=False) == (0, 0)
        assert tend_sync_logs(session, after=KEPT) == (1, 0)


def test_entries_are_listed_newest_first_a_page_at_a_time_and_nobody_else_s(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    ids = [uuid.UUID(int=number) for number in range(1, 6)]
    with sessions.begin() as session:
        session.add_all(
            SyncLog(workspace_id=workspace, id=one, job_id=one, mode="initial", status="completed")
            for one in ids
            for workspace in (workspace_id, uuid.uuid4())
        )

    def page(before: uuid.UUID | None) -> list[SyncLogSeen]:
        with sessions() as session:
            return list_sync_logs(session, workspace_id, limit=2, before=before)

    first, second, third = page(None), page(ids[3]), page(ids[1])

    assert [log.id for log in (*first, *second, *third)] == ids[::-1]
    with sessions() as session:
        assert get_sync_log(session, uuid.uuid4(), ids[0]) is None


# Interrupted


def claim(sessions: sessionmaker[Session], workspace_id: uuid.UUID, job_id: uuid.UUID) -> tuple[int, Lease]:
    with sessions.begin() as session:
        worker = register_worker(session, WorkerInfo("by hand", "here", 1, "0", (), (), 1))
        claimed = claim_job(session, worker_id=worker, workspace_id=workspace_id, job_id=job_id)
        assert claimed is not None
        return worker, claimed.lease


def seen_and_stored(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, log_id: uuid.UUID
) -> tuple[str, str, list[str]]:
    """What a reader is told, and what stands in the table."""
    with sessions() as session:
        seen = get_sync_log(session, workspace_id, log_id)
        row = session.get_one(SyncLog, (workspace_id, log_id))
        assert seen is not None
        assert (row.ended_at, seen.ended_at) == (None, None)
        return seen.status, row.status, row.errors


def test_a_sync_whose_worker_died_says_so_at_once_and_the_table_when_it_is_rescued(
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
    start: Callable[..., tuple[uuid.UUID, uuid.UUID]],
    engine: Engine,
) -> None:
    job_id, log_id = start(max_attempts=3)
    claim(sessions, workspace_id, job_id)
    assert seen_and_stored(sessions, workspace_id, log_id) == ("running", "running", [])

    Clock(engine).travel(minutes=2)
    silent = seen_and_stored(sessions, workspace_id, log_id)
    with confine(sessions(), Role.WORKER) as session, session.begin():
        bury_workers(session, datetime.timedelta(seconds=30))
    with confine(sessions(), Role.WORKER) as session, session.begin():
        assert len(rescue_jobs(session)) == 1
    rescued = seen_and_stored(sessions, workspace_id, log_id)
    Clock(engine).travel(hours=1)
    with sessions.begin() as session:
        promote_jobs(session)
    claim(sessions, workspace_id, job_id)
    with sessions.begin() as session:
        reopen_log(session, workspace_id, str(log_id))
    again = seen_and_stored(sessions, workspace_id, log_id)
    Clock(engine).reset()

    assert silent == ("interrupted", "running", [])
    assert rescued == ("interrupted", "interrupted", ["its worker was lost, and it is tried again"])
    assert again[:2] == ("running", "running")


def test_a_sync_that_is_lost_for_good_has_failed_as_soon_as_it_is_rescued(
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
    start: Callable[..., tuple[uuid.UUID, uuid.UUID]],
) -> None:
    job_id, log_id = start()
    worker, _ = claim(sessions, workspace_id, job_id)
    dead = "update jobplatform.workers set dead_at = jobplatform.clock() where id = :id"
    with sessions.begin() as session:
        session.execute(text(dead), {"id": worker})

    with confine(sessions(), Role.WORKER) as session, session.begin():
        rescue_jobs(session, crash_limit=1)

    with sessions() as session:
        row = session.get_one(SyncLog, (workspace_id, log_id))
        assert (row.status, row.errors) == ("failed", ["its job ended as failed (lost)"])
        assert row.ended_at is not None


def test_a_sync_that_ran_out_of_time_and_waits_for_its_next_try_is_interrupted_to_its_reader(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, start: Callable[..., tuple[uuid.UUID, uuid.UUID]]
) -> None:
    job_id, log_id = start(max_attempts=3)
    _, lease = claim(sessions, workspace_id, job_id)
    with sessions.begin() as session:
        fail_jobs(session, [Failure(lease, "timeout", "TimedOut", "x", delay=60)])

    with sessions() as session:
        seen = get_sync_log(session, workspace_id, log_id)
    assert seen is not None
    assert (seen.status, seen.errors) == (
        "interrupted", ["its last attempt ended as timeout, and it is tried again"],
    )  # fmt: skip


def test_an_interrupted_sync_whose_job_is_cancelled_is_closed(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, start: Callable[..., tuple[uuid.UUID, uuid.UUID]]
) -> None:
    job_id, log_id = start()
    with sessions.begin() as session:
        session.execute(text("update jobplatform.sync_logs set status = 'interrupted'"))
    end(sessions, workspace_id, job_id, "cancelled")

    assert tend(sessions) == (1, 0)
    with sessions() as session:
        assert session.get_one(SyncLog, (workspace_id, log_id)).status == "cancelled"
