"""Not more often than: of one key no second job is made for a while, also when the first has ended."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from jobplatform.errors import EnqueueConflictError, InvalidJobError, QuotaExceededError
from jobplatform.models import Role, confine, make_engine
from jobplatform.queue import (
    Completion,
    Edge,
    Enqueued,
    Failure,
    MadeRecently,
    NewJob,
    RunningJob,
    Tasks,
    cancel_job,
    claim_job,
    complete_jobs,
    delete_jobs,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    forget_periods,
    get_batch,
    open_batch,
    prune_jobs,
    retry_job,
    set_workspace_limits,
    settle_endings,
    silence,
)
from jobplatform.queue.enqueue.periods import look_at_periods
from tests.queue.actors import Elsewhere, Time, Worker, begin_to_read
from tests.queue.conftest import Fact, Look
from tests.queue.plans import explain_all

MINUTE = datetime.timedelta(minutes=1)
QUARTER = datetime.timedelta(minutes=15)
#: Each with a transaction of its own that is open; the pooler of the tests has twelve connections.
AT_ONCE = 10

Wanted = Callable[..., NewJob]
Ask = Callable[..., Enqueued]


@pytest.fixture
def wanted(workspace_id: uuid.UUID) -> Wanted:
    """A job that is to be the only one of its key for a quarter of an hour."""

    def wanted(**options: Any) -> NewJob:
        defaults = {"workspace_id": workspace_id, "task": "work", "unique_key": "k", "unique_for": QUARTER}
        return NewJob(**{**defaults, **options})

    return wanted


@pytest.fixture
def ask(db: Session, wanted: Wanted) -> Ask:
    """Ask for one."""

    def ask(session: Session = db, **options: Any) -> Enqueued:
        return enqueue_job(session, wanted(**options))

    return ask


@pytest.fixture
def done(db: Session, worker: Worker) -> Callable[[], None]:
    """Have the one job there is run, and complete."""
    return lambda: complete_jobs(db, [Completion(worker.lease())]) and None


@pytest.fixture
def count(fact: Fact) -> Callable[[str], int]:
    """How many rows a table has."""
    return lambda table: int(fact(f"select count(*) from jobplatform.{table}"))


# While the period goes on, and after it


def test_a_job_that_completed_is_the_answer_until_its_period_is_over(
    ask: Ask, done: Callable[[], None], time: Time, look: Look
) -> None:
    first = ask()
    created_at = look(first.job_id).created_at
    done()
    time.passes(600)

    second = ask()

    assert second == (first.job_id, False)
    assert isinstance(second, MadeRecently)
    assert (second.replaced, second.unique_until) == (False, created_at + QUARTER)
    assert second.retry_after is not None
    assert 290 < second.retry_after <= 300
    assert (look(first.job_id).status, first.unique_until, first.retry_after) == ("completed", None, None)


def test_a_job_that_has_not_ended_is_the_answer_too(ask: Ask) -> None:
    first = ask()

    second = ask()

    assert second == (first.job_id, False)
    assert second.unique_until is not None


def test_when_the_period_is_over_there_is_another_job_and_another_period(
    ask: Ask, done: Callable[[], None], time: Time
) -> None:
    first = ask()
    done()
    time.passes(901)

    second = ask()
    done()
    time.passes(600)
    third = ask()

    assert second.created
    assert second.job_id != first.job_id
    assert third == (second.job_id, False)


def test_a_job_that_outlives_its_period_holds_its_key_as_ever(
    ask: Ask, time: Time, count: Callable[[str], int]
) -> None:
    first = ask()
    time.passes(901)

    second = ask()

    assert second == (first.job_id, False)
    assert second.unique_until is None
    assert count("unique_periods") == 1


def test_how_long_a_request_says_is_what_counts_for_it(ask: Ask, done: Callable[[], None], time: Time) -> None:
    first = ask()
    done()
    time.passes(120)

    assert ask(unique_for=datetime.timedelta(minutes=3)) == (first.job_id, False)
    assert ask(unique_for=datetime.timedelta(minutes=1)).created


def test_who_asks_for_no_period_gets_a_job(ask: Ask, done: Callable[[], None]) -> None:
    ask()
    done()

    assert ask(unique_for=None).created


def test_other_keys_and_other_workspaces_have_nothing_to_do_with_it(ask: Ask, done: Callable[[], None]) -> None:
    ask()
    done()

    assert ask(unique_key="other").created
    assert ask(workspace_id=uuid.uuid4()).created


def test_the_same_request_again_is_the_same_job(db: Session, wanted: Wanted, done: Callable[[], None]) -> None:
    job = wanted()
    enqueue_job(db, job)
    done()

    again = enqueue_job(db, job)

    assert again == (job.id, False)
    assert again.unique_until is None


@pytest.mark.parametrize("beside", [0, 1])
def test_the_same_request_again_is_the_same_job_also_when_another_has_been_made_since(
    db: Session, wanted: Wanted, workspace_id: uuid.UUID, time: Time, beside: int
) -> None:
    """It failed, or its period was over, and the period that goes on is another job's."""
    job, newer = wanted(), wanted()
    enqueue_job(db, job)
    cancel_job(db, workspace_id, job.id)
    assert enqueue_job(db, newer).created
    others = [wanted(unique_key=f"k{number}") for number in range(beside)]

    again = enqueue_jobs(db, [job, *others])

    assert (again[0], again[0].unique_until) == ((job.id, False), None)
    assert [answer.created for answer in again[1:]] == [True] * beside
    assert enqueue_job(db, wanted()) == (newer.id, False)


