"""Who wants to count enqueues is told after the commit."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import Happening, NewJob, enqueue_job, enqueue_jobs, off_happenings, on_happenings

ENQUEUED = Happening("enqueued", "default", "export")
CONFLICT = Happening("conflict", "default", "export")


@pytest.fixture
def told() -> Iterator[Counter[Happening]]:
    told: Counter[Happening] = Counter()
    on_happenings(told.update)
    yield told
    off_happenings(told.update)


def new(workspace_id: uuid.UUID, **options: object) -> NewJob:
    return NewJob(workspace_id=workspace_id, task="export", **options)  # type: ignore[arg-type]  # whatever a test says


def test_jobs_and_conflicts_are_told_after_the_commit_and_not_before(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, told: Counter[Happening]
) -> None:
    with sessions() as session:
        enqueue_jobs(session, [new(workspace_id) for _ in range(3)])
        enqueue_job(session, new(workspace_id, unique_key="k"))
        enqueue_job(session, new(workspace_id, unique_key="k"))
        assert not told
        session.commit()
        assert told == {ENQUEUED: 4, CONFLICT: 1}

        session.commit()
        assert told == {ENQUEUED: 4, CONFLICT: 1}


def test_what_is_rolled_back_is_not_told(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, told: Counter[Happening]
) -> None:
    with sessions() as session:
        enqueue_job(session, new(workspace_id))
        session.rollback()
        enqueue_job(session, new(workspace_id, queue="other-queue"))
        session.commit()

    assert told == {Happening("enqueued", "other-queue", "export"): 1}


def test_the_same_request_again_and_a_newer_one_in_its_place_are_neither(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, told: Counter[Happening]
) -> None:
    job = new(workspace_id)
    newest = [new(workspace_id, unique_key="k", if_active="replace") for _ in range(2)]
    with sessions.begin() as session:
        for one in (job, job, *newest):
            enqueue_job(session, one)

    assert told == {ENQUEUED: 2}


def test_an_enqueue_does_not_fail_because_somebody_cannot_count(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, told: Counter[Happening]
) -> None:
    def fail(_happened: object) -> None:
        raise OSError("no space left on device")

    on_happenings(fail)
    on_happenings(told.update)
    try:
        with sessions.begin() as session:
            enqueue_job(session, new(workspace_id))
    finally:
        off_happenings(fail)
        off_happenings(told.update)

    # The one before it and the one after it were told.
    assert told == {ENQUEUED: 2}
