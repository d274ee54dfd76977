"""What running jobs find out about a resource counts for everybody."""

from __future__ import annotations

import datetime
import uuid
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from jobplatform.models import Bucket, Pause, RateLimit, clock
from jobplatform.queue import (
    NewJob,
    Release,
    ResourceNote,
    Ring,
    claim_jobs,
    enqueue_jobs,
    note_resources,
    prune_jobs,
    release_jobs,
    resume,
)
from jobplatform.queue.limits.breaker import BREAKER, FAILURES_IN_A_ROW, FIRST_PAUSE, LONGEST_PAUSE
from tests.queue.actors import Time, Worker

CRM = "crm:4711"
BROKEN = ResourceNote(CRM, failed=True, error="ConnectionError")
WORKING = ResourceNote(CRM, worked=True)

Claimed = Callable[[], int]


@pytest.fixture
def claimed(db: Session, worker: Worker) -> Claimed:
    """How many of two new jobs, of two workspaces, can be started now."""

    def claimed() -> int:
        enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=CRM) for _ in range(2)])
        return len(worker.claim(limit=2))

    return claimed


def pause(db: Session) -> Pause | None:
    return db.scalar(select(Pause).where(Pause.kind == "resource"), execution_options={"populate_existing": True})


def trip(db: Session) -> list[str]:
    return note_resources(db, [BROKEN] * FAILURES_IN_A_ROW)


def test_a_resource_that_said_too_often_is_left_alone_by_all_until_it_may_be_asked_again(
    db: Session, claimed: Claimed, time: Time
) -> None:
    note_resources(db, [ResourceNote(CRM, closed_for=20)])

    meanwhile = claimed()
    time.passes(21)

    assert (meanwhile, claimed()) == (0, 2)


def test_of_two_that_were_told_to_wait_the_longer_wait_counts(db: Session, claimed: Claimed, time: Time) -> None:
    note_resources(db, [ResourceNote(CRM, closed_for=60), ResourceNote(CRM, closed_for=5)])
    note_resources(db, [ResourceNote(CRM, closed_for=10)])

    time.passes(30)

    assert claimed() == 0


def test_a_closed_bucket_keeps_what_its_rate_had_left(db: Session, worker: Worker, time: Time) -> None:
    db.execute(insert(RateLimit).values(resource="crm:*", units=3, period_ms=86_400_000, burst=3))
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=CRM) for _ in range(5)])
    first = worker.claim(limit=2)
    note_resources(db, [ResourceNote(CRM, closed_for=5)])

    time.passes(6)

    assert (len(first), len(worker.drain())) == (2, 1)


def test_a_bucket_that_was_closed_before_anybody_took_from_it_is_full(db: Session, worker: Worker, time: Time) -> None:
    db.execute(insert(RateLimit).values(resource="crm:*", units=3, period_ms=86_400_000, burst=3))
    note_resources(db, [ResourceNote(CRM, closed_for=5)])
    time.passes(6)

    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=CRM) for _ in range(5)])

    assert len(worker.drain()) == 3


def test_a_resource_that_fails_again_and_again_is_paused(db: Session, claimed: Claimed) -> None:
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert note_resources(db, [BROKEN]) == []

    assert note_resources(db, [BROKEN]) == [CRM]
    assert claimed() == 0
    paused = pause(db)
    assert paused is not None
    assert (paused.actor, paused.key) == (BREAKER, CRM)
    assert "5 infrastructure errors in a row, the last one: ConnectionError" in paused.reason


def test_a_success_between_failures_starts_the_count_anew(db: Session) -> None:
    note_resources(db, [BROKEN] * (FAILURES_IN_A_ROW - 1))
    note_resources(db, [WORKING])

    assert note_resources(db, [BROKEN] * (FAILURES_IN_A_ROW - 1)) == []


def test_one_success_among_the_failures_of_a_moment_means_that_it_works(db: Session) -> None:
    assert note_resources(db, [*[BROKEN] * FAILURES_IN_A_ROW, WORKING]) == []


def test_the_breakers_pause_ends_by_itself_and_is_twice_as_long_the_next_time(db: Session, time: Time) -> None:
    trip(db)
    lengths = []
    for _ in range(8):
        paused = pause(db)
        assert paused is not None
        assert paused.until is not None
        lengths.append((paused.until - paused.paused_at).total_seconds())
        time.passes(lengths[-1] + 1)
        note_resources(db, [BROKEN])

    assert lengths == [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(8)]


def test_what_had_been_started_before_the_pause_does_not_lengthen_it(db: Session) -> None:
    trip(db)
    before = pause(db)
    assert before is not None
    until = before.until

    assert note_resources(db, [BROKEN] * 3) == []
    after = pause(db)
    assert after is not None
    assert after.until == until


def test_a_success_ends_the_breakers_pause(db: Session, claimed: Claimed) -> None:
    trip(db)

    note_resources(db, [WORKING])

    assert pause(db) is None
    assert claimed() == 2


@pytest.mark.parametrize("notes", [[WORKING], [BROKEN] * FAILURES_IN_A_ROW], ids=["success", "failures"])
def test_the_pause_of_a_person_is_not_the_breakers_to_change(db: Session, notes: list[ResourceNote]) -> None:
    db.execute(insert(Pause).values(kind="resource", key=CRM, reason="maintenance", actor="ann"))

    note_resources(db, notes)

    paused = pause(db)
    assert paused is not None
    assert (paused.actor, paused.reason, paused.until) == ("ann", "maintenance", None)