# What leaves the key free


def end_badly(how: str, db: Session, worker: Worker, workspace_id: uuid.UUID, job_id: uuid.UUID) -> None:
    if how == "failed":
        fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no luck", retry=False)])
    elif how == "cancelled":
        cancel_job(db, workspace_id, job_id)
    else:
        complete_jobs(db, [Completion(worker.lease())])
        if how == "deleted":
            delete_jobs(db, [(workspace_id, job_id)])
        else:
            db.execute(text("update jobplatform.job_records set completed_at = completed_at - interval '9 days'"))
            assert prune_jobs(db, completed_after=7 * 96 * QUARTER, failed_after=7 * 96 * QUARTER) == 1


@pytest.mark.parametrize("how", ["failed", "cancelled", "deleted", "pruned"])
def test_a_job_that_did_not_do_it_or_is_gone_keeps_nobody_from_asking_again(
    ask: Ask, db: Session, worker: Worker, workspace_id: uuid.UUID, how: str, done: Callable[[], None]
) -> None:
    first = ask()
    end_badly(how, db, worker, workspace_id, first.job_id)

    second = ask()
    done()

    assert second.created
    assert ask() == (second.job_id, False)


def test_a_failed_job_that_is_retried_by_hand_counts_again(
    ask: Ask, db: Session, worker: Worker, workspace_id: uuid.UUID, done: Callable[[], None]
) -> None:
    first = ask()
    end_badly("failed", db, worker, workspace_id, first.job_id)
    retry_job(db, workspace_id, first.job_id)
    done()

    assert ask() == (first.job_id, False)


def test_what_is_rolled_back_leaves_nothing(ask: Ask, session: Session, count: Callable[[str], int]) -> None:
    assert ask(session).created
    session.rollback()

    assert count("unique_periods") == 0
    assert ask().created


def test_a_request_that_met_an_unfinished_job_leaves_nothing(
    ask: Ask, done: Callable[[], None], count: Callable[[str], int]
) -> None:
    first = ask(unique_for=None)

    assert ask() == (first.job_id, False)

    assert count("unique_periods") == 0
    done()
    assert ask().created


