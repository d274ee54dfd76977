"""Fair shares of slot time, on a simulated worker: slots, a ring of workspaces, and time that is only a number."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobplatform.queue import NOBODY, Ahead, ClaimedJob
from jobplatform.queue.claim import shares as shares_module
from jobplatform.queue.claim.shares import MOST_AHEAD, MOST_LATE, Shares
from tests.unit.simulated_worker import Crowd, SimulatedWorker, Tenant, a_job, around, every

SHORT, LONG = 0.01, 1.0


def test_a_workspace_with_jobs_a_hundred_times_longer_gets_no_more_slot_time() -> None:
    tenants = {f"t{n:02}": Tenant(every(SHORT)) for n in range(20)} | {"x": Tenant(every(LONG))}
    simulation = SimulatedWorker(tenants)

    simulation.run(until=20)

    assert simulation.share("x") == pytest.approx(1 / 21, rel=0.15)


def test_without_the_accounts_it_takes_most_of_it() -> None:
    """The measure itself: turns alone are fair by number of jobs, which is what this is about."""
    tenants = {f"t{n:02}": Tenant(every(SHORT)) for n in range(20)} | {"x": Tenant(every(LONG))}
    simulation = SimulatedWorker(tenants, fair=False)

    simulation.run(until=20)

    assert simulation.share("x") > 0.7


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("length", [every(SHORT), around(SHORT)], ids=["even", "varied"])
@pytest.mark.parametrize("weight", [1, 4, 10])
def test_slot_time_is_shared_by_weight(slots: int, length: Callable[[random.Random], float], weight: int) -> None:
    simulation = SimulatedWorker({"a": Tenant(length, weight), "b": Tenant(length)}, slots=slots)

    simulation.run(until=10 * weight / slots)

    assert simulation.share("a") / weight == pytest.approx(simulation.share("b"), rel=0.05)


def test_three_noisy_ones_share_with_twenty_quiet_ones_by_weight() -> None:
    tenants = {f"t{n:02}": Tenant(around(SHORT)) for n in range(20)}
    tenants |= {f"n{n}": Tenant(around(SHORT * (n + 1)), weight=2) for n in range(3)}
    simulation = SimulatedWorker(tenants)

    simulation.run(until=40)

    for name, tenant in tenants.items():
        assert simulation.share(name) == pytest.approx(tenant.weight / 26, rel=0.1), name


def test_whoever_is_alone_gets_every_slot_and_pays_nothing_for_it_later() -> None:
    tenants = {"a": Tenant(every(SHORT)), "b": Tenant(every(SHORT), jobs=0)}
    simulation = SimulatedWorker(tenants)
    simulation.run(until=20)
    alone = sum(simulation.used.values())
    tenants["b"].jobs = float("inf")
    simulation.used.clear()

    simulation.run(until=21)

    assert alone == pytest.approx(80, rel=0.01)
    assert simulation.share("a") == pytest.approx(0.5, rel=0.1)


def test_having_asked_for_nothing_earns_no_credit() -> None:
    tenants = {"a": Tenant(every(SHORT)), "b": Tenant(every(SHORT)), "c": Tenant(every(SHORT), jobs=0)}
    simulation = SimulatedWorker(tenants)
    simulation.run(until=20)
    tenants["c"].jobs = float("inf")
    simulation.used.clear()

    simulation.run(until=23)

    assert simulation.share("c") == pytest.approx(1 / 3, rel=0.1)


def test_who_leaves_after_each_long_job_and_comes_back_at_once_gets_no_more_for_it() -> None:
    tenants = {f"t{n}": Tenant(every(SHORT)) for n in range(4)} | {"x": Tenant(every(LONG), jobs=1, comes_back=True)}
    worker = SimulatedWorker(tenants)

    worker.run(until=30)

    assert worker.share("x") <= 1.15 / 5


class WhatIsHeldIsHad(Shares):
    """Broken, as it once was: what has been claimed counts as had, and who comes starts beyond it."""

    def _hold(self, workspace_id: str, seconds: float) -> None:
        """Nobody holds anything."""


def noisy_starts_before_the_last_quiet_one(shares: Shares, seed: int) -> int:
    """Three have a backlog and four slots to themselves; then, one after the other, twenty come with a job each."""
    noisy = {f"{n * 0.37 % 1:.2f} noisy": Tenant(around(SHORT)) for n in range(3)}
    quiet = {f"{(n * 0.37 + 0.11) % 1:.2f} quiet": Tenant(every(SHORT), jobs=0) for n in range(20)}
    worker = SimulatedWorker(noisy | quiet, shares=shares, seed=seed)
    worker.run(until=1)
    before = len(worker.starts)
    for tenant in quiet.values():
        tenant.jobs = 1
        worker.run(until=worker.now + SHORT / 10)
    worker.run(until=worker.now + 1)
    starts = ["quiet" in name for name in worker.starts[before:]]
    assert starts.count(True) == len(quiet)
    return starts[: len(starts) - starts[::-1].index(True)].count(False)


def test_fewer_go_before_who_comes_where_what_is_held_has_not_been_had() -> None:
    seeds = range(40)

    fair = sum(noisy_starts_before_the_last_quiet_one(Shares(), seed) for seed in seeds)
    broken = sum(noisy_starts_before_the_last_quiet_one(WhatIsHeldIsHad(), seed) for seed in seeds)

    assert fair < 0.9 * broken


# -- whatever comes and goes ---------------------------------------------------------------------------


#: Of the time in which it is looked at who had what. Before the first one it is found out how long jobs take.
STRETCHES = 3
#: How far off a stretch may be for what was under way at its beginning or end, in jobs of the longest kind.
LAG_JOBS = 5


@dataclass(frozen=True)
class Scenario:
    """Some who always want slots, by the length of their jobs and their weight, and perhaps a crowd beside them."""

    regulars: Sequence[tuple[float, int]]
    crowd: tuple[int, float, int] | None = None
    slots: int = 2
    seconds: float = 4.0

    def worker(self, shares: Shares) -> SimulatedWorker:
        tenants = {
            f"{(number * 0.37 + 0.1) % 1:.2f} regular": Tenant(around(seconds), weight)
            for number, (seconds, weight) in enumerate(self.regulars)
        }
        crowd = Crowd(self.crowd[0], around(self.crowd[1]), self.crowd[2]) if self.crowd else None
        return SimulatedWorker(tenants, slots=self.slots, crowd=crowd, shares=shares)

    @property
    def longest(self) -> float:
        return max(seconds for seconds, *_ in [*self.regulars, *([self.crowd[1:]] if self.crowd else [])])


def complaints(scenario: Scenario, shares: Shares) -> list[str]:
    """Who had less than half of a fair part of some stretch of time, or more than a fair part.

    Fair is, at each moment, all slots divided by weight among those that have something ready. One of a crowd is met
    once a round and gone when it has been served, so it is there for half a round only: hence the half.
    """
    worker = scenario.worker(shares)
    worker.run(until=scenario.seconds / 2)
    found: list[str] = []
    for stretch in range(STRETCHES):
        used, fair = worker.used.copy(), worker.fair_time.copy()
        worker.run(until=worker.now + scenario.seconds)
        lag = LAG_JOBS * scenario.longest
        for name in [name for name in worker.tenants if "regular" in name]:
            had, due = worker.used[name] - used[name], worker.fair_time[name] - fair[name]
            if not due / (2 if scenario.crowd else 1.1) - lag <= had <= 1.1 * due + lag:
                found.append(f"{name} had {had:.2f} s of {due:.2f} s in stretch {stretch}")
    return found


SCENARIOS = {
    "long jobs beside a crowd": Scenario([(0.2, 1)], crowd=(2, 0.01, 1)),
    "short jobs beside a crowd": Scenario([(0.01, 1), (0.02, 2)], crowd=(2, 0.1, 1)),
    "long jobs beside short ones": Scenario([(0.05, 1), (0.005, 1)]),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_nobody_is_starved_or_spoilt(scenario: Scenario) -> None:
    assert complaints(scenario, Shares()) == []


class TheDepartedCount(Shares):
    """Broken, as it once was: the level rises by what was given, over the weights of all who have an account."""

    def _end_round(self) -> None:
        self._met = sum(account.weight for account in self._accounts.values())
        super()._end_round()


class NobodyIsLate(Shares):
    """Broken: a turn is a turn, however short."""

    def late(self, most: int) -> list[str]:
        return []


class NobodyIsAhead(Shares):
    """Broken: whoever's turn it is on the ring has it, however much it has had."""

    def ahead(self) -> Ahead:
        return NOBODY


