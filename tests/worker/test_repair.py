"""Claims that became slow have the queue table rewritten, if dead rows are why."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import make_engine
from jobplatform.testing import wait_until
from jobplatform.worker.repair import Repair, Slowness
from tests.queue.test_compact import dead_rows_are_counted, leave_dead_rows, queue_pages

FAST, SLOW = 0.004, 0.09


def slowed_down(slowness: Slowness) -> Slowness:
    for _ in range(50):
        slowness.took(FAST, 50)
    for _ in range(50):
        slowness.took(SLOW, 50)
    return slowness


def test_claims_far_above_their_best_are_slow() -> None:
    assert slowed_down(Slowness()).slow


def test_a_large_claim_after_small_ones_is_not_slow() -> None:
    slowness = Slowness()
    for _ in range(50):
        slowness.took(0.001, 1)

    for _ in range(50):
        slowness.took(0.014, 200)

    assert not slowness.slow


def test_claims_that_were_always_slow_are_this_servers_normal() -> None:
    slowness = Slowness()

    for _ in range(100):
        slowness.took(SLOW, 50)

    assert not slowness.slow


@pytest.fixture
def claiming(database_url: str) -> Iterator[Engine]:
    """An engine as the worker's threads have it."""
    engine = make_engine(database_url, autocommit=True)
    yield engine
    engine.dispose()


def test_slow_claims_have_a_bloated_table_rewritten(
    claiming: Engine, session: Session, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    repair = Repair(claiming)
    slowed_down(repair.slowness)
    with sessions() as elsewhere:
        elsewhere.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        elsewhere.execute(text("select 1 from pg_class limit 1"))
        leave_dead_rows(session, workspace_id)
        wait_until(lambda: dead_rows_are_counted(session), what="the server to count the dead rows")
        bloated = queue_pages(session)

        with Session(claiming) as claimer:
            repair.after_claim(claimer, SLOW, 50)

        assert queue_pages(session) < bloated / 50
