"""What running jobs find out about a resource counts for everybody."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from jobplatform.models import Bucket, Pause, RateLimit, clock
from jobplatform.queue import NewJob, ResourceNote, enqueue_jobs, note_resources
from jobplatform.queue.breaker import BREAKER, FAILURES_IN_A_ROW, FIRST_PAUSE, LONGEST_PAUSE
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
