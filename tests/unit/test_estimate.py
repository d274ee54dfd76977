"""The estimate of when a job starts, against a small simulation of workers, and at its edges."""

from __future__ import annotations

import datetime
import heapq
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobplatform.queue.why.crowd_facts import (
    MOST_WORKSPACES,
    Ended,
    Lane,
    Other,
    Running,
)
from jobplatform.queue.why.estimate import (
    Contender,
    Crowd,
    RunTimes,
    Slots,
    estimate,
    in_turn,
    start_in,
    under_limit,
    under_rate,
)
from jobplatform.queue.why.hold_facts import Holds, RateFacts, WorkerFacts
from jobplatform.queue.why.job_facts import JobFacts

NOW = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)
seconds = st.floats(0.001, 1_000)
claims = itertools.count(1_000)


# -- one after the other on slots ----------------------------------------------------------------


@given(st.lists(seconds, min_size=1, max_size=8), st.integers(0, 200), seconds)
def test_a_job_starts_no_sooner_with_more_before_it_and_no_later_with_more_slots(
    free_in: list[float], before: int, usual: float
) -> None:
    wait = start_in(free_in, before, usual)

    assert min(free_in) <= wait
    assert wait <= start_in(free_in, before + 1, usual) + 1e-9
    assert start_in([*free_in, 0.0], before, usual) <= wait + 1e-9


@given(st.integers(1, 50), st.integers(0, 20), seconds, st.integers(1, 5), st.sampled_from([None, 1, 4]))
@example(40, 0, 1 / 3, 3, None)  # 67.5 jobs before it, or just less, as the sums are rounded
def test_workspaces_that_are_alike_take_their_turns_as_each_of_them_would(
    alike: int, before: int, usual: float, weight: int, most: int | None
) -> None:
    slots, one = Slots([0.0, 0.5, 1.0]), Contender(7, 0.3, weight, most)
    different = Contender(math.inf, 0.2)

    together = in_turn(slots, before, usual, others=[one._replace(workspaces=alike), different])
    each = in_turn(slots, before, usual, others=[one] * alike + [different])

    assert (together.wait, together.others) == pytest.approx((each.wait, each.others))


