"""A worker that has nothing to do finds that out by one statement, and sees a sign of whatever there is."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Completion,
    Every,
    RunningJob,
    Signs,
    TaskDefaults,
    Tasks,
    begin_bulk,
    bury_workers,
    complete_jobs,
    continue_bulk,
    count_endings,
    create_schedule,
    fire_schedules,
    look_around,
    open_batch,
    parse_search,
    promote_jobs,
    rescue_jobs,
    settle_endings,
    succeed_jobs,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put

NOTHING = Signs(
    scheduled_in=None,
    late_in=None,
    tick_in=None,
    endings=False,
    successors=False,
    bulk=False,
    dead=False,
    resting=frozenset(),
    ready=False,
)

Look = Callable[..., Signs]


@pytest.fixture
def signs(db: Session) -> Look:
    """What a worker sees that knows the task ``work``."""

    def signs(*tasks: str, dead: bool = True, queues: Sequence[str] = ()) -> Signs:
        return look_around(db, tasks or ("work",), lease=30, dead=dead, queues=queues)

    return signs


def test_where_nothing_is_to_be_done_there_is_no_sign_of_anything(signs: Look, put: Put, worker: Worker) -> None:
    put()
    put(unique_key="k")
    worker.claim(2)
    put()

    assert signs() == NOTHING


def test_a_job_is_seen_to_be_ready_in_the_queues_that_were_asked_about(signs: Look, put: Put, worker: Worker) -> None:
    put(delay=datetime.timedelta(hours=1))
    assert not signs(queues=["default", "second"]).ready

    put()
    seen = {queues: signs(queues=queues).ready for queues in [(), ("second",), ("default",), ("second", "default")]}
    worker.claim()

    assert seen == {(): False, ("second",): False, ("default",): True, ("second", "default"): True}
    assert not signs(queues=["default"]).ready


def test_a_scheduled_job_is_seen_until_it_is_promoted(signs: Look, put: Put, db: Session, time: Time) -> None:
    put(delay=datetime.timedelta(hours=1))
    assert signs().scheduled_in == pytest.approx(3600, abs=60)

    time.passes(3700)
    assert (signs().scheduled_in or 0) < 0
    promote_jobs(db)

    assert signs() == NOTHING


def test_a_schedule_is_seen_by_whoever_knows_its_task(
    signs: Look, db: Session, session: Session, workspace_id: uuid.UUID, time: Time
) -> None:
    tasks = Tasks()

    @tasks.task("report")
    def report(job: RunningJob, payload: dict[str, Any]) -> None: ...

    create_schedule(session, report, Every(datetime.timedelta(hours=1)), name="hourly", workspace_id=workspace_id)
    session.commit()

    assert signs("work") == NOTHING
    assert 0 < (signs("work", "report").tick_in or 0) <= 3600
    time.passes(3700)
    assert (signs("report").tick_in or 0) < 0
    fire_schedules(db, {"report": TaskDefaults()})
    assert (signs("report").tick_in or 0) > 0


def test_an_ending_that_somebody_waits_for_is_seen_until_it_is_settled(
    signs: Look, put: Put, db: Session, worker: Worker
) -> None:
    first = put()
    put(after=(first,))
    while settle_endings(db).notices:
        pass
    assert not signs().endings

    complete_jobs(db, [Completion(worker.lease())])
    assert signs().endings
    settle_endings(db)

    assert signs() == NOTHING


def test_an_ending_in_a_batch_is_seen_too(
    signs: Look, put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    put(batch_id=open_batch(db, workspace_id))
    while settle_endings(db).notices:
        pass
    assert not signs().endings

    complete_jobs(db, [Completion(worker.lease())])

    assert signs().endings


def test_a_job_that_waits_for_one_of_its_key_is_seen_when_that_has_ended(
    signs: Look, put: Put, db: Session, worker: Worker
) -> None:
    put(unique_key="k", if_active="replace")
    lease = worker.lease()
    put(unique_key="k", if_active="replace")
    while settle_endings(db).notices:
        pass
    assert not signs().successors

    complete_jobs(db, [Completion(lease)])
    assert signs().successors
    succeed_jobs(db)

    assert not signs().successors


def test_what_an_operator_wants_done_is_seen_until_it_is(signs: Look, put: Put, db: Session) -> None:
    put()
    begin_bulk(db, "cancel", parse_search("status:pending"), actor="ada")
    assert signs().bulk

    while continue_bulk(db):
        pass

    assert not signs().bulk


def test_a_silent_worker_is_seen_and_what_it_left_behind_by_whoever_looks_for_the_dead(
    signs: Look, put: Put, db: Session, worker: Worker, time: Time
) -> None:
    put()
    worker.claim()
    time.passes(31)
    assert signs().dead

    bury_workers(db, datetime.timedelta(seconds=30))
    assert signs().dead
    assert not signs(dead=False).dead
    rescue_jobs(db)

    assert not signs().dead


def test_a_job_of_a_worker_that_was_never_heard_of_is_seen(signs: Look, put: Put, db: Session, worker: Worker) -> None:
    put()
    worker.claim()
    db.execute(text("delete from jobplatform.workers"))

    assert signs().dead


def test_a_chore_of_the_whole_platform_rests_until_it_is_due_again(signs: Look, db: Session, time: Time) -> None:
    count_endings(db, now=False)
    assert signs().resting == {"count"}

    time.passes(3600)

    assert signs().resting == frozenset()
