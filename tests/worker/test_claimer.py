"""The claimer of a worker that has nothing to do: it is ready for the first job."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from jobplatform.models import make_engine
from jobplatform.queue.claim.rung import CLAIM_RUNG
from jobplatform.testing import wait_until
from jobplatform.worker.claimer import Claimed, Claimer, ClaimWanted
from tests.worker.conftest import Database

WAITING = "select 1 from pg_locks where relation = 'jobplatform.job_queue'::regclass and not granted"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=1, autocommit=True)
    yield engine
    engine.dispose()


@pytest.fixture
def onlooker(database_url: str) -> Iterator[Engine]:
    """The claimer has the other one's only connection."""
    engine = make_engine(database_url, pool_size=1, autocommit=False)
    yield engine
    engine.dispose()


@pytest.fixture
def asked(engine: Engine) -> list[bool]:
    """For each statement, whether it is the claim of a worker that is woken for a job."""
    asked: list[bool] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        asked.append(sql == CLAIM_RUNG)

    return asked


@pytest.fixture
def answers() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


@pytest.fixture
def claimer(engine: Engine, answers: queue.SimpleQueue[Any]) -> Iterator[Claimer]:
    claimer = Claimer(engine, answers.put)
    claimer.know(["default"], ["noop"], {"noop": 1})
    claimer.start()
    yield claimer
    claimer.stop(10)


def claim(claimer: Claimer, answers: queue.SimpleQueue[Any]) -> Claimed:
    claimer.ask(ClaimWanted(worker_id=1, limit=8))
    claimed = answers.get(timeout=30)
    assert isinstance(claimed, Claimed)
    return claimed


def test_a_claim_that_finds_nothing_is_followed_once_by_what_makes_ready_for_the_bell(
    claimer: Claimer, answers: queue.SimpleQueue[Any], asked: list[bool]
) -> None:
    for _ in range(2):
        assert claim(claimer, answers).jobs == []
    claimer.stop(10)

    assert asked.count(True) == 2, "the driver prepares what it sees for the second time"
    assert not asked[-1]


def test_who_has_something_to_do_is_not_kept_from_it(
    claimer: Claimer, answers: queue.SimpleQueue[Any], asked: list[bool], database: Database
) -> None:
    database.enqueue("noop")
    assert len(claim(claimer, answers).jobs) == 1
    claimer.stop(10)

    assert not any(asked)


def test_a_claim_that_has_not_begun_when_the_worker_leaves_is_not_made(
    claimer: Claimer, answers: queue.SimpleQueue[Any], database: Database, onlooker: Engine
) -> None:
    database.enqueue_many("noop", [{}, {}])
    with onlooker.begin() as holder:
        holder.execute(text("lock table jobplatform.job_queue in access exclusive mode"))
        claimer.ask(ClaimWanted(worker_id=1, limit=1))
        wait_until(lambda: holder.scalar(text(WAITING)), what="the first claim")
        claimer.ask(ClaimWanted(worker_id=1, limit=1))

        claimer.close()

    first, second = answers.get(timeout=30), answers.get(timeout=30)
    assert (len(first.jobs), len(second.jobs)) == (1, 0)
    with onlooker.connect() as connection:
        assert connection.scalar(text("select count(*) from jobplatform.job_queue where state = 1")) == 1
