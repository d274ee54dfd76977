"""Why a job is not running: each thing that can be in its way, made on purpose."""

from __future__ import annotations

import datetime
import json
import os
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from jobplatform.models import (
    Bucket,
    Plan,
    QueueLimits,
    RateLimit,
    ResourceLevel,
    ResourceLimits,
    Status,
    TaskLimits,
    WorkspaceLimits,
    clock,
)
from jobplatform.queue import (
    Blocker,
    CancelAnswer,
    Completion,
    Edge,
    Failure,
    NewJob,
    ProgressReport,
    Release,
    ResourceNote,
    RetryKind,
    Why,
    WorkerInfo,
    cancel_job,
    complete_jobs,
    deregister_worker,
    enqueue_jobs,
    fail_jobs,
    heartbeat,
    note_resources,
    open_batch,
    pause,
    promote_jobs,
    register_worker,
    release_jobs,
    report_progress,
    resume,
    retry_job,
    settle_endings,
    succeed_jobs,
    why_waiting,
)
from jobplatform.queue.limits.breaker import BREAKER, FAILURES_IN_A_ROW, FIRST_PAUSE
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Put

HOUR = datetime.timedelta(hours=1)
OTHER = uuid.UUID(int=7)

Ask = Callable[[uuid.UUID], Why]


@pytest.fixture
def ask(db: Session, workspace_id: uuid.UUID) -> Ask:
    def ask(job_id: uuid.UUID) -> Why:
        answer = why_waiting(db, workspace_id, job_id)
        assert answer is not None
        return answer

    return ask


def codes(why: Why) -> list[str]:
    return [blocker.code for blocker in why.blockers]


def only(why: Why) -> Blocker:
    (blocker,) = why.blockers
    return blocker


def a_worker(db: Session, *, slots: int = 1, tasks: tuple[str, ...] = ("work",), queue: str = "default") -> int:
    return register_worker(db, WorkerInfo("w", "host", os.getpid(), "test", (queue,), tasks, slots))


def fill(db: Session, workspace_id: uuid.UUID, count: int, **options: object) -> None:
    asked = {"task": "work", **options}
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, **asked) for _ in range(count)])  # type: ignore[arg-type]


def later(time: Time, worker: Worker, seconds: float) -> None:
    """Time passes, and the worker lives."""
    time.passes(seconds)
    heartbeat(worker.db, worker.id, [])


def took(db: Session, worker: Worker, time: Time, seconds: float, count: int = 1) -> None:
    """Let the worker run so many jobs, each for as long; from then on the clock stands still."""
    time.freeze()
    jobs = worker.claim(limit=count)
    later(time, worker, seconds)
    complete_jobs(db, [Completion(job.lease, "null") for job in jobs])


# -- jobs that do not wait -----------------------------------------------------------------------


def test_a_job_that_nobody_has_has_no_answer(db: Session, workspace_id: uuid.UUID, put: Put) -> None:
    job_id = put()

    assert why_waiting(db, workspace_id, uuid.uuid4()) is None
    assert why_waiting(db, OTHER, job_id) is None


def test_a_job_that_runs_is_running(ask: Ask, put: Put, worker: Worker) -> None:
    job_id = put()
    worker.claim()

    why = ask(job_id)

    assert (why.status, codes(why), why.position, why.estimated_start_at) == (Status.RUNNING, ["running"], None, None)
    assert only(why).details["attempt"] == 1


def test_a_running_job_says_when_its_worker_has_fallen_silent(ask: Ask, put: Put, worker: Worker, time: Time) -> None:
    job_id = put()
    worker.claim()

    time.passes(15)
    assert "silent" not in only(ask(job_id)).message
    time.passes(30)
    assert "its worker has been silent for 45 s: if that is dead, any other takes" in only(ask(job_id)).message


