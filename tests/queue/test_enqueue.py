"""A job appears exactly when the caller's own transaction does, and once."""

from __future__ import annotations

import datetime
import random
import threading
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from jobplatform.errors import EnqueueConflictError, InvalidPayloadError
from jobplatform.models import Status
from jobplatform.queue import (
    ChangeAnswer,
    Enqueued,
    JobChange,
    NewJob,
    change_job,
    complete_jobs,
    enqueue_job,
    enqueue_jobs,
    get_job,
)
from jobplatform.queue.attempts.complete import Completion
from tests.queue.actors import Elsewhere, Worker, begin_to_read
from tests.queue.conftest import Fact, Look, Put

COUNT_JOBS = "select count(*) from jobplatform.jobs"
COUNT_HALVES = """
select (select count(*) from jobplatform.job_records), (select count(*) from jobplatform.job_queue)
"""


def guarded(workspace_id: uuid.UUID, key: str = "sync", **options: Any) -> NewJob:
    return NewJob(workspace_id=workspace_id, task="work", unique_key=key, **options)


def test_a_new_job_is_pending_with_what_was_asked_for(session: Session, workspace_id: uuid.UUID, look: Look) -> None:
    job = NewJob(
        workspace_id=workspace_id,
        task="work",
        payload={"a": [1, None, "ü"]},
        queue="letters",
        priority=7,
        max_attempts=5,
        timeout=datetime.timedelta(seconds=1.5),
        unique_key="k",
        resource="hubspot:4711",
        units=20,
        tags=("red", 'with "quotes", {braces}, NULL and \\'),
        payload_version=2,
        request_id="r-1",
        trace_parent="00-trace",
    )

    answer = enqueue_job(session, job)
    session.commit()

    found = look(job.id)
    assert answer == Enqueued(job.id, created=True)
    assert (found.status, found.job_type, found.queue, found.priority) == (Status.PENDING, "work", "letters", 7)
    assert (found.payload, found.payload_version) == ({"a": [1, None, "ü"]}, 2)
    assert (found.max_attempts, found.timeout_ms, found.unique_key) == (5, 1500, "k")
    assert found.tags == ["red", 'with "quotes", {braces}, NULL and \\']
    assert (found.resource, found.units) == ("hubspot:4711", 20)
    assert (found.request_id, found.trace_parent) == ("r-1", "00-trace")


@pytest.mark.parametrize(
    "offset",
    [datetime.timedelta(hours=23, minutes=59), -datetime.timedelta(hours=16), datetime.timedelta(milliseconds=1)],
)
def test_a_moment_may_be_told_in_any_offset_that_python_knows(
    session: Session, workspace_id: uuid.UUID, offset: datetime.timedelta
) -> None:
    moment = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.timezone(offset))
    job = NewJob(workspace_id=workspace_id, task="work", run_after=moment)

    enqueue_job(session, job)
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="work", run_after=moment)])
    assert change_job(session, workspace_id, job.id, JobChange(run_after=moment)) is ChangeAnswer.CHANGED

    assert session.scalars(text("select run_after from jobplatform.jobs")).all() == [moment, moment]


def test_who_enqueues_into_a_database_without_our_schema_is_told_the_command_that_makes_it(
    engine: Engine, session: Session, workspace_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        connection.execute(text("drop schema jobplatform cascade"))

    with pytest.raises(ProgrammingError) as failed:
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))

    assert "run `jobplatform migrate`" in "".join(traceback.format_exception(failed.value))


