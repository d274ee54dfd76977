"""Scheduled jobs become ready when their time has come, whoever is there to notice."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.queue import NewJob, enqueue_jobs, promote_jobs
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put


def seconds(count: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=count)


def test_a_due_job_becomes_ready(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put(delay=seconds(60), queue="default")
    time.passes(60)

    promoted = promote_jobs(db)

    assert (promoted.queues, promoted.more, promoted.next_due) == ({"default"}, False, None)
    assert len(worker.claim()) == 1


def test_a_job_whose_time_has_not_come_stays_where_it_is(put: Put, db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    put(delay=seconds(60))
    time.passes(59)

    assert promote_jobs(db).queues == set()
    assert worker.claim() == []


def test_the_answer_says_when_to_look_again(put: Put, db: Session, time: Time) -> None:
    time.freeze()
    put(delay=seconds(60))
    put(delay=seconds(100))
    time.passes(70)

    assert promote_jobs(db).next_due == 30


def test_the_answer_names_each_queue_that_has_new_jobs(put: Put, db: Session, time: Time) -> None:
    for queue in ("a", "b", "a"):
        put(delay=seconds(1), queue=queue)
    time.passes(1)

    assert promote_jobs(db).queues == {"a", "b"}


def test_a_large_crowd_is_promoted_in_portions(db: Session, workspace_id: uuid.UUID, time: Time) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", delay=seconds(1)) for _ in range(1500)])
    time.passes(1)

    assert [promote_jobs(db).more for _ in range(3)] == [True, False, False]


def test_two_promoters_do_not_wait_for_each_other(put: Put, db: Session, engine: Engine, time: Time) -> None:
    put(delay=seconds(1))
    time.passes(1)

    with Session(engine) as first:
        assert promote_jobs(first).queues == {"default"}
        assert promote_jobs(db).queues == set()


def test_a_promoted_job_takes_its_place_by_the_time_it_was_meant_for(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    scheduled = put(delay=seconds(5))
    time.passes(10)
    put()
    promote_jobs(db)

    assert worker.claim()[0].lease.job_id == str(scheduled)