def test_a_job_that_nobody_could_open_says_so_and_no_moment_to_begin_at(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    job_id = put()
    release_jobs(db, [Release(worker.lease(), delay=3600)])
    db.execute(text("""update jobplatform.job_queue set progress = '{"waitsFor": "key"}'"""))

    why = ask(job_id)

    assert only(why).code == "scheduled"
    assert "had no key to open it" in only(why).message
    assert why.estimated_start_at is None


def test_a_job_that_somebody_wants_stopped_says_so(
    ask: Ask, put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    worker.claim()
    assert cancel_job(db, workspace_id, job_id) is CancelAnswer.REQUESTED

    assert codes(ask(job_id)) == ["cancel-requested", "running"]


def test_a_completed_job_waits_for_nothing(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    job_id = put(unique_key="sync")
    complete_jobs(db, [Completion(worker.lease(), "null")])
    put(unique_key="sync")

    why = ask(job_id)

    assert (why.status, codes(why), why.estimated_start_at) == (Status.COMPLETED, ["final"], None)


def test_a_failed_job_whose_guard_is_held_names_the_job_that_holds_it(
    ask: Ask, put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID
) -> None:
    job_id = put(unique_key="sync")
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "no", retry=False)])
    before = codes(ask(job_id))
    holder = put(unique_key="sync")

    why = ask(job_id)

    assert before == ["final"]
    assert codes(why) == ["final", "guard-held"]
    assert why.blockers[1].details == {"job_id": holder}
    assert str(holder) in why.blockers[1].message
    assert retry_job(db, workspace_id, job_id) == (RetryKind.DUPLICATE, holder)


@pytest.mark.parametrize(("quota", "expected"), [(2, ["final", "quota"]), (3, ["final"]), (None, ["final"])])
def test_a_cancelled_job_that_the_quota_has_no_room_for_says_so(
    ask: Ask, put: Put, db: Session, workspace_id: uuid.UUID, quota: int | None, expected: list[str]
) -> None:
    job_id = put()
    cancel_job(db, workspace_id, job_id)
    fill(db, workspace_id, 2)
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, max_pending=quota))

    assert codes(ask(job_id)) == expected


# -- its time has not come -----------------------------------------------------------------------


def test_a_scheduled_job_says_when_it_is_due(ask: Ask, put: Put, worker: Worker) -> None:
    why = ask(put(delay=HOUR))

    blocker = only(why)
    assert (blocker.code, why.status, why.position) == ("scheduled", Status.PENDING, None)
    assert blocker.until is not None
    assert datetime.timedelta(minutes=59) < blocker.until - why.asked_at <= HOUR
    assert why.estimated_start_at == blocker.until


@pytest.mark.parametrize(
    ("code", "begins"), [("scheduled", "it is due at "), ("retrying", "it waits for attempt 2 of ")]
)
def test_a_job_whose_source_asked_for_the_wait_says_so_and_what_it_said(
    ask: Ask, put: Put, worker: Worker, db: Session, code: str, begins: str
) -> None:
    job_id = put()
    lease = worker.lease()
    report = {"current": 40, "total": 100, "message": "the CRM is busy (HTTP 429)", "waitsFor": "source"}
    report_progress(db, [ProgressReport(lease, json.dumps(report))])
    if code == "scheduled":
        release_jobs(db, [Release(lease, delay=3600)])
    else:
        fail_jobs(db, [Failure(lease, "error", "HTTPError", "no", delay=3600)])

    why = ask(job_id)

    blocker = only(why)
    assert (blocker.code, blocker.until) == (code, why.estimated_start_at)
    assert blocker.message.startswith(begins)
    assert blocker.message.endswith("Z, because its source asked for this wait (the CRM is busy (HTTP 429))")
    assert blocker.details["waits_for"] == "source"
    assert blocker.details["reason"] == "the CRM is busy (HTTP 429)"


