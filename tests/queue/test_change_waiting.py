"""A job that waits can be changed, and one that has begun cannot."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError
from jobplatform.models import Role, Status, confine
from jobplatform.queue import (
    ChangeAnswer,
    Completion,
    Edge,
    Failure,
    JobChange,
    NewJob,
    cancel_job,
    change_job,
    complete_jobs,
    count_endings,
    enqueue_job,
    fail_jobs,
    find_jobs,
    parse_search,
    promote_jobs,
    retry_job,
    settle_endings,
    succeed_jobs,
)
from jobplatform.queue.by_hand.change_waiting import change_jobs
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Look, Put

HOUR = datetime.timedelta(hours=1)
NEXT_YEAR = datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC)
#: What both tables say of a job, as far as it can be changed.
BOTH = """
select jsonb_build_array(q.state, q.priority, q.queue, r.priority, r.queue, q.run_after = r.run_after)
from jobplatform.job_queue q
join jobplatform.job_records r using (workspace_id, id)
where q.id = :id
"""


def ids(worker: Worker) -> list[str]:
    return [job.lease.job_id for job in worker.drain()]


def test_another_priority_is_another_turn(put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker) -> None:
    first, second, third = put(), put(), put()

    assert change_job(db, workspace_id, third, JobChange(priority=5)) is ChangeAnswer.CHANGED
    assert change_job(db, workspace_id, first, JobChange(priority=-5)) is ChangeAnswer.CHANGED

    assert ids(worker) == [str(third), str(second), str(first)]


def test_another_queue_is_served_by_its_workers_alone(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look
) -> None:
    job_id = put()
    there = Worker(db, queues=("slow",))

    change_job(db, workspace_id, job_id, JobChange(queue="slow"))

    assert look(job_id).queue == "slow"
    assert [job.id for job in find_jobs(db, parse_search("queue:slow status:pending")).jobs] == [job_id]
    assert ids(worker) == []
    assert ids(there) == [str(job_id)]


def test_another_moment_is_another_one_by_which_it_has_to_begin(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    in_time, whenever = put(delay=HOUR, start_within=HOUR), put(delay=HOUR)

    for job_id in (in_time, whenever):
        change_job(db, workspace_id, job_id, JobChange(run_after=NEXT_YEAR))

    assert look(in_time).start_by == NEXT_YEAR + HOUR
    assert look(whenever).start_by is None
    change_job(db, workspace_id, in_time, JobChange(priority=5))
    assert look(in_time).start_by == NEXT_YEAR + HOUR


def test_a_ready_job_is_put_off_and_a_scheduled_one_is_brought_forward(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, time: Time, look: Look
) -> None:
    ready, scheduled = put(), put(delay=HOUR)
    in_a_minute = look(ready).run_after + datetime.timedelta(minutes=1)

    for job_id in (ready, scheduled):
        assert change_job(db, workspace_id, job_id, JobChange(run_after=in_a_minute)) is ChangeAnswer.CHANGED

    assert [look(job_id).run_after for job_id in (ready, scheduled)] == [in_a_minute] * 2
    assert ids(worker) == []
    time.passes(61)
    promote_jobs(db)
    assert ids(worker) == [str(ready), str(scheduled)]


def test_at_once_ends_the_wait_for_a_moment_and_leaves_a_ready_job_its_place(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look
) -> None:
    first, second, later = put(), put(), put(delay=HOUR)
    before = look(first).run_after

    for job_id in (later, first):
        assert change_job(db, workspace_id, job_id, JobChange(at_once=True)) is ChangeAnswer.CHANGED

    assert look(first).run_after == before
    assert ids(worker) == [str(first), str(second), str(later)]


def test_a_moment_that_has_been_is_now(put: Put, db: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    job_id = put(delay=HOUR)

    change_job(db, workspace_id, job_id, JobChange(run_after=datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)))

    assert fact(BOTH, id=job_id)[0] == 1


def test_row_and_record_say_the_same_and_what_is_not_named_stays(
    put: Put, db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    job_id = put(delay=HOUR, priority=3)

    change_job(db, workspace_id, job_id, JobChange(queue="slow"))
    assert fact(BOTH, id=job_id) == [0, 3, "slow", 3, "slow", True]
    change_job(db, workspace_id, job_id, JobChange(priority=7, run_after=NEXT_YEAR))
    assert fact(BOTH, id=job_id) == [0, 7, "slow", 7, "slow", True]
    change_job(db, workspace_id, job_id, JobChange(at_once=True))
    assert fact(BOTH, id=job_id) == [1, 7, "slow", 7, "slow", True]


def test_a_job_that_waits_for_its_next_attempt_keeps_its_attempts_and_when_it_was_due_first(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look, fact: Fact
) -> None:
    job_id = put()
    due = look(job_id).run_after
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", delay=3600)])

    change_job(db, workspace_id, job_id, JobChange(run_after=NEXT_YEAR, priority=2))

    job = look(job_id)
    assert (job.attempts, job.error, job.run_after, job.priority) == (1, "no", NEXT_YEAR, 2)
    assert fact("select run_after from jobplatform.job_records") == due
    change_job(db, workspace_id, job_id, JobChange(at_once=True))
    assert [claimed.attempt for claimed in worker.claim()] == [2]


def test_how_long_a_job_waited_counts_from_the_moment_it_was_changed_to(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, time: Time, look: Look, fact: Fact
) -> None:
    job_id = put()
    change_job(db, workspace_id, job_id, JobChange(run_after=look(job_id).created_at + HOUR))
    time.passes(3605)
    promote_jobs(db)

    complete_jobs(db, [Completion(worker.lease())])
    count_endings(db)

    waited_ms = fact("select sum(wait_ms) from jobplatform.workspace_cells where minutes = 1 and wait_ms > 0")
    assert 5_000 <= waited_ms < 60_000


def test_what_waits_for_another_job_is_changed_and_still_waits_for_it(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, fact: Fact
) -> None:
    first = put(task="first")
    job_id = put(after=[Edge(first)], delay=HOUR)
    there = Worker(db, queues=("slow",))

    change = JobChange(priority=9, queue="slow", at_once=True)
    assert change_job(db, workspace_id, job_id, change) is ChangeAnswer.CHANGED

    assert fact(BOTH, id=job_id) == [-1, 9, "slow", 9, "slow", True]
    assert ids(there) == []
    complete_jobs(db, [Completion(Worker(db, tasks=("first",)).lease())])
    settle_endings(db)
    assert ids(there) == [str(job_id)]


def test_what_waits_for_another_job_waits_for_its_new_moment_after_that(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, fact: Fact
) -> None:
    first = put()
    job_id = put(after=[Edge(first)])

    change_job(db, workspace_id, job_id, JobChange(run_after=NEXT_YEAR))
    complete_jobs(db, [Completion(worker.lease())])
    settle_endings(db)

    assert fact(BOTH, id=job_id)[0] == 0


def test_what_waits_behind_the_running_job_of_its_key_takes_over_as_it_was_changed(
    db: Session, workspace_id: uuid.UUID, worker: Worker, put: Put
) -> None:
    put(unique_key="k")
    lease = worker.lease()
    wanted = NewJob(workspace_id=workspace_id, task="work", unique_key="k", if_active="replace")
    successor = enqueue_job(db, wanted).job_id
    there = Worker(db, queues=("slow",))

    assert change_job(db, workspace_id, successor, JobChange(queue="slow")) is ChangeAnswer.CHANGED
    assert ids(there) == []
    complete_jobs(db, [Completion(lease)])
    settle_endings(db)

    assert succeed_jobs(db).queues == {"slow"}
    assert ids(there) == [str(successor)]


def test_what_runs_or_has_ended_stays_as_it_is(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, fact: Fact
) -> None:
    running = put()
    worker.claim()
    ended = put()
    cancel_job(db, workspace_id, ended)
    rows = "select array_agg(r.*::text) from jobplatform.job_records r"
    before = fact(rows)

    change = JobChange(priority=9, queue="slow", run_after=NEXT_YEAR)
    assert change_job(db, workspace_id, running, change) is ChangeAnswer.RUNNING
    assert change_job(db, workspace_id, ended, change) is ChangeAnswer.FINISHED

    assert fact(rows) == before
    assert fact("select queue from jobplatform.job_queue") == "default"


def test_a_job_of_another_workspace_is_unknown(put: Put, db: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    job_id = put()

    assert change_job(db, uuid.uuid4(), job_id, JobChange(priority=9)) is ChangeAnswer.UNKNOWN
    assert change_job(db, workspace_id, uuid.uuid4(), JobChange(priority=9)) is ChangeAnswer.UNKNOWN
    assert fact("select priority from jobplatform.job_queue") == 0


def test_a_job_that_is_being_claimed_is_waited_for_and_not_changed(
    put: Put, session: Session, workspace_id: uuid.UUID, elsewhere: Elsewhere, look: Look
) -> None:
    job_id = put()
    claims = Worker(session)
    assert len(claims.claim()) == 1

    changed = elsewhere.start_and_wait_for_lock(
        lambda other: change_job(other, workspace_id, job_id, JobChange(priority=9, queue="slow"))
    )
    session.commit()

    assert changed.result() is ChangeAnswer.RUNNING
    job = look(job_id)
    assert (job.status, job.priority, job.queue) == (Status.RUNNING, 0, "default")


def test_a_job_that_is_being_changed_is_passed_over_by_a_claim_and_claimed_where_it_is_then(
    put: Put, session: Session, workspace_id: uuid.UUID, worker: Worker, db: Session
) -> None:
    changed, other = put(priority=9), put()
    there = Worker(db, queues=("slow",))
    change_job(session, workspace_id, changed, JobChange(queue="slow"))

    assert ids(worker) == [str(other)]
    assert ids(there) == []
    session.commit()

    assert ids(worker) == []
    assert ids(there) == [str(changed)]


def test_a_job_that_is_back_from_an_attempt_by_then_is_changed_as_it_is_then(
    put: Put, session: Session, workspace_id: uuid.UUID, elsewhere: Elsewhere, look: Look
) -> None:
    job_id = put()
    fail_jobs(session, [Failure(Worker(session).lease(), "error", "ValueError", "no", delay=3600)])

    changed = elsewhere.start_and_wait_for_lock(
        lambda other: change_job(other, workspace_id, job_id, JobChange(priority=9))
    )
    session.commit()

    assert changed.result() is ChangeAnswer.CHANGED
    job = look(job_id)
    assert (job.attempts, job.error, job.priority) == (1, "no", 9)


def test_two_who_change_one_job_are_one_after_the_other(
    put: Put, session: Session, workspace_id: uuid.UUID, elsewhere: Elsewhere, fact: Fact
) -> None:
    job_id = put()
    change_job(session, workspace_id, job_id, JobChange(priority=1, queue="slow"))

    second = elsewhere.start_and_wait_for_lock(
        lambda other: change_job(other, workspace_id, job_id, JobChange(priority=2))
    )
    session.commit()

    assert second.result() is ChangeAnswer.CHANGED
    assert fact(BOTH, id=job_id) == [1, 2, "slow", 2, "slow", True]


def test_several_are_changed_with_an_answer_for_each(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker, look: Look
) -> None:
    running = put(priority=99)
    worker.claim()
    waits, ended, unknown = put(), put(), uuid.uuid4()
    cancel_job(db, workspace_id, ended)

    answers = change_jobs(
        db, [(workspace_id, job_id) for job_id in (unknown, ended, running, waits)], JobChange(priority=4)
    )

    assert {job_id: answer.value for (_, job_id), answer in answers.items()} == {
        unknown: "unknown",
        ended: "finished",
        running: "running",
        waits: "changed",
    }
    assert look(waits).priority == 4


@pytest.mark.parametrize("role", [Role.API, Role.OPERATOR, Role.WORKER, Role.HANDLER])
def test_whoever_may_enqueue_may_change(
    put: Put, engine: Engine, workspace_id: uuid.UUID, fact: Fact, role: Role
) -> None:
    job_id = put()

    with Session(engine) as session:
        confine(session, role, workspace_id)
        answer = change_job(session, workspace_id, job_id, JobChange(priority=6, queue="slow", at_once=True))
        session.commit()

    assert answer is ChangeAnswer.CHANGED
    assert fact(BOTH, id=job_id) == [1, 6, "slow", 6, "slow", True]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({}, ""),
        ({"priority": 1001}, "/priority"),
        ({"queue": "No Queue"}, "/queue"),
        ({"run_after": datetime.datetime(2031, 1, 1)}, "/runAfter"),  # noqa: DTZ001  # what is refused
        ({"run_after": NEXT_YEAR.replace(year=9999)}, "/runAfter"),
        ({"run_after": NEXT_YEAR, "at_once": True}, "/runAfter"),
    ],
)
def test_what_no_job_can_be_changed_to_is_named_by_its_place(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidJobError) as refused:
        JobChange(**change)

    assert [problem.path for problem in refused.value.problems] == [path]


@pytest.mark.parametrize(
    "change",
    [
        JobChange(priority=0),
        JobChange(queue="slow"),
        JobChange(at_once=True),
        JobChange(priority=-7, queue="slow", run_after=NEXT_YEAR),
    ],
)
def test_a_change_is_read_as_it_was_written(change: JobChange) -> None:
    assert JobChange.of_json(change.as_json()) == change


def test_it_says_only_what_is_to_be_different() -> None:
    assert JobChange(priority=0).as_json() == {"priority": 0}
    assert JobChange(at_once=True).as_json() == {"runAfter": None}


def test_a_changed_job_that_was_given_up_comes_back_as_it_was_changed(
    put: Put, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = put()
    change_job(db, workspace_id, job_id, JobChange(priority=8, queue="slow"))
    cancel_job(db, workspace_id, job_id)
    retry_job(db, workspace_id, job_id)

    job = look(job_id)
    assert (job.status, job.priority, job.queue) == (Status.PENDING, 8, "slow")
    assert db.scalar(text("select queue from jobplatform.job_queue")) == "slow"
