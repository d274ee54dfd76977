"""What becomes of the pool's children, and of the jobs that they ran."""

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


def test_the_time_that_a_killed_attempt_has_taken_is_known() -> None:
    with pool_of(7.0) as pool:
        (slot,) = pool.slots.values()
        (attempt,) = slot.run
        attempt.reason = Reason.TIMEOUT

        pool._abandon(slot)

        assert attempt.started == NOW - 7
