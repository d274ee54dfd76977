"""A job that goes back, by its worker's own will or because its worker does not know it."""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from jobplatform.models import Role, Status, make_engine
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    Release,
    cancel_job,
    complete_jobs,
    fail_jobs,
    list_attempts,
    promote_jobs,
    release_jobs,
    release_unknown_jobs,
    set_rate_limit,
    set_workspace_limits,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Look, Put


def test_a_released_job_can_be_claimed_at_once_with_all_its_attempts(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    lease = worker.lease()

    assert release_jobs(db, [Release(lease)]) == {lease}

    assert (look(job_id).status, look(job_id).attempts, look(job_id).started_at) == (Status.PENDING, 0, None)
    assert worker.claim()[0].attempt == 1


@pytest.mark.parametrize("how", ["snoozed", "failed"])
@pytest.mark.parametrize("delay", [math.inf, 1e30, 1e12, math.nan, -math.inf])
def test_a_job_that_is_not_to_come_back_in_anybody_s_lifetime_goes_back_all_the_same(
    put: Put, db: Session, worker: Worker, look: Look, how: str, delay: float
) -> None:
    job_id = put()
    lease = worker.lease()

    if how == "snoozed":
        release_jobs(db, [Release(lease, delay)])
    else:
        fail_jobs(db, [Failure(lease, "error", "E", "no", delay=delay)])

    job = look(job_id)
    ahead = job.run_after - job.created_at
    assert job.status == Status.PENDING
    assert ahead > datetime.timedelta(days=3649) if delay > 0 else ahead < datetime.timedelta(days=1)


def test_a_released_job_keeps_its_place_in_the_order(put: Put, db: Session, worker: Worker) -> None:
    first, _second = put(), put()
    lease = worker.claim(limit=1)[0].lease
    release_jobs(db, [Release(lease)])

    assert worker.claim(limit=1)[0].lease.job_id == str(first)


def test_a_snoozed_job_comes_back_after_its_delay(put: Put, db: Session, worker: Worker, time: Time) -> None:
    put()
    release_jobs(db, [Release(worker.lease(), delay=60)])

    promote_jobs(db)
    assert worker.claim() == []

    time.passes(60)
    promote_jobs(db)
    assert worker.claim()[0].attempt == 1


def test_a_release_is_no_failed_attempt(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    job_id = put()
    release_jobs(db, [Release(worker.lease())])

    assert list_attempts(db, workspace_id, job_id) == []


def test_the_old_lease_is_worth_nothing_after_a_release(put: Put, db: Session, worker: Worker, look: Look) -> None:
    job_id = put()
    old = worker.lease()
    release_jobs(db, [Release(old)])
    new = worker.lease()

    assert complete_jobs(db, [Completion(old)]) == set()
    assert release_jobs(db, [Release(old)]) == set()
    assert (look(job_id).status, new.epoch) == (Status.RUNNING, 2)


def test_a_cancel_that_came_in_the_meantime_is_not_lost(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    lease = worker.lease()
    cancel_job(db, workspace_id, job_id)

    release_jobs(db, [Release(lease)])

    assert (look(job_id).status, look(job_id).attempts) == (Status.CANCELLED, 0)


def test_nothing_to_release_is_no_error(db: Session) -> None:
    assert release_jobs(db, []) == set()


# Reconcile


def test_a_claim_whose_answer_was_lost_is_handed_back(put: Put, db: Session, worker: Worker, look: Look) -> None:
    known, forgotten = put(), put()
    leases = {job.lease.job_id: job.lease for job in worker.claim(limit=2)}

    assert release_unknown_jobs(db, worker.id, [leases[str(known)]]) == 1

    assert look(known).status == Status.RUNNING
    assert (look(forgotten).status, look(forgotten).attempts) == (Status.PENDING, 0)


def test_a_worker_that_knows_nothing_hands_back_everything_of_its_own(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    mine, others = put(), put(task="other")
    worker.lease()
    Worker(db, tasks=["other"]).lease()

    assert release_unknown_jobs(db, worker.id, []) == 1

    assert (look(mine).status, look(others).status) == (Status.PENDING, Status.RUNNING)


def test_knowing_an_older_attempt_of_a_job_is_not_knowing_this_one(put: Put, db: Session, worker: Worker) -> None:
    put()
    old = worker.lease()
    release_jobs(db, [Release(old)])
    worker.lease()

    assert release_unknown_jobs(db, worker.id, [old]) == 1


def test_a_worker_that_knows_all_its_jobs_hands_back_none(put: Put, db: Session, worker: Worker) -> None:
    put()

    assert release_unknown_jobs(db, worker.id, [worker.lease()]) == 0


def test_a_forgotten_job_that_was_to_be_cancelled_is_cancelled(
    put: Put, db: Session, worker: Worker, look: Look, workspace_id: uuid.UUID
) -> None:
    job_id = put()
    worker.lease()
    cancel_job(db, workspace_id, job_id)

    release_unknown_jobs(db, worker.id, [Lease(str(workspace_id), str(uuid.uuid4()), 1)])

    assert look(job_id).status == Status.CANCELLED


# What was never started has used no rate


@pytest.fixture
def tokens(fact: Fact) -> Callable[[str], float]:
    """What is left in a bucket."""
    return lambda kind: float(fact("select tokens from jobplatform.buckets where kind = :kind", kind=kind))


def limit_rates(db: Session, workspace_id: uuid.UUID) -> None:
    """Hardly anything flows in while a test runs."""
    set_workspace_limits(db, workspace_id, {"rate_units": 10, "rate_period_ms": 86_400_000})
    set_rate_limit(db, "crm:*", {"units": 10, "period_ms": 86_400_000, "burst": 8})


def test_what_was_never_started_gives_its_units_back_and_what_was_started_does_not(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, tokens: Callable[[str], float]
) -> None:
    limit_rates(db, workspace_id)
    for _ in range(2):
        put(resource="crm:1", units=3)
    unstarted, snoozed = (job.lease for job in worker.claim(2))
    assert (tokens("workspace"), tokens("resource")) == (pytest.approx(8, abs=0.01), pytest.approx(2, abs=0.01))

    release_jobs(db, [Release(unstarted, unstarted=True), Release(snoozed, 60)])

    assert (tokens("workspace"), tokens("resource")) == (pytest.approx(9, abs=0.01), pytest.approx(5, abs=0.01))


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_claim_whose_answer_was_lost_gives_its_units_back_and_what_is_known_does_not(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, tokens: Callable[[str], float], cancelled: bool
) -> None:
    limit_rates(db, workspace_id)
    for _ in range(2):
        put(resource="crm:1", units=3)
    known, lost = (job.lease for job in worker.claim(2))
    if cancelled:
        cancel_job(db, workspace_id, uuid.UUID(lost.job_id))

    for _ in range(2):
        release_unknown_jobs(db, worker.id, [known])

    assert (tokens("workspace"), tokens("resource")) == (pytest.approx(9, abs=0.01), pytest.approx(5, abs=0.01))


def test_a_lease_that_is_handed_back_twice_or_was_lost_is_refunded_once(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, tokens: Callable[[str], float]
) -> None:
    limit_rates(db, workspace_id)
    put(resource="crm:1", units=3)
    lease = worker.lease()

    for _ in range(2):
        release_jobs(db, [Release(lease, unstarted=True)])

    assert (tokens("workspace"), tokens("resource")) == (pytest.approx(10, abs=0.01), pytest.approx(8, abs=0.01))


def test_a_bucket_that_filled_up_meanwhile_does_not_overflow(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, time: Time, tokens: Callable[[str], float]
) -> None:
    limit_rates(db, workspace_id)
    put(resource="crm:1", units=20)  # more than there is room for: it took all there can be
    lease = worker.lease()
    assert tokens("resource") == pytest.approx(0, abs=0.01)
    time.passes(86_400)

    release_jobs(db, [Release(lease, unstarted=True)])

    assert (tokens("workspace"), tokens("resource")) == (10, 8)


def test_a_job_without_a_rate_is_handed_back_without_a_bucket(
    put: Put, db: Session, worker: Worker, fact: Fact
) -> None:
    put(resource="crm:1")

    assert len(release_jobs(db, [Release(worker.lease(), unstarted=True)])) == 1
    assert fact("select count(*) from jobplatform.buckets") == 0


def test_a_worker_has_the_right_to_give_units_back(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, login_url: Callable[..., str]
) -> None:
    limit_rates(db, workspace_id)
    for _ in range(2):
        put(resource="crm:1")
    lease, _unknown = (job.lease for job in worker.claim(2))
    engine = make_engine(login_url(Role.WORKER), pool_size=1, autocommit=True, role=Role.WORKER)

    with Session(engine) as finisher:
        assert release_jobs(finisher, [Release(lease, unstarted=True)]) == {lease}
        assert release_unknown_jobs(finisher, worker.id, []) == 1
    engine.dispose()