BROKEN = {
    TheDepartedCount: "long jobs beside a crowd",
    NobodyIsLate: "short jobs beside a crowd",
    NobodyIsAhead: "long jobs beside short ones",
}


@pytest.mark.parametrize(("broken", "scenario"), BROKEN.items(), ids=[broken.__name__ for broken in BROKEN])
def test_that_somebody_is_starved_or_spoilt_would_be_noticed(broken: type[Shares], scenario: str) -> None:
    assert complaints(SCENARIOS[scenario], broken()) != []


LENGTHS = st.sampled_from([0.005, 0.01, 0.05])


@settings(max_examples=6, derandomize=True)
@given(
    st.builds(
        Scenario,
        regulars=st.lists(st.tuples(LENGTHS, st.integers(1, 4)), min_size=1, max_size=5),
        crowd=st.none() | st.tuples(st.integers(1, 6), LENGTHS, st.integers(1, 3)),
        slots=st.integers(1, 4),
    )
)
def test_whoever_comes_and_goes_those_who_stay_have_their_shares(scenario: Scenario) -> None:
    assert complaints(scenario, Shares()) == []


# -- where claims take longer than jobs ------------------------------------------------------------------


def longest_absence(shares: Shares) -> float:
    """For how many rounds of starts somebody had none, on a worker whose claims take a tenth of a second; half of the
    workspaces have jobs of next to no time, the others such of two claims.
    """
    tenants = {f"{n * 0.37 % 1:.2f} {n}": Tenant(every(0.2 if n % 2 else 0.002)) for n in range(40)}
    worker = SimulatedWorker(tenants, slots=3, claim_seconds=0.1, shares=shares)
    worker.run(until=60)
    last = dict.fromkeys(tenants, 0)
    absences = []
    for number, name in enumerate(worker.starts):
        absences.append(number - last[name])
        last[name] = number
    absences += [len(worker.starts) - number for number in last.values()]
    return max(absences) / len(tenants)


