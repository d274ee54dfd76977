"""No more jobs of a workspace wait than may wait, whoever enqueues at the same time."""

from __future__ import annotations

import datetime
import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from jobplatform.errors import QuotaExceededError, QuotaIsolationError
from jobplatform.models import Plan, Status, WorkspaceLimits
from jobplatform.queue import (
    Enqueued,
    Failure,
    NewJob,
    RetryAnswer,
    RetryKind,
    cancel_job,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    get_job,
    retry_job,
)
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Look, Put

WAITING = "select count(*) from jobplatform.job_queue where workspace_id = :workspace_id and state < 2"

Allow = Callable[..., None]
Waiting = Callable[[], int]


@pytest.fixture
def allow(session: Session, workspace_id: uuid.UUID) -> Allow:
    """Give the workspace a quota."""

    def allow(max_pending: int | None, workspace_id: uuid.UUID = workspace_id, **options: Any) -> None:
        session.add(WorkspaceLimits(workspace_id=workspace_id, max_pending=max_pending, **options))
        session.commit()

    return allow


@pytest.fixture
def waiting(fact: Fact, workspace_id: uuid.UUID) -> Waiting:
    return lambda: int(fact(WAITING, workspace_id=workspace_id))


def some(count: int, workspace_id: uuid.UUID, **options: Any) -> list[NewJob]:
    return [NewJob(workspace_id=workspace_id, task="work", **options) for _ in range(count)]


def test_a_job_beyond_the_quota_is_refused(allow: Allow, put: Put, workspace_id: uuid.UUID, waiting: Waiting) -> None:
    allow(2)
    put()
    put()

    with pytest.raises(QuotaExceededError) as refused:
        put()

    assert (refused.value.workspace_id, refused.value.limit) == (workspace_id, 2)
    assert refused.value.retry_after_seconds > 0
    assert waiting() == 2


def test_a_call_is_refused_as_a_whole_and_the_transaction_goes_on(
    allow: Allow, session: Session, workspace_id: uuid.UUID, waiting: Waiting
) -> None:
    allow(3)
    enqueue_job(session, *some(1, workspace_id))

    with pytest.raises(QuotaExceededError):
        enqueue_jobs(session, some(3, workspace_id))
    enqueue_jobs(session, some(2, workspace_id))
    session.commit()

    assert waiting() == 3


def test_a_full_workspace_refuses_a_bulk_for_several(
    allow: Allow, db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    allow(1)

    with pytest.raises(QuotaExceededError):
        enqueue_jobs(db, [*some(2, workspace_id), *some(5, uuid.uuid4())])

    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_a_quota_of_nothing_lets_nothing_wait(allow: Allow, put: Put) -> None:
    allow(0)

    with pytest.raises(QuotaExceededError):
        put()


def test_a_plan_has_a_quota_for_all_its_workspaces(session: Session, allow: Allow, put: Put) -> None:
    session.add(Plan(name="free", max_pending=1))
    session.commit()
    allow(None, plan="free")
    put()

    with pytest.raises(QuotaExceededError):
        put()


def test_a_workspaces_own_quota_wins_over_its_plans(session: Session, allow: Allow, put: Put, waiting: Waiting) -> None:
    session.add(Plan(name="free", max_pending=1))
    session.commit()
    allow(2, plan="free")

    put()
    put()

    assert waiting() == 2


def test_limits_without_a_quota_are_none(allow: Allow, put: Put, waiting: Waiting) -> None:
    allow(None, max_running=1)

    for _ in range(5):
        put()

    assert waiting() == 5


def test_the_quota_of_one_workspace_is_not_anothers(allow: Allow, db: Session) -> None:
    allow(0)

    assert len(enqueue_jobs(db, some(3, uuid.uuid4()))) == 3


def test_a_job_that_runs_takes_no_place(allow: Allow, put: Put, worker: Worker, waiting: Waiting) -> None:
    allow(1)
    put()
    worker.lease()

    put()

    assert waiting() == 1


def test_a_job_for_later_takes_a_place(allow: Allow, put: Put) -> None:
    allow(1)
    put(delay=datetime.timedelta(days=1))

    with pytest.raises(QuotaExceededError):
        put()


def test_a_workspace_without_a_quota_costs_one_statement(engine: Engine, session: Session) -> None:
    # The first one of an engine asks the database how it is set up.
    enqueue_job(session, *some(1, uuid.uuid4()))
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, *_rest: statements.append(sql))

    enqueue_job(session, *some(1, uuid.uuid4()))
    enqueue_jobs(session, some(10, uuid.uuid4()))

    assert len(statements) == 2


