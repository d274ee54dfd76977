"""Jobs that have to begin by some moment: what comes too late no handler ever sees, wherever it waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import Engine

from jobplatform.models import Status
from jobplatform.queue import ClaimedJob, Lease, Release
from jobplatform.testing import Clock, wait_until
from jobplatform.worker.attempt import Attempt
from jobplatform.worker.child import Child, ChildConfig, ChildEnds
from jobplatform.worker.clock import child_clock
from jobplatform.worker.frames import (
    OK,
    STARTED,
    TOO_LATE,
    BodyReader,
    CallSpec,
    Frame,
    FrameReader,
    JobSpec,
    encode_run,
)
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.outbox import Outbox
from tests.worker.conftest import Database, Lines, StartWorker
from tests.worker.handlers import tasks

LEASE = Lease("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", 1)
#: Less than the lease of these workers, who look dead to each other when time jumps over it.
JUMP = 10.0
SOON = timedelta(seconds=JUMP / 2)
TOO_LATE_END = ("cancelled", "discarded", "TooLate")


def ended(job: object) -> tuple[str, str, str]:
    return job.status, job.outcome, job.error_type  # type: ignore[attr-defined]  # a row


def begun(database: Database) -> int:
    """Jobs that run and whose term is over because they have begun."""
    sql = "select count(*) from jobplatform.job_queue where state = 2 and start_within_ms > 0 and start_by is null"
    return int(database.rows(sql)[0][0])


# -- real workers ----------------------------------------------------------------------------------


def test_in_a_backlog_what_comes_too_late_is_ended_and_not_run(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, engine: Engine
) -> None:
    start_worker(slots=1)
    first = database.enqueue("wait", {"file": told.path, "until": str(tmp_path / "go")}, start_within=SOON)
    told.wait(1)
    payloads = [{"file": told.path, "number": number} for number in range(100)]
    late = database.enqueue_many("tell", payloads, start_within=SOON)
    patient = database.enqueue("tell", {"file": told.path, "number": 1000})
    follower = database.enqueue("tell", {"file": told.path, "number": 1001}, after=[late[0]])
    wait_until(lambda: begun(database) == 1, what="the running job to have begun")

    Clock(engine).travel(seconds=JUMP)

    for job in (late[0], late[-1]):
        assert ended(database.wait_for_status(job, "cancelled")) == TOO_LATE_END
    assert database.wait_for_status(follower, "cancelled").error_type == "PredecessorFailed"
    assert database.job(first).status == Status.RUNNING
    (tmp_path / "go").touch()
    database.wait_until_done()

    assert database.statuses() == {"completed": 2, "cancelled": 101}
    assert (database.job(first).status, database.job(patient).status) == ("completed", "completed")
    assert told.read()[1:] == ["1000"]


@pytest.mark.parametrize("threads", [1, 3])
def test_with_two_workers_each_job_ends_once_and_only_those_in_time_were_run(
    start_worker: StartWorker, database: Database, told: Lines, engine: Engine, threads: int
) -> None:
    payloads = [{"file": told.path, "number": number} for number in range(200)]
    late = database.enqueue_many("tell", payloads[:100], start_within=SOON)
    Clock(engine).travel(seconds=JUMP)
    in_time = database.enqueue_many("tell", payloads[100:], start_within=timedelta(hours=1))

    for _ in range(2):
        start_worker(slots=1, threads=threads)
    database.wait_until_done()

    assert {ended(database.job(job)) for job in late} == {TOO_LATE_END}
    assert {database.job(job).status for job in in_time} == {"completed"}
    assert sorted(map(int, told.read())) == list(range(100, 200))
    assert database.rows("select count(*) from jobplatform.job_attempts") == [(0,)]


def test_one_whose_moment_comes_while_it_waits_in_a_worker_s_memory_is_ended(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    """Its worker holds it for others to come, which nobody outside sees: it is the one that has to know."""
    start_worker(slots=1)
    late = database.enqueue("gather", {"n": 1, "file": told.path}, start_within=timedelta(seconds=1.5))
    database.wait_for_status(late, "running")

    job = database.wait_for_status(late, "cancelled")

    assert ended(job) == TOO_LATE_END
    assert (job.attempts, job.started_at) == (0, None)
    assert job.completed_at >= job.run_after + timedelta(seconds=1.5)
    assert told.read() == []


def test_an_attempt_after_the_first_may_come_later_than_that(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, engine: Engine
) -> None:
    """The worker that had begun with it dies, and what it had begun with is tried again."""
    worker = start_worker(slots=1, lease=2.0)
    payload = {"file": told.path, "until": str(tmp_path / "go")}
    job = database.enqueue("wait", payload, start_within=SOON)
    told.wait(1)
    wait_until(lambda: begun(database) == 1, what="the running job to have begun")

    worker.signal(signal.SIGKILL)
    worker.wait()
    Clock(engine).travel(seconds=JUMP)
    (tmp_path / "go").touch()
    start_worker(slots=1, lease=2.0)
    database.wait_until_done()

    assert (database.job(job).status, database.job(job).crash_count) == ("completed", 1)
    assert len(told.read()) == 2


# -- what a worker holds ---------------------------------------------------------------------------


def claimed(number: int, start_within: float | None) -> ClaimedJob:
    lease = LEASE._replace(epoch=number)
    return ClaimedJob(lease, "default", "noop", 1, 3, 0, 1_000, "{}", 1, None, None, start_within=start_within)


def handed_back(ledger: Ledger) -> list[Release]:
    return ledger.outbox.take(0.0).releases


def test_what_waits_for_a_child_goes_back_at_its_moment_and_the_rest_stays() -> None:
    ledger = Ledger()
    ledger.claimed([claimed(1, 30.0), claimed(2, None), claimed(3, 10.0)], idle=1, since=100.0)

    assert ledger.release_late(109.0) == 110.0
    assert handed_back(ledger) == []
    assert ledger.release_late(110.0) == 130.0

    assert handed_back(ledger) == [Release(LEASE._replace(epoch=3), unstarted=True)]
    assert [attempt.lease.epoch for attempt in ledger.ready] == [1, 2]


def test_what_comes_back_from_a_child_is_looked_at_again() -> None:
    ledger = Ledger()
    ledger.claimed([claimed(1, 10.0)], idle=1, since=100.0)
    run = ledger.next_run(1, 1_000, free=1)
    assert ledger.release_late(120.0) > 120.0

    ledger.put_back(run)
    ledger.release_late(120.0)

    assert [release.lease for release in handed_back(ledger)] == [LEASE]


def test_what_has_begun_is_written_down_unless_it_has_completed_by_then() -> None:
    outbox, open_one = Outbox(), LEASE._replace(epoch=2)
    ledger = Ledger()
    ledger.outbox = outbox
    ledger.claimed([claimed(1, 10.0), claimed(2, 10.0), claimed(3, None)], idle=3, since=100.0)
    for attempt in ledger.ready:
        ledger.started(attempt, _frame(STARTED))
    ledger.completed(ledger.ready[0], _frame(OK, b"null"))

    assert not outbox.empty
    assert outbox.take(0.0).begun == [open_one]
    assert outbox.empty
    assert ledger.release_late(200.0) > 200.0


def _frame(kind: int, body: bytes = b"") -> Frame:
    return Frame(1, kind, 0.0, 0.0, body)


@pytest.fixture
def child() -> Iterator[Child]:
    """In this process; what it says is in its pipe."""
    pipes = [os.pipe() for _ in range(5)]
    (body, _), (_, results), (orders, _), (_, output), (tokens, _) = pipes
    ends = ChildEnds(body, results, orders, output, tokens)
    child = Child(ends, ChildConfig("tests.worker.handlers:tasks", "postgresql://", 1, 20), tasks)
    child.said = pipes[1][0]  # type: ignore[attr-defined]  # for the test
    yield child
    for pipe in pipes:
        for end in pipe:
            os.close(end)


def said(child: Child) -> list[tuple[int, int]]:
    """Of which job, and what kind of thing."""
    data = os.read(child.said, 1 << 16)  # type: ignore[attr-defined]
    return [(frame.seq, frame.kind) for frame in FrameReader().feed(data, monotonic())]


def spec(seq: int, start_by: float | None, task: str = "noop", payload: object = None) -> JobSpec:
    job_id = LEASE.job_id[:-1] + str(seq)
    told = (1, 1, 3, 1, None, None, start_by, {} if payload is None else payload)
    return JobSpec(seq, task, "default", LEASE.workspace_id, job_id, *told)


def test_a_child_does_not_start_what_is_too_late_and_says_of_the_rest_that_it_has_begun(child: Child) -> None:
    now = child_clock()

    for number, start_by in enumerate((now, now + 60, None), start=1):
        child.perform(spec(number, start_by))

    assert said(child) == [(1, TOO_LATE), (2, STARTED), (2, OK), (3, OK)]


def test_of_a_call_it_leaves_out_those_that_are_too_late(child: Child, told: Lines) -> None:
    now = child_clock()
    moments = [now, now + 60, None]
    specs = [spec(n, at, "gather", {"n": n, "file": told.path}) for n, at in enumerate(moments, start=1)]

    child.perform_call(CallSpec(9, "gather", specs))
    child.perform_call(CallSpec(10, "gather", [spec(4, now, "gather", {"n": 4, "file": told.path})]))

    assert said(child) == [(1, TOO_LATE), (2, STARTED), (2, OK), (3, OK), (4, TOO_LATE)]
    assert told.read() == ["2 3"]


def test_what_a_child_is_told_says_by_when(child: Child) -> None:
    body, write = os.pipe()
    attempt = Attempt(claimed(1, 10.0))
    attempt.start_by = 1234.5
    os.write(write, encode_run([attempt.wire(), Attempt(claimed(2, None)).wire().replace("[0", "[1", 1)]))

    reader = BodyReader(body)

    assert [reader.job(seq).start_by for seq in (0, 1)] == [1234.5, None]  # type: ignore[union-attr]
    os.close(body)
    os.close(write)