def test_a_persons_pause_that_is_over_does_not_keep_the_breaker_from_pausing(
    db: Session, claimed: Claimed, time: Time
) -> None:
    soon = clock() + datetime.timedelta(minutes=1)
    db.execute(insert(Pause).values(kind="resource", key=CRM, reason="maintenance", actor="ann", until=soon))
    time.passes(61)

    assert trip(db) == [CRM]
    assert claimed() == 0
    paused = pause(db)
    assert paused is not None
    assert paused.until is not None
    assert (paused.actor, (paused.until - paused.paused_at).total_seconds()) == (BREAKER, FIRST_PAUSE)


@pytest.mark.parametrize(("seconds", "length"), [(FIRST_PAUSE, 2 * FIRST_PAUSE), (301, FIRST_PAUSE)])
def test_how_long_the_last_pause_was_is_remembered_for_a_while_after_its_end(
    db: Session, time: Time, seconds: float, length: float
) -> None:
    trip(db)
    time.passes(FIRST_PAUSE + seconds - 1)
    prune_jobs(db, completed_after=datetime.timedelta(days=7), failed_after=datetime.timedelta(days=30))

    note_resources(db, [BROKEN])

    paused = pause(db)
    assert paused is not None
    assert paused.until is not None
    assert (paused.until - paused.paused_at).total_seconds() == length


# -- what has failed is tried by one job ---------------------------------------------------------


@pytest.fixture
def over(db: Session, time: Time) -> None:
    """The breaker has paused, and its pause is over."""
    trip(db)
    time.passes(FIRST_PAUSE + 1)


@pytest.mark.usefixtures("over")
def test_after_a_pause_one_job_tries_the_resource_and_the_others_wait_for_what_becomes_of_it(
    db: Session, worker: Worker, claimed: Claimed
) -> None:
    assert claimed() == 1
    assert claimed() == 0
    other = Worker(db)
    assert other.claim(limit=4) == []

    note_resources(db, [WORKING])

    assert len(other.drain()) == 3


@pytest.mark.usefixtures("over")
def test_workers_that_wake_at_the_end_of_the_pause_do_not_each_start_one(
    db: Session, engine: Engine, worker: Worker
) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=CRM) for _ in range(3)])
    with Session(engine) as other:
        first = claim_jobs(other, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=1)
        meanwhile = worker.claim()
        other.commit()

    assert (len(first.jobs), meanwhile, worker.claim()) == (1, [], [])


@pytest.mark.usefixtures("over")
def test_when_the_job_that_tries_it_fails_it_is_paused_again_at_once(db: Session, claimed: Claimed) -> None:
    assert claimed() == 1

    assert note_resources(db, [BROKEN]) == [CRM]
    assert claimed() == 0


def test_what_a_person_has_resumed_is_tried_by_one_job_too(db: Session, claimed: Claimed) -> None:
    trip(db)

    assert resume(db, "resource", CRM)

    assert claimed() == 1
    assert claimed() == 0


@pytest.mark.usefixtures("over")
def test_a_job_that_tries_it_for_long_lets_another_one_try(claimed: Claimed, time: Time) -> None:
    assert claimed() == 1

    time.passes(31)

    assert claimed() == 1
    assert claimed() == 0


@pytest.mark.usefixtures("over")
def test_a_job_that_tried_it_and_found_nothing_out_lets_another_one_try(db: Session, worker: Worker) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=CRM) for _ in range(2)])
    (first,) = worker.claim(limit=2)

    release_jobs(db, [Release(first.lease, delay=60)])

    assert len(worker.claim(limit=2)) == 1


@pytest.mark.usefixtures("over")
def test_what_uses_something_else_does_not_wait_for_a_trial(db: Session, worker: Worker) -> None:
    workspace_id = uuid.uuid4()
    resources = [CRM, CRM, CRM, "crm:1", "crm:1", None, None]
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", resource=resource) for resource in resources])

    started = [job.resource for job in worker.claim(limit=10)]

    assert Counter(started) == {CRM: 1, "crm:1": 2, None: 2}


@pytest.mark.usefixtures("over")
def test_the_job_that_tries_it_takes_its_units(db: Session, worker: Worker) -> None:
    db.execute(insert(RateLimit).values(resource=CRM, units=10, period_ms=86_400_000, burst=10))
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=CRM, units=8) for _ in range(2)])

    assert len(worker.claim(limit=2)) == 1
    note_resources(db, [WORKING])

    assert worker.claim(limit=2) == []


def test_a_success_of_a_resource_nobody_complained_of_writes_nothing(db: Session) -> None:
    note_resources(db, [WORKING])

    assert db.scalars(select(Bucket)).all() == []


def test_resources_are_told_apart(db: Session) -> None:
    other = ResourceNote("crm:1", failed=True)

    assert note_resources(db, [BROKEN] * FAILURES_IN_A_ROW + [other] * 2) == [CRM]
    assert note_resources(db, [other] * (FAILURES_IN_A_ROW - 2)) == ["crm:1"]


def test_nothing_to_note_asks_nothing(db: Session) -> None:
    assert note_resources(db, []) == []


def test_the_database_tells_the_time_of_a_closing(db: Session) -> None:
    note_resources(db, [ResourceNote(CRM, closed_for=1e12)])

    seconds = db.scalar(select(Bucket.closed_until - clock()))
    assert seconds is not None
    assert seconds.total_seconds() <= 86_400
