"""What a running job says of itself."""

from __future__ import annotations

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import JobLog
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    LogLine,
    ProgressReport,
    Release,
    append_log_lines,
    complete_jobs,
    fail_jobs,
    release_jobs,
    report_progress,
)
from jobplatform.queue.safe_json import LOG_LINE_LIMIT
from tests.queue.actors import Worker
from tests.queue.conftest import Look, Put


def lines_of(db: Session, job_id: uuid.UUID) -> list[tuple[int, int, str, str]]:
    found = db.scalars(select(JobLog).where(JobLog.job_id == job_id).order_by(JobLog.epoch, JobLog.line))
    return [(line.epoch, line.line, line.level, line.message) for line in found]


def test_the_newest_report_is_what_a_reader_sees(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    lease = worker.lease()

    for current in (1, 2):
        assert report_progress(db, [ProgressReport(lease, f'{{"current": {current}}}')]) == {lease}

    assert look(job_id).progress == {"current": 2}


def test_reports_of_many_jobs_are_written_at_once(put: Put, db: Session, worker: Worker, look: Look) -> None:
    ids = [put() for _ in range(3)]
    leases = [job.lease for job in worker.claim(limit=3)]

    held = report_progress(db, [ProgressReport(lease, f'"{lease.job_id}"') for lease in leases])

    assert held == set(leases)
    assert [look(job_id).progress for job_id in ids] == [str(job_id) for job_id in ids]


def test_a_report_of_a_lost_lease_is_left_out_of_the_answer(put: Put, db: Session, worker: Worker) -> None:
    put()
    lease = worker.lease()
    lost = Lease(lease.workspace_id, lease.job_id, lease.epoch + 1)

    assert report_progress(db, [ProgressReport(lease, "1"), ProgressReport(lost, "2")]) == {lease}


def test_log_lines_are_kept_in_order_with_the_attempt_that_said_them(put: Put, db: Session, worker: Worker) -> None:
    job_id = put()
    first = worker.lease()
    append_log_lines(db, [LogLine(first, 1, "info", "one"), LogLine(first, 2, "error", "two")])
    release_jobs(db, [Release(first)])
    append_log_lines(db, [LogLine(worker.lease(), 1, "info", "again")])

    assert lines_of(db, job_id) == [(1, 1, "info", "one"), (1, 2, "error", "two"), (2, 1, "info", "again")]


def test_repeating_a_line_adds_none(put: Put, db: Session, worker: Worker) -> None:
    job_id = put()
    line = LogLine(worker.lease(), 1, "info", "one")

    assert append_log_lines(db, [line]) == 1
    assert append_log_lines(db, [line]) == 0
    assert len(lines_of(db, job_id)) == 1


def test_a_line_that_comes_when_its_attempt_has_completed_the_job_is_kept(
    put: Put, db: Session, worker: Worker
) -> None:
    job_id = put()
    lease = worker.lease()
    complete_jobs(db, [Completion(lease)])

    assert append_log_lines(db, [LogLine(lease, 1, "info", "late")]) == 1
    assert lines_of(db, job_id) == [(1, 1, "info", "late")]


def test_a_line_of_an_attempt_that_was_given_up_for_lost_is_dropped(put: Put, db: Session, worker: Worker) -> None:
    job_id = put(max_attempts=1)
    lease = worker.lease()
    fail_jobs(db, [Failure(lease, "lost", "WorkerLost", "gone", retry=False)], crash_limit=3)

    assert append_log_lines(db, [LogLine(lease, 1, "info", "late")]) == 0
    assert lines_of(db, job_id) == []


def test_a_line_that_comes_when_its_attempt_has_gone_back_is_dropped(put: Put, db: Session, worker: Worker) -> None:
    job_id = put()
    lease = worker.lease()
    release_jobs(db, [Release(lease)])

    assert append_log_lines(db, [LogLine(lease, 1, "info", "late")]) == 0
    assert lines_of(db, job_id) == []


def test_a_line_that_postgresql_would_refuse_is_made_fit(put: Put, db: Session, worker: Worker) -> None:
    job_id = put()
    lease = worker.lease()

    append_log_lines(db, [LogLine(lease, 1, "info", 'a\0\ud800 "{x}" \\'), LogLine(lease, 2, "info", "x" * 100_000)])

    (_, _, _, first), (_, _, _, second) = lines_of(db, job_id)
    assert first == 'a\ufffd\ufffd "{x}" \\'
    assert len(second) == LOG_LINE_LIMIT


def test_nothing_to_say_is_no_error(db: Session) -> None:
    assert report_progress(db, []) == set()
    assert append_log_lines(db, []) == 0
