"""A transaction that begins with an enqueue is told so in one round trip, and nobody can tell it from any other."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import NewJob, enqueue_job
from jobplatform.queue.opening import open_with
from tests.queue.conftest import Fact

JOBS = "select count(*) from jobplatform.jobs"
NOTHING_WRITTEN = "update jobplatform.job_records set task = task where false"


@pytest.fixture
def warm(engine: Engine, sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> sessionmaker[Session]:
    """Their engine has been asked once whether it has to name its workspaces. Its connections are new: one that once
    had an isolation level of its own says the usual one with each BEGIN from then on."""
    engine.dispose()
    with sessions.begin() as session:
        enqueue_job(session, new_job(workspace_id))
    return sessions


def new_job(workspace_id: uuid.UUID, **options: Any) -> NewJob:
    return NewJob(workspace_id=workspace_id, task="work", **options)


def driver_of(session: Session) -> psycopg.Connection[Any]:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def test_a_transaction_with_an_isolation_level_of_its_own_is_begun_the_ordinary_way(
    warm: sessionmaker[Session],
) -> None:
    with warm() as session:
        session.connection(execution_options={"isolation_level": "SERIALIZABLE"})

        assert open_with(session, NOTHING_WRITTEN, {}) is None
        assert session.execute(text("show transaction_isolation")).scalar_one() == "serializable"


def test_an_enqueue_and_its_commit_are_two_round_trips(
    warm: sessionmaker[Session], workspace_id: uuid.UUID, tmp_path: Path
) -> None:
    with warm() as session, (tmp_path / "trace").open("wb+") as trace:
        driver = driver_of(session)
        driver.pgconn.trace(trace.fileno())

        answer = enqueue_job(session, new_job(workspace_id))
        session.commit()

        driver.pgconn.untrace()
        assert answer.created
        assert (tmp_path / "trace").read_text().count("ReadyForQuery") == 2


def test_the_job_belongs_to_the_transaction_that_it_began(
    warm: sessionmaker[Session], workspace_id: uuid.UUID, fact: Fact
) -> None:
    before = fact(JOBS)
    with warm() as session:
        enqueue_job(session, new_job(workspace_id))
        seen_inside = session.execute(text(JOBS)).scalar_one()
        seen_outside = fact(JOBS)
        session.rollback()

    assert (seen_inside, seen_outside, fact(JOBS)) == (before + 1, before, before)


def test_a_transaction_under_way_is_not_opened_again(warm: sessionmaker[Session]) -> None:
    with warm() as session:
        session.execute(text("select 1"))

        assert open_with(session, NOTHING_WRITTEN, {}) is None


def test_who_listens_to_statements_hears_of_the_enqueue(
    engine: Engine, warm: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    heard: list[str] = []

    def listen(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        heard.append(statement)

    event.listen(engine, "before_cursor_execute", listen)
    try:
        with warm.begin() as session:
            enqueue_job(session, new_job(workspace_id))
    finally:
        event.remove(engine, "before_cursor_execute", listen)

    assert [statement for statement in heard if "insert into jobplatform.job_queue" in statement]


def test_a_statement_that_the_server_refuses_leaves_a_session_that_can_go_on(warm: sessionmaker[Session]) -> None:
    with warm() as session:
        refused = open_with(session, "insert into jobplatform.no_such_table values (%(a)s)", {"a": "1"})

        assert refused is None
        assert session.execute(text("select 1")).scalar_one() == 1


def test_an_error_is_that_of_any_other_statement(warm: sessionmaker[Session], workspace_id: uuid.UUID) -> None:
    job = new_job(workspace_id)
    object.__setattr__(job, "units", 0)

    with warm() as session, pytest.raises(DBAPIError, match="units_in_range"):
        enqueue_job(session, job)


def test_a_statement_that_is_prepared_no_more_is_prepared_again(
    warm: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with warm() as session:
        for _ in range(2):
            session.connection().exec_driver_sql("deallocate all")
            session.commit()
            assert enqueue_job(session, new_job(workspace_id)).created
            session.commit()
        assert open_with(session, NOTHING_WRITTEN, {}) == 0


@pytest.mark.direct  # through a pooler it is anybody's backend, the terminator's own too
def test_a_connection_that_was_lost_says_so_once(
    warm: sessionmaker[Session], workspace_id: uuid.UUID, fact: Fact
) -> None:
    with warm() as session:
        backend = session.connection().exec_driver_sql("select pg_backend_pid()").scalar_one()
        session.commit()
        driver = driver_of(session)
        fact(f"select pg_terminate_backend({backend}, 5000)")

        with pytest.raises(DBAPIError) as raised:
            enqueue_job(session, new_job(workspace_id))

        assert raised.value.connection_invalidated
        session.rollback()
        assert driver_of(session) is not driver
        assert enqueue_job(session, new_job(workspace_id)).created
