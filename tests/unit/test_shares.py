"""Fair shares of slot time, on a simulated worker: slots, a ring of workspaces, and time that is only a number."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from jobplatform.queue import ClaimedJob, Lease
from jobplatform.queue import shares as shares_module
from jobplatform.queue.shares import MOST_AHEAD, Shares

SHORT, LONG = 0.01, 1.0
AN_ID = str(uuid.UUID(int=1))


@dataclass
class Tenant:
    """How long its jobs take, how many it has at a moment (None: always more), and its weight."""

    seconds: Callable[[random.Random], float]
    weight: int = 1
    jobs: float = float("inf")


def every(seconds: float) -> Callable[[random.Random], float]:
    return lambda _draw: seconds


def around(seconds: float) -> Callable[[random.Random], float]:
    return lambda draw: draw.expovariate(1 / seconds)


def a_job(workspace: str, weight: int = 1, task: str = "work") -> ClaimedJob:
    return ClaimedJob(Lease(workspace, AN_ID, 1), "default", task, 1, 3, 0, 1000, "{}", 1, None, None, weight=weight)


class Simulation:
    """A worker of some slots that claims one job for each free slot, as the claim does."""

    def __init__(self, tenants: Mapping[str, Tenant], *, slots: int = 4, fair: bool = True, seed: int = 1) -> None:
        self.tenants = dict(tenants)
        self.shares = Shares()
        self.fair = fair
        self.draw = random.Random(seed)
        self.now = 0.0
        self.used: Counter[str] = Counter()
        self.first_start: dict[str, float] = {}
        self.free = slots
        self.ends: list[tuple[float, int, str, ClaimedJob, float, float]] = []
        self.cursor = ""
        self.number = itertools.count()
        self.ready: list[str] = []

    def run(self, until: float) -> None:
        # Sorted once: those that have nothing more to do leave it.
        self.ready = sorted(name for name, tenant in self.tenants.items() if tenant.jobs > 0)
        while self.now < until:
            while self.free and (name := self.next()):
                self.start(name)
            if not self.ends:
                return
            self.now, _, name, job, charged, seconds = heapq.heappop(self.ends)
            self.free += 1
            self.used[name] += seconds  # type: ignore[assignment]
            self.shares.ended(job, charged, seconds)

    def next(self) -> str | None:
        if not self.ready:
            return None
        if not self.fair:
            return next(self.turns())
        places = {name: place for place, name in enumerate(self.shares.ahead().workspaces, start=1)}
        first = self.choose(places)
        self.shares.only_these_want([first])
        return first

    def turns(self) -> Iterator[str]:
        """Who is ready, in the order of the ring."""
        begin = bisect.bisect_right(self.ready, self.cursor)
        for index in range(len(self.ready)):
            yield self.ready[(begin + index) % len(self.ready)]

    def choose(self, places: Mapping[str, int]) -> str:
        """Whoever is not ahead, and of those whose turn it is on the ring, unless a test is unkind."""
        behind = (name for name in self.turns() if name not in places)
        return next(behind, None) or min(self.turns(), key=places.__getitem__)

    def start(self, name: str) -> None:
        tenant = self.tenants[name]
        self.cursor = name
        self.free -= 1
        tenant.jobs -= 1
        if tenant.jobs <= 0:
            self.ready.remove(name)
        job = a_job(name, tenant.weight)
        charged = self.shares.claimed(job)
        seconds = tenant.seconds(self.draw)
        self.first_start.setdefault(name, self.now)
        heapq.heappush(self.ends, (self.now + seconds, next(self.number), name, job, charged, seconds))

    def share(self, name: str) -> float:
        return self.used[name] / sum(self.used.values())


def test_a_workspace_with_jobs_a_hundred_times_longer_gets_no_more_slot_time() -> None:
    tenants = {f"t{n:02}": Tenant(every(SHORT)) for n in range(20)} | {"x": Tenant(every(LONG))}
    simulation = Simulation(tenants)

    simulation.run(until=20)

    assert simulation.share("x") == pytest.approx(1 / 21, rel=0.15)


def test_without_the_accounts_it_takes_most_of_it() -> None:
    """The measure itself: turns alone are fair by number of jobs, which is what this is about."""
    tenants = {f"t{n:02}": Tenant(every(SHORT)) for n in range(20)} | {"x": Tenant(every(LONG))}
    simulation = Simulation(tenants, fair=False)

    simulation.run(until=20)

    assert simulation.share("x") > 0.7


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("length", [every(SHORT), around(SHORT)], ids=["even", "varied"])
@pytest.mark.parametrize("weight", [1, 4, 10])
def test_slot_time_is_shared_by_weight(slots: int, length: Callable[[random.Random], float], weight: int) -> None:
    simulation = Simulation({"a": Tenant(length, weight), "b": Tenant(length)}, slots=slots)

    simulation.run(until=10 * weight / slots)

    assert simulation.share("a") / weight == pytest.approx(simulation.share("b"), rel=0.05)


class Unkind(Simulation):
    """Of those that are equally far, the one with the larger weight comes first."""

    def choose(self, places: Mapping[str, int]) -> str:
        return min(self.turns(), key=lambda name: (places.get(name, 0), self.preference(name)))

    def preference(self, name: str) -> float:
        return -self.tenants[name].weight if name in self.first_start else -math.inf


@pytest.mark.parametrize("length", [every(SHORT), around(SHORT)], ids=["even", "varied"])
def test_who_comes_first_of_equals_changes_no_share(length: Callable[[random.Random], float]) -> None:
    simulation = Unkind({"a": Tenant(length, 4), "b": Tenant(length)})

    simulation.run(until=20)

    assert simulation.share("a") / 4 == pytest.approx(simulation.share("b"), rel=0.05)


def test_three_noisy_ones_share_with_twenty_quiet_ones_by_weight() -> None:
    tenants = {f"t{n:02}": Tenant(around(SHORT)) for n in range(20)}
    tenants |= {f"n{n}": Tenant(around(SHORT * (n + 1)), weight=2) for n in range(3)}
    simulation = Simulation(tenants)

    simulation.run(until=40)

    for name, tenant in tenants.items():
        assert simulation.share(name) == pytest.approx(tenant.weight / 26, rel=0.1), name


def test_whoever_is_alone_gets_every_slot_and_pays_nothing_for_it_later() -> None:
    tenants = {"a": Tenant(every(SHORT)), "b": Tenant(every(SHORT), jobs=0)}
    simulation = Simulation(tenants)
    simulation.run(until=20)
    alone = sum(simulation.used.values())
    tenants["b"].jobs = float("inf")
    simulation.used.clear()

    simulation.run(until=21)

    assert alone == pytest.approx(80, rel=0.01)
    assert simulation.share("a") == pytest.approx(0.5, rel=0.1)


def test_having_asked_for_nothing_earns_no_credit() -> None:
    tenants = {"a": Tenant(every(SHORT)), "b": Tenant(every(SHORT)), "c": Tenant(every(SHORT), jobs=0)}
    simulation = Simulation(tenants)
    simulation.run(until=20)
    tenants["c"].jobs = float("inf")
    simulation.used.clear()

    simulation.run(until=23)

    assert simulation.share("c") == pytest.approx(1 / 3, rel=0.1)


def test_an_old_workspace_has_slots_again_when_many_new_ones_have_been_served() -> None:
    """Each of them has one short job and is never heard of again; all of them together take a good second."""
    tenants = {f"t{n:05}": Tenant(every(SHORT), jobs=1) for n in range(500)} | {"x": Tenant(every(LONG))}
    simulation = Simulation(tenants)

    simulation.run(until=4)

    assert simulation.used["x"] >= 2


def test_a_job_that_did_not_run_is_not_paid_for() -> None:
    shares = Shares()
    for _ in range(30):
        shares.ended(a_job("a"), shares.claimed(a_job("a")), 1.0)
        shares.ended(a_job("b"), shares.claimed(a_job("b")), 1.0)

    for _ in range(30):
        shares.ended(a_job("a"), shares.claimed(a_job("a")), None)

    ahead = shares.ahead()
    assert ahead.fair == len(ahead.workspaces)


def test_a_claim_of_many_that_are_handed_back_again_costs_nobody_a_turn() -> None:
    """As when jobs turn out long after a hundred were claimed ahead: nobody must have paid for what nobody got."""
    shares = Shares()
    heavy, light = a_job("heavy", weight=4), a_job("light")

    def serve(job: ClaimedJob) -> None:
        (charged,) = shares.all_claimed([job])
        shares.ended(job, charged, SHORT)

    for job in (heavy, light, heavy):
        serve(job)
    many = [heavy] * 160 + [light] * 40
    for job, charged in zip(many, shares.all_claimed(many), strict=True):
        shares.ended(job, charged, None)

    served = 0
    while not shares.is_behind("light"):
        serve(heavy)
        served += 1
    assert served <= 4


def test_those_ahead_are_named_with_the_furthest_last_and_never_too_many() -> None:
    shares = Shares()
    for n in range(6 * MOST_AHEAD):
        shares.ended(a_job(f"{n:04}"), 0.0, 1.0 + n)

    named = shares.ahead().workspaces

    assert len(named) == MOST_AHEAD
    assert list(named) == sorted(named)
    assert named[-1] == f"{6 * MOST_AHEAD - 1:04}"


def test_a_workspace_that_was_never_served_is_behind_and_one_that_was_just_served_is_not() -> None:
    shares = Shares()
    for name in ("a", "b"):
        shares.ended(a_job(name), shares.claimed(a_job(name)), 1.0)
    shares.ended(a_job("a"), shares.claimed(a_job("a")), 1.0)

    assert shares.is_behind("new")
    assert not shares.is_behind("a")


def test_the_accounts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "MOST_ACCOUNTS", 500)
    shares = Shares()
    for n in range(3 * 500):
        name = f"w{n}"
        shares.ended(a_job(name), shares.claimed(a_job(name)), SHORT * n)

    assert len(shares._accounts) <= 2 * 500
