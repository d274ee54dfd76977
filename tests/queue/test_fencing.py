"""A stale worker that lost its lease changes nothing, whatever it still tries."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from jobplatform.errors import LeaseLostError
from jobplatform.models import Role
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    LogLine,
    ProgressReport,
    Release,
    append_log_lines,
    begin_jobs,
    complete_jobs,
    deregister_worker,
    fail_jobs,
    heartbeat,
    promote_jobs,
    release_jobs,
    report_progress,
    rescue_jobs,
)
from jobplatform.queue.attempts.save_step import save_checkpoint, save_step
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put

Write = Callable[[Session, Lease], Any]


def refused(save: Callable[..., None], *told: Any) -> type[Exception] | None:
    try:
        save(*told)
    except LeaseLostError:
        return LeaseLostError
    return None


#: Everything a worker writes under its lease, and the answer of a write that was not accepted.
WRITES: dict[str, tuple[Write, Any]] = {
    "complete": (lambda db, lease: complete_jobs(db, [Completion(lease, '"stale"')]), set()),
    "fail": (lambda db, lease: fail_jobs(db, [Failure(lease, "error", "E", "stale", retry=False)]), {}),
    "crash": (lambda db, lease: fail_jobs(db, [Failure(lease, "lost", "E", "stale", crash=True)]), {}),
    "release": (lambda db, lease: release_jobs(db, [Release(lease)]), set()),
    "snooze": (lambda db, lease: release_jobs(db, [Release(lease, 60)]), set()),
    "begin": (lambda db, lease: begin_jobs(db, [lease]), set()),
    "progress": (lambda db, lease: report_progress(db, [ProgressReport(lease, '"stale"')]), set()),
    "step": (lambda db, lease: refused(save_step, db, lease, "page", '"stale"'), LeaseLostError),
    "checkpoint": (lambda db, lease: refused(save_checkpoint, db, lease, '"stale"'), LeaseLostError),
    "parts": (lambda db, lease: refused(save_checkpoint, db, lease, '"stale"', {"a": '"stale"'}), LeaseLostError),
    "log": (lambda db, lease: append_log_lines(db, [LogLine(lease, 1, "info", "stale")]), 0),
}

EVERYTHING = """
select
    (select array_agg(to_jsonb(r) order by id) from jobplatform.job_records r),
    (select array_agg(to_jsonb(q) order by id) from jobplatform.job_queue q),
    (select array_agg(to_jsonb(a) order by epoch) from jobplatform.job_attempts a),
    (select array_agg(to_jsonb(l) order by epoch, line) from jobplatform.job_logs l),
    (select array_agg(to_jsonb(s) order by name) from jobplatform.job_steps s)
"""


def everything(db: Session) -> tuple[Any, ...]:
    return tuple(db.execute(text(EVERYTHING)).one())


@pytest.fixture
def stale(put: Put, db: Session, worker: Worker) -> Lease:
    """The lease of a worker that was declared dead while it slept."""
    put(start_within=datetime.timedelta(hours=1))
    lease = worker.lease()
    deregister_worker(db, worker.id)
    rescue_jobs(db)
    return lease


@pytest.fixture
def in_other_hands(stale: Lease, db: Session, time: Time) -> Lease:
    """The same job's new lease, held by another worker."""
    time.passes(600)
    promote_jobs(db)
    return Worker(db).lease()


@pytest.mark.parametrize("write", WRITES)
def test_a_write_under_a_stale_lease_changes_nothing_while_the_job_waits(stale: Lease, db: Session, write: str) -> None:
    before = everything(db)
    act, refused = WRITES[write]

    assert act(db, stale) == refused
    assert everything(db) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_write_under_a_stale_lease_changes_nothing_while_another_worker_has_the_job(
    stale: Lease, in_other_hands: Lease, db: Session, write: str
) -> None:
    before = everything(db)
    act, refused = WRITES[write]

    assert act(db, stale) == refused
    assert everything(db) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_write_under_a_stale_lease_changes_nothing_after_the_job_has_ended(
    stale: Lease, in_other_hands: Lease, db: Session, write: str
) -> None:
    complete_jobs(db, [Completion(in_other_hands)])
    before = everything(db)
    act, refused = WRITES[write]

    assert act(db, stale) == refused
    assert everything(db) == before


@pytest.mark.parametrize("write", WRITES)
def test_the_holder_of_the_lease_is_accepted(stale: Lease, in_other_hands: Lease, db: Session, write: str) -> None:
    before = everything(db)
    act, refused = WRITES[write]

    assert act(db, in_other_hands) != refused
    assert everything(db) != before


def test_a_heartbeat_does_not_keep_a_stale_lease_alive(
    stale: Lease, in_other_hands: Lease, db: Session, worker: Worker
) -> None:
    before = everything(db)

    beat = heartbeat(db, worker.id, [stale])

    assert (beat.alive, beat.lost) == (False, [stale])
    assert everything(db) == before


def test_a_server_whose_log_has_no_name_hands_out_numbers_all_the_same(engine: Engine) -> None:
    """They say so by an error, as where the right to ask is missing."""
    name_of_the_log = text("select pg_walfile_name(pg_current_wal_insert_lsn())")
    with Session(engine) as session:
        session.execute(text("revoke execute on function pg_walfile_name from public"))
        session.execute(text(f"set local role {Role.WORKER}"))
        with pytest.raises(ProgrammingError, match="permission denied"), session.begin_nested():
            session.execute(name_of_the_log)
        assert session.scalar(text("select jobplatform.first_number()")) == 1