def test_a_bulk_keeps_what_was_asked_for_of_each(db: Session, workspace_id: uuid.UUID, look: Look) -> None:
    """Columns that nobody sets are not sent; those that somebody sets are, for all."""
    plain = NewJob(workspace_id=workspace_id, task="null", queue="null")
    rich = NewJob(
        workspace_id=workspace_id,
        task="work",
        payload={"a": 'with "quotes" and \\u0000'},
        queue="letters",
        priority=-7,
        delay=datetime.timedelta(hours=1),
        timeout=datetime.timedelta(seconds=1.5),
        unique_key='k"',
        resource="hubspot:{4711}",
        units=20,
        tags=("red", 'with "quotes", {braces}, NULL and \\'),
        request_id="NULL",
        trace_parent="00-trace",
    )

    assert [answer.created for answer in enqueue_jobs(db, [plain, rich])] == [True, True]

    found = look(plain.id)
    assert (found.job_type, found.queue, found.tags, found.run_after) == ("null", "null", [], found.created_at)
    assert (found.unique_key, found.resource, found.units, found.request_id) == (None, None, 1, None)
    found = look(rich.id)
    assert (found.payload, found.queue, found.priority) == ({"a": 'with "quotes" and \\u0000'}, "letters", -7)
    assert (found.timeout_ms, found.run_after - found.created_at) == (1500, datetime.timedelta(hours=1))
    assert (found.unique_key, found.resource, found.units) == ('k"', "hubspot:{4711}", 20)
    assert found.tags == ["red", 'with "quotes", {braces}, NULL and \\']
    assert (found.request_id, found.trace_parent) == ("NULL", "00-trace")


@pytest.mark.parametrize("count", [1, 2])
def test_both_halves_of_a_job_know_its_resource(db: Session, workspace_id: uuid.UUID, fact: Fact, count: int) -> None:
    jobs = [NewJob(workspace_id=workspace_id, task="work", resource="crm:1", units=5) for _ in range(count)]

    enqueue_jobs(db, jobs)

    for half in ("job_queue", "job_records"):
        assert fact(f"select count(*) from jobplatform.{half} where resource = 'crm:1' and units = 5") == count


def test_a_rollback_leaves_nothing(session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    enqueue_jobs(session, [guarded(workspace_id), NewJob(workspace_id=workspace_id, task="work")])
    session.rollback()

    assert fact(COUNT_JOBS) == 0
    assert fact("select count(*) from jobplatform.job_queue") == 0


def test_a_job_and_the_callers_rows_appear_in_one_commit(
    session: Session, db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    db.execute(text("create table orders (id int)"))
    session.execute(text("insert into orders values (1)"))
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))

    before = fact("select count(*) from orders"), fact(COUNT_JOBS)
    session.commit()

    assert before == (0, 0)
    assert (fact("select count(*) from orders"), fact(COUNT_JOBS)) == (1, 1)


def test_a_rolled_back_savepoint_takes_its_job_along(session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="kept"))
    with session.begin_nested() as savepoint:
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="dropped"))
        savepoint.rollback()
    session.commit()

    assert fact("select array_agg(job_type) from jobplatform.jobs") == ["kept"]


def test_an_enqueue_never_commits(session: Session, workspace_id: uuid.UUID) -> None:
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))

    assert session.in_transaction()


def test_a_job_for_later_is_scheduled(put: Put, worker: Worker, look: Look) -> None:
    job_id = put(delay=datetime.timedelta(hours=1))

    assert worker.claim() == []
    job = look(job_id)
    assert job.status == Status.PENDING
    assert job.run_after - job.created_at == datetime.timedelta(hours=1)


def test_a_moment_that_has_passed_means_now(put: Put, worker: Worker) -> None:
    job_id = put(run_after=datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC))

    assert worker.lease().job_id == str(job_id)


@pytest.mark.parametrize("payload", [{"a": "\0"}, {"a": float("nan")}, {"a": "x" * 300_000}, {"a": object()}])
def test_a_payload_that_cannot_be_stored_is_refused_and_the_transaction_goes_on(
    session: Session, workspace_id: uuid.UUID, payload: Any, fact: Fact
) -> None:
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))

    with pytest.raises(InvalidPayloadError):
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", payload=payload))
    session.commit()

    assert fact(COUNT_JOBS) == 1


# The uniqueness guard


