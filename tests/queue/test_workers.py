"""Who is alive, and what becomes of the jobs of those who are not."""

from __future__ import annotations

import datetime
import os
import uuid

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import (
    Completion,
    Failure,
    Release,
    bury_workers,
    cancel_job,
    complete_jobs,
    deregister_worker,
    drain_worker,
    fail_jobs,
    heartbeat,
    list_attempts,
    places_of_workers,
    promote_jobs,
    prune_jobs,
    release_jobs,
    rescue_jobs,
    retry_job,
    set_retention,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Look, Put

LEASE = datetime.timedelta(seconds=30)


def bury_and_rescue(db: Session, **options: int) -> list[str]:
    bury_workers(db, LEASE)
    return [rescued.status for rescued in rescue_jobs(db, **options)]


# Who ran it


def test_of_a_job_that_went_well_it_is_kept_who_ran_it(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    assert look(job_id).last_worker_id is None
    lease = worker.lease()
    assert look(job_id).last_worker_id == worker.id
    complete_jobs(db, [Completion(lease)])

    job = look(job_id)
    assert (job.worker_id, job.last_worker_id) == (None, worker.id)


def test_it_is_the_worker_of_the_last_attempt(put: Put, db: Session, worker: Worker, look: Look, time: Time) -> None:
    job_id = put()
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "no", delay=30)])
    assert look(job_id).last_worker_id == worker.id
    time.passes(30)
    promote_jobs(db)
    other = Worker(db)
    fail_jobs(db, [Failure(other.lease(), "error", "E", "no", retry=False)])

    assert look(job_id).last_worker_id == other.id


