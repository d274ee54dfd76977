"""Edges: a job that waits for others runs when they have ended, and only if they ended as it wants."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError
from jobplatform.models import Job
from jobplatform.queue import (
    CancelAnswer,
    Completion,
    Edge,
    Failure,
    Lease,
    NewJob,
    RetryKind,
    cancel_job,
    cancel_tree,
    chain,
    complete_jobs,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    list_waits,
    retry_job,
    settle_endings,
)
from tests.queue.actors import Worker
from tests.queue.conftest import Fact, Look
from tests.queue.invariants import violations


def new(workspace_id: uuid.UUID, *after: Any, **options: Any) -> NewJob:
    return NewJob(workspace_id=workspace_id, task="work", after=after, **options)


def settle(db: Session) -> int:
    """Until there is nothing to settle; the number of rounds."""
    rounds = 0
    while settle_endings(db).notices:
        rounds += 1
        assert rounds < 50, "settling does not come to an end"
    return rounds


class Play:
    """A worker that ends jobs as it is told, and settles after each."""

    def __init__(self, db: Session) -> None:
        self.db = db
        self.worker = Worker(db)
        self.held: dict[uuid.UUID, Lease] = {}

    def ready(self) -> set[uuid.UUID]:
        """Claim all there is, and say what runs."""
        self.held |= {uuid.UUID(job.lease.job_id): job.lease for job in self.worker.drain()}
        return set(self.held)

    def complete(self, *jobs: NewJob) -> None:
        self.ready()
        assert complete_jobs(self.db, [Completion(self.held.pop(job.id)) for job in jobs])
        settle(self.db)

    def fail(self, *jobs: NewJob) -> None:
        self.ready()
        failures = [Failure(self.held.pop(job.id), "error", "E", "no", retry=False) for job in jobs]
        assert set(fail_jobs(self.db, failures).values()) == {"failed"}
        settle(self.db)


@pytest.fixture
def play(db: Session) -> Play:
    return Play(db)


def statuses(look: Look, *jobs: NewJob) -> list[str]:
    return [str(look(job.id).status) for job in jobs]


def test_a_chain_runs_one_after_the_other(db: Session, workspace_id: uuid.UUID, play: Play) -> None:
    first, second, third = enqueued = chain(*(new(workspace_id) for _ in range(3)))
    enqueue_jobs(db, enqueued)

    assert play.ready() == {first.id}
    play.complete(first)
    assert play.ready() == {second.id}
    play.complete(second)
    assert play.ready() == {third.id}


def test_a_step_of_several_jobs_is_waited_for_as_a_whole(db: Session, workspace_id: uuid.UUID, play: Play) -> None:
    begin, left, right, end = (new(workspace_id) for _ in range(4))
    made = chain(begin, [left, right], end)
    enqueue_jobs(db, made)

    play.complete(begin)
    assert play.ready() == {left.id, right.id}
    play.complete(left)
    assert play.ready() == {right.id}
    play.complete(right)
    assert play.ready() == {end.id}


def test_two_ends_in_one_round_release_what_waits_for_both(db: Session, workspace_id: uuid.UUID, play: Play) -> None:
    left, right = new(workspace_id), new(workspace_id)
    end = new(workspace_id, left, right)
    enqueue_jobs(db, [left, right, end])

    play.complete(left, right)

    assert play.ready() == {end.id}


def test_a_blocked_job_is_pending_and_nobody_claims_it(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])

    assert play.ready() == {first.id}
    assert statuses(look, second) == ["pending"]
    assert settle(db) == 0


def test_a_job_that_exists_can_be_waited_for(db: Session, workspace_id: uuid.UUID, play: Play, put: Any) -> None:
    first = put()
    second = new(workspace_id, first)
    enqueue_job(db, second)
    settle(db)

    (lease,) = [job.lease for job in play.worker.claim()]
    assert uuid.UUID(lease.job_id) == first
    complete_jobs(db, [Completion(lease)])
    settle(db)

    assert play.ready() == {second.id}


def test_what_has_ended_already_is_waited_for_no_longer(
    db: Session, workspace_id: uuid.UUID, play: Play, put: Any, worker: Worker
) -> None:
    first = put()
    complete_jobs(db, [Completion(worker.lease())])
    second = new(workspace_id, first)

    enqueue_job(db, second)
    settle(db)

    assert play.ready() == {second.id}


def test_the_answer_of_an_enqueue_can_be_waited_for(db: Session, workspace_id: uuid.UUID, play: Play) -> None:
    answer = enqueue_job(db, new(workspace_id))
    second = new(workspace_id, answer)
    enqueue_job(db, second)

    assert play.ready() == {answer.job_id}
    settle(db)
    complete_jobs(db, [Completion(play.held.pop(answer.job_id))])
    settle(db)

    assert play.ready() == {second.id}


@pytest.mark.parametrize(
    ("run_if", "after_success", "after_failure"),
    [("completed", "running", "cancelled"), ("ended", "running", "running"), ("failed", "cancelled", "running")],
)
def test_each_edge_says_after_what_its_job_runs(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look, run_if: str, after_success: str, after_failure: str
) -> None:
    good, bad = new(workspace_id), new(workspace_id)
    after_good, after_bad = new(workspace_id, Edge(good, run_if)), new(workspace_id, Edge(bad, run_if))
    enqueue_jobs(db, [good, bad, after_good, after_bad])

    play.complete(good)
    play.fail(bad)
    play.ready()

    assert statuses(look, after_good, after_bad) == [after_success, after_failure]


@pytest.mark.parametrize(("run_if", "end"), [("completed", "cancelled"), ("ended", "running"), ("failed", "cancelled")])
def test_a_diamond_with_a_failing_arm_ends_as_its_last_edges_say(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look, run_if: str, end: str
) -> None:
    begin = new(workspace_id)
    left, right = new(workspace_id, begin), new(workspace_id, begin)
    last = new(workspace_id, Edge(left, run_if), Edge(right, run_if))
    enqueue_jobs(db, [begin, left, right, last])

    play.complete(begin)
    play.fail(left)
    play.complete(right)
    play.ready()

    assert statuses(look, begin, left, right, last) == ["completed", "failed", "completed", end]


def test_a_failure_calls_off_what_waits_down_the_whole_tree_at_once(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look
) -> None:
    first, other = new(workspace_id), new(workspace_id)
    second = new(workspace_id, first, other)
    third = new(workspace_id, second)
    anyway = new(workspace_id, Edge(third, "ended"))
    enqueue_jobs(db, [first, other, second, third, anyway])
    assert play.ready() == {first.id, other.id}

    play.fail(first)

    assert statuses(look, second, third) == ["cancelled", "cancelled"]
    called_off = look(second.id)
    assert (called_off.outcome, called_off.error_type) == ("discarded", "PredecessorFailed")
    assert called_off.error == (f"job {first.id} ended as failed, and this was to run only if it completed")
    assert play.ready() == {other.id, anyway.id}


def test_cancelling_a_job_calls_off_what_waits_for_it(db: Session, workspace_id: uuid.UUID, look: Look) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])

    assert cancel_job(db, workspace_id, first.id) is CancelAnswer.CANCELLED
    settle(db)

    assert statuses(look, second) == ["cancelled"]
    assert look(second.id).error_type == "PredecessorFailed"


def test_a_blocked_job_can_be_cancelled(db: Session, workspace_id: uuid.UUID, play: Play, look: Look) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])

    assert cancel_job(db, workspace_id, second.id) is CancelAnswer.CANCELLED
    play.complete(first)

    assert statuses(look, second) == ["cancelled"]
    assert look(second.id).outcome == "cancelled"


def test_a_whole_tree_is_cancelled_whatever_its_edges_say(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look
) -> None:
    first, aside = new(workspace_id), new(workspace_id)
    anyway = new(workspace_id, Edge(first, "ended"))
    last = new(workspace_id, Edge(anyway, "failed"), aside)
    enqueue_jobs(db, [first, aside, anyway, last])
    play.ready()

    answer = cancel_tree(db, workspace_id, first.id)

    assert answer == (2, 1, 0, 0)
    assert statuses(look, first, aside, anyway, last) == ["running", "running", "cancelled", "cancelled"]
    assert look(first.id).cancel_requested_at is not None
    assert look(aside.id).cancel_requested_at is None


def test_no_tree_is_cancelled_of_a_job_that_another_workspace_has(db: Session, put: Any) -> None:
    assert cancel_tree(db, uuid.uuid4(), put()) is None


# Retrying by hand


def test_a_retry_brings_back_what_was_called_off(db: Session, workspace_id: uuid.UUID, play: Play, look: Look) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    third = new(workspace_id, second)
    enqueue_jobs(db, [first, second, third])
    play.fail(first)
    assert statuses(look, second, third) == ["cancelled", "cancelled"]

    assert retry_job(db, workspace_id, first.id).kind is RetryKind.RETRIED
    settle(db)

    assert statuses(look, second, third) == ["pending", "pending"]
    assert (look(second.id).error_type, look(second.id).completed_at) == (None, None)
    for job in (first, second, third):
        assert play.ready() == {job.id}
        play.complete(job)
    assert statuses(look, first, second, third) == ["completed"] * 3


def test_a_retry_that_fails_calls_off_again(db: Session, workspace_id: uuid.UUID, play: Play, look: Look) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    play.fail(first)
    retry_job(db, workspace_id, first.id)

    # Nobody settled in between: what counts is how it is now.
    play.fail(first)

    assert statuses(look, first, second) == ["failed", "cancelled"]


def test_what_a_person_cancelled_is_not_brought_back(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    cancel_job(db, workspace_id, second.id)
    play.fail(first)

    retry_job(db, workspace_id, first.id)
    play.complete(first)

    assert statuses(look, second) == ["cancelled"]


def test_what_ran_anyway_does_not_run_again(db: Session, workspace_id: uuid.UUID, play: Play, look: Look) -> None:
    first = new(workspace_id)
    anyway = new(workspace_id, Edge(first, "ended"))
    enqueue_jobs(db, [first, anyway])
    play.fail(first)
    play.complete(anyway)

    retry_job(db, workspace_id, first.id)
    play.complete(first)

    assert play.ready() == set()
    assert look(anyway.id).attempts == 1


def test_who_retries_what_was_called_off_runs_it_without_what_failed(
    db: Session, workspace_id: uuid.UUID, play: Play
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    play.fail(first)

    assert retry_job(db, workspace_id, second.id).kind is RetryKind.RETRIED

    assert play.ready() == {second.id}


def test_who_retries_what_was_cancelled_has_it_wait_for_what_runs(
    db: Session, workspace_id: uuid.UUID, play: Play
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    cancel_job(db, workspace_id, second.id)

    retry_job(db, workspace_id, second.id)

    assert play.ready() == {first.id}
    play.complete(first)
    assert play.ready() == {second.id}


def test_what_cannot_be_brought_back_for_its_guard_stays_cancelled(
    db: Session, workspace_id: uuid.UUID, play: Play, look: Look
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first, unique_key="report")
    enqueue_jobs(db, [first, second])
    play.fail(first)
    other = new(workspace_id, unique_key="report")
    assert enqueue_job(db, other).created

    retry_job(db, workspace_id, first.id)
    settle(db)

    assert statuses(look, second) == ["cancelled"]
    assert violations(db) == []


# Time, guards and repeats


def test_a_job_waits_for_others_and_then_for_its_time(
    db: Session, workspace_id: uuid.UUID, play: Play, fact: Fact
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first, delay=datetime.timedelta(hours=1))
    enqueue_jobs(db, [first, second])

    play.complete(first)

    assert play.ready() == set()
    assert fact("select state from jobplatform.job_queue where id = :id", id=second.id) == 0


def test_a_job_is_ready_since_it_was_let_go_and_not_since_it_was_enqueued(
    db: Session, workspace_id: uuid.UUID, play: Play, time: Any, fact: Fact
) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    enqueue_jobs(db, [first, second])
    play.ready()
    time.passes(3600)

    play.complete(first)

    waited = "select jobplatform.clock() - run_after < interval '1 minute' from jobplatform.job_queue where id = :id"
    assert fact(waited, id=second.id)


def test_who_waits_for_a_duplicate_waits_for_the_job_that_is_there(
    db: Session, workspace_id: uuid.UUID, play: Play
) -> None:
    there = new(workspace_id, unique_key="sync")
    enqueue_job(db, there)
    duplicate = new(workspace_id, unique_key="sync")
    after = new(workspace_id, duplicate)

    answers = enqueue_jobs(db, [duplicate, after])

    assert [answer.created for answer in answers] == [False, True]
    settle(db)
    play.complete(there)
    assert play.ready() == {after.id}


def test_a_repeated_enqueue_adds_no_edges(db: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    made = chain(new(workspace_id), new(workspace_id))

    enqueue_jobs(db, made)
    assert [answer.created for answer in enqueue_jobs(db, made)] == [False, False]

    assert fact("select count(*) from jobplatform.job_edges") == 1
    assert fact("select count(*) from jobplatform.notices") == 0


def test_a_rollback_leaves_nothing(session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    enqueue_jobs(session, chain(new(workspace_id), new(workspace_id)))
    session.rollback()

    assert fact("select count(*) from jobplatform.job_edges") == 0


# What is refused


def test_jobs_that_wait_for_each_other_are_refused(db: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    first = new(workspace_id)
    second = new(workspace_id, first)
    circle = [new(workspace_id, second, id=first.id), second]

    with pytest.raises(InvalidJobError, match="goes round in a circle: work"):
        enqueue_jobs(db, circle)

    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_a_job_that_waits_for_itself_is_refused(db: Session, workspace_id: uuid.UUID) -> None:
    job_id = uuid.uuid4()

    with pytest.raises(InvalidJobError, match="circle"):
        enqueue_job(db, new(workspace_id, job_id, id=job_id))


def test_a_predecessor_of_another_workspace_is_refused_like_an_unknown_one(
    db: Session, workspace_id: uuid.UUID, put: Any
) -> None:
    theirs = put(workspace_id=uuid.uuid4())
    messages = []
    for after in (theirs, uuid.uuid4()):
        with pytest.raises(InvalidJobError) as caught:
            enqueue_job(db, new(workspace_id, after))
        messages.append(str(caught.value))

    assert messages == ["/after/0: is not a job of this workspace"] * 2


def test_a_predecessor_of_the_same_call_in_another_workspace_is_refused(db: Session, workspace_id: uuid.UUID) -> None:
    theirs = new(uuid.uuid4())

    with pytest.raises(InvalidJobError, match="/after/0: is not a job of this workspace"):
        enqueue_jobs(db, [theirs, new(workspace_id, theirs)])


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ([Edge(uuid.UUID(int=1), "later")], "/after/0/runIf: must be one of: completed, ended, failed"),
        ([uuid.UUID(int=1), uuid.UUID(int=1)], "/after/1: is named twice"),
        ([uuid.UUID(int=number) for number in range(1001)], "/after: must be at most 1000"),
    ],
)
def test_edges_that_cannot_be_are_refused_when_the_job_is_made(after: list[Any], problem: str) -> None:
    with pytest.raises(InvalidJobError, match=problem):
        NewJob(workspace_id=uuid.UUID(int=9), task="work", after=after)


# What is seen


def test_what_a_job_waits_for_can_be_read(db: Session, workspace_id: uuid.UUID, play: Play) -> None:
    first, other = new(workspace_id), new(workspace_id)
    second = new(workspace_id, first, Edge(other, "ended"))
    enqueue_jobs(db, [first, other, second])
    play.complete(first)

    (waits,) = list_waits(db, workspace_id, [second.id]).values()

    assert [(wait.after_id, wait.run_if, wait.status, wait.settled) for wait in waits] == [
        (first.id, "completed", "completed", True),
        (other.id, "ended", "running", False),
    ]


def test_the_view_shows_a_waiting_job_like_any_other(db: Session, workspace_id: uuid.UUID) -> None:
    made = chain(new(workspace_id), new(workspace_id))
    enqueue_jobs(db, made)

    job = db.get(Job, (workspace_id, made[1].id))

    assert job is not None
    assert job.status == "pending"