def test_a_request_for_which_there_was_no_room_keeps_nobody_away(
    ask: Ask, db: Session, session: Session, workspace_id: uuid.UUID
) -> None:
    set_workspace_limits(db, workspace_id, {"max_pending": 0})
    with pytest.raises(QuotaExceededError):
        ask(session)
    session.commit()
    set_workspace_limits(db, workspace_id, {"max_pending": None})

    assert ask().created


# Two at once


def test_of_many_transactions_at_once_one_makes_the_job(
    database_url: str, wanted: Wanted, db: Session, worker: Worker, count: Callable[[str], int]
) -> None:
    """Whoever comes first has its job done at once, so that no unfinished one is in the way of the others."""
    engine = make_engine(database_url, pool_size=AT_ONCE)
    silence(engine)
    barrier = Barrier(AT_ONCE, timeout=60)

    def one(_: int) -> Enqueued:
        with Session(engine) as session:
            session.execute(text("select 1"))
            barrier.wait()
            answer = enqueue_job(session, wanted())
            if answer.created:
                job = claim_job(session, worker_id=worker.id, workspace_id=wanted().workspace_id, job_id=answer.job_id)
                assert job is not None
                complete_jobs(session, [Completion(job.lease)])
            session.commit()
            return answer

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(one, range(AT_ONCE)))
    engine.dispose()

    assert sum(answer.created for answer in answers) == 1
    assert len({answer.job_id for answer in answers}) == 1
    assert count("job_records") == count("unique_periods") == 1


def test_whoever_has_looked_at_a_key_has_it_to_himself_before_anything_is_made(
    ask: Ask, session: Session, elsewhere: Elsewhere, wanted: Wanted, done: Callable[[], None], time: Time
) -> None:
    ask()
    done()
    time.passes(901)
    assert look_at_periods(session, [wanted()]).recent == {}

    second = elsewhere.start_and_wait_for_lock(ask)
    session.rollback()

    assert second.result().created


def test_whoever_comes_second_makes_the_job_when_the_first_is_rolled_back(
    ask: Ask, session: Session, elsewhere: Elsewhere, count: Callable[[str], int]
) -> None:
    first = ask(session)
    second = elsewhere.start_and_wait_for_lock(ask)

    session.rollback()

    assert second.result().created
    assert second.result().job_id != first.job_id
    assert count("job_records") == count("unique_periods") == 1


@pytest.mark.parametrize("before", ["there was none", "the period of another is over"])
def test_whoever_comes_second_waits_and_sees_a_job_that_was_made_and_done_meanwhile(
    ask: Ask,
    session: Session,
    elsewhere: Elsewhere,
    worker: Worker,
    workspace_id: uuid.UUID,
    done: Callable[[], None],
    time: Time,
    before: str,
) -> None:
    if before != "there was none":
        ask()
        done()
        time.passes(901)
    first = ask(session)
    second = elsewhere.start_and_wait_for_lock(ask)
    job = claim_job(session, worker_id=worker.id, workspace_id=workspace_id, job_id=first.job_id)
    assert job is not None
    complete_jobs(session, [Completion(job.lease)])

    session.commit()

    assert first.created
    assert second.result() == (first.job_id, False)


@pytest.mark.parametrize("meanwhile", ["there is a first", "the next has begun"])
def test_a_transaction_that_cannot_see_the_last_job_of_a_key_is_told_to_begin_anew(
    ask: Ask, session: Session, done: Callable[[], None], time: Time, meanwhile: str
) -> None:
    if meanwhile == "the next has begun":
        ask()
        done()
        time.passes(901)
    begin_to_read(session)
    last = ask()
    done()

    with pytest.raises(EnqueueConflictError, match="new transaction") as refused:
        ask(session)
    session.rollback()

    assert refused.value.unique_key == "k"
    assert ask(session) == (last.job_id, False)


def test_two_bulks_with_the_same_keys_in_another_order_do_not_deadlock(
    session: Session, elsewhere: Elsewhere, wanted: Wanted
) -> None:
    enqueue_jobs(session, [wanted(unique_key="b")])
    both = elsewhere.start_and_wait_for_lock(
        lambda other: enqueue_jobs(other, [wanted(unique_key="c"), wanted(unique_key="b"), wanted(unique_key="a")])
    )
    enqueue_jobs(session, [wanted(unique_key="c")])

    session.commit()

    assert [answer.created for answer in both.result()] == [False, False, True]