def test_of_a_lost_attempt_it_is_kept_too_and_forgotten_by_a_retry_by_hand(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    worker.claim()
    deregister_worker(db, worker.id)
    rescue_jobs(db, crash_limit=1)

    assert (look(job_id).status, look(job_id).last_worker_id) == (Status.FAILED, worker.id)
    retry_job(db, workspace_id, job_id)
    assert look(job_id).last_worker_id is None


def test_a_job_that_nobody_ran_names_nobody(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    cancelled, late = put(), put(start_within=datetime.timedelta(minutes=1))
    cancel_job(db, workspace_id, cancelled)
    time.passes(60)
    release_jobs(db, [Release(worker.lease(), unstarted=True)])

    assert [look(job_id).last_worker_id for job_id in (cancelled, late)] == [None, None]


def test_it_stays_known_where_a_worker_ran_that_is_long_gone(
    put: Put, db: Session, worker: Worker, look: Look, time: Time, fact: Fact
) -> None:
    job_id = put()
    complete_jobs(db, [Completion(worker.lease())])
    place = {worker.id: f"host:{os.getpid()}"}
    assert places_of_workers(db, [look(job_id).last_worker_id, None]) == place
    deregister_worker(db, worker.id)
    time.passes(2 * 86_400)
    month = datetime.timedelta(days=30)

    prune_jobs(db, completed_after=month, failed_after=month)

    assert fact("select count(*) from jobplatform.workers") == 0
    assert places_of_workers(db, [look(job_id).last_worker_id]) == place
    assert places_of_workers(db, [None]) == {}


def test_and_is_forgotten_when_no_job_can_name_it_any_more(db: Session, worker: Worker, time: Time) -> None:
    day = datetime.timedelta(days=1)
    deregister_worker(db, worker.id)
    set_retention(db, {"failed": 60 * day}, workspace_id=uuid.uuid4())

    def is_known(after_days: int) -> bool:
        time.passes(after_days * 86_400)
        prune_jobs(db, completed_after=7 * day, failed_after=30 * day)
        return worker.id in places_of_workers(db, [worker.id])

    assert [is_known(after_days) for after_days in (2, 57, 2)] == [True, True, False]


# Heartbeats


def test_a_heartbeat_renews_the_lease(db: Session, worker: Worker, time: Time) -> None:
    time.passes(25)
    assert heartbeat(db, worker.id, []).alive

    time.passes(25)
    assert bury_workers(db, LEASE) == []


def test_a_silent_worker_is_declared_dead(db: Session, worker: Worker, time: Time) -> None:
    time.passes(31)

    assert bury_workers(db, LEASE) == [worker.id]


def test_a_worker_is_declared_dead_once(db: Session, worker: Worker, time: Time) -> None:
    time.passes(31)
    bury_workers(db, LEASE)

    assert bury_workers(db, LEASE) == []


def test_a_dead_worker_learns_so_from_its_heartbeat_and_stays_dead(db: Session, worker: Worker, time: Time) -> None:
    time.passes(31)
    bury_workers(db, LEASE)

    assert not heartbeat(db, worker.id, []).alive
    assert not heartbeat(db, worker.id, []).alive


def test_a_worker_that_comes_back_has_a_new_id(db: Session, worker: Worker) -> None:
    deregister_worker(db, worker.id)

    assert Worker(db).id > worker.id


def test_a_worker_that_stopped_is_not_alive(db: Session, worker: Worker) -> None:
    deregister_worker(db, worker.id)

    assert not heartbeat(db, worker.id, []).alive


def test_a_worker_that_nobody_registered_is_not_alive(db: Session) -> None:
    assert not heartbeat(db, 12345, []).alive


def test_a_heartbeat_says_that_the_worker_is_draining(db: Session, worker: Worker, fact: Fact) -> None:
    heartbeat(db, worker.id, [], draining=True)

    assert fact("select draining from jobplatform.workers") is True


def test_a_drain_that_an_operator_asks_for_survives_the_worker_s_own_word(
    db: Session, worker: Worker, fact: Fact
) -> None:
    assert not heartbeat(db, worker.id, []).drain

    assert drain_worker(db, worker.id)

    assert heartbeat(db, worker.id, [], draining=False).drain
    assert heartbeat(db, worker.id, [], draining=True).drain
    assert fact("select draining from jobplatform.workers") is True


def test_only_a_worker_that_is_alive_can_be_drained(db: Session, worker: Worker) -> None:
    deregister_worker(db, worker.id)

    assert not drain_worker(db, worker.id)
    assert not drain_worker(db, 12345)


def test_an_attempt_that_is_still_held_is_not_mentioned(put: Put, db: Session, worker: Worker) -> None:
    put()

    beat = heartbeat(db, worker.id, [worker.lease()])

    assert (beat.alive, beat.lost, beat.cancelled) == (True, [], [])


def test_a_heartbeat_tells_which_attempts_to_stop(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    ids = [put() for _ in range(3)]
    fine, cancelled, lost = (job.lease for job in worker.claim(limit=3))
    cancel_job(db, workspace_id, ids[1])
    release_jobs(db, [Release(lost)])

    beat = heartbeat(db, worker.id, [fine, cancelled, lost])

    assert (beat.lost, beat.cancelled) == ([lost], [cancelled])


def test_an_older_attempt_of_a_job_that_this_worker_runs_again_is_lost(put: Put, db: Session, worker: Worker) -> None:
    put()
    old = worker.lease()
    release_jobs(db, [Release(old)])
    new = worker.lease()

    assert heartbeat(db, worker.id, [old, new]).lost == [old]


def test_an_attempt_that_another_worker_holds_is_lost(put: Put, db: Session, worker: Worker) -> None:
    put()
    lease = worker.lease()

    assert heartbeat(db, Worker(db).id, [lease]).lost == [lease]


# Rescue


def test_the_job_of_a_dead_worker_goes_back_to_waiting(
    put: Put, db: Session, worker: Worker, time: Time, look: Look
) -> None:
    job_id = put()
    worker.lease()
    time.passes(31)

    assert bury_and_rescue(db) == ["pending"]

    job = look(job_id)
    assert (job.status, job.attempts, job.crash_count, job.worker_id) == (Status.PENDING, 0, 1, None)
    assert job.error_type == "WorkerLost"


def test_a_rescued_job_is_not_run_at_once(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put()
    worker.lease()
    time.passes(31)
    bury_and_rescue(db)
    survivor = Worker(db)

    promote_jobs(db)
    assert survivor.claim() == []

    time.passes(2)
    promote_jobs(db)
    assert survivor.claim()[0].crash_count == 1


def test_the_job_of_a_living_worker_is_left_alone(put: Put, db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    put()
    worker.lease()
    time.passes(29)

    assert bury_and_rescue(db) == []


def test_what_a_stopped_worker_left_behind_is_rescued(put: Put, db: Session, worker: Worker) -> None:
    put()
    worker.lease()
    deregister_worker(db, worker.id)

    assert len(rescue_jobs(db)) == 1


def test_the_job_of_a_worker_whose_row_is_gone_is_rescued(put: Put, db: Session, worker: Worker, fact: Fact) -> None:
    put()
    worker.lease()
    fact("delete from jobplatform.workers returning id")

    assert len(rescue_jobs(db)) == 1


def test_a_job_that_kills_every_worker_has_failed_after_three(
    put: Put, db: Session, look: Look, workspace_id: uuid.UUID, time: Time
) -> None:
    job_id = put(max_attempts=1)
    answers = []
    for _ in range(3):
        worker = Worker(db)
        worker.lease()
        deregister_worker(db, worker.id)
        answers += bury_and_rescue(db)
        time.passes(600)
        promote_jobs(db)

    assert answers == ["pending", "pending", "failed"]
    assert (look(job_id).status, look(job_id).outcome, look(job_id).crash_count) == (Status.FAILED, "lost", 3)
    assert [attempt.outcome for attempt in list_attempts(db, workspace_id, job_id)] == ["lost"] * 3


def test_the_limit_of_crashes_is_the_operators_to_choose(put: Put, db: Session, worker: Worker) -> None:
    put()
    worker.lease()
    deregister_worker(db, worker.id)

    assert bury_and_rescue(db, crash_limit=1) == ["failed"]


def test_a_rescued_job_that_was_to_be_cancelled_is_cancelled(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    worker.lease()
    cancel_job(db, workspace_id, job_id)
    deregister_worker(db, worker.id)

    assert bury_and_rescue(db) == ["cancelled"]


def test_a_worker_that_only_slept_cannot_finish_what_was_rescued(
    put: Put, db: Session, worker: Worker, time: Time, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()
    time.passes(31)
    bury_and_rescue(db)

    assert complete_jobs(db, [Completion(lease)]) == set()
    assert look(job_id).status == Status.PENDING


def test_two_rescuers_do_not_rescue_the_same_job(put: Put, db: Session, engine: Engine, worker: Worker) -> None:
    put()
    worker.lease()
    deregister_worker(db, worker.id)

    with Session(engine) as first:
        held = rescue_jobs(first)
        assert rescue_jobs(db) == []
        first.commit()

    assert len(held) == 1


def test_long_running_jobs_of_the_living_do_not_hide_a_dead_workers_job(put: Put, db: Session, worker: Worker) -> None:
    dead = Worker(db)
    for _ in range(600):
        put()
    for _ in range(3):
        worker.claim(limit=200)
    put()
    dead.lease()
    deregister_worker(db, dead.id)

    assert len(rescue_jobs(db)) == 1


@pytest.mark.parametrize("crashes", [0, 1])
def test_the_delay_after_a_crash_grows(put: Put, db: Session, fact: Fact, crashes: int, time: Time) -> None:
    put()
    for _ in range(crashes + 1):
        worker = Worker(db)
        worker.lease()
        deregister_worker(db, worker.id)
        rescue_jobs(db)
        delay = fact("select extract(epoch from run_after - jobplatform.clock())::float8 from jobplatform.job_queue")
        time.passes(100)
        promote_jobs(db)

    full = 2 * 2**crashes
    assert full / 2 - 5 < delay <= full
