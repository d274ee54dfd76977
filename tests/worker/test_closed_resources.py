"""The hub: when an answer says that a resource is closed, what it holds for it does not begin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic

import pytest

from jobplatform.models import make_engine
from jobplatform.queue import Lease, Release
from jobplatform.worker.claimer import Claimed
from jobplatform.worker.finisher import Flushed
from jobplatform.worker.hub import Hub
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.outbox import Flush
from tests.worker.test_decisions import attempt, lease

WORKER = 7
PAUSED = Flushed(Flush(), paused={"crm:1"})


@pytest.fixture
def hub() -> Iterator[Hub]:
    """It has an id, and neither children nor a database."""
    options = WorkerOptions(database_url="postgresql://", tasks="tasks:tasks", slots=1)
    hub = Hub(options, make_engine("postgresql://"), "test")
    hub.membership.worker_id = WORKER
    yield hub
    hub.pool.close()
    hub.selector.close()
    os.close(hub.wake_read)
    os.close(hub.wake_write)


def ask(hub: Hub) -> None:
    """Nobody answers: the threads were not started."""
    hub.supply.wake()
    hub.ask(monotonic())
    assert hub.supply.in_flight


def asked(hub: Hub) -> int:
    """How much was asked of the claimer since this was asked last."""
    count = hub.claimer.requests.qsize()
    for _ in range(count):
        hub.claimer.requests.get()
    return count


def ask_for_two(hub: Hub) -> int:
    """Ask for a claim and for one to follow it, and answer with how many jobs one may bring."""
    hub.ledger.pace.took("task", 0.0)
    ask(hub)
    wanted: int = hub.claimer.requests.get().limit
    hub.supply.claimed(Claimed(WORKER, [attempt().job] * wanted, more=True))
    hub.ask(monotonic())
    hub.ask(monotonic())
    assert asked(hub) == 2
    return wanted


def brought(*numbers: int) -> Claimed:
    """The answer to a claim: jobs that use the resource of their number."""
    jobs = [attempt(lease=lease(number), attempt=1, crash_count=0, resource=f"crm:{number}").job for number in numbers]
    return Claimed(WORKER, jobs, more=False)


def handed_back(hub: Hub) -> list[Lease]:
    releases = hub.ledger.outbox.take(0.0).releases
    assert all(isinstance(release, Release) and release.unstarted for release in releases)
    return [release.lease for release in releases]


def waiting(hub: Hub) -> list[Lease]:
    return [held.lease for held in hub.ledger.ready]


def test_what_waits_here_goes_back_when_a_flush_has_paused_its_resource(hub: Hub) -> None:
    ask(hub)
    hub.claimed(brought(1, 2))

    hub.flushed(PAUSED)
    hub.hand_back_users()

    assert handed_back(hub) == [lease(1)]
    assert waiting(hub) == [lease(2)]


def test_what_a_claim_on_its_way_brings_goes_back_as_well(hub: Hub) -> None:
    """It may have been made before the pause."""
    ask(hub)
    hub.flushed(PAUSED)
    hub.hand_back_users()

    hub.claimed(brought(1, 2))

    assert handed_back(hub) == [lease(1)]
    assert waiting(hub) == [lease(2)]


def test_what_a_later_claim_brings_begins_because_the_claim_has_seen_the_pause(hub: Hub) -> None:
    ask(hub)
    hub.flushed(PAUSED)
    hub.hand_back_users()
    hub.claimed(brought(1))
    assert handed_back(hub) == [lease(1)]

    ask(hub)
    hub.claimed(brought(1))

    assert waiting(hub) == [lease(1)]


def test_of_two_claims_on_their_way_neither_may_have_seen_it(hub: Hub) -> None:
    ask_for_two(hub)
    hub.flushed(PAUSED)
    hub.hand_back_users()

    hub.claimed(brought(1))
    assert handed_back(hub) == [lease(1)]
    hub.claimed(brought(1))
    assert handed_back(hub) == [lease(1)]
    ask(hub)
    hub.claimed(brought(1))
    assert waiting(hub) == [lease(1)]


def test_no_claim_follows_those_that_may_not_have_seen_it_or_there_would_be_some_for_ever(hub: Hub) -> None:
    wanted = ask_for_two(hub)
    hub.flushed(PAUSED)
    hub.hand_back_users()
    hub.supply.claimed(Claimed(WORKER, [attempt().job] * wanted, more=True))

    hub.ask(monotonic())
    assert asked(hub) == 0

    hub.closed_meanwhile.clear()
    hub.ask(monotonic())
    assert asked(hub) == 1