def test_what_the_source_of_an_encrypted_job_said_is_not_told_and_that_it_asked_is(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    job_id = put()
    lease = worker.lease()
    sealed = '{"$sealed": "1.test.abc"}'
    report_progress(db, [ProgressReport(lease, json.dumps({"message": sealed, "waitsFor": "source"}))])
    release_jobs(db, [Release(lease, delay=3600)])

    blocker = only(ask(job_id))

    assert blocker.message.endswith("Z, because its source asked for this wait")
    assert blocker.details["reason"] is None


def test_a_job_that_runs_again_was_not_told_to_wait_any_more(
    ask: Ask, put: Put, worker: Worker, db: Session, time: Time
) -> None:
    job_id = put()
    lease = worker.lease()
    report_progress(db, [ProgressReport(lease, '{"waitsFor": "source"}')])
    release_jobs(db, [Release(lease, delay=60)])
    later(time, worker, 61)
    promote_jobs(db)
    release_jobs(db, [Release(worker.lease(), delay=60)])

    assert "source" not in only(ask(job_id)).message


def test_a_job_that_waits_for_its_next_attempt_says_which_and_what_went_wrong(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    job_id = put(max_attempts=5)
    fail_jobs(db, [Failure(worker.lease(), "error", "ConnectionError", "no", delay=60)])

    blocker = only(ask(job_id))

    assert (blocker.code, dict(blocker.details)) == (
        "retrying",
        {"attempt": 2, "max_attempts": 5, "error_type": "ConnectionError"},
    )
    assert "ConnectionError" in blocker.message
    assert blocker.until is not None


def test_a_job_that_crashed_its_worker_waits_for_its_next_attempt_too(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    job_id = put()
    fail_jobs(db, [Failure(worker.lease(), "lost", "ProcessCrashed", "SIGSEGV", delay=60, crash=True)])

    assert only(ask(job_id)).code == "retrying"


def test_a_job_that_is_due_but_not_yet_made_ready_says_so(ask: Ask, put: Put, worker: Worker, time: Time) -> None:
    job_id = put(delay=HOUR)
    later(time, worker, 3601)

    assert "makes it ready in a moment" in only(ask(job_id)).message


def test_a_job_that_became_due_is_in_line(ask: Ask, put: Put, worker: Worker, time: Time, db: Session) -> None:
    job_id = put(delay=HOUR)
    later(time, worker, 3601)
    promote_jobs(db)

    assert codes(ask(job_id)) == ["behind"]


def test_a_job_that_was_handed_back_is_in_line_again(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    job_id = put()
    release_jobs(db, [Release(worker.lease())])

    assert codes(ask(job_id)) == ["behind"]


# -- pauses --------------------------------------------------------------------------------------


def key_of(kind: str, workspace_id: uuid.UUID) -> str:
    return {"queue": "default", "task": "work", "workspace": str(workspace_id), "resource": "hubspot:1"}[kind]


@pytest.mark.parametrize("kind", ["queue", "task", "workspace", "resource"])
def test_a_pause_is_named_with_its_reason_its_author_and_its_end(
    ask: Ask, put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID, kind: str, fact: Fact
) -> None:
    job_id = put(resource="hubspot:1")
    until = fact("select now() + interval '1 hour'")
    pause(db, kind, key_of(kind, workspace_id), reason="CRM is down", actor="ada", until=until)

    blocker = only(ask(job_id))

    assert (blocker.code, blocker.until) == (f"paused-{kind}", until)
    assert blocker.details == {"reason": "CRM is down", "actor": "ada"}
    assert "ada" in blocker.message
    assert "CRM is down" in blocker.message


@pytest.mark.parametrize("kind", ["queue", "task", "workspace", "resource"])
def test_a_workspace_s_own_people_read_only_who_paused_their_workspace(
    put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID, kind: str
) -> None:
    job_id = put(resource="hubspot:1")
    pause(db, kind, key_of(kind, workspace_id), reason="Acme misbehaves", actor="Olga")

    why = why_waiting(db, workspace_id, job_id, tells_all=False)

    assert why is not None
    told = repr(why)
    assert ("Olga" in told, "Acme misbehaves" in told) == ((True, True) if kind == "workspace" else (False, False))
    assert ("by an operator" in told) == (kind != "workspace")


@pytest.mark.parametrize("tells_all", [True, False])
def test_whoever_asks_reads_that_it_was_the_circuit_breaker_and_why_only_an_operator(
    put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID, tells_all: bool
) -> None:
    job_id = put(resource="hubspot:1")
    note_resources(db, [ResourceNote("hubspot:1", failed=True, error="AcmeError")] * FAILURES_IN_A_ROW)

    why = why_waiting(db, workspace_id, job_id, tells_all=tells_all)

    assert why is not None
    blocker = only(why)
    assert (blocker.code, blocker.details["actor"]) == ("paused-resource", BREAKER)
    assert blocker.until is not None
    assert ("AcmeError" in repr(why)) == tells_all


@pytest.mark.parametrize("kind", ["queue", "task", "workspace", "resource"])
def test_pauses_of_other_things_are_in_nobody_s_way(ask: Ask, put: Put, worker: Worker, db: Session, kind: str) -> None:
    job_id = put(resource="hubspot:1")
    other = {"queue": "letters", "task": "rest", "workspace": str(OTHER), "resource": "hubspot:2"}[kind]
    pause(db, kind, other, reason="r", actor="a")

    assert codes(ask(job_id)) == ["behind"]


def test_a_pause_that_is_over_is_in_nobody_s_way(
    ask: Ask, put: Put, worker: Worker, db: Session, time: Time, fact: Fact
) -> None:
    job_id = put()
    pause(db, "queue", "default", reason="r", actor="a", until=fact("select now() + interval '10 s'"))
    pause(db, "task", "work", reason="r", actor="a")
    resume(db, "task", "work")
    time.passes(11)

    assert codes(ask(job_id)) == ["behind"]


def test_a_pause_that_ends_before_a_job_is_due_is_not_in_its_way(
    ask: Ask, put: Put, worker: Worker, db: Session, fact: Fact
) -> None:
    job_id = put(delay=HOUR)
    pause(db, "queue", "default", reason="r", actor="a", until=fact("select now() + interval '1 minute'"))
    pause(db, "task", "work", reason="r", actor="a")

    assert codes(ask(job_id)) == ["scheduled", "paused-task"]


# -- nobody to run it ----------------------------------------------------------------------------


def test_without_any_worker_a_job_says_that_none_is_alive(ask: Ask, put: Put) -> None:
    why = ask(put())

    assert (only(why).code, only(why).message) == ("no-worker", "no worker is alive")
    assert why.estimated_start_at is None


@pytest.mark.parametrize(
    ("workers", "said", "facts"),
    [
        ([("default", "rest")], "none of them knows the task 'work'", (1, 1, 0)),
        ([("letters", "work")], "none of them serves the queue 'default'", (1, 0, 1)),
        ([("letters", "rest")], "none of them serves the queue 'default' or knows the task 'work'", (1, 0, 0)),
        (
            [("default", "rest"), ("letters", "work")],
            "1 serves the queue 'default', 1 knows the task 'work', none does both",
            (2, 1, 1),
        ),
    ],
)
def test_it_says_whether_nobody_serves_the_queue_or_knows_the_task(
    ask: Ask, put: Put, db: Session, workers: list[tuple[str, str]], said: str, facts: tuple[int, int, int]
) -> None:
    for queue, task in workers:
        a_worker(db, queue=queue, tasks=(task,))

    blocker = only(ask(put()))

    assert blocker.code == "no-worker"
    assert said in blocker.message
    assert tuple(blocker.details.values()) == facts


def test_workers_that_are_dead_silent_or_stopping_are_nobody(ask: Ask, put: Put, db: Session, time: Time) -> None:
    silent, dead = a_worker(db), a_worker(db)
    deregister_worker(db, dead)
    time.passes(120)
    only_silent = only(ask(put())).message
    stopping = a_worker(db)
    heartbeat(db, stopping, [], draining=True)

    assert silent
    assert only_silent == "no worker is alive"
    assert "are stopping" in only(ask(put())).message


# -- limits --------------------------------------------------------------------------------------


def test_a_reached_limit_of_the_workspace_is_named(
    ask: Ask, put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID
) -> None:
    db.execute(insert(Plan).values(name="free", max_running=2))
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, plan="free"))
    job_ids = [put() for _ in range(3)]
    free = codes(ask(job_ids[2]))
    worker.drain()

    blocker = only(ask(job_ids[2]))

    assert free == ["behind"]
    assert (blocker.code, blocker.details) == ("workspace-limit", {"limit": 2, "running": 2})


def test_a_reached_limit_of_the_queue_is_named(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    db.execute(insert(QueueLimits).values(queue="default", max_running=1))
    fill(db, OTHER, 1)
    worker.claim()

    blocker = only(ask(put()))

    assert (blocker.code, blocker.details) == ("queue-limit", {"limit": 1, "running": 1})


def test_a_reached_limit_of_the_task_is_named(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    db.execute(insert(TaskLimits).values(task="work", max_running=1))
    fill(db, OTHER, 1)
    worker.claim()

    assert only(ask(put())).code == "task-limit"


def test_a_reached_limit_of_the_task_in_the_workspace_is_named(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    db.execute(insert(TaskLimits).values(task="work", max_running_per_workspace=1))
    fill(db, OTHER, 1)
    job_ids = [put(), put()]
    worker.drain()

    assert only(ask(job_ids[1])).code == "task-limit-here"
    assert only(ask(job_ids[0])).code == "running"


@pytest.mark.parametrize("limited", ["hubspot:1", "hubspot:*"])
def test_a_reached_limit_of_the_resource_is_named_with_the_workspace_s_own_jobs_that_use_it(
    ask: Ask, put: Put, worker: Worker, db: Session, limited: str
) -> None:
    db.execute(insert(ResourceLimits).values(resource=limited, max_running=1))
    job_ids = [put(resource="hubspot:1") for _ in range(2)]
    free = codes(ask(job_ids[1]))
    worker.drain()

    blocker = only(ask(job_ids[1]))

    assert (free, codes(ask(put(resource="hubspot:2")))) == (["behind"], ["behind"])
    assert blocker.code == "resource-limit"
    assert blocker.details == {
        "resource": "hubspot:1",
        "limit": 1,
        "running": 1,
        "job_ids": [job_ids[0]],
    }
    assert blocker.message == f"the resource 'hubspot:1' may be used by 1 job at a time, and 1 runs: {job_ids[0]}"


def test_a_resource_with_an_adaptive_limit_says_what_it_lets_now_and_between_what(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    db.execute(insert(ResourceLimits).values(resource="hubspot:*", min_running=1, max_running=50))
    db.execute(insert(ResourceLevel).values(resource="hubspot:1", level=2.9))
    fill(db, OTHER, 3, resource="hubspot:1")
    worker.drain()

    blocker = only(ask(put(resource="hubspot:1")))

    assert blocker.message == "the resource 'hubspot:1' lets 2 at a time now, between 1 and 50, and 2 run"
    assert blocker.details["limit"] == 2
    assert (blocker.details["least"], blocker.details["most"]) == (1, 50)


def test_who_else_uses_a_resource_is_counted_and_not_named(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    db.execute(insert(ResourceLimits).values(resource="hubspot:1", max_running=2))
    fill(db, OTHER, 2, resource="hubspot:1")
    worker.drain()

    blocker = only(ask(put(resource="hubspot:1")))

    assert (blocker.details["running"], blocker.details["job_ids"]) == (2, [])


def test_a_resource_whose_own_line_says_no_limit_is_in_nobody_s_way(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    db.execute(insert(ResourceLimits).values(resource="hubspot:*", max_running=0))
    db.execute(insert(ResourceLimits).values(resource="hubspot:1", max_running=None))

    assert codes(ask(put(resource="hubspot:1"))) == ["behind"]


def test_a_limit_of_nothing_at_all_has_no_estimate(
    ask: Ask, put: Put, worker: Worker, db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    put()
    took(db, worker, time, 2)
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, max_running=0))

    why = ask(put())

    assert (codes(why), why.estimated_start_at) == (["workspace-limit"], None)


def test_limits_say_nothing_about_a_job_whose_time_has_not_come(
    ask: Ask, put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID
) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, max_running=0))

    assert codes(ask(put(delay=HOUR))) == ["scheduled"]


# -- rates ---------------------------------------------------------------------------------------


def test_a_used_up_rate_of_the_workspace_says_when_the_next_may_start(
    ask: Ask, put: Put, worker: Worker, db: Session, workspace_id: uuid.UUID
) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, rate_units=2, rate_period_ms=60_000))
    job_ids = [put() for _ in range(3)]
    free = codes(ask(job_ids[2]))
    worker.drain()

    why = ask(job_ids[2])

    blocker = only(why)
    assert (free, blocker.code) == (["behind"], "workspace-rate")
    assert blocker.message.startswith("its workspace may start 2 jobs in 60 s; the next it needs comes at ")
    assert blocker.until is not None
    assert blocker.until == why.estimated_start_at, "a rate is known where nothing has ever ended"
    assert datetime.timedelta(seconds=25) < blocker.until - why.asked_at <= datetime.timedelta(seconds=30)


@pytest.mark.parametrize("limited", ["hubspot:1", "hubspot:*"])
def test_a_used_up_rate_of_the_resource_says_when_it_has_enough_units(
    ask: Ask, put: Put, worker: Worker, db: Session, limited: str
) -> None:
    db.execute(insert(RateLimit).values(resource=limited, units=10, period_ms=100_000, burst=10))
    put(resource="hubspot:1", units=8)
    job_id = put(resource="hubspot:1", units=5)
    elsewhere = put(resource="hubspot:2", units=5)
    worker.claim()

    why = ask(job_id)

    blocker = only(why)
    assert blocker.code == "resource-rate"
    assert (blocker.details["needed"], blocker.details["limit"]) == (5, 10)
    assert "may be used 10 units in 100 s; the next it needs come at " in blocker.message
    assert blocker.until is not None
    assert datetime.timedelta(seconds=25) < blocker.until - why.asked_at <= datetime.timedelta(seconds=30)
    assert codes(ask(elsewhere)) == ["behind"]


def test_a_job_of_more_units_than_a_bucket_holds_waits_for_a_full_one(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    db.execute(insert(RateLimit).values(resource="hubspot:1", units=10, period_ms=100_000, burst=10))
    job_id = put(resource="hubspot:1", units=500)

    assert codes(ask(job_id)) == ["behind"]


def test_a_resource_that_asked_for_a_break_says_until_when(
    ask: Ask, put: Put, worker: Worker, db: Session, fact: Fact, time: Time
) -> None:
    until = fact("select now() + interval '5 minutes'")
    values = {"kind": "resource", "key": "hubspot:1", "tokens": 0, "filled_at": clock(), "closed_until": until}
    db.execute(insert(Bucket).values(values))
    job_id = put(resource="hubspot:1")

    blocker = only(ask(job_id))
    later(time, worker, 301)

    assert (blocker.code, blocker.until) == ("resource-closed", until)
    assert codes(ask(job_id)) == ["behind"]


def test_a_resource_that_another_job_tries_says_so(ask: Ask, put: Put, worker: Worker, db: Session, time: Time) -> None:
    note_resources(db, [ResourceNote("hubspot:1", failed=True, error="ConnectionError")] * FAILURES_IN_A_ROW)
    later(time, worker, FIRST_PAUSE + 1)
    job_ids = [put(resource="hubspot:1") for _ in range(2)]
    elsewhere = put(resource="hubspot:2")
    before = codes(ask(job_ids[1]))
    worker.claim(limit=1)

    blocker = only(ask(job_ids[1]))

    assert (before, blocker.code) == (["behind"], "resource-on-trial")
    assert "5 times in a row" in blocker.message
    assert codes(ask(elsewhere)) == ["behind"]


def test_units_that_take_longer_to_come_than_there_are_years_have_no_moment(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    a_year = 365 * 86_400_000
    db.execute(insert(RateLimit).values(resource="hubspot:1", units=1, period_ms=a_year, burst=10_000))
    put(resource="hubspot:1", units=10_000)
    job_id = put(resource="hubspot:1", units=10_000)
    worker.claim()

    why = ask(job_id)

    blocker = only(why)
    assert (blocker.code, blocker.until, why.estimated_start_at) == ("resource-rate", None, None)


def test_all_that_is_in_the_way_is_named_in_one_answer(
    ask: Ask, put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, max_running=0))
    db.execute(insert(QueueLimits).values(queue="default", max_running=0))
    pause(db, "task", "work", reason="r", actor="a")
    pause(db, "workspace", str(workspace_id), reason="r", actor="a")

    assert codes(ask(put())) == ["paused-workspace", "paused-task", "no-worker", "workspace-limit", "queue-limit"]


# -- in line -------------------------------------------------------------------------------------


def test_a_job_s_position_is_the_number_of_jobs_that_come_before_it_in_its_workspace_and_queue(
    ask: Ask, put: Put, worker: Worker, db: Session
) -> None:
    first = put()
    put(task="rest")
    put(priority=5)
    put(priority=-5)
    put(queue="letters", priority=9)
    put(delay=HOUR, priority=9)
    fill(db, OTHER, 20)
    last = put()
    most_important = put(priority=7)

    assert [ask(job_id).position for job_id in (most_important, first, last)] == [0, 2, 4]


def test_equal_jobs_of_one_transaction_stand_in_line_by_id(
    ask: Ask, worker: Worker, db: Session, workspace_id: uuid.UUID
) -> None:
    fill(db, workspace_id, 5)
    ids = db.scalars(text("select id from jobplatform.job_queue order by id")).all()

    assert [ask(job_id).position for job_id in ids] == [0, 1, 2, 3, 4]


def test_a_job_in_line_says_how_many_slots_are_in_use(ask: Ask, put: Put, worker: Worker, db: Session) -> None:
    for _ in range(5):
        put()
    worker.claim(limit=3)
    fill(db, OTHER, 2)
    job_id = put()

    ahead = ask(job_id).ahead

    assert ahead is not None
    assert (ahead.own_jobs, ahead.other_workspaces, ahead.slots, ahead.slots_in_use) == (2, 1, 8, 3)
    assert "3 of 8 slots are in use" in only(ask(job_id)).message


def test_a_job_behind_busy_slots_only_is_next(ask: Ask, put: Put, db: Session) -> None:
    worker = Worker(db)
    for _ in range(8):
        put()
    worker.drain()

    assert "starts when one gets free" in only(ask(put())).message


# -- when ----------------------------------------------------------------------------------------


def wait(why: Why) -> float | None:
    return None if why.estimated_start_at is None else (why.estimated_start_at - why.asked_at).total_seconds()


def test_without_any_run_time_nothing_is_estimated(ask: Ask, put: Put, worker: Worker) -> None:
    for _ in range(9):
        put()
    worker.claim(limit=8)

    assert wait(ask(put())) is None


def test_a_job_that_nothing_keeps_from_a_free_slot_starts_now(ask: Ask, put: Put, worker: Worker) -> None:
    assert wait(ask(put())) == 0


def test_a_workspace_alone_is_estimated_by_its_own_run_times(
    ask: Ask, put: Put, db: Session, time: Time, worker: Worker
) -> None:
    """Eight slots, each job ten seconds: after the eight that have just begun, eight more, and so on."""
    for _ in range(40):
        put()
    took(db, worker, time, 10, 8)
    worker.claim(limit=8)

    why = ask(put())

    assert why.position == 24
    assert wait(why) == pytest.approx(40)


def test_others_turns_are_counted_by_their_weights(
    ask: Ask, put: Put, db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    worker = Worker(db)
    fill(db, OTHER, 1)
    put()
    took(db, worker, time, 10, 2)
    for _ in range(8):
        put()
    job_id = put()
    fill(db, OTHER, 100)
    worker.claim(limit=8)
    equal = wait(ask(job_id))
    db.execute(insert(WorkspaceLimits).values(workspace_id=OTHER, weight=3))
    outweighed = wait(ask(job_id))
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, weight=100))
    heavy = wait(ask(job_id))

    assert equal is not None
    assert outweighed is not None
    assert heavy is not None
    assert heavy <= equal < outweighed


def test_a_workspace_s_own_limit_makes_its_jobs_wait_for_each_other(
    ask: Ask, put: Put, db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    worker = Worker(db)
    put()
    took(db, worker, time, 10)
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, max_running=1))
    for _ in range(5):
        put()
    worker.claim()

    assert wait(ask(put())) == pytest.approx(50)


def test_a_rate_makes_jobs_wait_for_their_tokens(
    ask: Ask, put: Put, db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    worker = Worker(db)
    put()
    took(db, worker, time, 0.01)
    db.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, rate_units=1, rate_period_ms=60_000))
    for _ in range(5):
        put()
    worker.claim()

    assert wait(ask(put())) == pytest.approx(300)


def test_a_job_starts_after_a_pause_with_an_end_and_nobody_knows_when_after_one_without(
    ask: Ask, put: Put, db: Session, time: Time, fact: Fact
) -> None:
    worker = Worker(db)
    put()
    took(db, worker, time, 10)
    job_id = put()
    until = fact("select jobplatform.clock() + interval '1 hour'")
    pause(db, "queue", "default", reason="r", actor="a", until=until)
    known = ask(job_id).estimated_start_at
    pause(db, "task", "work", reason="r", actor="a")

    assert known == until
    assert ask(job_id).estimated_start_at is None


def test_jobs_that_nobody_starts_for_now_are_before_a_job_but_cost_it_no_time(
    ask: Ask, put: Put, db: Session, time: Time
) -> None:
    worker = Worker(db, tasks=("work", "rest"))
    put()
    took(db, worker, time, 10)
    for _ in range(50):
        put(task="rest", priority=1)
    job_id = put()
    pause(db, "task", "rest", reason="r", actor="a")

    why = ask(job_id)

    assert (why.position, wait(why)) == (50, 0)


def test_the_run_times_of_a_long_backlog_are_those_of_the_jobs_just_before_its_head(
    ask: Ask, put: Put, db: Session, time: Time
) -> None:
    worker = Worker(db)
    for _ in range(300):
        put()
    took(db, worker, time, 10, 8)
    worker.claim(limit=8)

    assert wait(ask(put())) == pytest.approx(10 * (300 - 16) / 8, rel=0.1)


def test_a_workspace_that_never_ran_anything_is_estimated_by_what_others_took(
    ask: Ask, put: Put, db: Session, time: Time
) -> None:
    # A few pages are looked at by chance, and what tests before this one deleted may have left many empty ones.
    db.execute(text("truncate jobplatform.job_records"))
    worker = Worker(db)
    fill(db, OTHER, 8)
    took(db, worker, time, 10, 8)
    for _ in range(9):
        put()
    worker.claim(limit=8)

    assert wait(ask(put())) == pytest.approx(10)


# Waiting for others


def test_a_blocked_job_names_what_it_waits_for(db: Session, workspace_id: uuid.UUID, put: Put, ask: Ask) -> None:
    first, second = put(), put()
    waiting = put(after=[first, Edge(second, "ended")])

    why = ask(waiting)

    assert codes(why) == ["waiting-for-job", "waiting-for-job", "no-worker"]
    assert why.blockers[0].message == f"it waits for job {first} (pending); it waits for 2 in all"
    assert why.blockers[1].message == f"it waits for job {second} (pending), however that ends; it waits for 2 in all"
    assert why.blockers[0].details == {"job_id": first, "run_if": "completed", "waits": 2, "waits_for": "job"}
    assert (why.status, why.position, why.estimated_start_at) == (Status.PENDING, None, None)


def test_what_has_ended_is_waited_for_no_longer(
    db: Session, workspace_id: uuid.UUID, worker: Worker, put: Put, ask: Ask
) -> None:
    put()
    running = worker.claim()
    other = put()
    waiting = put(after=[uuid.UUID(running[0].lease.job_id), other])
    settle_endings(db)
    assert "(running)" in ask(waiting).blockers[0].message

    complete_jobs(db, [Completion(running[0].lease)])
    settle_endings(db)

    assert [blocker.message for blocker in ask(waiting).blockers] == [f"it waits for job {other} (pending)"]


def test_a_callback_names_its_batch(db: Session, workspace_id: uuid.UUID, worker: Worker, put: Put, ask: Ask) -> None:
    batch_id = open_batch(db, workspace_id)
    put(batch_id=batch_id)
    callback = put(after=[Edge(batch_id, "failed", of_batch=True)])
    settle_endings(db)

    (blocker,) = ask(callback).blockers

    assert blocker.code == "waiting-for-batch"
    assert blocker.message == (f"it waits for batch {batch_id} (open, 0 of 1 job ended), and runs only if that fails")
    assert blocker.details["batch_id"] == batch_id


def test_a_job_that_is_to_replace_the_running_one_of_its_key_names_that(
    db: Session, put: Put, ask: Ask, worker: Worker
) -> None:
    put(unique_key="k")
    lease = worker.lease()
    waiting = put(unique_key="k", if_active="replace")

    blocker = only(ask(waiting))

    assert (blocker.code, blocker.details["waits_for"]) == ("waiting-for-key", "key")
    assert blocker.details["job_id"] == uuid.UUID(lease.job_id)
    assert blocker.message == (
        f"it waits for the running job of its key 'k', {lease.job_id}; a newer request replaces it meanwhile"
    )

    complete_jobs(db, [Completion(lease)])
    assert codes(ask(waiting)) == ["being-released"]
    succeed_jobs(db)
    assert codes(ask(waiting)) == ["behind"]


def test_a_blocked_job_whose_predecessors_are_settled_is_about_to_be_released(
    db: Session, put: Put, ask: Ask, worker: Worker
) -> None:
    waiting = put(after=[put()])
    db.execute(text("update jobplatform.job_edges set after_status = 3"))

    assert codes(ask(waiting)) == ["being-released"]


def test_a_pause_is_in_the_way_of_a_blocked_job_too(db: Session, put: Put, ask: Ask, worker: Worker) -> None:
    waiting = put(after=[put()])
    pause(db, "task", "work", reason="bug", actor="ada")

    assert codes(ask(waiting)) == ["waiting-for-job", "paused-task"]
