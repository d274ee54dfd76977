"""The finisher: what the database, or its driver, refuses is one row's affair, and keeps nobody else's from its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, exc, text
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    LogLine,
    ProgressReport,
    Release,
    ResourceNote,
    note_resources,
    set_rate_limit,
)
from jobplatform.testing import wait_until
from jobplatform.worker.database import is_infrastructure
from jobplatform.worker.finisher import Finisher, Flushed
from jobplatform.worker.outbox import Flush
from tests.queue.actors import Elsewhere, Worker
from tests.worker.conftest import Database


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=2, autocommit=True)
    yield engine
    engine.dispose()


@pytest.fixture
def others(database_url: str) -> Iterator[Engine]:
    """Whoever has transactions beside the finisher's."""
    others = make_engine(database_url, pool_size=3)
    yield others
    others.dispose()


@pytest.fixture
def elsewhere(others: Engine) -> Iterator[Elsewhere]:
    elsewhere = Elsewhere(others)
    yield elsewhere
    elsewhere.close()


@pytest.fixture
def answers() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


@pytest.fixture
def finisher(engine: Engine, answers: queue.SimpleQueue[Any]) -> Iterator[Finisher]:
    finisher = Finisher(engine, answers.put, crash_limit=3, patience_ms=600_000)
    finisher.start()
    yield finisher
    finisher.stop(10)


@pytest.fixture
def leases(database: Database) -> list[Lease]:
    """Those of two running jobs."""
    database.enqueue_many("noop", [{}, {}])
    with database.sessions.begin() as session:
        return [job.lease for job in Worker(session, tasks=["noop"]).claim(2)]


#: Every text that a handler may have had a part in, by what it is written with.
DOORS = {
    "log line": lambda bad, text: Flush(lines=[LogLine(bad, 1, "info", text)]),
    "level": lambda bad, text: Flush(lines=[LogLine(bad, 1, text, "line")]),
    "progress": lambda bad, text: Flush(progress=[ProgressReport(bad, f'{{"message": "{text}"}}')]),
    "resource": lambda _bad, text: Flush(notes=[ResourceNote(text, closed_for=60)]),
    "resource that works": lambda _bad, text: Flush(notes=[ResourceNote(text, worked=True)]),
    "error of a resource": lambda _bad, text: Flush(notes=[ResourceNote("crm:1", failed=True, error=text)]),
    "result": lambda bad, text: Flush(completions=[Completion(bad, f'"{text}"')]),
    "error type": lambda bad, text: Flush(failures=[Failure(bad, "error", text, "message")]),
    "message": lambda bad, text: Flush(failures=[Failure(bad, "error", "Error", text)]),
    "traceback": lambda bad, text: Flush(failures=[Failure(bad, "error", "Error", "message", text)]),
}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["NUL", "lone surrogate"])
@pytest.mark.parametrize("door", DOORS)
def test_no_text_keeps_what_comes_with_it_from_being_written(
    finisher: Finisher,
    answers: queue.SimpleQueue[Any],
    database: Database,
    leases: list[Lease],
    door: str,
    text: str,
) -> None:
    good, bad = leases
    flush = DOORS[door](bad, text)
    flush.completions.append(Completion(good, '"good"'))
    flush.notes.append(ResourceNote("crm:2", closed_for=60))
    flush.lines.append(LogLine(good, 1, "info", "good"))
    flush.progress.append(ProgressReport(good, '{"current": 1}'))

    finisher.ask(flush)

    answer: Flushed = answers.get(timeout=30)
    assert (answer.lost, answer.repeated) == (set(), False)
    assert [job.result for job in database.rows("select * from jobplatform.jobs where status = 'completed'")]
    assert database.rows("select message from jobplatform.job_logs where line = 1 and message = 'good'")
    closed = "select key from jobplatform.buckets where kind = 'resource' and closed_until > now()"
    assert database.rows(closed) == [("crm:2",)]


WAITING_TO_NOTE = """
select from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and query like '%with said as%'
"""
BUCKET = "select 1 from jobplatform.buckets where key = :key for update"


def test_a_deadlock_costs_no_note_and_no_ending(
    finisher: Finisher,
    answers: queue.SimpleQueue[Any],
    database: Database,
    leases: list[Lease],
    others: Engine,
    elsewhere: Elsewhere,
) -> None:
    notes = [ResourceNote(f"crm:{number}", failed=True) for number in range(3)]
    with database.sessions.begin() as session:
        note_resources(session, notes)
    elsewhere.session.execute(text("set local deadlock_timeout = '1h'"))  # the finisher is to be the victim
    elsewhere.session.execute(text(BUCKET), {"key": "crm:2"})
    with Session(others) as holder:
        holder.execute(text(BUCKET), {"key": "crm:1"})
        finisher.ask(Flush(notes=notes, completions=[Completion(lease, '"done"') for lease in leases]))
        wait_until(lambda: database.rows(WAITING_TO_NOTE), what="the finisher to wait for the second")
        other = elsewhere.start_and_wait_for_lock(lambda other: other.execute(text(BUCKET), {"key": "crm:0"}).all())

    other.result()
    answer: Flushed = answers.get(timeout=30)
    assert (answer.lost, answer.repeated) == (set(), True)
    assert database.rows("select failures from jobplatform.buckets") == [(2,)] * 3
    assert database.statuses() == {"completed": 2}


@pytest.fixture
def impatient(engine: Engine, answers: queue.SimpleQueue[Any]) -> Iterator[Finisher]:
    """As a worker has it."""
    finisher = Finisher(engine, answers.put, crash_limit=3)
    finisher.start()
    yield finisher
    finisher.stop(10)


JOB = "select from jobplatform.job_queue where id = any(cast(:ids as uuid[])) for key share"