def test_a_second_job_of_one_key_is_answered_with_the_first(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    first = put(unique_key="sync")

    assert enqueue_job(db, guarded(workspace_id)) == Enqueued(first, created=False)


def test_the_guard_holds_while_the_job_runs(put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker) -> None:
    first = put(unique_key="sync")
    worker.lease()

    assert enqueue_job(db, guarded(workspace_id)) == Enqueued(first, created=False)


def test_the_guard_holds_for_a_job_that_waits_for_its_time(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    first = put(unique_key="sync", delay=datetime.timedelta(days=1))

    assert enqueue_job(db, guarded(workspace_id)) == Enqueued(first, created=False)


def test_the_guard_frees_itself_when_the_job_ends(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    put(unique_key="sync")
    complete_jobs(db, [Completion(worker.lease())])

    assert enqueue_job(db, guarded(workspace_id)).created


def test_the_guard_of_one_workspace_does_not_bind_another(put: Put, db: Session) -> None:
    put(unique_key="sync")

    assert enqueue_job(db, guarded(uuid.uuid4())).created


def test_a_job_without_a_key_is_no_duplicate_of_anything(put: Put, fact: Fact) -> None:
    put()
    put()

    assert fact(COUNT_JOBS) == 2


def test_two_jobs_of_one_key_in_one_call_become_one(session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    answers = enqueue_jobs(session, [guarded(workspace_id), guarded(workspace_id), guarded(workspace_id)])
    session.commit()

    assert len({answer.job_id for answer in answers}) == 1
    assert [answer.created for answer in answers].count(True) == 1
    assert fact(COUNT_JOBS) == 1


def test_a_duplicate_in_the_callers_own_transaction_is_seen(session: Session, workspace_id: uuid.UUID) -> None:
    first = enqueue_job(session, guarded(workspace_id))

    assert enqueue_job(session, guarded(workspace_id)) == Enqueued(first.job_id, created=False)


def test_two_hundred_enqueues_of_one_key_at_once_make_one_job(
    engine: Engine, workspace_id: uuid.UUID, fact: Fact
) -> None:
    start = threading.Barrier(20, timeout=60)

    def ten_times(_producer: int) -> list[Enqueued]:
        start.wait()
        answers = []
        for _ in range(10):
            with Session(engine) as session, session.begin():
                answers.append(enqueue_job(session, guarded(workspace_id)))
        return answers

    with ThreadPoolExecutor(20) as producers:
        answers = [answer for portion in producers.map(ten_times, range(20)) for answer in portion]

    assert [answer.created for answer in answers].count(True) == 1
    assert len({answer.job_id for answer in answers}) == 1
    assert fact(COUNT_JOBS) == 1


def test_the_second_of_two_waits_and_is_told_of_the_first(
    session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    first = enqueue_job(session, guarded(workspace_id))
    second = elsewhere.start_and_wait_for_lock(lambda other: enqueue_job(other, guarded(workspace_id)))

    session.commit()

    assert second.result() == Enqueued(first.job_id, created=False)


def test_the_second_of_two_is_created_when_the_first_thinks_better_of_it(
    session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    enqueue_job(session, guarded(workspace_id))
    second = elsewhere.start_and_wait_for_lock(lambda other: enqueue_job(other, guarded(workspace_id)))

    session.rollback()

    assert second.result().created


@pytest.mark.parametrize("beside", [0, 2])
def test_a_transaction_that_cannot_see_the_holder_is_told_to_begin_anew(
    session: Session, put: Put, workspace_id: uuid.UUID, beside: int
) -> None:
    begin_to_read(session)
    put(unique_key="sync")

    with pytest.raises(EnqueueConflictError, match="new transaction") as refused:
        enqueue_jobs(session, [guarded(workspace_id), *[guarded(workspace_id, f"k{n}") for n in range(beside)]])

    error = refused.value
    assert (error.unique_key, error.workspace_id, error.others) == ("sync", workspace_id, beside)


def test_a_refusal_that_is_about_no_key_is_told_as_the_database_puts_it(
    session: Session, db: Session, workspace_id: uuid.UUID
) -> None:
    job = NewJob(workspace_id=workspace_id, task="work")
    begin_to_read(session)
    enqueue_job(db, job)

    with pytest.raises(DBAPIError, match="could not serialize"):
        enqueue_job(session, job)


# The same request again


def test_the_same_request_again_creates_nothing(db: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    job = NewJob(workspace_id=workspace_id, task="work")
    enqueue_job(db, job)

    assert enqueue_job(db, job) == Enqueued(job.id, created=False)
    assert fact(COUNT_JOBS) == 1


def test_the_same_request_after_the_job_has_ended_does_not_run_it_again(
    db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    job = guarded(workspace_id)
    enqueue_job(db, job)
    complete_jobs(db, [Completion(worker.lease())])

    assert enqueue_job(db, job) == Enqueued(job.id, created=False)
    assert worker.claim() == []


@pytest.mark.parametrize("key", [None, "sync"])
def test_the_same_request_while_the_first_is_still_being_committed_creates_nothing(
    session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID, key: str | None, fact: Fact
) -> None:
    job = NewJob(workspace_id=workspace_id, task="work", unique_key=key)
    enqueue_job(session, job)
    again = elsewhere.start_and_wait_for_lock(lambda other: enqueue_job(other, job))

    session.commit()

    assert again.result() == Enqueued(job.id, created=False)
    assert fact(COUNT_JOBS) == 1


def test_one_request_twice_in_one_call_is_one_job(session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    job = NewJob(workspace_id=workspace_id, task="work")

    answers = enqueue_jobs(session, [job, job])
    session.commit()

    assert [answer.job_id for answer in answers] == [job.id, job.id]
    assert fact(COUNT_JOBS) == 1


# Many at once


def test_the_answers_come_in_the_order_of_the_requests(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    holder = put(unique_key="b")
    jobs = [guarded(workspace_id, "c"), guarded(workspace_id, "b"), guarded(workspace_id, "a")]

    assert enqueue_jobs(db, jobs) == [
        Enqueued(jobs[0].id, created=True),
        Enqueued(holder, created=False),
        Enqueued(jobs[2].id, created=True),
    ]


def test_nothing_to_enqueue_is_no_error(session: Session) -> None:
    assert enqueue_jobs(session, []) == []


def test_a_bulk_is_written_in_both_tables(session: Session, workspace_id: uuid.UUID) -> None:
    jobs = [NewJob(workspace_id=workspace_id, task="work", payload={"n": n}) for n in range(1000)]

    enqueue_jobs(session, jobs)

    assert tuple(session.execute(text(COUNT_HALVES)).one()) == (1000, 1000)
    found = get_job(session, workspace_id, jobs[731].id)
    assert found is not None
    assert found.payload == {"n": 731}


def test_each_job_of_a_bulk_has_its_own_payload_whatever_json_that_is(
    session: Session, workspace_id: uuid.UUID
) -> None:
    payloads = [{"a": 'x", "y\\'}, None, [[1], []], "]", 0, {}, {"ü": {"b": None}}, [{"$": ","}, True], 1.5, ""]
    jobs = [NewJob(workspace_id=workspace_id, task="work", payload=payload) for payload in payloads]

    enqueue_jobs(session, jobs)

    found = [get_job(session, workspace_id, job.id) for job in jobs]
    assert [job and job.payload for job in found] == payloads


def test_overlapping_bulks_in_any_order_do_not_deadlock(engine: Engine, fact: Fact) -> None:
    workspaces = [uuid.uuid4() for _ in range(4)]
    slots = [(workspace_id, f"key-{n}") for workspace_id in workspaces for n in range(25)]
    start = threading.Barrier(4, timeout=60)

    def bulk(seed: int) -> list[uuid.UUID]:
        order = random.Random(seed).sample(slots, len(slots))
        start.wait()
        with Session(engine) as session, session.begin():
            answers = enqueue_jobs(session, [guarded(workspace_id, key) for workspace_id, key in order])
        return [answer.job_id for _, answer in sorted(zip(order, answers, strict=True))]

    with ThreadPoolExecutor(4) as producers:
        for _ in range(3):
            answers = list(producers.map(bulk, range(4)))
            assert all(answer == answers[0] for answer in answers)

    assert fact(COUNT_JOBS) == len(slots)