@given(st.integers(0, 10), st.integers(0, 100_000))
def test_on_free_slots_jobs_start_in_rows(slots: int, before: int) -> None:
    wait = start_in([0.0] * (slots + 1), before, 2.0)

    assert wait == pytest.approx(before // (slots + 1) * 2.0, abs=2.0)


def test_without_slots_nothing_starts() -> None:
    assert start_in([], 0, 1) == math.inf
    assert under_limit([], 0, 0, 1) == math.inf


@pytest.mark.parametrize(
    ("running", "limit", "before", "wait"),
    [
        ([], 2, 0, 0),
        ([5], 2, 0, 0),
        ([5], 2, 1, 5),
        ([5, 7], 2, 0, 5),
        ([5, 7], 2, 2, 15),
        # Lowered: the first one that ends makes no room.
        ([5, 7], 1, 0, 7),
    ],
)
def test_under_a_limit_a_job_starts_when_so_many_have_ended(
    running: list[float], limit: int, before: int, wait: float
) -> None:
    assert under_limit(running, limit, before, 10) == wait


@pytest.mark.parametrize(("tokens", "needed", "wait"), [(5, 1, 0), (0.5, 1, 1), (0, 10, 20)])
def test_under_a_rate_a_job_starts_when_the_bucket_has_enough(tokens: float, needed: float, wait: float) -> None:
    assert under_rate(tokens, 0.5, needed) == wait


def test_others_that_have_little_to_do_or_may_run_little_take_less_of_the_slots() -> None:
    slots = Slots([0.0] * 4)
    busy = in_turn(slots, 100, 1, others=[Contender(math.inf, 1)])
    little = in_turn(slots, 100, 1, others=[Contender(10, 1)])
    limited = in_turn(slots, 100, 1, others=[Contender(math.inf, 1, max_running=1)])

    assert little.wait < limited.wait < busy.wait
    assert (round(little.others), round(busy.others)) == (10, 100)
    assert limited.wait == pytest.approx(100 / 3, rel=0.1)


def test_a_newcomer_does_not_wait_for_a_whole_turn_of_a_long_ring() -> None:
    ring = [Contender(100, 1.0)] * 1_000
    slots = Slots([0.5] * 4)

    assert in_turn(slots, 0, 1, others=ring, most_of_others=4).wait < 2
    assert in_turn(slots, 0, 1, others=ring).wait > 50


# -- run times -----------------------------------------------------------------------------------


def ended(workspace: str, task: str, *times: float, claimed_at: float | None = None) -> list[Ended]:
    """Each claimed by itself unless a moment is given."""
    starts = [float(next(claims)) if claimed_at is None else claimed_at for _ in times]
    return [Ended(workspace, task, start, start + time) for start, time in zip(starts, times, strict=True)]


def test_a_run_time_is_the_task_s_in_the_workspace_or_the_next_best() -> None:
    measured = [*ended("a", "slow", 10, 20), *ended("a", "fast", 1.5), *ended("b", "fast", 2.5)]
    times = RunTimes(measured, slots=2)

    assert times.of("a", "slow") == 15
    assert times.of("c", "fast") == pytest.approx(2)
    assert times.of("b", "unknown") == 2.5
    assert times.of("c", "unknown") == pytest.approx(34 / 4)
    assert RunTimes([], slots=2).of("a", "slow") is None


def test_the_time_that_jobs_waited_inside_a_worker_is_not_their_run_time() -> None:
    """Ten jobs claimed at once by a worker with two slots, each of which then took a second."""
    measured = ended("a", "t", 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, claimed_at=0)

    assert RunTimes(measured, slots=2).of("a", "t") == 1
    assert RunTimes(measured, slots=16).of("a", "t") == 3


# -- all of it -----------------------------------------------------------------------------------


def a_job(**changes: object) -> JobFacts:
    facts = JobFacts(
        status=None, task="t", queue="q", resource=None, units=1, unique_key=None, attempts=0, max_attempts=3,
        crash_count=0, error_type=None, completed_at=None, state=1, priority=0,
        run_after=NOW - datetime.timedelta(minutes=5), started_at=None, cancel_requested_at=None, now=NOW,
    )  # fmt: skip
    return facts._replace(**changes)  # type: ignore[arg-type]


def crowd(
    before: int = 0, others: Sequence[Other] = (), running: Sequence[Running] = (), usual: float | None = 10.0
) -> Crowd:
    measured = [] if usual is None else ended("me", "t", usual)
    return Crowd([Lane("t", None, before, held=False)], others, running, measured)


WORKERS = WorkerFacts(live=1, serving=1, knowing=1, slots=2, most_slots=2, share=2.0, able=[1])
ONE_RUNS = Running("me", "t", "q", here=True, seconds=4.0)


def wait(holds: Holds, of: Crowd, job: JobFacts | None = None, workers: WorkerFacts = WORKERS) -> float | None:
    return estimate("me", job or a_job(), holds, workers, of).wait


def test_what_is_known_of_nothing_is_nothing_but_an_idle_worker_needs_no_experience() -> None:
    assert wait(Holds(), crowd(usual=None)) == 0
    assert wait(Holds(), crowd(before=1, usual=None)) is None
    assert wait(Holds(), crowd(usual=None, running=[ONE_RUNS, ONE_RUNS])) is None
    assert wait(Holds(workspace_limit=0), crowd(usual=None)) is None


def test_a_job_waits_for_what_is_left_of_those_that_run() -> None:
    assert wait(Holds(), crowd(running=[ONE_RUNS, ONE_RUNS])) == 6
    assert wait(Holds(), crowd(running=[ONE_RUNS])) == 0


@pytest.mark.parametrize(("elapsed", "left"), [(4, 6), (9.5, 1), (15, 1), (30, 10), (610, 590)])
def test_a_job_that_runs_much_longer_than_usual_is_expected_to_go_on_as_long_again(elapsed: float, left: float) -> None:
    one = ONE_RUNS._replace(seconds=elapsed)

    assert wait(Holds(), crowd(running=[one, one])) == pytest.approx(left)


def test_jobs_claimed_ahead_are_before_it() -> None:
    assert wait(Holds(), crowd(running=[ONE_RUNS] * 6)) == pytest.approx(25)


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        (Holds(workspace_limit=1, running_here=2), 46),
        (Holds(queue_limit=1, running_in_queue=2), 46),
        (Holds(task_limit=1, running_of_task=2), 46),
        (Holds(task_limit_here=1, running_of_task_here=2), 46),
        (Holds(workspace_rate=RateFacts(1, 60_000, 1, 0.0)), 300),
        (Holds(resource_limit=1, running_of_resource=2), 46),
        (Holds(task_limit_here=0), None),
        (Holds(resource_limit=0), None),
    ],
)
def test_the_tightest_of_all_limits_counts(holds: Holds, expected: float | None) -> None:
    assert wait(holds, crowd(before=4, running=[ONE_RUNS, ONE_RUNS])) == expected


def test_a_resource_s_rate_counts_the_units_of_those_before_it_on_the_same_resource() -> None:
    holds = Holds(resource_rate=RateFacts(units=10, period_ms=10_000, burst=10, tokens=0.0))
    lanes = [Lane("t", "hubspot:1", 3, held=False), Lane("t", "hubspot:2", 50, held=False)]
    of = Crowd(lanes, [], [], ended("me", "t", 0.001))

    assert wait(holds, of, a_job(resource="hubspot:1", units=5)) == 20


