"""Batches: a set of jobs that is counted together, and what runs exactly once when they have ended."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError
from jobplatform.queue import (
    BatchSeen,
    Completion,
    Edge,
    Failure,
    Lease,
    NewJob,
    OpenBatch,
    RunningJob,
    Tasks,
    cancel_batch,
    cancel_job,
    close_batch,
    complete_jobs,
    enqueue_job,
    fail_jobs,
    get_batch,
    list_batches,
    list_callbacks,
    list_jobs,
    open_batch,
    retry_job,
    settle_endings,
)
from jobplatform.queue.by_hand.cancel_many import PORTION
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Look
from tests.queue.invariants import violations
from tests.queue.test_edges import Play, settle

tasks = Tasks()


@tasks.task("work")
def work(job: RunningJob, payload: dict[str, Any]) -> None:
    """Nothing."""


@pytest.fixture
def play(db: Session) -> Play:
    return Play(db)


class Made:
    """A batch of some jobs, with all three callbacks."""

    def __init__(self, db: Session, workspace_id: uuid.UUID, jobs: int, *, close: bool = True) -> None:
        self.db = db
        self.workspace_id = workspace_id
        self.on_complete, self.on_success, self.on_failure = (self.new() for _ in range(3))
        self.batch: OpenBatch = tasks.batch(
            db,
            workspace_id=workspace_id,
            on_complete=self.on_complete,
            on_success=self.on_success,
            on_failure=self.on_failure,
        )
        self.jobs = [self.new() for _ in range(jobs)]
        self.batch.add(*self.jobs)
        if close:
            self.batch.close()
        settle(db)

    def new(self, **options: Any) -> NewJob:
        return work.new_job({}, workspace_id=self.workspace_id, **options)

    @property
    def seen(self) -> BatchSeen:
        batch = get_batch(self.db, self.workspace_id, self.batch.id)
        assert batch is not None
        return batch

    @property
    def counts(self) -> dict[str, int]:
        names = ("pending", "running", "completed", "failed", "cancelled")
        return {name: getattr(self.seen, name) for name in names if getattr(self.seen, name)}

    def called(self, play: Play) -> set[str]:
        """Which callbacks run by now."""
        ready = play.ready()
        return {name for name in ("on_complete", "on_success", "on_failure") if getattr(self, name).id in ready}


Make = Callable[..., Made]


@pytest.fixture
def make(db: Session, workspace_id: uuid.UUID) -> Make:
    def make(jobs: int, **options: Any) -> Made:
        return Made(db, workspace_id, jobs, **options)

    return make


def test_a_batch_of_jobs_that_complete_calls_back_once(make: Make, play: Play) -> None:
    made = make(3)

    play.complete(*made.jobs[:2])
    assert made.called(play) == set()
    play.complete(made.jobs[2])

    assert made.called(play) == {"on_complete", "on_success"}
    assert made.seen.status == "completed"
    play.complete(made.on_complete, made.on_success)
    assert play.ready() == set()


def test_a_batch_with_a_failed_job_calls_back_for_that(make: Make, play: Play, look: Look) -> None:
    made = make(2)

    play.fail(made.jobs[0])
    assert made.called(play) == set()
    play.complete(made.jobs[1])

    assert made.called(play) == {"on_complete", "on_failure"}
    assert made.seen.status == "failed"
    off = look(made.on_success.id)
    assert (off.status, off.outcome, off.error_type) == ("cancelled", "discarded", "PredecessorFailed")
    assert off.error == f"not all jobs of batch {made.batch.id} completed"


def test_what_is_not_needed_says_so(make: Make, play: Play, look: Look) -> None:
    made = make(1)

    play.complete(*made.jobs)

    off = look(made.on_failure.id)
    assert (off.status, off.outcome, off.error_type) == ("cancelled", "discarded", "NotNeeded")


def test_a_cancelled_job_is_one_that_did_not_complete(
    make: Make, play: Play, db: Session, workspace_id: uuid.UUID
) -> None:
    made = make(2)
    cancel_job(db, workspace_id, made.jobs[0].id)

    play.complete(made.jobs[1])

    assert made.called(play) == {"on_complete", "on_failure"}


def test_an_empty_batch_has_completed_when_it_is_closed(make: Make, play: Play) -> None:
    made = make(0)

    assert made.seen.status == "completed"
    assert made.seen.percent == 100
    assert made.called(play) == {"on_complete", "on_success"}


def test_an_open_batch_does_not_end_and_can_be_added_to(make: Make, play: Play) -> None:
    made = make(1, close=False)
    play.complete(*made.jobs)
    assert (made.seen.status, made.counts) == ("open", {"completed": 1})

    late = made.new()
    made.batch.add(late)
    made.batch.close()
    settle(made.db)
    assert made.called(play) == set()
    play.complete(late)

    assert made.called(play) == {"on_complete", "on_success"}


def test_a_running_member_adds_to_its_batch(make: Make, play: Play, db: Session, workspace_id: uuid.UUID) -> None:
    made = make(1, close=False)
    assert play.ready() == {made.jobs[0].id}

    more = made.new(batch_id=made.batch.id)
    assert enqueue_job(db, more).created
    play.complete(made.jobs[0])
    close_batch(db, workspace_id, made.batch.id)
    play.complete(more)

    assert made.seen.total == 2
    assert made.called(play) == {"on_complete", "on_success"}


def test_the_block_closes_the_batch(db: Session, workspace_id: uuid.UUID) -> None:
    with tasks.batch(db, workspace_id=workspace_id, name="import") as batch:
        batch.add(work.new_job({}, workspace_id=workspace_id))

    seen = get_batch(db, workspace_id, batch.id)
    assert seen is not None
    assert (seen.name, seen.status, seen.total) == ("import", "running", 1)


def test_a_block_that_raises_leaves_its_batch_open(db: Session, workspace_id: uuid.UUID) -> None:
    with pytest.raises(RuntimeError), tasks.batch(db, workspace_id=workspace_id) as batch:
        raise RuntimeError

    seen = get_batch(db, workspace_id, batch.id)
    assert seen is not None
    assert seen.status == "open"


def test_a_batch_is_there_exactly_when_the_caller_commits(
    session: Session, db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    callback = work.new_job({}, workspace_id=workspace_id)
    with tasks.batch(session, workspace_id=workspace_id, on_complete=callback) as batch:
        batch.add(work.new_job({}, workspace_id=workspace_id))
    assert get_batch(db, workspace_id, batch.id) is None

    session.rollback()

    for table in ("batches", "job_edges", "notices", "job_queue", "job_records"):
        assert fact(f"select count(*) from jobplatform.{table}") == 0


# Progress


def test_the_counts_are_exact_whether_or_not_anybody_has_settled(make: Make, play: Play) -> None:
    made = make(5)
    assert made.counts == {"pending": 5}
    play.ready()
    assert made.counts == {"running": 5}

    complete_jobs(made.db, [Completion(play.held.pop(job.id)) for job in made.jobs[:2]])
    fail_jobs(made.db, [Failure(play.held.pop(made.jobs[2].id), "error", "E", "no", retry=False)])

    before = made.counts
    settle(made.db)
    assert before == made.counts == {"running": 2, "completed": 2, "failed": 1}
    assert made.seen.percent == 60


def test_an_attempt_that_will_be_repeated_counts_for_nothing(make: Make, play: Play) -> None:
    made = make(1)
    play.ready()

    fail_jobs(made.db, [Failure(play.held[made.jobs[0].id], "error", "E", "no")])
    settle(made.db)

    assert made.counts == {"pending": 1}


def test_batches_are_listed_newest_first(db: Session, workspace_id: uuid.UUID) -> None:
    ids = [open_batch(db, workspace_id) for _ in range(3)]
    open_batch(db, uuid.uuid4())
    close_batch(db, workspace_id, ids[2])
    settle(db)

    assert [batch.id for batch in list_batches(db, workspace_id)] == ids[::-1]
    assert [batch.id for batch in list_batches(db, workspace_id, limit=1, before=ids[2])] == [ids[1]]
    assert [batch.id for batch in list_batches(db, workspace_id, live_only=True)] == ids[1::-1]


def test_callbacks_and_members_of_a_batch_are_found(make: Make, db: Session, workspace_id: uuid.UUID) -> None:
    made = make(2)
    enqueue_job(db, made.new())

    members = list_jobs(db, workspace_id, batch_id=made.batch.id)
    callbacks = list_callbacks(db, workspace_id, made.batch.id)

    assert [job.id for job in members] == [job.id for job in made.jobs[::-1]]
    assert {(one.job_id, one.run_if, str(one.status)) for one in callbacks} == {
        (made.on_complete.id, "ended", "pending"),
        (made.on_success.id, "completed", "pending"),
        (made.on_failure.id, "failed", "pending"),
    }


# Retrying by hand


def test_a_retried_member_that_completes_makes_the_batch_a_success(make: Make, play: Play, look: Look) -> None:
    made = make(2)
    play.fail(made.jobs[0])
    play.complete(made.jobs[1])
    assert made.called(play) == {"on_complete", "on_failure"}
    play.complete(made.on_complete, made.on_failure)

    retry_job(made.db, made.workspace_id, made.jobs[0].id)
    settle(made.db)
    assert (made.seen.status, made.counts) == ("running", {"pending": 1, "completed": 1})
    assert str(look(made.on_success.id).status) == "pending"
    play.complete(made.jobs[0])

    assert (made.seen.status, made.counts) == ("completed", {"completed": 2})
    # Each of them once and no more: who was told of the failure is told of the success.
    assert made.called(play) == {"on_success"}
    play.complete(made.on_success)
    assert violations(made.db) == []


def test_a_retried_member_that_fails_again_calls_nobody_again(make: Make, play: Play, look: Look) -> None:
    made = make(1)
    play.fail(made.jobs[0])
    assert made.called(play) == {"on_complete", "on_failure"}
    play.complete(made.on_complete, made.on_failure)

    retry_job(made.db, made.workspace_id, made.jobs[0].id)
    play.fail(made.jobs[0])

    assert made.called(play) == set()
    assert made.seen.status == "failed"
    assert str(look(made.on_success.id).status) == "cancelled"


def test_a_member_retried_before_anybody_counted_its_failure_is_no_failure(make: Make, play: Play) -> None:
    made = make(1)
    play.ready()
    fail_jobs(made.db, [Failure(play.held.pop(made.jobs[0].id), "error", "E", "no", retry=False)])

    retry_job(made.db, made.workspace_id, made.jobs[0].id)
    settle(made.db)
    assert made.counts == {"pending": 1}
    play.complete(made.jobs[0])

    assert made.called(play) == {"on_complete", "on_success"}


# Waiting for a batch


def test_any_job_can_wait_for_a_batch(make: Make, play: Play, db: Session, workspace_id: uuid.UUID) -> None:
    made = make(1)
    after = work.new_job({}, workspace_id=workspace_id, after=[made.batch])
    by_id = work.new_job({}, workspace_id=workspace_id, after=[Edge(made.batch.id, of_batch=True)])
    tasks.enqueue_many(db, [after, by_id])
    settle(db)

    play.complete(*made.jobs)

    assert {after.id, by_id.id} <= play.ready()


def test_a_batch_that_has_ended_is_waited_for_no_longer(make: Make, play: Play, db: Session) -> None:
    made = make(0)
    after = work.new_job({}, workspace_id=made.workspace_id, after=[made.seen])

    tasks.enqueue(db, after)
    settle(db)

    assert after.id in play.ready()


# Cancelling


def test_a_cancelled_batch_ends_with_its_jobs(make: Make, play: Play, look: Look) -> None:
    made = make(3, close=False)
    (running,) = [job.lease for job in play.worker.claim(1)]

    answer = cancel_batch(made.db, made.workspace_id, made.batch.id)

    assert answer == (2, 1, 0, 0)
    settle(made.db)
    assert (made.seen.status, made.counts) == ("running", {"running": 1, "cancelled": 2})
    fail_jobs(made.db, [Failure(running, "cancelled", "Cancelled", "", retry=False)])
    settle(made.db)
    assert (made.seen.status, made.counts) == ("cancelled", {"cancelled": 3})
    assert made.called(play) == {"on_complete", "on_failure"}


def test_nothing_can_be_added_to_a_cancelled_batch(make: Make) -> None:
    made = make(1, close=False)
    cancel_batch(made.db, made.workspace_id, made.batch.id)

    with pytest.raises(InvalidJobError, match="/batchId: is a batch that is closed"):
        made.batch.add(made.new())


def test_a_batch_that_has_ended_is_not_cancelled(make: Make) -> None:
    made = make(0)

    assert cancel_batch(made.db, made.workspace_id, made.batch.id) == (0, 0, 0, 0)
    assert made.seen.status == "completed"


def test_a_batch_of_another_workspace_is_not_there(make: Make) -> None:
    made = make(1)
    stranger = uuid.uuid4()

    assert cancel_batch(made.db, stranger, made.batch.id) is None
    assert get_batch(made.db, stranger, made.batch.id) is None
    assert close_batch(made.db, stranger, made.batch.id) is False
    assert list_callbacks(made.db, stranger, made.batch.id) == []


def test_a_large_batch_is_cancelled_a_portion_at_a_time(make: Make, db: Session) -> None:
    made = make(0, close=False)
    made.batch.add(*(made.new() for _ in range(PORTION + 5)))

    answer = cancel_batch(db, made.workspace_id, made.batch.id)

    assert answer is not None
    assert answer.cancelled == PORTION
    settle(db)
    assert made.counts == {"cancelled": PORTION + 5}


def test_a_member_that_is_being_claimed_is_cancelled_all_the_same(
    make: Make, elsewhere: Elsewhere, look: Look, fact: Fact
) -> None:
    made = make(2)
    claiming = elsewhere.session
    claiming.connection().exec_driver_sql(
        "select from jobplatform.job_queue where id = %(id)s for update", {"id": made.jobs[0].id}
    )

    answer = cancel_batch(made.db, made.workspace_id, made.batch.id)
    assert answer == (1, 0, 0, 1)
    # Round after round it is put back, and nobody waits for the lock.
    assert [settle_endings(made.db).wait is not None for _ in range(4)][-2:] == [True, True]
    claiming.rollback()
    settle(made.db)
    assert [str(look(job.id).status) for job in made.jobs] == ["cancelled", "cancelled"]
    assert fact("select count(*) from jobplatform.notices") == 0


# What is refused


@pytest.mark.parametrize("owner", ["another workspace", "nobody"])
def test_a_batch_that_the_workspace_has_not_is_refused(db: Session, workspace_id: uuid.UUID, owner: str) -> None:
    batch_id = open_batch(db, uuid.uuid4()) if owner == "another workspace" else uuid.uuid4()

    with pytest.raises(InvalidJobError, match=r"^/batchId: is not a batch of this workspace$"):
        enqueue_job(db, work.new_job({}, workspace_id=workspace_id, batch_id=batch_id))
    with pytest.raises(InvalidJobError, match=r"^/after/0: is not a batch of this workspace$"):
        enqueue_job(db, work.new_job({}, workspace_id=workspace_id, after=[Edge(batch_id, of_batch=True)]))


def test_a_job_of_another_workspace_is_no_member(make: Make) -> None:
    made = make(0, close=False)

    with pytest.raises(InvalidJobError, match="/0/workspaceId: is not the batch's"):
        made.batch.add(work.new_job({}, workspace_id=uuid.uuid4()))


def test_a_callback_whose_guard_is_taken_is_refused(db: Session, workspace_id: uuid.UUID) -> None:
    enqueue_job(db, work.new_job({}, workspace_id=workspace_id, unique_key="report"))
    callback = work.new_job({}, workspace_id=workspace_id, unique_key="report")

    with pytest.raises(InvalidJobError, match="/uniqueKey: of work is taken by the unfinished job"):
        tasks.batch(db, workspace_id=workspace_id, on_success=callback)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x00b"])
def test_a_name_that_cannot_be_is_refused(db: Session, workspace_id: uuid.UUID, name: str) -> None:
    with pytest.raises(InvalidJobError, match=r"^/name: "):
        open_batch(db, workspace_id, name)


def test_a_duplicate_is_no_member(make: Make, play: Play) -> None:
    made = make(0, close=False)
    there = made.new(unique_key="sync")
    enqueue_job(made.db, there)

    (answer,) = made.batch.add(made.new(unique_key="sync"))
    made.batch.close()
    settle(made.db)

    assert answer == (there.id, False)
    assert made.seen.total == 0


# Races


def test_a_batch_is_closed_only_when_what_is_being_added_is_there(
    make: Make, play: Play, db: Session, session: Session, elsewhere: Elsewhere
) -> None:
    made = make(0, close=False)
    late = made.new(batch_id=made.batch.id)
    enqueue_job(session, late)

    closing = elsewhere.start_and_wait_for_lock(lambda other: close_batch(other, made.workspace_id, made.batch.id))
    session.commit()

    assert closing.result()
    settle(db)
    assert (made.seen.status, made.seen.total) == ("running", 1)
    play.complete(late)
    assert made.called(play) == {"on_complete", "on_success"}


def test_what_is_added_while_the_batch_is_being_closed_is_refused(
    make: Make, session: Session, elsewhere: Elsewhere
) -> None:
    made = make(0, close=False)
    close_batch(session, made.workspace_id, made.batch.id)

    adding = elsewhere.start_and_wait_for_lock(lambda other: enqueue_job(other, made.new(batch_id=made.batch.id)))
    session.commit()

    with pytest.raises(InvalidJobError, match="closed"):
        adding.result()


def test_whoever_adds_for_long_keeps_nobody_from_counting(
    make: Make, play: Play, session: Session, db: Session
) -> None:
    made = make(1, close=False)
    enqueue_job(session, made.new(batch_id=made.batch.id))

    play.complete(*made.jobs)

    counted = db.connection().exec_driver_sql("select completed from jobplatform.batches").scalar_one()
    assert counted == 1
    session.rollback()


def test_whoever_closes_for_long_keeps_nobody_else_from_being_settled(
    make: Make, play: Play, session: Session, db: Session
) -> None:
    held, other = make(1, close=False), make(1)
    close_batch(session, held.workspace_id, held.batch.id)

    play.complete(*held.jobs, *other.jobs)

    assert other.called(play) == {"on_complete", "on_success"}
    assert held.counts == {"completed": 1}
    session.commit()
    settle(db)
    assert held.called(play) == {"on_complete", "on_success"}


def test_two_who_count_one_batch_do_not_both_count(make: Make, play: Play, session: Session, db: Session) -> None:
    made = make(2)
    play.ready()
    complete_jobs(db, [Completion(play.held.pop(job.id)) for job in made.jobs])
    assert settle_endings(session).notices == 2

    assert settle_endings(db).notices == 0
    session.commit()

    assert made.called(play) == {"on_complete", "on_success"}


def test_a_crash_of_whoever_settles_loses_nothing_and_doubles_nothing(
    make: Make, play: Play, session: Session, db: Session
) -> None:
    made = make(1)
    play.ready()
    complete_jobs(db, [Completion(play.held.pop(made.jobs[0].id))])
    assert settle_endings(session).released
    session.rollback()
    assert made.called(play) == set()

    settle(db)

    assert made.called(play) == {"on_complete", "on_success"}


def test_a_lost_worker_s_job_is_counted_when_it_is_given_up(
    make: Make, play: Play, db: Session, worker: Worker
) -> None:
    made = make(1)
    lease: Lease = worker.lease()

    fail_jobs(db, [Failure(lease, "lost", "ProcessCrashed", "killed", crash=True)], crash_limit=1)
    settle(db)

    assert made.called(play) == {"on_complete", "on_failure"}
