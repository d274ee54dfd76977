"""One runs, one waits, and the one that waits is always the newest that was asked for."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.errors import EnqueueConflictError, InvalidJobError, QuotaExceededError
from jobplatform.models import SUCCESSOR, Role, Status, confine, make_engine
from jobplatform.queue import (
    Completion,
    Enqueued,
    Failure,
    NewJob,
    Release,
    RetryKind,
    cancel_job,
    complete_jobs,
    deregister_worker,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    promote_jobs,
    release_jobs,
    release_unknown_jobs,
    rescue_jobs,
    retry_job,
    set_workspace_limits,
    settle_endings,
    succeed_jobs,
)
from tests.queue.actors import Elsewhere, Time, Worker, begin_to_read
from tests.queue.conftest import Fact, Look
from tests.queue.invariants import violations

Ask = Callable[..., Enqueued]
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def ask(db: Session, workspace_id: uuid.UUID) -> Ask:
    """Ask for the newest payload, whatever is there already."""

    def ask(payload: object, session: Session = db, **options: Any) -> Enqueued:
        defaults = {"workspace_id": workspace_id, "task": "work", "unique_key": "k", "if_active": "replace"}
        return enqueue_job(session, NewJob(**{**defaults, "payload": {"n": payload}, **options}))

    return ask


def taken_over(db: Session) -> list[uuid.UUID]:
    return [uuid.UUID(job.job_id) for job in succeed_jobs(db).jobs]


@pytest.fixture
def due(db: Session) -> Callable[[], bool]:
    """Whether the one job there is may run by now."""

    def due() -> bool:
        promote_jobs(db)
        return bool(db.scalar(text("select exists (select from jobplatform.job_queue where state = 1)")))

    return due


# Who waits


def test_a_request_that_waits_becomes_the_newest_one(ask: Ask, look: Look) -> None:
    first = ask(1)
    later = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)

    second = ask(2, priority=5, tags=("new",), max_attempts=9, run_after=later, request_id="r-2", payload_version=3)

    assert (first.created, first.replaced) == (True, False)
    assert second == (first.job_id, False)
    assert second.replaced
    job = look(first.job_id)
    assert (job.payload, job.payload_version, job.priority, job.tags) == ({"n": 2}, 3, 5, ["new"])
    assert (job.max_attempts, job.run_after, job.request_id) == (9, later, "r-2")


def test_what_was_replaced_is_what_runs(ask: Ask, worker: Worker) -> None:
    ask(1)
    ask(2, task="work", resource="crm:2")

    (claimed,) = worker.claim()

    assert (claimed.payload, claimed.resource) == ('{"n": 2}', "crm:2")


def test_one_waits_beside_the_one_that_runs_and_is_not_started(ask: Ask, worker: Worker, look: Look) -> None:
    first = ask(1)
    worker.lease()

    second = ask(2)
    third = ask(3)

    assert (second.created, second.job_id != first.job_id) == (True, True)
    assert (third.job_id, third.replaced) == (second.job_id, True)
    assert look(second.job_id).payload == {"n": 3}
    assert (look(second.job_id).status, look(second.job_id).unique_key) == (Status.PENDING, "k")
    assert worker.claim() == []


def test_the_newest_runs_when_the_one_before_has_ended(ask: Ask, db: Session, worker: Worker, look: Look) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2)
    assert taken_over(db) == []

    complete_jobs(db, [Completion(lease)])

    assert worker.claim() == []  # not before somebody has let it
    assert taken_over(db) == [second.job_id]
    assert [job.payload for job in worker.claim()] == ['{"n": 2}']
    assert violations(db) == []


def test_the_one_that_takes_over_keeps_its_time(ask: Ask, db: Session, worker: Worker, time: Time) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2, delay=datetime.timedelta(minutes=5))
    complete_jobs(db, [Completion(lease)])

    assert taken_over(db) == [second.job_id]
    assert worker.claim() == []
    assert db.scalar(text("select state from jobplatform.job_queue")) == 0


def test_a_request_that_may_not_wait_finds_whoever_waits_while_the_key_changes_hands(
    ask: Ask, db: Session, worker: Worker
) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2)
    complete_jobs(db, [Completion(lease)])

    single = ask(3, if_active="return")
    many = enqueue_jobs(
        db,
        [
            NewJob(workspace_id=uuid.uuid4(), task="work"),
            NewJob(workspace_id=_workspace_of(db, second.job_id), task="work", unique_key="k"),
        ],
    )

    assert single == (second.job_id, False)
    assert many[1] == (second.job_id, False)
    assert ask(4) == (second.job_id, False)


def _workspace_of(db: Session, job_id: uuid.UUID) -> uuid.UUID:
    found = db.scalar(text("select workspace_id from jobplatform.job_records where id = :id"), {"id": job_id})
    assert found is not None
    return uuid.UUID(str(found))


def test_keys_of_other_workspaces_have_nothing_to_do_with_it(ask: Ask, worker: Worker) -> None:
    ask(1)
    worker.lease()

    elsewhere = ask(2, workspace_id=uuid.uuid4())

    assert elsewhere.created
    assert [job.payload for job in worker.claim()] == ['{"n": 2}']


def test_without_a_key_there_is_nothing_to_replace(ask: Ask) -> None:
    assert ask(1, unique_key=None).created
    assert ask(2, unique_key=None).created


def test_a_bulk_of_requests_leaves_the_last_of_each_key(db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    def wanted(key: str, number: int) -> NewJob:
        options = {"workspace_id": workspace_id, "task": "work", "if_active": "replace"}
        return NewJob(**options, unique_key=key, payload={"n": number})  # type: ignore[arg-type]

    answers = enqueue_jobs(db, [wanted("a", 1), wanted("b", 2), wanted("a", 3)])

    assert [answer.created for answer in answers] == [True, True, False]
    assert (answers[2].job_id, answers[2].replaced) == (answers[0].job_id, True)
    assert sorted(job.payload for job in worker.claim(5)) == ['{"n": 2}', '{"n": 3}']


def test_the_same_request_again_is_the_same_job(db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    job = NewJob(workspace_id=workspace_id, task="work", unique_key="k", if_active="replace")
    first = enqueue_job(db, job)

    assert enqueue_job(db, job) == (first.job_id, False)
    worker.lease()
    assert enqueue_job(db, job) == (first.job_id, False)


def test_nobody_can_make_a_key_look_like_that_of_one_that_waits(workspace_id: uuid.UUID) -> None:
    with pytest.raises(InvalidJobError):
        NewJob(workspace_id=workspace_id, task="work", unique_key=SUCCESSOR + "k")


def test_the_database_itself_refuses_to_run_one_that_waits_for_another(ask: Ask, db: Session, worker: Worker) -> None:
    ask(1)
    worker.lease()
    ask(2)

    with pytest.raises(DBAPIError, match="successor_is_blocked"):
        db.execute(text("update jobplatform.job_queue set state = 1 where state = -1"))


def test_a_full_workspace_refuses_one_more_that_waits_but_not_a_newer_payload(
    ask: Ask, db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    ask(1)
    worker.lease()
    waits = ask(2)
    set_workspace_limits(db, workspace_id, {"max_pending": 1})
    db.commit()

    assert ask(3, session).replaced
    with pytest.raises(QuotaExceededError):
        ask(1, session, unique_key="other")
    session.commit()

    assert look(waits.job_id).payload == {"n": 3}


def test_a_handler_may_enqueue_its_own_successor_and_its_row_stays_free(
    ask: Ask, db: Session, worker: Worker, workspace_id: uuid.UUID, login_url: Callable[..., str]
) -> None:
    """A lock on the running job would hold up its worker, which reports progress of it, until the handler commits."""
    ask(1)
    lease = worker.lease()
    engine = make_engine(login_url(Role.HANDLER))
    with confine(Session(engine), Role.HANDLER, workspace_id) as handler:
        assert ask(2, handler).created

        assert complete_jobs(db, [Completion(lease)]) == {lease}
        handler.commit()
    engine.dispose()

    assert len(taken_over(db)) == 1


# Only after it has become quiet


def test_each_request_with_a_delay_puts_the_one_that_waits_off(
    ask: Ask, worker: Worker, time: Time, due: Callable[[], bool]
) -> None:
    ask(1, delay=MINUTE)
    time.passes(50)
    ask(2, delay=MINUTE)
    time.passes(50)
    assert not due()

    time.passes(20)

    assert due()
    assert [job.payload for job in worker.claim()] == ['{"n": 2}']


def test_a_stream_of_requests_puts_it_off_no_longer_than_was_said(
    ask: Ask, time: Time, look: Look, due: Callable[[], bool]
) -> None:
    first = ask(0, delay=MINUTE, longest_delay=3 * MINUTE)
    created_at = look(first.job_id).created_at

    for number in range(1, 4):
        time.passes(50)
        assert ask(number, delay=MINUTE, longest_delay=3 * MINUTE).job_id == first.job_id

    job = look(first.job_id)
    assert (job.created_at, job.run_after, job.payload) == (created_at, created_at + 3 * MINUTE, {"n": 3})
    assert not due()
    time.passes(31)
    assert due()


def test_what_is_overdue_is_due_at_once_however_it_is_put_off(ask: Ask, time: Time, due: Callable[[], bool]) -> None:
    ask(1, delay=MINUTE)
    time.passes(200)

    ask(2, delay=MINUTE, longest_delay=3 * MINUTE)

    assert due()


def test_of_a_successor_the_first_request_is_the_one_that_came_to_wait(
    ask: Ask, worker: Worker, time: Time, look: Look
) -> None:
    ask(0)
    worker.lease()
    time.passes(1000)
    waits = ask(1, delay=MINUTE, longest_delay=2 * MINUTE)
    created_at = look(waits.job_id).created_at

    time.passes(50)
    ask(2, delay=MINUTE, longest_delay=2 * MINUTE)
    assert look(waits.job_id).run_after > created_at + MINUTE
    time.passes(50)
    ask(3, delay=MINUTE, longest_delay=2 * MINUTE)

    assert look(waits.job_id).run_after == created_at + 2 * MINUTE


def test_a_job_that_has_been_tried_keeps_its_time_or_gets_an_earlier_one(
    ask: Ask, db: Session, worker: Worker, time: Time, look: Look, due: Callable[[], bool]
) -> None:
    job_id = ask(1, delay=MINUTE, longest_delay=2 * MINUTE).job_id
    time.passes(70)
    assert due()
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "no", delay=600)])
    retry_at = look(job_id).run_after

    ask(2, delay=MINUTE, longest_delay=2 * MINUTE)
    sooner = look(job_id).run_after
    time.passes(50)
    ask(3, delay=MINUTE, longest_delay=2 * MINUTE)

    assert sooner < retry_at
    assert (look(job_id).run_after, look(job_id).payload) == (sooner, {"n": 3})


# Being told of the end of the one that runs


def settle(db: Session) -> int:
    """Everything there is to settle; how many notices there were."""
    return sum(iter(lambda: settle_endings(db).notices, 0))


def test_the_end_of_a_running_job_is_told_when_another_waits_for_its_key_and_only_then(
    ask: Ask, db: Session, worker: Worker
) -> None:
    ask(1)
    ask(1, unique_key="other")
    running, alone = (job.lease for job in worker.claim(2))
    ask(2)
    ask(3)  # takes the place of the one that waits, and there is nothing more to ask for
    assert settle(db) == 1

    complete_jobs(db, [Completion(alone)])
    assert settle(db) == 0
    complete_jobs(db, [Completion(running)])
    assert settle(db) == 1


def test_who_comes_to_wait_in_an_open_transaction_leaves_the_running_job_alone_until_it_commits(
    ask: Ask, db: Session, session: Session, worker: Worker
) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2, session)
    assert settle(db) == 0

    complete_jobs(db, [Completion(lease)])
    session.commit()

    # Nobody could be told of that end. The request to look is what makes somebody look.
    assert settle(db) == 1
    assert taken_over(db) == [second.job_id]


# Going back while a newer one waits


def go_back(how: str, db: Session, worker: Worker, lease: Any) -> None:
    if how == "fails":
        fail_jobs(db, [Failure(lease, "error", "ValueError", "no luck")])
    elif how == "snoozes":
        release_jobs(db, [Release(lease, 60)])
    elif how == "was never started":
        release_unknown_jobs(db, worker.id, [])
    else:
        deregister_worker(db, worker.id)
        assert len(rescue_jobs(db)) == 1


WAYS_BACK = ["fails", "snoozes", "was never started", "loses its worker"]


@pytest.mark.parametrize("how", WAYS_BACK)
def test_a_job_that_would_wait_again_is_given_up_for_the_newer_one(
    ask: Ask, db: Session, worker: Worker, look: Look, how: str
) -> None:
    first = ask(1)
    lease = worker.lease()
    second = ask(2)

    go_back(how, db, worker, lease)

    job = look(first.job_id)
    assert (job.status, job.outcome) == (Status.CANCELLED, "discarded")
    assert job.error_type == {"fails": "ValueError", "loses its worker": "WorkerLost"}.get(how, "Superseded")
    assert violations(db) == []
    assert taken_over(db) == [second.job_id]


@pytest.mark.parametrize("how", WAYS_BACK)
def test_a_job_that_waits_again_with_no_newer_one_runs_again(ask: Ask, db: Session, worker: Worker, how: str) -> None:
    first = ask(1)
    lease = worker.lease()
    second = ask(2)
    cancel_job(db, _workspace_of(db, second.job_id), second.job_id)

    go_back(how, db, worker, lease)

    live = db.scalars(text("select id from jobplatform.job_queue where state in (0, 1)")).all()
    assert live == [first.job_id]
    assert taken_over(db) == []


def test_a_payload_that_is_replaced_between_two_attempts_has_all_of_them_again(
    ask: Ask, db: Session, worker: Worker, look: Look
) -> None:
    first = ask(1, max_attempts=3)
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "no", delay=60)])

    assert ask(2).job_id == first.job_id

    job = look(first.job_id)
    assert (job.attempts, job.error_type, job.payload) == (0, None, {"n": 2})
    (claimed,) = worker.claim()
    assert (claimed.attempt, claimed.lease.epoch) == (1, 2)


def test_a_job_that_ended_cannot_be_retried_while_a_newer_one_waits_to_take_over(
    ask: Ask, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    first = ask(1)
    lease = worker.lease()
    second = ask(2)
    fail_jobs(db, [Failure(lease, "error", "E", "no", retry=False)])

    assert retry_job(db, workspace_id, first.job_id) == (RetryKind.DUPLICATE, second.job_id)


# Races: one transaction is held open and the other is looked at, in both orders


def test_a_newer_payload_that_meets_a_claim_waits_for_the_one_that_was_claimed(
    ask: Ask, session: Session, elsewhere: Elsewhere, worker: Worker, db: Session
) -> None:
    first = ask(1)
    claiming = Worker(session)
    assert len(claiming.claim()) == 1
    newer = elsewhere.start_and_wait_for_lock(lambda other: ask(2, other))

    session.commit()

    assert newer.result().created
    assert newer.result().job_id != first.job_id
    assert violations(db) == []


@pytest.mark.parametrize("meanwhile", ["one is there", "it is replaced", "it is claimed", "another waits beside it"])
def test_a_transaction_that_cannot_see_who_waits_is_told_to_begin_anew(
    ask: Ask, session: Session, worker: Worker, meanwhile: str
) -> None:
    if meanwhile != "one is there":
        ask(1)
    if meanwhile == "another waits beside it":
        worker.lease()
    begin_to_read(session)
    if meanwhile == "it is claimed":
        worker.lease()
    else:
        ask(2, delay=MINUTE, longest_delay=2 * MINUTE)

    with pytest.raises(EnqueueConflictError, match="new transaction") as refused:
        ask(3, session, delay=MINUTE, longest_delay=2 * MINUTE)

    assert refused.value.unique_key == "k"


def test_a_claim_passes_over_a_job_whose_payload_is_being_replaced(
    ask: Ask, session: Session, worker: Worker, look: Look
) -> None:
    first = ask(1)
    assert ask(2, session).replaced

    assert worker.claim() == []
    session.commit()

    assert [job.payload for job in worker.claim()] == ['{"n": 2}']
    assert look(first.job_id).attempts == 1


def test_of_two_that_want_to_wait_first_the_second_replaces_the_first(
    ask: Ask, session: Session, elsewhere: Elsewhere, worker: Worker, look: Look
) -> None:
    ask(1)
    worker.lease()
    second = ask(2, session)
    third = elsewhere.start_and_wait_for_lock(lambda other: ask(3, other))

    session.commit()

    assert (second.created, third.result().replaced) == (True, True)
    assert third.result().job_id == second.job_id
    assert look(second.job_id).payload == {"n": 3}


def test_one_that_comes_to_wait_while_the_running_one_ends_takes_over(
    ask: Ask, db: Session, session: Session, worker: Worker
) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2, session)
    complete_jobs(db, [Completion(lease)])
    assert taken_over(db) == []  # it is not committed

    session.commit()

    assert taken_over(db) == [second.job_id]


def test_a_job_that_went_back_just_before_the_newer_one_was_there_is_given_up_by_the_next_poll(
    ask: Ask, db: Session, session: Session, worker: Worker, look: Look
) -> None:
    first = ask(1)
    lease = worker.lease()
    second = ask(2, session)
    fail_jobs(db, [Failure(lease, "error", "E", "no")])
    session.commit()
    assert look(first.job_id).status == Status.PENDING

    assert taken_over(db) == [second.job_id]

    assert (look(first.job_id).status, look(first.job_id).outcome) == (Status.CANCELLED, "discarded")
    assert violations(db) == []


def test_a_job_that_went_back_and_was_claimed_again_runs_before_the_newer_one(
    ask: Ask, db: Session, session: Session, worker: Worker
) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2, session)
    fail_jobs(db, [Failure(lease, "error", "E", "no")])
    again = worker.lease()
    session.commit()
    assert taken_over(db) == []

    complete_jobs(db, [Completion(again)])

    assert taken_over(db) == [second.job_id]


def test_two_workers_that_look_at_once_let_one_take_over(
    ask: Ask, db: Session, session: Session, elsewhere: Elsewhere, worker: Worker
) -> None:
    ask(1)
    lease = worker.lease()
    second = ask(2)
    complete_jobs(db, [Completion(lease)])
    first_look = [job.job_id for job in succeed_jobs(session).jobs]

    assert taken_over(db) == []  # it is locked, and passed over
    session.commit()

    assert first_look == [str(second.job_id)]
    assert taken_over(db) == []
    assert violations(db) == []


def test_a_key_that_somebody_is_just_taking_holds_up_nobody_else(
    ask: Ask, db: Session, session: Session, worker: Worker, fact: Fact
) -> None:
    """A row that a statement before ours inserted and has not committed: we would wait for it at the index."""
    ask(1)
    ask(1, unique_key="other")
    leases = [job.lease for job in worker.claim(2)]
    stuck, free = ask(2), ask(2, unique_key="other")
    complete_jobs(db, [Completion(lease) for lease in leases])
    session.execute(
        text(
            "insert into jobplatform.job_queue "
            "(workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key) "
            "select workspace_id, gen_random_uuid(), 'q', 't', 1, 0, 3, 1, now(), 'k' "
            "from jobplatform.job_queue limit 1"
        )
    )

    assert taken_over(db) == [free.job_id]
    session.rollback()

    assert taken_over(db) == [stuck.job_id]
