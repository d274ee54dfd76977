"""Settling, while others do what they do: each race in both orders."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Completion,
    Failure,
    NewJob,
    cancel_job,
    complete_jobs,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    retry_job,
    settle_endings,
)
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Look, Put
from tests.queue.test_edges import new, settle

FOLLOWED = "select followed from jobplatform.job_queue where id = :id"


def test_waiting_for_a_job_does_not_touch_its_row(
    session: Session, worker: Worker, put: Put, workspace_id: uuid.UUID
) -> None:
    first = put()
    enqueue_job(session, new(workspace_id, first))

    # Not committed, and it can be claimed and finished all the same.
    lease = worker.lease()
    assert complete_jobs(worker.db, [Completion(lease)]) == {lease}
    session.commit()
    settle(worker.db)

    assert len(worker.drain()) == 1


def test_a_job_that_ends_before_anybody_looks_is_found_to_have_ended(
    db: Session, session: Session, worker: Worker, put: Put, workspace_id: uuid.UUID, fact: Fact
) -> None:
    first = put()
    lease = worker.lease()
    enqueue_job(db, new(workspace_id, first))
    complete_jobs(session, [Completion(lease)])

    # It is ending: the row is locked, and whoever looks does not wait for it.
    assert settle_endings(db).wait is not None
    session.commit()
    settle(db)

    assert fact("select count(*) from jobplatform.notices") == 0
    assert len(worker.drain()) == 1


def test_a_job_that_is_looked_at_before_it_ends_says_that_it_has(
    db: Session, session: Session, elsewhere: Elsewhere, worker: Worker, put: Put, workspace_id: uuid.UUID, fact: Fact
) -> None:
    first = put()
    lease = worker.lease()
    enqueue_job(db, new(workspace_id, first))
    settle_endings(session)

    # The look is not committed yet; the end waits for its row and then sees what it says.
    ending = elsewhere.start_and_wait_for_lock(lambda other: complete_jobs(other, [Completion(lease)]))
    session.commit()

    assert ending.result() == {lease}
    assert fact("select kind from jobplatform.notices") == "ended"
    settle(db)
    assert len(worker.drain()) == 1


def test_a_failure_that_waited_for_a_look_says_that_it_has_ended(
    db: Session, session: Session, elsewhere: Elsewhere, worker: Worker, put: Put, workspace_id: uuid.UUID, look: Look
) -> None:
    first = put()
    lease = worker.lease()
    second = new(workspace_id, first)
    enqueue_job(db, second)
    settle_endings(session)

    failing = elsewhere.start_and_wait_for_lock(
        lambda other: fail_jobs(other, [Failure(lease, "error", "E", "no", retry=False)])
    )
    session.commit()

    assert failing.result() == {lease: "failed"}
    settle(db)
    assert look(second.id).error_type == "PredecessorFailed"


def test_a_cancel_that_waited_for_a_look_says_that_it_has_ended(
    db: Session, session: Session, elsewhere: Elsewhere, put: Put, workspace_id: uuid.UUID, look: Look
) -> None:
    first = put()
    second = new(workspace_id, first)
    enqueue_job(db, second)
    settle_endings(session)

    cancelling = elsewhere.start_and_wait_for_lock(lambda other: cancel_job(other, workspace_id, first))
    session.commit()
    cancelling.result()
    settle(db)

    assert look(second.id).error_type == "PredecessorFailed"


def test_two_who_settle_two_ends_of_one_wait_do_not_leave_it_blocked(
    db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    left, right = new(workspace_id), new(workspace_id)
    last = new(workspace_id, left, right)
    enqueue_jobs(db, [left, right, last])
    leases = [job.lease for job in worker.drain()]
    complete_jobs(db, [Completion(leases[0])])
    assert settle_endings(session).released == []

    # The first has not committed: the second sees one edge undecided, and must not be the last to look.
    complete_jobs(db, [Completion(leases[1])])
    assert settle_endings(db).wait is not None
    session.commit()
    settle(db)

    assert [job.lease.job_id for job in worker.drain()] == [str(last.id)]


def test_a_retry_and_its_end_are_settled_as_they_are_and_not_as_they_were_told(
    db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    (lease,) = [job.lease for job in worker.claim()]
    fail_jobs(db, [Failure(lease, "error", "E", "no", retry=False)])
    # Whoever settles the failure comes late: meanwhile it was retried, and completed.
    retry_job(db, workspace_id, first.id)
    (lease,) = [job.lease for job in worker.claim()]
    complete_jobs(db, [Completion(lease)])
    _keep_only_the_first_notice(session)

    assert settle_endings(db).called_off == 0

    assert [job.lease.job_id for job in worker.drain()] == [str(second.id)]


def test_a_blocked_job_that_somebody_holds_is_let_go_when_it_is_free(
    db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    _lock(session, second)
    complete_jobs(db, [Completion(job.lease) for job in worker.claim()])

    assert settle_endings(db).released == []
    assert settle_endings(db).wait is not None
    session.rollback()
    settle(db)

    assert len(worker.drain()) == 1


def test_a_blocked_job_that_somebody_holds_is_called_off_when_it_is_free(
    db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    _lock(session, second)
    fail_jobs(db, [Failure(job.lease, "error", "E", "no", retry=False) for job in worker.claim()])

    assert settle_endings(db).called_off == 0
    session.rollback()
    settle(db)

    assert look(second.id).error_type == "PredecessorFailed"


def test_a_blocked_job_that_is_being_cancelled_is_not_let_go(
    db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    cancel_job(session, workspace_id, second.id)
    complete_jobs(db, [Completion(job.lease) for job in worker.claim()])
    settle_endings(db)
    session.commit()
    settle(db)

    assert worker.drain() == []
    assert look(second.id).outcome == "cancelled"


def test_a_compacted_queue_still_knows_who_is_followed(db: Session, engine: Any, workspace_id: uuid.UUID) -> None:
    from jobplatform.queue import compact_now

    first = new(workspace_id)
    enqueue_jobs(db, [first, new(workspace_id, first)])

    assert compact_now(engine)

    assert db.scalar(text(FOLLOWED), {"id": first.id})


def _lock(session: Session, job: NewJob) -> None:
    session.execute(text("select from jobplatform.job_queue where id = :id for update"), {"id": job.id})


def _keep_only_the_first_notice(session: Session) -> None:
    session.execute(text("delete from jobplatform.notices where id > (select min(id) from jobplatform.notices)"))
    session.commit()