# Many at once


def test_of_one_key_twice_in_a_call_the_first_is_made(db: Session, wanted: Wanted, done: Callable[[], None]) -> None:
    first, second, other = enqueue_jobs(db, [wanted(), wanted(), wanted(unique_key="other")])

    assert (first.created, second.created, other.created) == (True, False, True)
    assert second.job_id == first.job_id
    assert [answer.created for answer in enqueue_jobs(db, [wanted(), wanted(unique_key="third")])] == [False, True]


def test_of_one_key_with_two_periods_in_a_call_the_shorter_decides_whether_there_is_a_job(
    db: Session, wanted: Wanted, done: Callable[[], None], time: Time
) -> None:
    enqueue_job(db, wanted())
    done()
    time.passes(120)

    answers = enqueue_jobs(db, [wanted(), wanted(unique_for=datetime.timedelta(minutes=1))])
    done()

    assert [answer.created for answer in answers] == [False, True]
    assert enqueue_job(db, wanted()) == (answers[1].job_id, False)


def test_one_that_asks_for_no_period_in_the_same_call_is_made_and_begins_none(
    db: Session, wanted: Wanted, count: Callable[[str], int]
) -> None:
    answers = enqueue_jobs(db, [wanted(unique_for=None), wanted()])

    assert [answer.created for answer in answers] == [True, False]
    assert answers[1].job_id == answers[0].job_id
    assert count("unique_periods") == 0


def test_who_waits_for_one_that_is_not_made_waits_for_the_one_there_is(
    db: Session, wanted: Wanted, worker: Worker, workspace_id: uuid.UUID, done: Callable[[], None]
) -> None:
    first = enqueue_job(db, wanted())
    done()
    pulled = wanted()
    report = NewJob(workspace_id=workspace_id, task="work", payload={"n": 1}, after=[Edge(pulled)])

    answers = enqueue_jobs(db, [pulled, report])
    settle_endings(db)

    assert [answer.created for answer in answers] == [False, True]
    assert answers[0].job_id == first.job_id
    assert [job.payload for job in worker.claim()] == ['{"n": 1}']


def test_one_that_is_not_made_is_no_member_of_its_batch(
    db: Session, wanted: Wanted, workspace_id: uuid.UUID, done: Callable[[], None]
) -> None:
    enqueue_job(db, wanted())
    done()
    batch_id = open_batch(db, workspace_id, "nightly")

    answers = enqueue_jobs(db, [wanted(batch_id=batch_id), wanted(batch_id=batch_id, unique_key="other")])
    settle_endings(db)

    assert [answer.created for answer in answers] == [False, True]
    batch = get_batch(db, workspace_id, batch_id)
    assert batch is not None
    assert batch.total == 1


# Who asks


def test_a_handler_asks_with_the_rights_of_its_workspace(
    ask: Ask, login_url: Callable[..., str], workspace_id: uuid.UUID, done: Callable[[], None]
) -> None:
    engine = make_engine(login_url(Role.HANDLER))
    with confine(Session(engine), Role.HANDLER, workspace_id) as handler:
        first = ask(handler)
        handler.commit()
        done()

        assert first.created
        assert ask(handler) == (first.job_id, False)
    engine.dispose()


