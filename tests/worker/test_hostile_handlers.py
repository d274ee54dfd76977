"""Handlers that end in ways nobody foresaw: the job always ends, the worker never does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker

ENDINGS = {
    "returns bytes": ("failed", "ResultNotSerializable"),
    "returns itself": None,
    "returns deep": None,
    "returns nan": ("completed", None),
    "returns nul": ("completed", None),
    "returns large": ("completed", None),
    "returns too large": ("failed", "ResultTooLarge"),
    "returns a huge number": None,
    "raises unprintable": ("failed", "UnprintableError"),
    "raises ugly": ("failed", "ValueError"),
    "raises SystemExit": ("failed", "SystemExit"),
    "raises KeyboardInterrupt": ("failed", "KeyboardInterrupt"),
    "reports ugly": ("completed", None),
    "forks": ("completed", None),
    "writes everywhere": ("failed", None),
    "closes everything": ("failed", None),
    "raises in a thread": ("completed", None),
    "skips ugly": ("completed", None),
    "discards ugly": ("failed", "Discard"),
    "closes ugly": ("failed", "ValueError"),
    "names ugly": ("completed", None),
    "raises an ugly type": ("failed", None),
    "records at length": ("completed", None),
    "breaks its output": ("completed", None),
    "breaks json and raises": ("failed", "ValueError"),
    "breaks json and reports": ("completed", None),
    "raises what hides its attributes": ("failed", "HidingError"),
    "raises what cannot be asked": ("failed", "EvasiveError"),
    "raises what exits when shown": ("failed", "ExitingError"),
    "raises groups in groups": ("failed", "ExceptionGroup"),
    "discards for no text": ("failed", "Discard"),
    "raises what has no name": ("failed", None),
    "sends an end without a body": ("failed", "ProtocolError"),
    "sends a line of rubbish": ("failed", "ProtocolError"),
    "sends a record of rubbish": ("failed", "ProtocolError"),
    "sends counts of rubbish": ("failed", "ProtocolError"),
    "sends zeros": ("failed", "ProtocolError"),
    "sends a result of no time": ("failed", "ProtocolError"),
}


def test_every_hostile_handler_comes_to_an_end_and_the_worker_lives(
    start_worker: StartWorker, database: Database
) -> None:
    jobs = {kind: database.enqueue("say_nothing_good", {"kind": kind}, max_attempts=1) for kind in ENDINGS}

    worker = start_worker(crash_limit=1)
    database.wait_until_done()

    for kind, expected in ENDINGS.items():
        job = database.job(jobs[kind])
        assert job.status in ("completed", "failed"), kind
        if expected is not None:
            attempts = database.attempts(jobs[kind])
            assert job.status == expected[0], (kind, job, attempts)
            assert expected[1] in (None, attempts[-1].error_type if attempts else None), (kind, attempts)
    assert database.job(jobs["names ugly"]).result == [
        "step: StepError",
        "resource: InvalidJobError",
        "tag: InvalidJobError",
        "payload: InvalidPayloadError",
        "closed: ValueError",
    ]
    after = database.enqueue("noop")
    database.wait_for_status(after, "completed")
    assert worker.exit_code is None
    assert database.rows("select count(*) from jobplatform.job_logs")[0][0] == 1001


@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_whose_thread_fails_ends_with_it(start_worker: StartWorker, database: Database, threads: int) -> None:
    start_worker(slots=1, threads=threads, crash_limit=1)

    job = database.enqueue("say_nothing_good", {"kind": "closes everything"}, max_attempts=1)

    assert database.wait_for_status(job, "failed").error_type == "ProcessCrashed"
    after = database.enqueue("noop")
    database.wait_for_status(after, "completed")


def test_a_signal_handler_that_logs_in_the_middle_of_a_write_does_not_wait_for_itself(
    start_worker: StartWorker, database: Database
) -> None:
    job = database.enqueue("tick", timeout=timedelta(seconds=10), max_attempts=1)

    start_worker(slots=1)
    database.wait_until_done()

    found = database.job(job)
    assert found.status == "completed", found
    assert database.rows("select count(*) from jobplatform.job_logs") == [(found.result,)]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_job_snoozed_for_ever_waits_and_does_not_run_hot(
    start_worker: StartWorker, database: Database, threads: int
) -> None:
    job = database.enqueue("say_nothing_good", {"kind": "snoozes for ever"})

    start_worker(threads=threads)
    asleep = "select id from jobplatform.job_queue where state = 0 and epoch = 1"
    wait_until(lambda: database.rows(asleep) == [(job,)], what="the job that was started once and sleeps")
    after = database.enqueue("noop")
    database.wait_for_status(after, "completed")

    assert database.rows(asleep) == [(job,)]


@pytest.mark.direct("a setting of the session: through a pooler it is for whoever runs the database to set")
@pytest.mark.parametrize("until_it", ["lets go", "is gone with its worker"])
def test_a_job_whose_handler_has_left_its_row_locked_keeps_no_other_from_its_end(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, until_it: str
) -> None:
    until = tmp_path / "until"
    locked = database.enqueue("leave_its_step_open", {"file": told.path, "until": str(until)})
    worker = start_worker(slots=2)
    told.wait(1)

    others = [*database.enqueue_many("noop", [{}] * 20), database.enqueue("boom", max_attempts=1)]

    for other in others[:-1]:
        database.wait_for_status(other, "completed")
    database.wait_for_status(others[-1], "failed")
    assert database.job(locked).status == "running", database.attempts(locked)

    if until_it == "lets go":
        until.touch()
    else:
        worker.stop()

    assert database.wait_for_status(locked, "completed").result == "done"
    assert [event["job_id"] for event in worker.events("ending waits for a lock of somebody else's")][:1] == [
        str(locked)
    ]
