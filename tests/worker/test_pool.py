"""What the pool knows of its children's jobs while they run."""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobplatform.worker.frames import Reason
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.pool import Pool
from jobplatform.worker.slot import Slot, State
from tests.worker.test_slot import attempts

NOW = 1_000.0


@contextmanager
def pool_of(*running_for: float, threads: int = 1) -> Iterator[Pool]:
    """Its children have been at their first job for so many seconds, by the ends of the jobs before."""
    options = WorkerOptions(database_url="postgresql://", tasks="tasks:tasks", slots=len(running_for), threads=threads)
    pool = Pool(options, Ledger(), selectors.DefaultSelector())
    try:
        for number, seconds in enumerate(running_for):
            slot = pool.slots[number] = Slot(number)
            slot.state = State.IDLE
            slot.give(attempts(1))
            slot.since = NOW - seconds
        yield pool
    finally:
        for slot in pool.slots.values():
            slot.close()


@pytest.mark.parametrize(
    ("running_for", "typical"), [([3.0], 3.0), ([5.0, 0.5, 0.1], 0.5), ([9.0, 9.0, 2.0, 1.0], 2.0)]
)
def test_it_knows_for_how_long_more_than_half_of_its_children_have_been_at_it(
    running_for: list[float], typical: float
) -> None:
    with pool_of(*running_for) as pool:
        assert pool.typical_seconds(NOW) == pytest.approx(typical)


def test_children_with_threads_say_themselves_when_they_begin() -> None:
    with pool_of(9.0, 9.0, threads=2) as pool:
        before = pool.typical_seconds(NOW)
        for slot in pool.slots.values():
            slot.run[0].started = NOW - 4

        assert (before, pool.typical_seconds(NOW)) == (0.0, 4.0)


def test_the_time_that_a_killed_attempt_has_taken_is_known() -> None:
    with pool_of(7.0) as pool:
        (slot,) = pool.slots.values()
        (attempt,) = slot.run
        attempt.reason = Reason.TIMEOUT

        pool._abandon(slot)

        assert attempt.started == NOW - 7
