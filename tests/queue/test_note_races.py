"""Two workers note at once what they found out of the same resources: one waits for the other, neither for both.

Each test has somebody hold a row, so that the first comes half-way; then the second comes as far as it can.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from jobplatform.models import Bucket, Pause, ResourceLevel, clock
from jobplatform.queue import (
    Adaptive,
    NewJob,
    Release,
    ResourceNote,
    claim_jobs,
    enqueue_jobs,
    note_resources,
    prune_jobs,
    release_jobs,
    set_rate_limit,
    set_resource_limit,
    set_workspace_limits,
)
from jobplatform.queue.limits.breaker import BREAKER, FAILURES_IN_A_ROW
from jobplatform.testing import wait_until
from tests.queue.actors import Elsewhere, Worker

ONE, BETWEEN, TWO = "crm:1", "crm:15", "crm:2"
LONG_AGO = datetime.timedelta(days=365)


def failed(*resources: str, times: int = 1) -> list[ResourceNote]:
    return [ResourceNote(name, failed=True, error="ConnectionError") for name in resources for _ in range(times)]


def worked(*resources: str) -> list[ResourceNote]:
    return [ResourceNote(name, worked=True) for name in resources]


def paused_by_the_breaker(db: Session, resource: str) -> None:
    values = {"kind": "resource", "key": resource, "reason": "errors", "actor": BREAKER}
    db.execute(insert(Pause).values(**values, until=clock() + datetime.timedelta(seconds=30)))


def failures(db: Session) -> dict[str, int]:
    return {row.key: row.failures for row in db.execute(select(Bucket.key, Bucket.failures))}


def pauses(db: Session) -> Sequence[str]:
    return db.scalars(select(Pause.key).order_by(Pause.key)).all()


@pytest.fixture
def third(engine: Engine) -> Iterator[Elsewhere]:
    third = Elsewhere(engine)
    yield third
    third.close()


@pytest.fixture
def fourth(engine: Engine) -> Iterator[Elsewhere]:
    fourth = Elsewhere(engine)
    yield fourth
    fourth.close()


def test_one_that_found_the_first_failing_and_one_that_found_the_second_failing_both_note_it(
    db: Session, session: Session, elsewhere: Elsewhere, third: Elsewhere
) -> None:
    note_resources(db, failed(ONE, TWO))
    paused_by_the_breaker(db, TWO)
    session.execute(select(Pause).where(Pause.key == TWO).with_for_update())
    first = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, failed(ONE) + worked(TWO)))
    second = third.start_and_wait_for_lock(lambda other: note_resources(other, failed(TWO) + worked(ONE)))

    session.commit()

    assert (first.result(), second.result()) == ([], [])
    assert failures(db) == {ONE: 0, TWO: 1}
    assert pauses(db) == []


def test_one_that_found_it_failing_and_one_that_found_it_working_both_note_it(
    db: Session, session: Session, elsewhere: Elsewhere, third: Elsewhere
) -> None:
    note_resources(db, failed(ONE, times=FAILURES_IN_A_ROW) + failed(TWO))
    session.execute(select(Bucket).where(Bucket.key == TWO).with_for_update())
    first = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, failed(ONE, TWO)))
    second = third.start_and_wait_for_lock(lambda other: note_resources(other, worked(ONE)))

    session.commit()

    assert (first.result(), second.result()) == ([], [])
    assert failures(db) == {ONE: 0, TWO: 2}
    assert pauses(db) == []


def test_one_that_pauses_the_first_and_one_that_pauses_the_second_both_end_the_others_pause(
    db: Session, session: Session, elsewhere: Elsewhere, third: Elsewhere
) -> None:
    for resource in (ONE, BETWEEN, TWO):
        paused_by_the_breaker(db, resource)
    session.execute(select(Pause).where(Pause.key == BETWEEN).with_for_update())
    notes = failed(ONE, BETWEEN, times=FAILURES_IN_A_ROW) + worked(TWO)
    first = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, notes))
    reverse = failed(TWO, times=FAILURES_IN_A_ROW) + worked(ONE)
    second = third.start_and_wait_for_lock(lambda other: note_resources(other, reverse))

    session.commit()

    assert (first.result(), second.result()) == ([], [TWO])
    assert failures(db) == {ONE: 0, BETWEEN: FAILURES_IN_A_ROW, TWO: FAILURES_IN_A_ROW}
    assert pauses(db) == [BETWEEN, TWO]


def test_one_that_lowers_a_level_and_one_that_found_the_resource_working_both_note_it(
    db: Session, session: Session, elsewhere: Elsewhere, third: Elsewhere, worker: Worker
) -> None:
    set_resource_limit(db, "crm:*", Adaptive(1, 50))
    enqueue_jobs(db, [NewJob(workspace_id=uuid.uuid4(), task="work", resource=ONE)])
    (job,) = worker.claim()
    note_resources(db, failed(ONE, TWO))
    session.execute(select(Bucket).where(Bucket.key == TWO).with_for_update())
    lowers = [ResourceNote(ONE, failed=True, error="ConnectionError", lease=job.lease), *failed(TWO)]
    first = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, lowers))
    second = third.start_and_wait_for_lock(lambda other: note_resources(other, worked(ONE)))

    session.commit()

    assert (first.result(), second.result()) == ([], [])
    assert failures(db) == {ONE: 0, TWO: 2}
    assert db.scalars(select(ResourceLevel.lowered_for)).all() == ["ConnectionError"]


def test_one_that_notes_one_that_claims_and_one_that_hands_back_do_not_wait_in_a_circle(
    db: Session, session: Session, elsewhere: Elsewhere, third: Elsewhere, fourth: Elsewhere, worker: Worker
) -> None:
    workspace_id = uuid.uuid4()
    set_workspace_limits(db, workspace_id, {"rate_units": 10, "rate_period_ms": 86_400_000})
    set_rate_limit(db, "crm:*", {"units": 10, "period_ms": 86_400_000, "burst": 8})
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", resource=TWO)])
    lease = worker.lease()
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", resource=ONE)])
    note_resources(db, failed(BETWEEN))
    session.execute(select(Bucket).where(Bucket.key == BETWEEN).with_for_update())
    notes = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, failed(ONE, BETWEEN, TWO)))
    claim = third.start_and_wait_for_lock(
        lambda other: claim_jobs(other, worker.ring, worker_id=worker.id, tasks=worker.tasks, limit=1)
    )
    held = fourth.start_and_wait_for_lock(lambda other: release_jobs(other, [Release(lease, unstarted=True)]))

    session.commit()

    assert (notes.result(), held.result()) == ([], {lease})
    assert [job.resource for job in claim.result().jobs] == [ONE]


def test_a_pause_that_is_over_and_is_being_changed_is_not_waited_for_by_whoever_cleans_up(
    db: Session, session: Session, elsewhere: Elsewhere
) -> None:
    for key in (ONE, TWO):
        values = {"kind": "resource", "key": key, "reason": "errors", "actor": BREAKER}
        db.execute(insert(Pause).values(**values, until=clock() - LONG_AGO))
    session.execute(select(Pause).where(Pause.key == ONE).with_for_update())

    prune_beside(session, elsewhere)

    assert pauses(db) == [ONE]


def test_a_level_that_is_in_use_again_is_not_waited_for_by_whoever_cleans_up(
    db: Session, session: Session, elsewhere: Elsewhere
) -> None:
    for resource in (ONE, TWO):
        db.execute(insert(ResourceLevel).values(resource=resource, level=5, used_at=clock() - LONG_AGO))
    session.execute(select(ResourceLevel).where(ResourceLevel.resource == ONE).with_for_update())

    prune_beside(session, elsewhere)

    assert db.scalars(select(ResourceLevel.resource)).all() == [ONE]


def prune_beside(session: Session, elsewhere: Elsewhere) -> None:
    """While the Session's transaction lasts, and without waiting for it."""
    day = datetime.timedelta(days=1)
    done = elsewhere.start(lambda other: prune_jobs(other, completed_after=day, failed_after=day))
    wait_until(elsewhere.is_done_or_blocked, what="the round to end or to wait")
    had_to_wait = not done.done()
    session.rollback()
    assert not had_to_wait
