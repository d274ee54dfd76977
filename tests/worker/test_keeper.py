"""The keeper of a worker that has nothing to do: what it asks the database, and what it notices all the same."""

from __future__ import annotations

import datetime
import queue
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidPayloadError, Problem
from jobplatform.models import make_engine
from jobplatform.queue import Promoted, promote_jobs
from jobplatform.queue.chores.look_around import LOOK
from jobplatform.testing import wait_until
from jobplatform.worker.keeper import Keeper
from jobplatform.worker.keeper_messages import JobsReady, Know, Serve
from jobplatform.worker.options import WorkerOptions
from tests.worker.conftest import Database

#: So many looks one after the other, with nothing else in between.
LOOKS = 5


@pytest.fixture
def worker_engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=2, autocommit=True)
    yield engine
    engine.dispose()


@pytest.fixture
def statements(worker_engine: Engine) -> list[str]:
    """What is asked, in order."""
    asked: list[str] = []

    @event.listens_for(worker_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        asked.append(sql)

    return asked


@pytest.fixture
def answers() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


@pytest.fixture
def keeper(worker_engine: Engine, database_url: str, answers: queue.SimpleQueue[Any]) -> Iterator[Keeper]:
    """A keeper at work, of a worker that looks a hundred times a second and listens to no bell."""
    keeper = Keeper(worker_engine, answers.put, WorkerOptions(database_url=database_url, poll=0.01, doorbell=False))
    keeper.start()
    keeper.ask(Know([], []))
    keeper.ask(Serve(("default",)))
    yield keeper
    keeper.stop(10)


@pytest.mark.usefixtures("keeper")
def test_a_worker_that_has_nothing_to_do_asks_one_statement_at_each_poll(statements: list[str]) -> None:
    wait_until(lambda: statements[-LOOKS:] == [LOOK] * LOOKS, what="a few polls with nothing in between but a look")


def test_a_job_that_is_ready_is_told_once_and_nothing_is_calm_until_it_has_gone(
    keeper: Keeper, database: Database, answers: queue.SimpleQueue[Any], statements: list[str]
) -> None:
    """Nobody rings for a job that is written behind the doorbell's back."""
    wait_until(lambda: keeper.calm_at > 0, what="a look that sees nothing ready")

    job = database.enqueue("noop")
    assert isinstance(answers.get(timeout=30), JobsReady)
    calm_at, looks = keeper.calm_at, len(statements)
    wait_until(lambda: len(statements) > looks + LOOKS, what="further looks at the same job")
    assert keeper.calm_at == calm_at

    database.execute("delete from jobplatform.job_queue where id = :id", id=job)
    wait_until(lambda: keeper.calm_at > calm_at, what="a look that sees nothing ready any more")
    assert answers.empty()


@pytest.mark.usefixtures("keeper")
def test_whatever_becomes_due_meanwhile_is_done(
    database: Database, answers: queue.SimpleQueue[Any], statements: list[str]
) -> None:
    wait_until(lambda: statements[-LOOKS:] == [LOOK] * LOOKS, what="the first chores to be done")

    first = database.enqueue("noop", delay=datetime.timedelta(milliseconds=10))
    database.execute(
        "insert into jobplatform.workers (name, host, pid, version, queues, tasks, slots, heartbeat_at) "
        "values ('silent', 'h', 1, 'v', '{default}', '{work}', 1, now() - interval '1 hour')"
    )
    database.execute(
        "insert into jobplatform.notices (workspace_id, kind, job_id) values (:workspace_id, 'look', :job_id)",
        workspace_id=database.workspace_id,
        job_id=first,
    )
    database.execute(
        "insert into jobplatform.bulk_actions (id, deed, search, actor) "
        "values (:id, 'cancel', 'task:nothing status:pending', 'ada')",
        id=first,
    )
    database.execute("update jobplatform.chores set due_at = now()")

    assert isinstance(answers.get(timeout=30), JobsReady)
    for left in (
        "select from jobplatform.job_queue where state = 0",
        "select from jobplatform.workers where name = 'silent' and dead_at is null",
        "select from jobplatform.notices",
        "select from jobplatform.bulk_actions where ended_at is null",
    ):
        wait_until(lambda left=left: not database.rows(left), what=f"nothing of: {left}")


@pytest.mark.usefixtures("keeper")
@pytest.mark.parametrize("error", [RuntimeError("not the database's"), InvalidPayloadError([Problem("", "bad")])])
def test_a_chore_that_fails_is_told_tried_again_and_the_end_of_nothing_else(
    database: Database,
    statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """The next worker would meet the same."""
    tries: list[Session] = []

    def fails(session: Session) -> Promoted:
        tries.append(session)
        if len(tries) == 1:
            raise error
        return promote_jobs(session)

    monkeypatch.setattr("jobplatform.worker.keeper.promote_jobs", fails)
    monkeypatch.setattr("jobplatform.worker.chore.LONGEST_PAUSE", 0.1)
    database.enqueue("noop", delay=datetime.timedelta(milliseconds=10))

    wait_until(lambda: tries, what="the chore that fails")
    looks = len(statements)
    wait_until(lambda: len(statements) > looks + LOOKS, what="the others to go on")
    wait_until(lambda: database.rows("select from jobplatform.job_queue where state = 1"), what="another try")

    (told,) = [record for record in caplog.records if record.message == "chore failed"]
    assert (told.__dict__["chore"], told.__dict__["failures"]) == ("promote", 1)
    assert told.exc_info