def test_jobs_that_something_holds_are_passed_by_unless_it_holds_ours_too() -> None:
    lanes = [Lane("paused", None, 100, held=True), Lane("t", None, 4, held=True)]

    assert wait(Holds(), Crowd(lanes, [], [], ended("me", "t", 10))) == 20


def test_workers_that_serve_another_busy_queue_too_give_it_every_other_turn() -> None:
    shared = WORKERS._replace(share=1.0)

    alone, together = wait(Holds(), crowd(before=20)), wait(Holds(), crowd(before=20), workers=shared)

    assert alone is not None
    assert together == pytest.approx(2 * alone, rel=0.1)


def test_a_ring_that_was_not_seen_to_its_end_has_no_estimate() -> None:
    others = [Other(str(n), 1, endless=False, weight=1, max_running=None, waited=9) for n in range(MOST_WORKSPACES)]

    assert wait(Holds(), crowd(others=others)) is None
    assert wait(Holds(), crowd(others=others), a_job(run_after=NOW)) is not None


def test_newcomers_are_looked_at_in_the_order_in_which_they_rang() -> None:
    def others(waited: float) -> list[Other]:
        return [Other(str(n), 9, endless=False, weight=1, max_running=None, waited=waited) for n in range(100)]

    just_now = a_job(run_after=NOW - datetime.timedelta(seconds=0.1))
    waits = [wait(Holds(), crowd(others=others(waited)), just_now) for waited in (5, 0.05, 0.5)]

    assert waits == [20, 20, 250]


# -- against a simulation ------------------------------------------------------------------------


@dataclass
class Simulated:
    """A workspace: how long a job of it usually takes and each will, its weight, its limit, and the service it had."""

    usual: float
    lengths: list[float]
    weight: int = 1
    max_running: int | None = None
    served: float = 0.0
    running: int = 0
    started: list[float] = field(default_factory=list)

    @property
    def wants(self) -> bool:
        has_room = self.max_running is None or self.running < self.max_running
        return has_room and len(self.started) < len(self.lengths)


def simulate(workspaces: Sequence[Simulated], slots: int) -> None:
    """Whoever was served least for its weight has the next free slot, and is charged for what the job takes."""
    ending: list[tuple[float, int]] = []
    now = 0.0
    while any(len(one.started) < len(one.lengths) for one in workspaces):
        wanting = [one for one in workspaces if one.wants]
        if wanting and len(ending) < slots:
            chosen = min(wanting, key=lambda one: one.served / one.weight)
            length = chosen.lengths[len(chosen.started)]
            chosen.started.append(now)
            chosen.served += length
            chosen.running += 1
            heapq.heappush(ending, (now + length, workspaces.index(chosen)))
        else:
            now, index = heapq.heappop(ending)
            workspaces[index].running -= 1


def a_crowd(chance: random.Random) -> list[Simulated]:
    return [
        Simulated(
            usual := chance.choice([0.1, 1.0, 3.0]),
            [usual * chance.uniform(0.7, 1.3) for _ in range(chance.randint(1, 80))],
            weight=chance.choice([1, 1, 3]),
            max_running=chance.choice([None, None, 1, 2]),
        )
        for _ in range(chance.randint(1, 12))
    ]


def estimates(me: Simulated, others: Sequence[Simulated], slots: int) -> list[float]:
    """For each job of a workspace, before anything has started."""
    contenders = [Contender(len(other.lengths), other.usual, other.weight, other.max_running) for other in others]
    waits = []
    for before in range(len(me.lengths)):
        turn = in_turn(Slots([0.0] * slots), before, me.usual, weight=me.weight, others=contenders)
        own = under_limit([], me.max_running, before, me.usual) if me.max_running else 0.0
        waits.append(max(turn.wait, own))
    return waits


def share_within_two(count_others: bool) -> float:
    good, asked = 0, 0
    for seed in range(100):
        chance = random.Random(seed)
        slots = chance.randint(1, 8)
        me, *others = workspaces = a_crowd(chance)
        simulate(workspaces, slots)
        for estimated, really in zip(estimates(me, others if count_others else [], slots), me.started, strict=True):
            asked += 1
            good += really / 2 <= estimated <= really * 2
    return good / asked


def test_nine_of_ten_estimates_are_within_a_factor_of_two_of_what_a_simulation_does() -> None:
    """Of a hundred crowds with weights, limits and lengths by chance. Whoever forgot the others would not get there."""
    assert share_within_two(count_others=True) >= 0.9
    assert share_within_two(count_others=False) < 0.5