class NobodyPaysForWaiting(Shares):
    """Broken, as it once was: a job costs what it runs, and that slots stood idle before costs nobody anything."""

    def claimed(self, jobs: Collection[ClaimedJob], *, stood_idle: float = 0.0, **others: Any) -> list[float]:
        return super().claimed(jobs, **others)


def test_where_claims_take_longer_than_jobs_everybody_has_a_turn_every_few_rounds() -> None:
    assert longest_absence(Shares()) < 5


def test_without_a_price_on_waiting_those_with_jobs_of_no_time_have_nearly_every_turn() -> None:
    assert longest_absence(NobodyPaysForWaiting()) > 20


# -- accounts --------------------------------------------------------------------------------------------


def serve(shares: Shares, *names: str, seconds: float | None = 1.0) -> None:
    """A round in which these are served a job each."""
    jobs = [a_job(name) for name in names]
    for job, charged in zip(jobs, shares.claimed(jobs, came_round=True), strict=True):
        shares.ended(job, charged, seconds)


def test_a_job_that_did_not_run_is_not_paid_for() -> None:
    shares = Shares()
    for _ in range(30):
        serve(shares, "a", "b")

    for _ in range(30):
        serve(shares, "a", seconds=None)

    ahead = shares.ahead()
    assert ahead.fair == len(ahead.workspaces)


