"""Settling, while others do what they do: each race in both orders."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Completion,
    Edge,
    Failure,
    NewJob,
    cancel_job,
    close_batch,
    complete_jobs,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    open_batch,
    retry_job,
    settle_endings,
)
from jobplatform.testing import wait_until
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Look, Put
from tests.queue.test_edges import Play, new, settle, statuses

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


@pytest.fixture
def keeper(worker_engine: Engine) -> Iterator[Elsewhere]:
    """A worker's keeper: another process, on a connection that commits each statement."""
    keeper = Elsewhere(worker_engine)
    yield keeper
    keeper.close()


# The keeper comes before the session that is in its way, so that this one lets go first when the test fails.
def test_a_key_that_an_open_transaction_asks_for_holds_up_only_the_job_that_is_brought_back_with_it(
    db: Session, keeper: Elsewhere, session: Session, workspace_id: uuid.UUID, look: Look, fact: Fact
) -> None:
    play = Play(db)
    first, lone = new(workspace_id), new(workspace_id)
    held, free = new(workspace_id, first, unique_key="report"), new(workspace_id, first)
    after_lone = new(workspace_id, lone)
    enqueue_jobs(db, [first, held, free, lone, after_lone])
    play.fail(first)
    assert statuses(look, held, free) == ["cancelled", "cancelled"]
    retry_job(db, workspace_id, first.id)
    play.ready()
    complete_jobs(db, [Completion(play.held.pop(lone.id))])
    enqueue_job(session, new(workspace_id, unique_key="report"))

    _settle_beside(keeper)

    assert statuses(look, held, free) == ["cancelled", "pending"]
    assert after_lone.id in play.ready()
    session.rollback()
    settle(db)
    assert statuses(look, held, free) == ["pending", "pending"]
    assert fact("select count(*) from jobplatform.notices") == 0


def test_a_batch_is_counted_while_an_open_transaction_asks_for_the_key_of_what_waits_for_it(
    db: Session, keeper: Elsewhere, session: Session, workspace_id: uuid.UUID, look: Look, fact: Fact
) -> None:
    play = Play(db)
    batch_id = open_batch(db, workspace_id)
    member = new(workspace_id, batch_id=batch_id)
    callback = new(workspace_id, Edge(batch_id, of_batch=True), unique_key="report")
    enqueue_jobs(db, [member, callback])
    close_batch(db, workspace_id, batch_id)
    play.fail(member)
    assert statuses(look, callback) == ["cancelled"]
    retry_job(db, workspace_id, member.id)
    play.ready()
    complete_jobs(db, [Completion(play.held.pop(member.id))])
    enqueue_job(session, new(workspace_id, unique_key="report"))

    _settle_beside(keeper)

    assert fact("select (completed, failed, total)::text from jobplatform.batches") == "(1,0,1)"
    assert statuses(look, callback) == ["cancelled"]
    session.commit()
    settle(db)
    # The key is another job's now.
    assert statuses(look, callback) == ["cancelled"]
    assert fact("select count(*) from jobplatform.notices") == 0


def test_a_round_that_brings_back_leaves_its_callers_patience_as_it_was(
    db: Session, session: Session, workspace_id: uuid.UUID
) -> None:
    first = new(workspace_id)
    enqueue_jobs(db, [first, new(workspace_id, first)])
    Play(db).fail(first)
    retry_job(db, workspace_id, first.id)
    session.execute(text("set local lock_timeout = '7s'"))

    assert settle_endings(session).notices == 1

    assert session.scalar(text("show lock_timeout")) == "7s"


def test_what_somebody_holds_is_brought_back_when_it_is_free(
    db: Session, session: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    Play(db).fail(first)
    retry_job(db, workspace_id, first.id)
    session.execute(text("select from jobplatform.job_records where id = :id for update"), {"id": second.id})

    assert settle_endings(db).wait is not None
    session.rollback()
    settle(db)

    assert statuses(look, second) == ["pending"]


def test_a_compacted_queue_still_knows_who_is_followed(db: Session, engine: Any, workspace_id: uuid.UUID) -> None:
    from jobplatform.queue import compact_now

    first = new(workspace_id)
    enqueue_jobs(db, [first, new(workspace_id, first)])

    # The server's own upkeep, for one, may be at the table for a moment.
    wait_until(lambda: compact_now(engine), what="nobody to use the queue table")

    assert db.scalar(text(FOLLOWED), {"id": first.id})


def _settle_beside(keeper: Elsewhere) -> None:
    """One round, beside whatever transactions are open, that is to look again at what they are in the way of."""
    settling = keeper.start(settle_endings)
    wait_until(settling.done, what="a round that waits for nobody's transaction")
    assert settling.result().wait is not None


def _lock(session: Session, job: NewJob) -> None:
    session.execute(text("select from jobplatform.job_queue where id = :id for update"), {"id": job.id})


def _keep_only_the_first_notice(session: Session) -> None:
    session.execute(text("delete from jobplatform.notices where id > (select min(id) from jobplatform.notices)"))
    session.commit()