def test_a_task_says_it_for_its_jobs_and_a_payload_that_is_like_no_other_is_not_held_to_it(
    db: Session, workspace_id: uuid.UUID, done: Callable[[], None]
) -> None:
    tasks = Tasks()

    @tasks.task("work", unique=lambda payload: payload.get("account"), unique_for=QUARTER)
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    def ask(**payload: Any) -> Enqueued:
        return work.enqueue(db, payload, workspace_id=workspace_id)

    first = ask(account="a")
    done()

    assert ask(account="a") == (first.job_id, False)
    assert ask(account="b").created
    assert ask().created
    assert ask().created
    with pytest.raises(InvalidJobError, match="/ifActive"):
        work.enqueue(db, {"account": "a"}, workspace_id=workspace_id, if_active="replace")
    with pytest.raises(InvalidJobError, match="/uniqueForMs"):
        work.enqueue(db, {}, workspace_id=workspace_id, unique_for=QUARTER)


def test_in_synchronous_mode_a_job_that_is_not_made_is_not_run(session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks(mode="sync")
    runs = []

    @tasks.task("work", unique="workspace", unique_for=QUARTER)
    def work(job: RunningJob, payload: dict[str, Any]) -> None:
        runs.append(job.id)

    first = work.enqueue(session, workspace_id=workspace_id)
    session.commit()
    second = work.enqueue(session, workspace_id=workspace_id)
    session.commit()

    assert runs == [first.job_id]
    assert second == (first.job_id, False)


def test_jobs_without_a_period_ask_nothing_of_the_table(
    db: Session, engine: Engine, wanted: Wanted, workspace_id: uuid.UUID
) -> None:
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: said.append(args[2]))

    with Session(engine) as session:
        enqueue_job(session, wanted(unique_for=None))
        enqueue_jobs(session, [wanted(unique_for=None, unique_key=None) for _ in range(3)])
        assert not [statement for statement in said if "unique_periods" in statement]
        enqueue_job(session, wanted())
        assert [statement for statement in said if "unique_periods" in statement]


# What is over


def test_periods_that_are_over_are_forgotten_but_for_those_that_somebody_holds(
    ask: Ask, db: Session, session: Session, time: Time, count: Callable[[str], int], fact: Fact
) -> None:
    ask(unique_key="over")
    ask(unique_key="held")
    time.passes(901)
    ask(unique_key="young")
    session.execute(text("select from jobplatform.unique_periods where unique_key = 'held' for update"))

    assert forget_periods(db) == 1
    session.rollback()

    assert fact("select array_agg(unique_key order by 1) from jobplatform.unique_periods") == ["held", "young"]
    assert forget_periods(db) == 1


def test_retention_forgets_them(ask: Ask, db: Session, time: Time, count: Callable[[str], int]) -> None:
    ask()
    time.passes(901)

    prune_jobs(db, completed_after=QUARTER, failed_after=QUARTER)

    assert count("unique_periods") == 0


MANY = """
with made as (
    insert into jobplatform.job_records
        (workspace_id, id, task, queue, payload, unique_key, status, outcome, completed_at)
    select :workspace_id, gen_random_uuid(), 'work', 'default', '{}', 'k' || n, 3, 'ok', now()
    from generate_series(1, 20000) n
    returning workspace_id, id, unique_key
)
insert into jobplatform.unique_periods (workspace_id, unique_key, job_id, began_at, until)
select workspace_id, unique_key, id, now() - interval '1 minute', now() + interval '14 minutes'
from made
"""


def test_of_many_periods_only_those_that_are_asked_for_are_looked_at(
    engine: Engine, wanted: Wanted, workspace_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        connection.execute(text(MANY), {"workspace_id": workspace_id})
        connection.execute(text("analyze jobplatform.unique_periods, jobplatform.job_records"))

    def act(session: Session) -> None:
        jobs = [wanted(unique_key=f"k{number}") for number in range(1, 6)]
        enqueue_jobs(session, [*jobs, wanted(unique_key="new"), wanted(unique_key="k7", unique_for=MINUTE / 2)])
        forget_periods(session)

    plans = explain_all(engine, act)

    scanned = {node["Relation Name"] for plan in plans for node in plan.nodes if node["Node Type"] == "Seq Scan"}
    assert scanned & {"unique_periods", "job_records"} == set()
    assert max(plan.rows_visited("unique_periods") for plan in plans) <= 7
