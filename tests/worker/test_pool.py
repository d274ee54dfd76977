"""What the pool knows of its children's jobs while they run."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import NoReturn

import pytest

from jobplatform.queue import Release
from jobplatform.worker import nursery_link
from jobplatform.worker.frames import Reason
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.output import OutputReader
from jobplatform.worker.pool import TAKING_UP_A_SLOT, Pool
from jobplatform.worker.slot import Slot, State
from tests.worker.test_slot import attempts, child_reads_token

NOW = 1_000.0


@contextmanager
def pool_of(*running_for: float, threads: int = 1) -> Iterator[Pool]:
    """Its children have been at their first job for so many seconds, by the ends of the jobs before."""
    options = WorkerOptions(
        database_url="postgresql://", tasks="tasks:tasks", slots=len(running_for) or 1, threads=threads
    )
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
        assert pool.typical_seconds(NOW) == pytest.approx(typical)


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
        assert pool.tied_up(NOW) == part


def test_who_has_its_hands_full_has_no_part_in_what_there_is_for_the_others() -> None:
    """It would leave a third of it here, for nobody."""
    with pool_of(9.0, 9.0, 0.0) as pool:
        idle = pool.slots[2]
        idle.run.clear()
        idle.settle()
        pool.ledger.pace.took("task", 0.002)
        pool.ledger.ready.extend(attempts(3))

        pool.dispatch(NOW)

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

        pool.hand_back_users({"crm:1"})

        released = pool.ledger.outbox.take(NOW).releases
        assert {(release.lease, release.unstarted) for release in released} == {
            (given.lease, True),
            (waiting.lease, True),
        }
        assert [*slot.run, *pool.ledger.ready][1:] == [other, elsewhere]


def struck(pool: Pool) -> Slot:
    """A child that ended by SIGTERM while it ran its job."""
    (slot,) = pool.slots.values()
    child_reads_token(slot)
    pool._output[slot.number] = OutputReader(slot.output)
    pool._exited(slot, -signal.SIGTERM)
    return slot


def test_a_child_that_is_told_to_end_a_moment_before_its_worker_hands_its_job_back() -> None:
    with pool_of(1.0) as pool:
        slot = struck(pool)
        (attempt,) = slot.run
        look_at = pool.watch(slot.escalate_at - 0.001)
        before = pool.ledger.outbox.empty

        pool.retire_all()
        pool.watch(slot.escalate_at - 0.001)

        assert (before, look_at) == (True, slot.escalate_at)
        assert pool.ledger.outbox.take(NOW).releases == [Release(attempt.lease)]
        assert pool.slots == {}


def test_a_child_that_is_told_to_end_while_its_worker_goes_on_has_crashed() -> None:
    with pool_of(1.0) as pool:
        slot = struck(pool)

        pool.watch(slot.escalate_at)

        (failure,) = pool.ledger.outbox.take(NOW).failures
        assert (failure.crash, failure.message) == (True, "signal SIGTERM")
        assert pool.slots == {}


def test_the_place_of_a_child_whose_job_nobody_is_blamed_for_yet_is_free() -> None:
    with pool_of(1.0) as pool:
        slot = struck(pool)

        assert not pool.ready
        assert slot.state not in TAKING_UP_A_SLOT


def test_who_has_cancelled_the_job_of_a_child_that_was_told_to_end_has_cancelled_it() -> None:
    with pool_of(1.0) as pool:
        slot = struck(pool)
        (attempt,) = slot.run

        pool.ladder.stop(slot, attempt, Reason.CANCELLED, NOW)
        pool.watch(slot.escalate_at)

        assert [failure.outcome for failure in pool.ledger.outbox.take(NOW).failures] == ["cancelled"]


def test_a_nursery_that_cannot_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its parent does not end for it: it may be saving what was done."""

    def start_nursery(_control: socket.socket) -> NoReturn:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with pool_of() as pool:
        monkeypatch.setattr(nursery_link, "start_nursery", start_nursery)
        now = monotonic()
        again_at = pool.keep_full(now)
        pool.keep_full(again_at)

    assert now < again_at < now + 60
    assert [record.message for record in caplog.records] == ["no process can be started"]


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