# What exists already


def test_the_holder_of_the_guard_is_the_answer_also_when_there_is_no_room(
    allow: Allow, put: Put, workspace_id: uuid.UUID
) -> None:
    allow(1)
    first = put(unique_key="sync")

    assert put(unique_key="sync") == first


def test_the_same_request_again_is_answered_also_when_there_is_no_room(
    allow: Allow, db: Session, workspace_id: uuid.UUID
) -> None:
    allow(1)
    (job,) = some(1, workspace_id)
    enqueue_job(db, job)

    assert enqueue_job(db, job) == Enqueued(job.id, created=False)


def test_jobs_of_one_key_take_one_place(allow: Allow, db: Session, workspace_id: uuid.UUID, waiting: Waiting) -> None:
    allow(1)

    answers = enqueue_jobs(db, some(3, workspace_id, unique_key="sync"))

    assert [answer.created for answer in answers].count(True) == 1
    assert len({answer.job_id for answer in answers}) == 1
    assert waiting() == 1


def test_what_exists_and_what_is_new_in_one_call_are_told_apart(
    allow: Allow, put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    allow(2)
    holder = put(unique_key="a")
    jobs = [*some(1, workspace_id, unique_key="a"), *some(1, workspace_id, unique_key="b")]

    assert enqueue_jobs(db, jobs) == [Enqueued(holder, created=False), Enqueued(jobs[1].id, created=True)]


# Giving up what is less important


def test_a_less_important_job_is_given_up_and_says_so(allow: Allow, put: Put, look: Look, waiting: Waiting) -> None:
    allow(1, shed=True)
    victim = put(priority=1)

    put(priority=2)

    job = look(victim)
    assert (job.status, job.outcome, job.error_type) == (Status.CANCELLED, "discarded", "Shed")
    assert job.error == "given up for a more important job: the quota of 1 waiting job was full"
    assert job.completed_at is not None
    assert waiting() == 1


def test_without_the_rule_nothing_is_given_up(allow: Allow, put: Put) -> None:
    allow(1)
    put(priority=1)

    with pytest.raises(QuotaExceededError):
        put(priority=2)


def test_a_job_of_the_same_importance_is_not_given_up(allow: Allow, put: Put, look: Look) -> None:
    allow(1, shed=True)
    first = put(priority=2)

    with pytest.raises(QuotaExceededError):
        put(priority=2)

    assert look(first).status == Status.PENDING


def test_of_the_least_important_the_newest_is_given_up(allow: Allow, put: Put, look: Look) -> None:
    allow(4, shed=True)
    jobs = [put(priority=priority) for priority in (0, 5, 0, 5)]

    put(priority=9)
    put(priority=9)
    put(priority=9)

    statuses = [look(job).status for job in jobs]
    assert statuses == [Status.CANCELLED, Status.PENDING, Status.CANCELLED, Status.CANCELLED]


def test_nothing_is_given_up_for_a_call_that_is_refused(
    allow: Allow, db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    other = uuid.uuid4()
    allow(1, shed=True)
    allow(1, workspace_id=other, shed=False)
    enqueue_jobs(db, [*some(1, workspace_id), *some(1, other)])

    with pytest.raises(QuotaExceededError):
        enqueue_jobs(db, [*some(1, workspace_id, priority=9), *some(1, other, priority=9)])

    assert fact("select count(*) from jobplatform.jobs where status = 'pending'") == 2


def test_a_call_gives_up_only_what_is_less_important_than_all_of_it(
    allow: Allow, put: Put, db: Session, workspace_id: uuid.UUID, waiting: Waiting
) -> None:
    allow(2, shed=True)
    put(priority=0)
    put(priority=5)

    with pytest.raises(QuotaExceededError):
        enqueue_jobs(db, [*some(1, workspace_id, priority=9), *some(1, workspace_id, priority=3)])

    assert waiting() == 2


def test_the_holder_that_is_the_answer_is_not_given_up(
    allow: Allow, put: Put, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    allow(2, shed=True)
    holder, other = put(priority=0, unique_key="a"), put(priority=1)

    answers = enqueue_jobs(db, [*some(1, workspace_id, unique_key="a", priority=9), *some(1, workspace_id, priority=9)])

    assert answers[0] == Enqueued(holder, created=False)
    assert (look(holder).status, look(other).status) == (Status.PENDING, Status.CANCELLED)


def test_a_job_that_is_being_claimed_is_not_given_up(
    allow: Allow, put: Put, db: Session, session: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    allow(1, shed=True)
    job_id = put()
    session.execute(text("select from jobplatform.job_queue where id = :id for update"), {"id": job_id})

    with pytest.raises(QuotaExceededError):
        enqueue_job(db, *some(1, workspace_id, priority=9))

    session.rollback()
    assert look(job_id).status == Status.PENDING


def test_a_job_that_was_tried_keeps_what_happened_when_it_is_given_up(
    allow: Allow, put: Put, db: Session, worker: Worker, look: Look
) -> None:
    allow(1, shed=True)
    job_id = put()
    fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", delay=60)])

    put(priority=1)

    assert (look(job_id).status, look(job_id).attempts, look(job_id).epoch) == (Status.CANCELLED, 1, 1)


# Going back to waiting


def test_a_job_that_goes_back_to_waiting_is_never_refused(
    allow: Allow, put: Put, db: Session, worker: Worker, look: Look, waiting: Waiting
) -> None:
    allow(1)
    job_id = put()
    lease = worker.lease()
    put()

    fail_jobs(db, [Failure(lease, "error", "ValueError", "no", delay=60)])

    assert look(job_id).status == Status.PENDING
    assert waiting() == 2


def test_a_retry_by_hand_takes_a_place(
    allow: Allow, put: Put, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    allow(1)
    cancelled = put()
    cancel_job(db, workspace_id, cancelled)
    waits = put()

    with pytest.raises(QuotaExceededError):
        retry_job(db, workspace_id, cancelled)
    assert look(cancelled).status == Status.CANCELLED

    cancel_job(db, workspace_id, waits)
    assert retry_job(db, workspace_id, cancelled).kind == RetryKind.RETRIED


def test_a_retry_by_hand_of_a_more_important_job_gives_up_another(
    allow: Allow, put: Put, db: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    allow(1, shed=True)
    cancelled = put(priority=5)
    cancel_job(db, workspace_id, cancelled)
    waits = put(priority=1)

    assert retry_job(db, workspace_id, cancelled).kind == RetryKind.RETRIED
    assert look(waits).outcome == "discarded"


def test_a_retry_is_told_of_the_guards_holder_also_when_there_is_no_room(
    allow: Allow, put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    allow(1)
    cancelled = put(unique_key="sync")
    cancel_job(db, workspace_id, cancelled)
    holder = put(unique_key="sync")

    assert retry_job(db, workspace_id, cancelled) == RetryAnswer(RetryKind.DUPLICATE, holder)


# At the same time


def test_the_last_place_is_given_once(
    allow: Allow, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID, waiting: Waiting
) -> None:
    allow(1)
    enqueue_job(session, *some(1, workspace_id))
    second = elsewhere.start_and_wait_for_lock(lambda other: enqueue_job(other, *some(1, workspace_id)))

    session.commit()

    with pytest.raises(QuotaExceededError):
        second.result()
    assert waiting() == 1


def test_the_last_place_is_free_again_when_the_first_thinks_better_of_it(
    allow: Allow, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    allow(1)
    enqueue_job(session, *some(1, workspace_id))
    second = elsewhere.start_and_wait_for_lock(lambda other: enqueue_job(other, *some(1, workspace_id)))

    session.rollback()

    assert second.result().created


def test_a_retry_by_hand_and_an_enqueue_do_not_both_get_the_last_place(
    allow: Allow, put: Put, db: Session, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    allow(1)
    cancelled = put()
    cancel_job(db, workspace_id, cancelled)
    enqueue_job(session, *some(1, workspace_id))
    retried = elsewhere.start_and_wait_for_lock(lambda other: retry_job(other, workspace_id, cancelled))

    session.commit()

    with pytest.raises(QuotaExceededError):
        retried.result()


@pytest.mark.parametrize("commits", ["engine", "worker_engine"], ids=["a transaction", "each statement"])
@pytest.mark.parametrize("shed", [False, True])
def test_many_enqueuers_at_once_never_exceed_the_quota(
    request: pytest.FixtureRequest,
    allow: Allow,
    workspace_id: uuid.UUID,
    fact: Fact,
    waiting: Waiting,
    shed: bool,
    commits: str,
) -> None:
    """Looked at after every call, by each of them: every snapshot there is holds the quota."""
    engine = request.getfixturevalue(commits)
    allow(25, shed=shed)
    start = threading.Barrier(8, timeout=60)

    def enqueue_some(seed: int) -> int:
        chance = random.Random(seed)
        seen = 0
        start.wait()
        for _ in range(12):
            jobs = some(chance.randrange(1, 4), workspace_id, priority=chance.randrange(3))
            with Session(engine) as session:
                try:
                    enqueue_jobs(session, jobs)
                    session.commit()
                except QuotaExceededError:
                    session.rollback()
                seen = max(seen, session.execute(text(WAITING), {"workspace_id": workspace_id}).scalar_one())
        return seen

    with ThreadPoolExecutor(8) as producers:
        most_seen = max(producers.map(enqueue_some, range(8)))

    assert most_seen <= 25
    assert waiting() == 25
    assert fact("select count(*) from jobplatform.jobs where status = 'pending'") == 25


def test_bulks_over_several_workspaces_with_quotas_do_not_deadlock(engine: Engine, allow: Allow, fact: Fact) -> None:
    workspaces = [uuid.uuid4() for _ in range(6)]
    for workspace in workspaces[:4]:
        allow(10_000, workspace_id=workspace)
    start = threading.Barrier(4, timeout=60)

    def bulk(seed: int) -> None:
        chance = random.Random(seed)
        start.wait()
        for _ in range(5):
            order = chance.sample(workspaces, len(workspaces))
            with Session(engine) as session, session.begin():
                enqueue_jobs(session, [job for workspace in order for job in some(3, workspace)])

    with ThreadPoolExecutor(4) as producers:
        list(producers.map(bulk, range(4)))

    assert fact("select count(*) from jobplatform.job_queue") == 4 * 5 * 6 * 3


def test_a_transaction_that_cannot_count_is_told_so(
    allow: Allow, session: Session, workspace_id: uuid.UUID, waiting: Waiting
) -> None:
    allow(1)
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})

    with pytest.raises(QuotaIsolationError, match="READ COMMITTED"):
        enqueue_job(session, *some(1, workspace_id))

    session.rollback()
    assert waiting() == 0


def test_jobs_run_in_the_end_whatever_the_quota(
    allow: Allow, put: Put, worker: Worker, session: Session, workspace_id: uuid.UUID
) -> None:
    allow(2)
    first, second = put(), put()

    claimed = {job.lease.job_id for job in worker.drain()}

    assert claimed == {str(first), str(second)}
    found = get_job(session, workspace_id, first)
    assert found is not None
    assert found.status == Status.RUNNING