@pytest.mark.direct("a setting of the session: through a pooler it is for whoever runs the database to set")
def test_what_somebody_has_locked_waits_and_the_others_are_written(
    impatient: Finisher, answers: queue.SimpleQueue[Any], database: Database, others: Engine
) -> None:
    database.enqueue_many("noop", [{}] * 8)
    with database.sessions.begin() as session:
        leases = [job.lease for job in Worker(session, tasks=["noop"]).claim(8)]
    locked = leases[:1]
    with Session(others) as holder:
        holder.execute(text(JOB), {"ids": [lease.job_id for lease in locked]})
        impatient.ask(
            Flush(
                progress=[ProgressReport(lease, '{"current": 1}') for lease in leases],
                completions=[Completion(lease, '"done"') for lease in leases],
            )
        )
        answer: Flushed = answers.get(timeout=30)

    assert answer.held_up == [Completion(lease, '"done"') for lease in locked]
    assert (answer.flush.endings(), answer.lost, answer.not_held) == (leases[1:], set(), set())
    assert database.statuses() == {"completed": 7, "running": 1}

    impatient.ask(Flush(held_up=answer.held_up))

    again: Flushed = answers.get(timeout=30)
    assert (again.flush.endings(), again.lost, again.held_up) == (locked, set(), [])
    assert database.statuses() == {"completed": 8}


@pytest.mark.direct("a setting of the session: through a pooler it is for whoever runs the database to set")
def test_where_all_is_locked_no_flush_waits_for_each_of_it(
    impatient: Finisher, answers: queue.SimpleQueue[Any], database: Database, others: Engine
) -> None:
    database.enqueue_many("noop", [{}] * 200)
    with database.sessions.begin() as session:
        leases = [job.lease for job in Worker(session, tasks=["noop"]).claim(200)]
    with Session(others) as holder:
        holder.execute(text("lock table jobplatform.job_queue in access exclusive mode"))
        impatient.ask(Flush(releases=[Release(lease) for lease in leases]))
        # Its patience 200 times would be longer than this.
        answer: Flushed = answers.get(timeout=15)

    assert {release.lease for release in answer.held_up} == set(leases)
    assert answer.lost == set()


@pytest.mark.direct("a setting of the session: through a pooler it is for whoever runs the database to set")
def test_lines_keep_their_turn_where_the_table_is_locked(
    impatient: Finisher,
    answers: queue.SimpleQueue[Any],
    database: Database,
    others: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out_of_patience = threading.Event()
    monkeypatch.setattr(impatient, "pause", out_of_patience.set)
    database.enqueue("noop", {})
    with database.sessions.begin() as session:
        lease = Worker(session, tasks=["noop"]).lease()
    with Session(others) as holder:
        holder.execute(text("lock table jobplatform.job_queue in access exclusive mode"))
        impatient.ask(Flush(lines=[LogLine(lease, number, "info", "said") for number in range(1, 7)]))
        assert out_of_patience.wait(30)

    answer: Flushed = answers.get(timeout=30)
    assert answer.held_up == []
    assert database.rows("select line from jobplatform.job_logs order by line") == [(n,) for n in range(1, 7)]


WAITING_TO_GIVE_BACK = """
select pid from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


def test_units_of_what_was_never_started_are_given_back_once_though_the_connection_is_lost_on_the_way(
    finisher: Finisher, answers: queue.SimpleQueue[Any], database: Database, others: Engine
) -> None:
    with database.sessions.begin() as session:
        set_rate_limit(session, "crm:1", {"units": 10, "period_ms": 86_400_000})
    database.enqueue("noop", {}, resource="crm:1", units=3)
    with database.sessions.begin() as session:
        lease = Worker(session, tasks=["noop"]).lease()
    with Session(others) as holder:
        holder.execute(text(BUCKET), {"key": "crm:1"})
        finisher.ask(Flush(releases=[Release(lease, unstarted=True)]))
        wait_until(lambda: database.rows(WAITING_TO_GIVE_BACK), what="the finisher to wait for the bucket")
        ((pid,),) = database.rows(WAITING_TO_GIVE_BACK)
        database.rows(f"select pg_terminate_backend({pid})")
        wait_until(lambda: database.rows(WAITING_TO_GIVE_BACK) != [(pid,)], what="its connection to be gone")

    answer: Flushed = answers.get(timeout=30)
    assert (answer.lost, answer.repeated) == (set(), True)
    assert database.rows("select attempts from jobplatform.job_queue where state = 1") == [(0,)]
    assert database.rows("select tokens from jobplatform.buckets") == [(pytest.approx(10, abs=0.01),)]


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_whom_others_were_in_the_way_of_does_it_again(session: Session, sqlstate: str) -> None:
    with pytest.raises(exc.DBAPIError) as caught:
        session.execute(text(f"do $$ begin raise sqlstate '{sqlstate}'; end $$"))

    assert is_infrastructure(caught.value)


@pytest.mark.parametrize("value", ["a\0b", object()], ids=["a text with NUL", "what has no type"])
def test_what_the_driver_refuses_is_not_blamed_on_the_connection(session: Session, value: object) -> None:
    with pytest.raises(exc.DBAPIError) as caught:
        session.connection().exec_driver_sql("select %(value)s", {"value": value})

    assert isinstance(caught.value.orig, psycopg.Error)
    assert caught.value.orig.sqlstate is None
    assert not is_infrastructure(caught.value)


def test_a_connection_that_is_closed_is_blamed(session: Session) -> None:
    connection = session.connection()
    driver: Any = connection.connection.driver_connection
    driver.close()

    with pytest.raises(exc.DBAPIError) as caught:
        connection.exec_driver_sql("select 1")

    assert is_infrastructure(caught.value)
