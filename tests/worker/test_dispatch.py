"""Which job goes to which child, and what is known of children's jobs while they run."""

from __future__ import annotations

import pytest

from tests.worker.test_pool import NOW, pool_of
from tests.worker.test_slot import attempts, child_reads_token


@pytest.mark.parametrize(
    ("running_for", "typical"),
    [
        ([3.0], 3.0),
        ([5.0, 0.5, 0.1], 0.5),
        ([9.0, 9.0, 2.0, 1.0], 2.0),
        ([9.0, 9.0, 9.0, 0.04], 0.04),
        ([9.0, 0.03, 0.02, 0.01], 0.02),
    ],
)
def test_it_knows_for_how_long_more_than_half_of_its_children_have_been_at_it(
    running_for: list[float], typical: float
) -> None:
    with pool_of(*running_for) as pool:
        assert pool.dispatch.typical_seconds(NOW) == pytest.approx(typical)


@pytest.mark.parametrize(
    ("running_for", "threads", "part"),
    [
        ([0.04, 0.01], 1, 0.0),
        ([9.0, 0.06, 0.04, 0.01], 1, 0.5),
        ([9.0, 9.0], 1, 0.0),
        ([9.0, 0.01], 2, 0.0),
    ],
    ids=["none", "half of them", "all: it is jobs that are long", "with threads there are others"],
)
def test_children_that_are_long_at_a_job_are_tied_up_beside_others(
    running_for: list[float], threads: int, part: float
) -> None:
    with pool_of(*running_for, threads=threads) as pool:
        assert pool.dispatch.tied_up(NOW) == part


def test_who_has_its_hands_full_has_no_part_in_what_there_is_for_the_others() -> None:
    """It would leave a third of it here, for nobody."""
    with pool_of(9.0, 9.0, 0.0) as pool:
        idle = pool.slots[2]
        idle.run.clear()
        idle.settle()
        pool.ledger.pace.took("task", 0.002)
        pool.ledger.ready.extend(attempts(3))

        pool.dispatch.give_out(NOW)

        assert len(idle.run) == 3


def test_nothing_more_starts_on_a_resource_that_was_closed() -> None:
    """What a child has begun goes on; what it has not, and what waits here, goes back."""
    with pool_of(0.0) as pool:
        (slot,) = pool.slots.values()
        child_reads_token(slot)
        slot.run[0].job = slot.run[0].job._replace(resource="crm:1")
        given, other, waiting, elsewhere = attempts(5)[1:]
        for attempt, resource in ((given, "crm:1"), (waiting, "crm:1"), (elsewhere, "crm:2")):
            attempt.job = attempt.job._replace(resource=resource)
        slot.give([given, other])
        pool.ledger.ready.extend([waiting, elsewhere])

        pool.dispatch.hand_back_users({"crm:1"})

        released = pool.ledger.outbox.take(NOW).releases
        assert {(release.lease, release.unstarted) for release in released} == {
            (given.lease, True),
            (waiting.lease, True),
        }
        assert [*slot.run, *pool.ledger.ready][1:] == [other, elsewhere]


def test_children_with_threads_say_themselves_when_they_begin() -> None:
    with pool_of(9.0, 9.0, threads=2) as pool:
        before = pool.dispatch.typical_seconds(NOW)
        for slot in pool.slots.values():
            slot.run[0].started = NOW - 4

        assert (before, pool.dispatch.typical_seconds(NOW)) == (0.0, 4.0)