def test_a_claim_of_many_that_are_handed_back_again_costs_nobody_a_turn() -> None:
    """As when jobs turn out long after a hundred were claimed ahead: nobody must have paid for what nobody got."""
    shares = Shares()
    heavy, light = a_job("heavy", weight=4), a_job("light")

    def serve(job: ClaimedJob) -> None:
        (charged,) = shares.claimed([job], waiting=shares.ahead().workspaces, came_round=True)
        shares.ended(job, charged, SHORT)

    for job in (heavy, light, heavy):
        serve(job)
    many = [heavy] * 160 + [light] * 40
    for job, charged in zip(many, shares.claimed(many, came_round=True), strict=True):
        shares.ended(job, charged, None)

    served = 0
    while not shares.is_behind("light"):
        serve(heavy)
        served += 1
    assert served <= 4


def test_what_those_who_were_here_have_claimed_and_not_had_is_not_in_the_level_of_who_comes() -> None:
    """The four jobs of one that was alone are still to come, and half of that puts it behind whoever comes."""
    shares = Shares()
    for _ in range(20):
        serve(shares, "alone", seconds=SHORT)
    had = shares._accounts["alone"].served

    held = shares.claimed([a_job("alone")] * 4)
    shares.claimed([], waiting=["alone"])
    level_while_held = shares._level
    for charged in held:
        shares.ended(a_job("alone"), charged, SHORT)
    shares.claimed([], waiting=["alone"])

    assert level_while_held == pytest.approx(had + 2 * SHORT, rel=0.01)
    assert shares._level == pytest.approx(had + 4 * SHORT, rel=0.01)


def test_those_ahead_are_named_with_the_furthest_last_and_never_too_many() -> None:
    shares = Shares()
    for n in range(6 * MOST_AHEAD):
        # What was charged too much or too little is corrected, and says nothing about how long jobs take.
        shares.ended(a_job(f"{n:04}"), -1.0 - n, None)

    named = shares.ahead().workspaces

    assert len(named) == MOST_AHEAD
    assert list(named) == sorted(named)
    assert named[-1] == f"{6 * MOST_AHEAD - 1:04}"


def test_a_workspace_that_was_never_served_is_behind_and_one_that_was_just_served_is_not() -> None:
    shares = Shares()
    serve(shares, "a", "b")
    shares.claimed([a_job("a")], waiting=["b"], came_round=True)

    assert shares.is_behind("new")
    assert not shares.is_behind("a")


def test_those_who_are_late_are_named_once_with_the_furthest_last_until_they_are_met_again() -> None:
    shares = Shares()
    everybody = [f"{n}" for n in range(2 * MOST_LATE)]
    serve(shares, *everybody, "slow", seconds=0.0)
    for n, name in enumerate(everybody):
        shares.ended(a_job(name), 0.0, 0.01 * n)
    shares.ended(a_job("slow"), 0.0, 20.0)
    shares.claimed([], came_round=True)

    named = [shares.late(MOST_LATE) for _ in range(3)]
    serve(shares, "1", seconds=0.0)

    assert named == [["3", "2", "1", "0"], ["7", "6", "5", "4"], []]
    assert shares.late(MOST_LATE) == ["1"]


def test_a_round_in_which_many_were_met_raises_the_level_by_what_one_of_them_had() -> None:
    """However many come once, and however few of those before are still here."""
    shares = Shares()
    serve(shares, "x", seconds=1.0)
    for n in range(50):
        jobs = [a_job(f"{n} {number}") for number in range(3)]
        for job, charged in zip(jobs, shares.claimed(jobs, waiting=["x"], came_round=True), strict=True):
            shares.ended(job, charged, 0.1)

    # Four were met in each round, and three of them were given a tenth of a second; a second was x's own.
    assert shares._level == pytest.approx((1.0 + 49 * 0.3) / 4, rel=0.1)


def test_the_accounts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "MOST_ACCOUNTS", 500)
    shares = Shares()
    for n in range(3 * 500):
        (charged,) = shares.claimed([a_job(f"w{n}")])
        shares.ended(a_job(f"w{n}"), charged, SHORT * n)

    assert len(shares._accounts) <= 2 * 500
