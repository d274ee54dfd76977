"""A job that has not begun by its moment is never started, whoever has it by then; and once begun nobody asks again."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError
from jobplatform.key_ring import generate_key
from jobplatform.models import RunIf, Status
from jobplatform.queue import (
    Completion,
    Edge,
    Every,
    Failure,
    Lease,
    NewJob,
    Release,
    RunningJob,
    TaskDefaults,
    Tasks,
    begin_jobs,
    cancel_job,
    close_batch,
    complete_jobs,
    create_schedule,
    deregister_worker,
    end_late_jobs,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    fire_schedules,
    get_batch,
    look_around,
    open_batch,
    promote_jobs,
    release_jobs,
    release_unknown_jobs,
    rescue_jobs,
    retry_job,
    run_inline,
    run_job_now,
    settle_endings,
    succeed_jobs,
    why_waiting,
)
from jobplatform.queue.allowed import YEARS
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Look, Put
from tests.queue.plans import explain

MINUTE = datetime.timedelta(minutes=1)
TERMS = "select count(*) from jobplatform.job_queue where start_by is not null"
TOO_LATE = (Status.CANCELLED, "discarded", "TooLate")


def ended(job: Any) -> tuple[Any, ...]:
    return job.status, job.outcome, job.error_type


# -- nobody claims it ------------------------------------------------------------------------------


def test_a_job_that_nobody_has_claimed_in_time_is_cancelled_and_says_why(
    put: Put, db: Session, look: Look, worker: Worker, time: Time
) -> None:
    time.freeze(datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC))
    job_id = put(start_within=MINUTE)
    time.passes(60)

    answer = end_late_jobs(db)

    job = look(job_id)
    assert (answer.jobs, answer.more, answer.next_due) == (1, False, None)
    assert ended(job) == TOO_LATE
    assert job.error == "it was to begin by 2030-01-01T12:01:00Z and had not, so it was not started"
    assert (job.attempts, job.started_at, job.start_by, job.start_within_ms) == (0, None, None, 60_000)
    assert worker.claim() == []


def test_until_then_it_waits_and_the_answer_says_for_how_long(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    time.freeze()
    put(start_within=MINUTE)
    put(start_within=2 * MINUTE)
    put()
    time.passes(59)

    assert end_late_jobs(db) == (0, False, 1)
    assert look_around(db, ["work"], lease=30).late_in == 1
    assert len(worker.claim(10)) == 3


def test_a_job_that_may_begin_at_any_time_waits_for_ever(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put()
    time.travel(days=400)

    assert end_late_jobs(db) == (0, False, None)
    assert look_around(db, ["work"], lease=30).late_in is None
    assert len(worker.claim()) == 1


def test_its_term_begins_when_it_is_due(put: Put, db: Session, look: Look, time: Time) -> None:
    time.freeze()
    delayed = put(delay=10 * MINUTE, start_within=MINUTE)
    at = put(run_after=time.now() + 10 * MINUTE, start_within=MINUTE)
    time.passes(659)

    assert end_late_jobs(db).jobs == 0
    promote_jobs(db)
    time.passes(1)

    assert end_late_jobs(db).jobs == 2
    assert [ended(look(job_id)) for job_id in (delayed, at)] == [TOO_LATE, TOO_LATE]


def test_in_a_bulk_each_has_its_own_term(db: Session, workspace_id: uuid.UUID, look: Look, time: Time) -> None:
    terms = [None, MINUTE, 3 * MINUTE]
    answers = enqueue_jobs(
        db, [NewJob(workspace_id=workspace_id, task="work", start_within=within) for within in terms]
    )
    time.passes(100)

    end_late_jobs(db)

    assert [look(answer.job_id).status for answer in answers] == [Status.PENDING, Status.CANCELLED, Status.PENDING]
    assert [look(answer.job_id).start_within_ms for answer in answers] == [None, 60_000, 180_000]


def test_a_large_crowd_is_ended_in_portions(db: Session, workspace_id: uuid.UUID, time: Time) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", start_within=MINUTE) for _ in range(1500)])
    time.passes(60)

    assert [end_late_jobs(db)[:2] for _ in range(3)] == [(1000, True), (500, False), (0, False)]


def test_what_another_worker_is_just_claiming_is_left_to_it(
    put: Put, db: Session, engine: Engine, worker: Worker, time: Time
) -> None:
    put(start_within=MINUTE)
    time.passes(60)

    with engine.begin() as connection:
        connection.execute(text("select from jobplatform.job_queue for update"))
        assert end_late_jobs(db).jobs == 0

    assert end_late_jobs(db).jobs == 1


def test_of_two_who_end_it_and_cancel_it_one_does(
    put: Put, engine: Engine, elsewhere: Elsewhere, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    job_id = put(start_within=MINUTE)
    time.passes(60)

    with Session(engine) as session:
        assert end_late_jobs(session).jobs == 1
        answer = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, job_id))
        session.commit()

    assert answer.result(10).value == "finished"
    assert ended(look(job_id)) == TOO_LATE


def test_the_late_are_found_without_a_walk_through_the_queue(db: Session, engine: Engine, put: Put) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work") for _ in range(2000)])
    put(start_within=MINUTE)
    db.execute(text("analyze jobplatform.job_queue"))

    plan = explain(engine, end_late_jobs)

    assert "job_queue" not in plan.sequential_scans
    assert plan.rows_visited("job_queue") <= 2


# -- somebody has claimed it -----------------------------------------------------------------------


def test_a_claim_says_how_long_it_has(put: Put, worker: Worker, time: Time) -> None:
    time.freeze()
    put(start_within=MINUTE)
    put()
    time.passes(20)

    assert sorted(job.start_within or 0 for job in worker.claim(10)) == [0, 40]


def test_handed_back_when_it_is_too_late_it_ends(
    put: Put, db: Session, worker: Worker, look: Look, fact: Fact, time: Time
) -> None:
    job_id = put(start_within=MINUTE)
    time.passes(60)
    (claimed,) = worker.claim()

    assert (claimed.start_within or 0) <= 0
    assert release_jobs(db, [Release(claimed.lease, unstarted=True)]) == {claimed.lease}

    job = look(job_id)
    assert ended(job) == TOO_LATE
    assert "it was to begin by" in str(job.error)
    assert (job.attempts, job.started_at) == (0, None)
    assert fact("select count(*) from jobplatform.job_attempts") == 0


def test_handed_back_in_time_it_waits_and_keeps_its_term(
    put: Put, db: Session, worker: Worker, look: Look, time: Time
) -> None:
    job_id = put(start_within=MINUTE)
    time.passes(30)
    before = look(job_id).start_by

    release_jobs(db, [Release(worker.lease(), unstarted=True)])

    assert (look(job_id).status, look(job_id).start_by) == (Status.PENDING, before)


def test_what_is_unknown_to_the_worker_that_claimed_it_ends_too(
    put: Put, db: Session, worker: Worker, look: Look, time: Time
) -> None:
    job_id = put(start_within=MINUTE)
    worker.claim()
    time.passes(60)

    assert release_unknown_jobs(db, worker.id, []) == 1
    assert ended(look(job_id)) == TOO_LATE


@pytest.mark.parametrize("begun", [True, False])
def test_of_a_dead_worker_only_what_had_begun_is_tried_again(
    put: Put, db: Session, worker: Worker, look: Look, time: Time, begun: bool
) -> None:
    job_id = put(start_within=MINUTE)
    lease = worker.lease()
    if begun:
        assert begin_jobs(db, [lease]) == {lease}
    deregister_worker(db, worker.id)
    time.passes(60)

    rescue_jobs(db)

    job = look(job_id)
    assert job.crash_count == 1
    assert job.status == (Status.PENDING if begun else Status.CANCELLED)
    assert job.error_type == ("WorkerLost" if begun else "TooLate")


@pytest.mark.parametrize("how", ["failed", "snoozed", "stopped"])
def test_once_it_has_begun_further_attempts_may_come_at_any_time(
    put: Put, db: Session, worker: Worker, look: Look, fact: Fact, time: Time, how: str
) -> None:
    job_id = put(start_within=MINUTE)
    lease = worker.lease()
    begin_jobs(db, [lease])
    time.passes(600)

    if how == "failed":
        fail_jobs(db, [Failure(lease, "error", "E", "no", delay=30)])
    else:
        release_jobs(db, [Release(lease, delay=30 if how == "snoozed" else 0)])
    time.passes(30)
    promote_jobs(db)

    assert end_late_jobs(db).jobs == 0
    assert (look(job_id).status, look(job_id).start_by, fact(TERMS)) == (Status.PENDING, None, 0)
    (again,) = worker.claim()
    assert again.start_within is None
    assert complete_jobs(db, [Completion(again.lease)]) == {again.lease}


def test_a_stale_worker_s_job_does_not_begin(put: Put, db: Session, worker: Worker, fact: Fact) -> None:
    put(start_within=MINUTE)
    lease = worker.lease()
    release_jobs(db, [Release(lease, unstarted=True)])

    assert begin_jobs(db, [lease, Lease(lease.workspace_id, lease.job_id, lease.epoch + 1)]) == set()
    assert fact(TERMS) == 1


def test_a_cancel_that_came_meanwhile_is_what_it_ended_with(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    job_id = put(start_within=MINUTE)
    lease = worker.lease()
    cancel_job(db, workspace_id, job_id)
    time.passes(60)

    release_jobs(db, [Release(lease, unstarted=True)])

    assert (look(job_id).status, look(job_id).outcome) == (Status.CANCELLED, "cancelled")


# -- who waits for it ------------------------------------------------------------------------------


def test_what_waits_for_others_has_its_term_from_when_they_have_ended(
    put: Put, db: Session, worker: Worker, look: Look, time: Time
) -> None:
    first = put()
    second = put(after=[first], start_within=MINUTE)
    time.passes(3600)

    assert (end_late_jobs(db).jobs, look(second).start_by) == (0, None)
    complete_jobs(db, [Completion(worker.lease())])
    settle_endings(db)

    assert look(second).start_by == look(second).run_after + MINUTE
    time.passes(60)
    end_late_jobs(db)
    assert ended(look(second)) == TOO_LATE


def test_what_waits_for_it_is_called_off_and_its_batch_counts_it(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    batch_id = open_batch(db, workspace_id, None)
    late = put(start_within=MINUTE, batch_id=batch_id)
    close_batch(db, workspace_id, batch_id)
    next_one, anyway = put(after=[late]), put(after=[Edge(late, RunIf.ENDED)])
    settle_endings(db)
    time.passes(60)

    end_late_jobs(db)
    settle_endings(db)

    assert [look(job_id).error_type for job_id in (late, next_one, anyway)] == ["TooLate", "PredecessorFailed", None]
    assert [job.lease.job_id for job in worker.claim()] == [str(anyway)]
    batch = get_batch(db, workspace_id, batch_id)
    assert batch is not None
    assert (batch.cancelled, batch.ended_at is not None) == (1, True)


def test_its_guard_is_free_again(put: Put, db: Session, look: Look, time: Time) -> None:
    late = put(start_within=MINUTE, unique_key="k")
    time.passes(60)
    end_late_jobs(db)

    assert put(unique_key="k") != late


def test_a_newer_request_brings_its_own_term(put: Put, db: Session, look: Look, time: Time) -> None:
    job_id = put(unique_key="k", if_active="replace", start_within=MINUTE)
    time.passes(30)
    assert put(unique_key="k", if_active="replace", start_within=MINUTE) == job_id
    time.passes(40)

    assert end_late_jobs(db).jobs == 0
    assert put(unique_key="k", if_active="replace") == job_id
    time.passes(3600)

    assert end_late_jobs(db).jobs == 0
    assert (look(job_id).start_within_ms, look(job_id).start_by) == (None, None)


def test_one_that_waits_for_the_running_job_of_its_key_can_come_too_late(
    put: Put, db: Session, worker: Worker, look: Look, time: Time
) -> None:
    put(unique_key="k", if_active="replace")
    lease = worker.lease()
    late = put(unique_key="k", if_active="replace", start_within=MINUTE)
    time.passes(60)

    assert end_late_jobs(db).jobs == 1
    complete_jobs(db, [Completion(lease)])

    assert ended(look(late)) == TOO_LATE
    assert succeed_jobs(db).jobs == []


# -- people ----------------------------------------------------------------------------------------


def test_retried_by_hand_it_has_its_term_again_from_then_on(
    put: Put, db: Session, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    job_id = put(start_within=MINUTE)
    time.passes(3600)
    end_late_jobs(db)

    retry_job(db, workspace_id, job_id)

    assert look(job_id).start_by == look(job_id).run_after + MINUTE
    assert end_late_jobs(db).jobs == 0
    time.passes(60)
    end_late_jobs(db)
    assert ended(look(job_id)) == TOO_LATE


def test_what_was_called_off_because_of_it_comes_back_with_a_term_of_its_own(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    first = put(start_within=MINUTE)
    second = put(after=[first], start_within=MINUTE)
    settle_endings(db)
    time.passes(60)
    end_late_jobs(db)
    settle_endings(db)
    assert look(second).status == Status.CANCELLED

    retry_job(db, workspace_id, first)
    settle_endings(db)
    assert (look(second).status, look(second).start_by) == (Status.PENDING, None)
    complete_jobs(db, [Completion(worker.lease())])
    settle_endings(db)

    assert look(second).start_by == look(second).run_after + MINUTE


def test_run_now_is_when_it_is_due(put: Put, db: Session, look: Look, workspace_id: uuid.UUID, time: Time) -> None:
    time.freeze()
    job_id = put(delay=60 * MINUTE, start_within=MINUTE)

    run_job_now(db, workspace_id, job_id)

    assert look(job_id).start_by == time.now() + MINUTE


def test_why_says_after_which_moment_it_will_not_be_started(
    put: Put, db: Session, workspace_id: uuid.UUID, time: Time
) -> None:
    time.freeze(datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC))
    Worker(db)
    job_id = put(start_within=MINUTE)

    why = why_waiting(db, workspace_id, job_id)

    assert why is not None
    assert [blocker.code for blocker in why.blockers] == ["behind", "start-by"]
    assert why.blockers[-1].message == "it will not be started after 2030-01-01T12:01:00Z, but cancelled"
    assert why.blockers[-1].until == time.now() + MINUTE


@pytest.mark.parametrize("within", [datetime.timedelta(0), -MINUTE, datetime.timedelta(days=365, seconds=1)])
def test_a_term_that_cannot_be_is_refused(workspace_id: uuid.UUID, within: datetime.timedelta) -> None:
    with pytest.raises(InvalidJobError, match="/startWithinMs"):
        NewJob(workspace_id=workspace_id, task="work", start_within=within)


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati"])
@pytest.mark.parametrize(("day", "hours_ahead"), [((YEARS[0], 1, 1, 0), 14), ((YEARS[-1], 12, 31, 23), -12)])
def test_of_whatever_year_a_job_may_be_due_in_its_moments_can_be_read_anywhere(
    put: Put, session: Session, zone: str, day: tuple[int, int, int, int], hours_ahead: int
) -> None:
    due_at = datetime.datetime(*day, tzinfo=datetime.timezone(datetime.timedelta(hours=hours_ahead)))
    longest = datetime.timedelta(days=365)
    put(run_after=due_at, start_within=longest)

    session.execute(text(f"set local timezone = '{zone}'"))

    found = session.execute(text("select run_after, start_by from jobplatform.jobs")).one()
    assert tuple(found) == (due_at, due_at + longest)


# -- tasks, schedules, synchronous mode ------------------------------------------------------------


def test_a_task_says_it_for_its_jobs_and_an_enqueue_for_one(
    session: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    tasks = Tasks()

    @tasks.task("work", start_within=MINUTE)
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    first = work.enqueue(session, {}, workspace_id=workspace_id).job_id
    second = work.enqueue(session, {}, workspace_id=workspace_id, start_within=2 * MINUTE).job_id
    session.commit()

    assert [look(job_id).start_within_ms for job_id in (first, second)] == [60_000, 120_000]


def test_a_tick_that_waits_too_long_behind_a_backlog_is_not_run(
    db: Session, workspace_id: uuid.UUID, look: Look, fact: Fact, time: Time
) -> None:
    tasks = Tasks()

    @tasks.task("work", start_within=MINUTE)
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    known = {task["name"]: TaskDefaults.of(task) for task in tasks.catalogue()}
    create_schedule(db, work, Every(60 * MINUTE), workspace_id=workspace_id, name="hourly")
    time.passes(3600)
    assert fire_schedules(db, known).ticks == 1
    time.passes(60)

    assert end_late_jobs(db).jobs == 1
    assert ended(look(fact("select job_id from jobplatform.schedule_ticks"))) == TOO_LATE


def test_in_synchronous_mode_what_is_late_is_not_run_and_what_begins_is(
    engine: Engine, db: Session, workspace_id: uuid.UUID, look: Look, time: Time
) -> None:
    tasks, ran = Tasks(), []

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None:
        ran.append(job.id)

    def enqueue() -> uuid.UUID:
        return enqueue_job(db, work.new_job({}, workspace_id=workspace_id, start_within=MINUTE)).job_id

    late = enqueue()
    time.passes(60)
    in_time = enqueue()

    for job_id in (late, in_time):
        run_inline(engine, tasks, workspace_id, job_id)

    assert ran == [in_time]
    assert ended(look(late)) == TOO_LATE
    assert look(in_time).status == Status.COMPLETED


def test_of_a_sealed_job_it_can_be_read_why(
    db: Session, workspace_id: uuid.UUID, look: Look, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("old"))
    job = NewJob(workspace_id=workspace_id, task="work", encrypted=True, start_within=MINUTE)
    job_id = enqueue_job(db, job).job_id
    time.passes(60)

    end_late_jobs(db)

    assert ended(look(job_id)) == TOO_LATE
    assert "it was to begin by" in str(look(job_id).error)
