"""Batch handlers: several jobs in one call, and each is still a job of its own."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker


def numbers(told: Lines) -> list[list[int]]:
    """Who came together, call by call."""
    return [[int(word) for word in line.split(": ")[-1].split()] for line in told.read()]


def test_jobs_of_a_workspace_are_called_together_and_each_ends_as_it_did(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    ends = ["", "skip", "fail", "discard", "bad"] * 4
    jobs = database.enqueue_many(
        "check", [{"n": n, "end": end, "file": told.path} for n, end in enumerate(ends)], max_attempts=2
    )
    database.workspace_id = uuid.uuid4()
    other = database.enqueue_many("check", [{"n": n, "file": told.path} for n in range(100, 104)])

    start_worker(slots=1)
    database.wait_until_done()

    calls = numbers(told)
    # How many are claimed for a call depends on how fast the others went.
    assert 1 < max(map(len, calls)) <= 5
    assert all(max(call) < 100 or min(call) >= 100 for call in calls), "two workspaces in one call"
    found = [database.job(job) for job in jobs[:5]]
    assert [job.outcome for job in found] == ["ok", "skipped", "error", "discarded", "error"]
    assert [job.attempts for job in found] == [1, 1, 2, 1, 1]
    assert found[0].result == {"n": 0}
    assert found[4].error_type == "ResultNotSerializable"
    assert {database.job(job).status for job in other} == {"completed"}
    # What is tried again is called by itself.
    assert [2] in calls


def test_a_result_that_ends_whoever_writes_it_fails_its_item_alone(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    payloads = [{"n": n, "end": "worse" if n == 1 else "", "file": told.path} for n in range(3)]
    jobs = database.enqueue_many("check", payloads, max_attempts=1)

    start_worker(slots=1)
    database.wait_until_done()

    found = [database.job(job) for job in jobs]
    assert [job.status for job in found] == ["completed", "failed", "completed"]
    assert (found[1].error_type, found[1].crash_count) == ("SystemExit", 0)


def test_a_call_that_hangs_is_charged_to_those_that_were_not_over(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    payloads = [{"n": n, "end": "hang" if n == 2 else "", "file": told.path} for n in range(4)]
    jobs = database.enqueue_many("one_by_one", payloads, timeout=timedelta(seconds=1), max_attempts=2)

    start_worker(slots=1, threads=1)
    database.wait_until_done()

    assert numbers(told)[0] == [0, 1, 2, 3] or numbers(told)[1] == [1, 2, 3]
    found = {n: database.job(job) for n, job in enumerate(jobs)}
    assert [found[n].status for n in range(4)] == ["completed", "completed", "failed", "completed"]
    assert found[2].outcome == "timeout"
    # Those before it were over. The one behind it was hit with it, and then ran by itself.
    assert [found[n].attempts for n in range(4)] == [1, 1, 2, 2]
    assert [attempt.outcome for attempt in database.attempts(jobs[3])] == ["timeout"]


@pytest.mark.parametrize("then", ["sleep", "hang"])
def test_a_call_that_goes_on_when_all_are_over_is_stopped_at_its_timeout(
    start_worker: StartWorker, database: Database, told: Lines, then: str
) -> None:
    """Stopped in time it takes nothing back. The last one is tried again after a call that had to be killed."""
    payloads = [{"n": n, "file": told.path, "then": then} for n in range(3)]
    jobs = database.enqueue_many("one_by_one", payloads, timeout=timedelta(seconds=1), priority=5)
    behind = database.enqueue("noop")

    start_worker(slots=1, threads=1, kill_grace=0.2)
    database.wait_until_done()

    found = [database.job(job) for job in [*jobs, behind]]
    assert [job.status for job in found] == ["completed"] * 4
    assert [job.crash_count for job in found] == [0] * 4
    outcomes = [attempt.outcome for job in jobs for attempt in database.attempts(job)]
    assert set(outcomes) == ({"timeout"} if then == "hang" else set())


def test_one_that_kills_its_process_costs_the_others_one_crash_at_most(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    payloads = [{"n": n, "end": "crash" if n == 1 else "", "file": told.path} for n in range(4)]
    jobs = database.enqueue_many("one_by_one", payloads)

    start_worker(slots=1)
    database.wait_until_done()

    found = [database.job(job) for job in jobs]
    assert [job.status for job in found] == ["completed", "failed", "completed", "completed"]
    assert (found[1].outcome, found[1].crash_count) == ("lost", 3)
    assert max(job.crash_count for job in found if job is not found[1]) <= 1


def test_one_of_a_call_can_be_cancelled_and_the_others_go_on(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ends = {1: {"end": "until cancelled"}, 2: {"until": str(gate)}}
    payloads = [{"n": n, "file": told.path, **ends.get(n, {})} for n in range(3)]
    # One goes first, alone: what follows is claimed by then, and goes together.
    jobs = database.enqueue_many("one_by_one", payloads)
    start_worker(slots=1)
    database.wait_for_status(jobs[0], "completed")
    told.wait(2)

    database.cancel(jobs[1])
    wait_until(lambda: database.job(jobs[1]).cancel_requested_at or database.job(jobs[1]).status, what="the cancel")
    gate.touch()

    assert database.wait_for_status(jobs[2], "completed").result == 2
    assert database.wait_for_status(jobs[1], "cancelled").attempts == 1
    assert numbers(told) == [[0], [1, 2]]
    assert len({line.split()[0] for line in told.read()}) == 1, "the process was killed for one of them"


def test_rows_and_results_of_a_call_stand_or_fall_together(start_worker: StartWorker, database: Database) -> None:
    database.execute("create table written (id text)")
    thens = ["commit", "", "raise"]
    jobs = database.enqueue_many("write_rows", [{"then": then} for then in thens])

    start_worker(slots=1)
    database.wait_until_done()

    written = [row.id for row in database.rows("select id from written")]
    assert sorted(written) == sorted(map(str, jobs))
    assert [database.job(job).status for job in jobs] == ["completed"] * 3
    assert database.job(jobs[2]).attempts == 2


def test_a_job_that_wants_its_process_to_itself_is_killed_there_and_hits_nobody_else(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waits = database.enqueue_many("wait", [{"file": told.path, "until": str(gate)}] * 3, max_attempts=1)
    start_worker(slots=2, threads=2)
    told.wait(3)

    stubborn = database.enqueue("alone", {"file": told.path}, timeout=timedelta(seconds=1), max_attempts=1)
    more = database.enqueue("wait", {"file": told.path, "until": str(gate)}, max_attempts=1)
    gate.touch()

    assert database.wait_for_status(stubborn, "failed").outcome == "timeout"
    for job in (*waits, more):
        ended = database.wait_for_status(job, "completed")
        assert (ended.attempts, ended.crash_count) == (1, 0)
    (alone_in,) = [line.split()[1] for line in told.read() if line.startswith("alone")]
    with_it = [line for line in told.read() if line.endswith(f" {alone_in}") and not line.startswith("alone")]
    assert all(database.job(uuid.UUID(line.split()[0])).status == "completed" for line in with_it)
