"""Sealed jobs in real worker processes: they run, nothing of them is seen on the way, and a missing key burns none."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from sqlalchemy import select

from jobplatform.key_ring import generate_key
from jobplatform.models import Job, JobLog
from jobplatform.queue import reveal, rewrap_keys, set_encrypting
from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker

OLD, NEW = generate_key("old"), generate_key("new")
CANARY = "c4n4ry-in-the-mine"
VARIABLE = "JOBPLATFORM_ENCRYPTION_KEYS"
EVERYTHING = """
select concat_ws(' ',
    (select json_agg(r)::text from jobplatform.job_records r),
    (select json_agg(q)::text from jobplatform.job_queue q),
    (select json_agg(a)::text from jobplatform.job_attempts a),
    (select json_agg(l)::text from jobplatform.job_logs l)
)
"""


@pytest.fixture(autouse=True)
def encrypting(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs of the test's workspace are sealed; this process and the workers it starts have the ring."""
    monkeypatch.setenv(VARIABLE, OLD)
    with database.sessions.begin() as session:
        set_encrypting(session, database.workspace_id, True)


def opened(database: Database, job_id: uuid.UUID) -> Job:
    with database.sessions() as session:
        job = session.get_one(Job, (database.workspace_id, job_id))
        reveal(session, [job])
        session.expunge(job)
        return job


def test_a_sealed_job_runs_and_nobody_else_sees_what_it_is_about(start_worker: StartWorker, database: Database) -> None:
    worker = start_worker()
    echoed = database.enqueue("echo", {"text": CANARY})
    failed = database.enqueue("boom", {"text": CANARY}, max_attempts=1)
    reported = database.enqueue("report", {"steps": 2})
    database.wait_until_done()
    worker.stop()

    assert opened(database, echoed).result == {"text": CANARY}
    assert opened(database, failed).error == CANARY
    assert (opened(database, reported).progress or {})["message"] == "step 2"
    with database.sessions() as session:
        lines = session.scalars(select(JobLog).order_by(JobLog.line)).all()
        reveal(session, lines)
        assert [(line.level, line.message) for line in lines] == [("warning", "line 1"), ("info", "line 2")]
    stored = database.rows(EVERYTHING)[0][0]
    assert stored.count("$sealed") > 6
    for text in (CANARY, "step 2", "line 1"):
        assert text not in stored
    assert CANARY not in worker.log.read_text()


def test_jobs_run_on_while_the_ring_rotates(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    first = start_worker(slots=1)
    gate = tmp_path / "gate"
    database.enqueue("wait", {"file": told.path, "until": str(gate)})
    told.wait(1)
    pending = database.enqueue_many("echo", [{"n": n} for n in range(20)])

    with database.sessions.begin() as session:
        assert rewrap_keys(session) == 1
    gate.touch()
    database.wait_until_done()
    first.stop()

    monkeypatch.setenv(VARIABLE, NEW)
    start_worker(slots=1)
    later = database.enqueue("echo", {"n": 20})
    database.wait_until_done()

    assert database.statuses() == {"completed": 22}
    assert [opened(database, job_id).result for job_id in (pending[19], later)] == [{"n": 19}, {"n": 20}]


@pytest.mark.parametrize("ring", ["", NEW], ids=["no ring", "another ring"])
def test_a_worker_without_the_key_hands_the_job_back_and_one_with_it_runs_it(
    start_worker: StartWorker, database: Database, monkeypatch: pytest.MonkeyPatch, ring: str
) -> None:
    job_id = database.enqueue("echo", {"text": CANARY}, max_attempts=1)
    monkeypatch.setenv(VARIABLE, ring)
    locked_out = start_worker()

    logged = locked_out.wait_for("an encrypted job cannot be opened here and goes back")
    wait_until(lambda: database.job(job_id).status == "pending", what="the job to be back")
    waiting = database.job(job_id)
    locked_out.stop()

    assert logged["job_id"] == str(job_id)
    assert (waiting.attempts, waiting.epoch) == (0, 1)
    assert waiting.progress["waitsFor"] == "key"
    assert database.attempts(job_id) == []

    monkeypatch.setenv(VARIABLE, OLD)
    database.execute("update jobplatform.job_queue set state = 1, run_after = now()")
    start_worker()
    database.wait_until_done()

    assert opened(database, job_id).result == {"text": CANARY}


def test_a_payload_that_was_moved_fails_without_another_attempt(start_worker: StartWorker, database: Database) -> None:
    first, second = database.enqueue_many("echo", [{"n": 1}, {"n": 2}], max_attempts=5)
    database.execute(
        "update jobplatform.job_records r set payload = other.payload "
        "from jobplatform.job_records other where r.id = :first and other.id = :second",
        first=first,
        second=second,
    )
    start_worker()
    database.wait_until_done()

    job = database.job(first)
    assert (job.status, job.attempts, job.error_type) == ("failed", 1, "SealBrokenError")
    assert opened(database, second).result == {"n": 2}


def test_no_key_is_in_what_the_worker_says(start_worker: StartWorker, database: Database) -> None:
    worker = start_worker()
    database.enqueue("boom", {"text": json.dumps({VARIABLE: OLD})}, max_attempts=1)
    database.wait_until_done()
    worker.stop()

    assert OLD.partition(":")[2] not in worker.log.read_text()
