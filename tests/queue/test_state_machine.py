"""Any verbs in any order: PostgreSQL and a small model agree after every step, and the invariants hold."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.queue import Lease
from jobplatform.queue.attempts.ending import AS_RECORDED
from tests.queue.invariants import violations
from tests.queue.machine import WORKSPACES, QueueMachine

BOUNDED = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def machine(worker_engine: Engine) -> Any:
    with Session(worker_engine) as session:
        yield type("Machine", (QueueMachine,), {"db": session})


def test_whatever_happens_the_queue_does_what_the_model_does(machine: type[QueueMachine]) -> None:
    run_state_machine_as_test(machine, settings=BOUNDED)


def tell_of_a_batch(run: QueueMachine, after: Callable[[Any], Any], claimed: Callable[[int], Lease]) -> None:
    """One of two members fails and is retried, so that each of its callbacks runs once."""
    batch_id = after(run.open(workspace_id=WORKSPACES[0]))
    after(run.add(batch_id=batch_id, delay=0, max_attempts=1))
    after(run.settle_a_round())
    member = after(run.add(batch_id=batch_id, delay=60, max_attempts=1))
    after(run.complete(lease=claimed(0)))
    after(run.settle())
    after(run.close(batch_id=batch_id))
    after(run.add(batch_id=batch_id, delay=0, max_attempts=1))
    after(run.time_passes(seconds=60))
    after(run.fail(lease=claimed(0), delay=0, retry=False, crash=False))
    after(run.settle_a_round())
    for _ in range(2):
        after(run.complete(lease=claimed(1)))
    after(run.retry(job_id=member))
    after(run.settle())
    after(run.complete(lease=claimed(0)))
    after(run.settle())
    after(run.complete(lease=claimed(1)))
    after(run.cancel_all(batch_id=batch_id))
    callbacks = {job.run_if: job.state for job in run.jobs.values() if job.after == batch_id}
    assert callbacks == dict.fromkeys(("completed", "ended", "failed"), "completed")
    cancelled = after(run.open(workspace_id=WORKSPACES[1]))
    after(run.add(batch_id=cancelled, delay=0, max_attempts=1))
    after(run.add(batch_id=cancelled, delay=0, max_attempts=1))
    running = claimed(0)
    after(run.cancel_all(batch_id=cancelled))
    after(run.settle())
    after(run.release(lease=running, delay=0))
    after(run.settle())
    after(run.complete(lease=claimed(0)))


def tell_of_time(run: QueueMachine, after: Callable[[Any], Any], claimed: Callable[[int], Lease]) -> None:
    """Jobs that have to begin by a moment, that are changed while they wait, and that are not made too often."""
    one = {"workspace_id": WORKSPACES[0], "priority": 0, "max_attempts": 3}
    asked = {**one, "key": "spaced", "delay": 0, "within": 30, "period": 600}
    first = after(run.enqueue(**asked))
    begun = claimed(0)
    after(run.begin(lease=begun))
    after(run.time_passes(seconds=60))
    after(run.release(lease=begun, delay=0))
    after(run.complete(lease=claimed(0)))
    assert after(run.enqueue(**asked)) == first
    after(run.time_passes(seconds=1000))
    late = after(run.enqueue(**asked))
    claimed_only = claimed(0)
    after(run.time_passes(seconds=60))
    after(run.release(lease=claimed_only, delay=0))
    never = after(run.enqueue(**asked))
    after(run.enqueue_again(job_id=late))
    after(run.time_passes(seconds=60))
    after(run.retry(job_id=never))
    after(run.change(job_id=never, priority=5, queue="aside", delay=60))
    after(run.time_passes(seconds=60))
    after(run.claim(number=0, limit=1))
    after(run.change(job_id=never, queue="default"))
    after(run.begin(lease=(changed := claimed(0))))
    after(run.change(job_id=never, priority=0, delay=0))
    after(run.complete(lease=changed))
    assert [run.jobs[job_id].state for job_id in (late, never)] == ["cancelled", "completed"]


@pytest.fixture
def story(machine: type[QueueMachine]) -> Callable[[], None]:
    """One short life of two jobs that meets every rule once, checked after each step like any other run."""

    def tell() -> None:
        run = machine()

        def after(step: Any) -> Any:
            run.the_database_agrees_with_the_model()
            run.every_batch_counts_what_it_has()
            run.the_invariants_hold()
            return step

        def claimed(number: int) -> Lease:
            before = set(run.handed_out)
            after(run.claim(number=number, limit=1))
            (lease,) = run.handed_out - before
            return lease

        first = after(run.enqueue(workspace_id=WORKSPACES[0], key="a", priority=0, delay=0, max_attempts=3))
        second = after(run.enqueue(workspace_id=WORKSPACES[0], key="b", priority=0, delay=0, max_attempts=3))
        stale = claimed(0)
        after(run.release(lease=stale, delay=0))
        fresh = claimed(1)
        after(run.progress(lease=stale))
        after(run.beat(number=0, lease=stale))
        after(run.release(lease=stale, delay=0))
        after(run.fail(lease=stale, delay=0, retry=True, crash=False))
        after(run.complete(lease=stale))
        after(run.cancel(job_id=first))
        after(run.complete(lease=fresh))
        claimed(1)
        after(run.die_and_be_rescued(number=1))
        after(run.time_passes(seconds=1000))
        after(run.fail(lease=claimed(0), delay=0, retry=False, crash=False))
        after(run.retry(job_id=second))
        waiting = after(run.enqueue_after(job_id=second, run_if="completed"))
        after(run.settle())
        after(run.fail(lease=claimed(0), delay=0, retry=False, crash=False))
        after(run.settle())
        after(run.retry(job_id=second))
        after(run.settle())
        retried = claimed(0)
        after(run.claim(number=1, limit=1))
        after(run.complete(lease=retried))
        after(run.settle())
        after(run.complete(lease=claimed(0)))
        assert run.jobs[waiting].state == "completed"
        key = {"workspace_id": WORKSPACES[1], "key": "a"}
        after(run.enqueue_newest(**key, delay=0, max_attempts=3))
        after(run.release(lease=claimed(0), delay=5))
        after(run.enqueue_newest(**key, delay=0, max_attempts=2))
        running = claimed(0)
        after(run.enqueue_newest(**key, delay=60, max_attempts=2))
        after(run.enqueue_newest(**key, delay=0, max_attempts=1))
        after(run.time_passes(seconds=1))
        after(run.fail(lease=running, delay=5, retry=True, crash=False))
        after(run.time_passes(seconds=1))
        after(run.complete(lease=claimed(1)))
        tell_of_time(run, after, claimed)
        tell_of_a_batch(run, after, claimed)

    return tell


def test_the_story_of_an_unbroken_queue_has_no_surprise(story: Callable[[], None]) -> None:
    story()


def without_fence(sql: str) -> str:
    return sql.replace("and q.epoch = u.epoch", "")


#: Statement by statement, what somebody might break, and how it would show.
BROKEN: dict[str, tuple[str, Callable[[str], str]]] = {
    "a completion without the fence": ("attempts.complete.COMPLETE", without_fence),
    "a failure without the fence": ("attempts.fail.FAIL", without_fence),
    "a release without the fence": ("attempts.release.RELEASE", without_fence),
    "progress without the fence": ("attempts.progress.REPORT", without_fence),
    "a claim that hands out the same epoch again": (
        "claim.jobs.CLAIM",
        lambda sql: sql.replace("greatest(q.epoch + 1,", "greatest(q.epoch,"),
    ),
    "a claim that does not count the attempt": (
        "claim.jobs.CLAIM",
        lambda sql: sql.replace("attempts = q.attempts + 1,", ""),
    ),
    "a claim in no order": (
        "claim.jobs.CLAIM",
        lambda sql: sql.replace("order by q.priority desc, q.run_after, q.id", "order by q.id desc"),
    ),
    "a completion that forgets the record": (
        "attempts.complete.COMPLETE",
        lambda sql: sql.replace("where r.workspace_id = e.workspace_id and r.id = e.id", "where false"),
    ),
    "a rescue that forgets to count the crash": (
        "attempts.rescue.RESCUE",
        lambda sql: sql.replace("1::smallint as crash", "0::smallint as crash"),
    ),
    "a cancel that forgets the running": (
        "by_hand.cancel.CANCEL_JOB",
        lambda sql: sql.replace("and state + 0 < 2", ""),
    ),
    "an end that does not look who waits": (
        "attempts.fail.FAIL",
        lambda sql: sql.replace("= chr(30) || v.unique_key", "= v.unique_key || chr(30)"),
    ),
    "a newer request under the older one's time": (
        "enqueue.replace.REPLACE",
        lambda sql: sql.replace("run_after = held.due_at,\n        start_within_ms", "start_within_ms"),
    ),
    "a key that nobody takes over": (
        "after.succeed.TAKE_OVER",
        lambda sql: sql.replace("is null\n", "is not null\n"),
    ),
    "a failure that nobody is told of": (
        "attempts.fail.FAIL",
        lambda sql: sql.replace("where e.final and e.followed", "where false"),
    ),
    "a job let go before what it waits for has ended": (
        "after.settle.DECIDE",
        lambda sql: sql.replace("and e.after_status is null", "and false"),
    ),
    "a job called off that stays so when what failed is retried": (
        "after.settle.DECIDE",
        lambda sql: sql.replace("r.status = 5 and r.outcome", "false and r.outcome"),
    ),
    "a batch that does not count what failed": (
        "after.settle.COUNT",
        lambda sql: sql.replace("failed = b.failed + d.failed", "failed = b.failed"),
    ),
    "a batch that has ended while a job of it runs": (
        "after.settle.MARK",
        lambda sql: sql.replace("case when b.ended_at is null then -1 when", "case when"),
    ),
    "a cancelled batch that stays open": (
        "by_hand.cancel_many.CLOSE",
        lambda sql: sql.replace("closed_at = coalesce(closed_at, jobplatform.clock())", "closed_at = closed_at"),
    ),
    "a moment by which to begin that counts for one that has begun": (
        "attempts.begin.BEGIN",
        lambda sql: sql.replace("start_by = null", "start_by = q.start_by"),
    ),
    "one that comes back too late to begin and waits": (
        "attempts.release.RELEASE",
        lambda sql: sql.replace("v.start_by <= jobplatform.clock() as late", "false as late"),
    ),
    "one that nobody claimed in time and that waits on": (
        "chores.end_late.END_LATE",
        lambda sql: sql.replace("start_by <= jobplatform.clock()", "start_by <= start_by - interval '1 s'"),
    ),
    "a period that ends with its job": (
        "enqueue.periods.LOOK",
        lambda sql: sql.replace("coalesce(r.status, 3) = 3", "r.status is null"),
    ),
    "a job that failed and keeps its key for its period": (
        "enqueue.periods.LOOK",
        lambda sql: sql.replace("coalesce(r.status, 3) = 3", "true"),
    ),
    "a change that the record is not told of": (
        "by_hand.change_waiting.CHANGE",
        lambda sql: sql.replace(
            "set priority = coalesce(%(priority)s::smallint, r.priority)", "set priority = r.priority"
        ),
    ),
    "a change of the moment that leaves the old one to begin by": (
        "by_hand.change_waiting.CHANGE",
        lambda sql: sql.replace("when %(moved)s::bool and q.start_by", "when false and q.start_by"),
    ),
    "a retry that begins its epochs anew": (
        "by_hand.retry_job.RETRY_JOB",
        lambda sql: sql.replace(
            f"select\n        {AS_RECORDED}", f"select\n        {AS_RECORDED.replace('epoch', '0')}"
        ),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_queue_that_is_broken_on_purpose_is_found_out(
    story: Callable[[], None], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, breaking = BROKEN[what]
    module_name, _, constant = name.rpartition(".")
    module = importlib.import_module(f"jobplatform.queue.{module_name}")
    sql = getattr(module, constant)
    assert breaking(sql) != sql, "there is nothing left to break"
    monkeypatch.setattr(module, constant, breaking(sql))

    with pytest.raises(AssertionError):
        story()


def test_two_live_jobs_of_one_key_are_found_out(machine: type[QueueMachine], session: Session) -> None:
    """Without its index the guard is a question asked too early."""
    session.execute(text("drop index jobplatform.job_queue_unique"))
    for number in range(2):
        session.execute(
            text(
                "insert into jobplatform.job_queue "
                "(workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key) "
                "values (:workspace_id, :id, 'q', 't', 1, 0, 3, 1, now(), 'sync')"
            ),
            {"workspace_id": WORKSPACES[0], "id": uuid.UUID(int=number)},
        )

    assert [found.split(":")[0] for found in violations(session)] == ["I1", "I4"]
