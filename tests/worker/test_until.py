"""Workers that are not to work for ever: they leave when nothing is left to do, or after so many jobs."""

from __future__ import annotations

import datetime
import signal
from pathlib import Path
from typing import Any

import pytest

from jobplatform.queue import Lease, bury_workers, pause, rescue_jobs, set_workspace_limits
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.until import Until
from tests.worker.conftest import Database, Lines, StartWorker
from tests.worker.test_decisions import attempt

HOUR = datetime.timedelta(hours=1)
LEFT = "something is left to do, which waits for a limit or for somebody else"
#: A job, and two for each of four generations.
FAMILY = 31


def enqueue_families(database: Database, told: Lines, count: int) -> None:
    database.enqueue_many("descend", [{"file": told.path, "generations": 4}] * count)


def test_a_worker_leaves_when_its_backlog_is_done_and_all_that_has_come_of_it(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    enqueue_families(database, told, 3)
    later = database.enqueue("noop", delay=HOUR)

    worker = start_worker(until_empty=True)

    assert worker.wait() == 0
    assert database.statuses() == {"completed": 3 * FAMILY, "pending": 1}
    assert database.job(later).attempts == 0
    assert worker.events("worker done")[-1]["jobs"] == 3 * FAMILY


def test_a_worker_that_finds_nothing_leaves(start_worker_anew: StartWorker) -> None:
    assert start_worker_anew(until_empty=True, poll=60.0).wait() == 0


@pytest.mark.thorough
def test_two_workers_share_a_backlog_and_each_leaves_when_nothing_is_left_for_it(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    enqueue_families(database, told, 8)

    workers = [start_worker(until_empty=True, ready=False) for _ in range(2)]

    assert [worker.wait() for worker in workers] == [0, 0]
    assert database.statuses() == {"completed": 8 * FAMILY}
    assert len(told.read()) == len(set(told.read())) == 8 * FAMILY


@pytest.mark.thorough
def test_a_worker_does_not_wait_for_what_another_one_runs(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job = database.enqueue("wait", {"file": told.path, "until": str(end)})
    start_worker(slots=1)
    told.wait(1)

    assert start_worker(until_empty=True).wait() == 0

    assert database.job(job).status == "running"
    end.touch()
    database.wait_for_status(job, "completed")


def test_a_worker_that_is_killed_and_started_again_does_the_rest(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    """What it held when it was killed is tried again later, as after any crash."""
    database.enqueue_many("tell", [{"file": told.path, "number": number} for number in range(60)])
    doomed = start_worker(until_empty=True)
    told.wait(20)
    doomed.signal(signal.SIGKILL)
    doomed.wait()

    assert start_worker(until_empty=True).wait() == 0

    left = "select id, status from jobplatform.jobs where status <> 'completed'"
    held = {row.id for row in database.rows(left)}
    with database.sessions.begin() as session:
        bury_workers(session, datetime.timedelta(0))
    with database.sessions.begin() as session:
        assert {one.lease.job_id for one in rescue_jobs(session)} == {str(job) for job in held}
    database.execute("update jobplatform.job_queue set run_after = now()")

    assert start_worker(until_empty=True).wait() == 0

    assert database.statuses() == {"completed": 60}
    assert set(map(int, told.read())) == set(range(60))
    assert len(told.read()) <= 60 + len(held)


@pytest.mark.thorough
def test_what_was_charged_with_a_crash_and_is_put_off_for_a_moment_is_not_left(
    start_worker: StartWorker, database: Database
) -> None:
    database.enqueue_many("noop", [{}] * 8)
    database.execute("update jobplatform.job_queue set crash_count = 1")

    assert start_worker(until_empty=True).wait() == 0

    assert database.statuses() == {"completed": 8}


@pytest.mark.thorough
def test_what_waits_for_another_job_of_this_worker_is_done_too(start_worker: StartWorker, database: Database) -> None:
    first = database.enqueue("noop")
    second = database.enqueue("echo", after=[first])
    database.enqueue("echo", after=[second])

    assert start_worker(until_empty=True).wait() == 0

    assert database.statuses() == {"completed": 3}


def test_what_fails_is_tried_again_at_once_or_left_for_later(start_worker: StartWorker, database: Database) -> None:
    at_once = database.enqueue("boom")
    later = database.enqueue("outcome", {"kind": "fail"})

    assert start_worker(until_empty=True).wait() == 0

    assert (database.job(at_once).status, database.job(at_once).attempts) == ("failed", 2)
    assert (database.job(later).status, database.job(later).attempts) == ("pending", 1)


@pytest.mark.thorough
def test_a_worker_waits_for_what_a_limit_holds_back(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    with database.sessions.begin() as session:
        set_workspace_limits(session, database.workspace_id, {"max_running": 1})
    blocker = database.enqueue("wait", {"file": told.path, "until": str(end)}, queue="slow")
    start_worker(slots=1, queues=["slow"])
    told.wait(1)
    job = database.enqueue("noop")

    worker = start_worker(until_empty=True, queues=["default"])
    worker.wait_for(LEFT)
    assert database.job(blocker).status == "running"
    end.touch()

    assert worker.wait() == 0
    assert database.job(job).status == "completed"


@pytest.mark.thorough
def test_a_worker_does_not_wait_for_the_end_of_a_pause(start_worker: StartWorker, database: Database) -> None:
    job = database.enqueue("noop")
    other = database.enqueue("echo")
    with database.sessions.begin() as session:
        pause(session, "task", "noop", reason="a look", actor="ann")

    assert start_worker(until_empty=True).wait() == 0

    assert (database.job(job).status, database.job(other).status) == ("pending", "completed")


@pytest.mark.parametrize("options", [{}, {"threads": 4}, {"until_empty": True}])
def test_a_worker_leaves_after_so_many_jobs_and_has_started_no_other(
    start_worker: StartWorker, database: Database, told: Lines, options: dict[str, Any]
) -> None:
    database.enqueue_many("tell", [{"file": told.path, "number": number} for number in range(500)])

    assert start_worker(max_jobs=321, **options).wait() == 0

    assert len(told.read()) == 321
    rest = database.rows("select attempts, count(*) from jobplatform.jobs where status = 'pending' group by 1")
    assert rest == [(0, 500 - 321)]


def test_a_worker_that_may_do_more_than_there_is_leaves_when_nothing_is_left(
    start_worker: StartWorker, database: Database
) -> None:
    database.enqueue_many("noop", [{}] * 5)

    assert start_worker(max_jobs=6, until_empty=True).wait() == 0

    assert database.statuses() == {"completed": 5}


def test_each_attempt_is_a_start(start_worker: StartWorker, database: Database) -> None:
    job = database.enqueue("boom")

    assert start_worker(max_jobs=1).wait() == 0

    assert (database.job(job).status, database.job(job).attempts) == ("pending", 1)


# -- the decision alone --------------------------------------------------------------------------


class Facts:
    """What a worker knows, and what it does about it."""

    def __init__(self, **options: Any) -> None:
        self.holds_nothing = True
        self.has_enough = True
        self.asked = self.woken = self.left = 0
        self.ledger = Ledger()
        self.until = Until(
            WorkerOptions(database_url="postgresql://", **options),
            self.ledger,
            self,  # type: ignore[arg-type]  # the part of a Supply that is asked
            holds_nothing=lambda: self.holds_nothing,
            ask=self.ask,
            leave=self.leave,
        )

    def wake(self) -> None:
        self.woken += 1

    def ask(self) -> None:
        self.asked += 1

    def leave(self) -> None:
        self.left += 1


def test_as_long_as_it_holds_something_or_would_claim_nothing_is_asked() -> None:
    facts = Facts(until_empty=True)

    facts.holds_nothing = False
    facts.until.step(10.0)
    facts.holds_nothing, facts.has_enough = True, False
    facts.until.step(10.0)

    assert facts.asked == 0


def claim_one(ledger: Ledger) -> None:
    ledger.claimed([attempt(crash_count=0).job], idle=1)


def test_what_is_being_claimed_while_somebody_looks_is_seen_to_first() -> None:
    facts = Facts(until_empty=True)
    facts.until.step(10.0)

    facts.has_enough = False
    facts.until.answered(False)

    assert facts.left == 0


def test_what_has_come_and_gone_while_somebody_looked_may_have_left_something() -> None:
    """When they looked it was running, and so its children were not there yet."""
    facts = Facts(until_empty=True, poll=60.0)
    facts.until.step(10.0)

    claim_one(facts.ledger)
    facts.until.answered(False)
    before = facts.left
    facts.until.step(10.0)
    facts.until.answered(False)

    assert (before, facts.asked, facts.left) == (0, 2, 1)


def test_what_was_handed_back_while_somebody_looked_is_there_again() -> None:
    facts = Facts(until_empty=True)
    facts.until.step(10.0)

    claim_one(facts.ledger)
    facts.ledger.release_last(1)
    facts.until.answered(False)

    assert facts.left == 0


def test_where_something_is_left_it_is_looked_for_again_a_poll_later() -> None:
    facts = Facts(until_empty=True, poll=2.0)
    facts.until.step(10.0)
    facts.until.answered(True)

    assert facts.until.step(11.0) == 12.0
    facts.until.step(12.0)

    assert (facts.asked, facts.woken, facts.left) == (2, 1, 0)


def test_a_look_that_took_long_is_not_repeated_before_it_has_paid_off() -> None:
    """Also when there was something to do meanwhile: a trickle of jobs would have it asked for after each of them."""
    facts = Facts(until_empty=True, poll=0.1)
    facts.until.step(10.0)
    facts.until.answered(True, seconds=0.25)

    claim_one(facts.ledger)
    due = facts.until.step(10.6)
    facts.until.step(due)
    facts.until.answered(False, seconds=0.25)

    assert (due, facts.asked, facts.left) == (15.0, 2, 1)


def test_one_look_that_a_stalled_database_answered_late_does_not_keep_a_worker_long() -> None:
    facts = Facts(until_empty=True)
    facts.until.step(10.0)

    facts.until.answered(True, seconds=9.0)

    assert facts.until.step(19.0) == 20.0


def test_who_is_to_work_for_ever_asks_nothing_and_never_leaves() -> None:
    facts = Facts()

    facts.until.step(10.0)

    assert (facts.asked, facts.left) == (0, 0)


def test_of_what_was_claimed_counts_what_is_started() -> None:
    ledger = Ledger()
    jobs = [attempt(lease=Lease("w", str(number), 1), crash_count=0).job for number in range(5)]
    suspects = [job._replace(crash_count=1) for job in jobs[:2]]

    ledger.claimed([*jobs[2:], *suspects], idle=1)
    ledger.refuse(jobs)
    put_off = ledger.taken
    ledger.release_last(1)
    handed_back = ledger.taken
    ledger.cancel_ready(ledger.ready[0])
    cancelled = ledger.taken
    ledger.lose_ready(ledger.ready[0])

    assert (put_off, handed_back, cancelled, ledger.taken) == (4, 3, 2, 1)
