"""The pure parts: how much to claim and to give, when to write, and what becomes of an attempt."""

from __future__ import annotations

import gc
import math
from itertools import cycle
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.queue import (
    LONGEST_DELAY,
    ClaimedJob,
    Completion,
    Failure,
    Lease,
    LogLine,
    ProgressReport,
    Release,
    RetryPolicy,
    Rung,
)
from jobplatform.worker import verdicts
from jobplatform.worker.attempt import Attempt
from jobplatform.worker.claimer import Claimed, ClaimWanted, Reconcile
from jobplatform.worker.departure import Departure, Phase
from jobplatform.worker.frames import ENDED, Frame, Reason
from jobplatform.worker.host import COLLECT_AFTER, few_collections
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.outbox import FLUSH_ROWS, Outbox
from jobplatform.worker.pace import AHEAD_JOBS, CLAIM_JOBS, LONGEST_TURN, RUN_JOBS, Pace, claim_size
from jobplatform.worker.supply import FOLLOWING_JOBS, Supply

EXACT = RetryPolicy(jitter="none")
LEASE = Lease("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", 4)


def lease(number: int) -> Lease:
    return LEASE._replace(epoch=number)


def attempt(**changes: Any) -> Attempt:
    job = ClaimedJob(LEASE, "default", "task", 2, 3, 1, 1_500, "{}", 1, None, None)
    return Attempt(job._replace(**changes))


def facts(kind: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "kind": kind,
        "outcome": "ok",
        "result": "null",
        "error_type": "",
        "message": "",
        "traceback": None,
        "delay": 0.0,
        "retry": False,
    }
    return plain | changes


# -- pace ----------------------------------------------------------------------------------------


def test_of_an_unknown_task_one_job_is_given_at_a_time() -> None:
    pace = Pace()

    assert pace.run_length("new") == 1
    assert pace.room(8) == 8
    assert pace.turn == 1


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50), st.integers(1, 512))
def test_runs_and_room_stay_within_their_bounds(durations: list[float], capacity: int) -> None:
    pace = Pace()
    for seconds in durations:
        pace.took("task", seconds)

    assert 1 <= pace.run_length("task") <= RUN_JOBS
    assert capacity <= pace.room(capacity) <= max(capacity, AHEAD_JOBS)
    assert 1 <= pace.turn <= LONGEST_TURN


def test_long_jobs_are_not_stocked() -> None:
    pace = Pace()
    pace.took("slow", 30.0)

    assert (pace.run_length("slow"), pace.room(4)) == (1, 4)


@given(st.integers(1, 1000), st.integers(0, 2000), st.integers(1, 600))
def test_a_claim_never_exceeds_the_room_that_is_left(room: int, held: int, capacity: int) -> None:
    size = claim_size(room, held, held, capacity)

    assert 0 <= size <= min(CLAIM_JOBS, max(0, room - held))
    assert size > 0 or held >= capacity or held >= room


# -- outbox --------------------------------------------------------------------------------------


def test_endings_go_after_a_moment_and_at_once_when_nothing_else_can_join_them() -> None:
    outbox = Outbox()
    assert outbox.due_at(idle=True) is None

    outbox.complete(Completion(LEASE), 10.0)

    assert outbox.due_at(idle=False) == pytest.approx(10.005)
    assert outbox.due_at(idle=True) == 0.0


def test_reports_wait_longer_and_never_hold_up_an_ending() -> None:
    outbox = Outbox()
    outbox.report(ProgressReport(LEASE, "{}"), 10.0)
    assert outbox.due_at(idle=False) == pytest.approx(10.25)

    outbox.add(Release(lease(2)), 10.1)

    assert outbox.due_at(idle=False) == pytest.approx(10.105)
    assert len(outbox.take(11.0).progress) == 1


def test_only_the_newest_report_of_an_attempt_is_written() -> None:
    outbox = Outbox()
    for number in range(5):
        outbox.report(ProgressReport(LEASE, str(number)), 1.0)

    assert [report.progress for report in outbox.take(2.0).progress] == ["4"]


def test_a_flush_is_bounded_and_the_rest_goes_with_the_next() -> None:
    outbox = Outbox()
    for number in range(FLUSH_ROWS + 50):
        outbox.complete(Completion(lease(number)), 1.0)
    outbox.log(LogLine(LEASE, 1, "info", "line"), 1.0)

    first, second = outbox.take(2.0), outbox.take(3.0)

    assert (len(first.completions), len(first.lines)) == (FLUSH_ROWS, 1)
    assert (len(second.completions), len(second.lines)) == (50, 0)
    assert outbox.empty
    assert outbox.due_at(idle=True) is None


# -- verdicts ------------------------------------------------------------------------------------


def test_a_handler_that_ends_well_after_it_was_told_to_stop_has_ended_well() -> None:
    late = attempt()
    late.reason = Reason.TIMEOUT

    assert verdicts.ended(late, facts("completed", outcome="skipped"), EXACT) == Completion(LEASE, "null", "skipped")


@pytest.mark.parametrize("kind", ["failed", "interrupted", "snoozed"])
def test_what_a_handler_raises_on_its_way_out_is_not_why_it_ended(kind: str) -> None:
    late = attempt()
    late.reason = Reason.TIMEOUT

    verdict = verdicts.ended(late, facts(kind, error_type="KeyError", message="oops"), EXACT)

    assert verdict == Failure(LEASE, "timeout", "TimedOut", "ran longer than its timeout of 1.5 s", delay=4.0)


def test_what_was_completed_in_a_transaction_needs_no_writing() -> None:
    assert verdicts.ended(attempt(), facts("completed_in"), EXACT) is None


def test_an_attempt_whose_handler_found_its_lease_lost_is_handed_back_if_that_is_ours_all_the_same() -> None:
    assert verdicts.ended(attempt(), facts("interrupted", outcome="lost"), EXACT) == Release(LEASE)


def test_an_attempt_interrupted_by_the_shutdown_is_handed_back() -> None:
    assert verdicts.interrupted(attempt(), Reason.SHUTDOWN, EXACT) == Release(LEASE)


def test_of_a_lost_lease_nothing_is_written_unless_it_may_still_be_ours() -> None:
    ours = attempt()
    ours.release_after = True

    assert verdicts.interrupted(attempt(), Reason.LEASE_LOST, EXACT) is None
    assert verdicts.interrupted(ours, Reason.LEASE_LOST, EXACT) == Release(LEASE)


def test_a_cancelled_attempt_is_not_tried_again() -> None:
    verdict = verdicts.interrupted(attempt(), Reason.CANCELLED, EXACT)

    assert isinstance(verdict, Failure)
    assert (verdict.outcome, verdict.retry) == ("cancelled", False)


def test_a_crash_waits_by_the_number_of_crashes() -> None:
    verdict = verdicts.crashed(attempt(crash_count=2), "exit 3", EXACT)

    assert (verdict.crash, verdict.outcome, verdict.delay) == (True, "lost", 8.0)


def test_an_interruption_that_the_handler_raised_itself_is_an_error() -> None:
    verdict = verdicts.ended(attempt(), facts("interrupted", outcome="timeout", message="mine"), EXACT)

    assert isinstance(verdict, Failure)
    assert (verdict.outcome, verdict.message, verdict.retry) == ("error", "mine", True)


@pytest.mark.parametrize(("asked", "given"), [(5.0, 5.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, LONGEST_DELAY)])
def test_a_snooze_lasts_as_long_as_an_interval_can(asked: float, given: float) -> None:
    assert verdicts.ended(attempt(), facts("snoozed", delay=asked), EXACT) == Release(LEASE, given)


def test_after_a_timeout_a_policy_without_a_cap_waits_as_long_as_an_interval_can() -> None:
    endless = RetryPolicy(max_attempts=100, cap=math.inf, jitter="none")

    verdict = verdicts.interrupted(attempt(attempt=64), Reason.TIMEOUT, endless)

    assert isinstance(verdict, Failure)
    assert verdict.delay == LONGEST_DELAY


@pytest.mark.parametrize(("code", "message"), [(3, "exit 3"), (-11, "signal SIGSEGV"), (-70, "signal 70")])
def test_an_exit_is_told_by_name(code: int, message: str) -> None:
    assert verdicts.exit_message(code) == message


# -- suspects: jobs that were there when a process or a worker died ------------------------------------


def claimed(number: int, *, crash_count: int = 0) -> ClaimedJob:
    return attempt(lease=lease(number), crash_count=crash_count).job


def test_a_job_charged_with_a_crash_starts_at_once_or_goes_back() -> None:
    ledger = Ledger()

    ledger.claimed([claimed(1), claimed(2, crash_count=1), claimed(3, crash_count=1)], idle=1)

    assert [waiting.lease.epoch for waiting in ledger.ready] == [2, 1]
    (release,) = ledger.outbox.take(0.0).releases
    assert release.lease == lease(3)
    assert release.delay > 0


def test_on_a_worker_that_is_never_idle_a_job_charged_with_a_crash_is_the_next_to_run() -> None:
    ledger = Ledger()

    ledger.claimed([claimed(1), claimed(2, crash_count=1)], idle=0)
    ledger.claimed([claimed(3, crash_count=1)], idle=0)

    assert [waiting.lease.epoch for waiting in ledger.ready] == [2, 1]
    assert [release.lease.epoch for release in ledger.outbox.take(0.0).releases] == [3]


def test_a_job_charged_with_a_crash_runs_with_nobody_behind_it() -> None:
    ledger = Ledger()
    ledger.pace.took("task", 0.000_001)
    ledger.claimed([claimed(1), claimed(2), claimed(3, crash_count=2)], idle=1)

    first = ledger.next_run(10, 10_000, free=1)
    second = ledger.next_run(10, 10_000, free=1)

    assert [given.lease.epoch for given in first] == [3]
    assert [given.lease.epoch for given in second] == [1, 2]


# -- what is outside -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("closes", "closed"), [(None, "crm:1"), ("crm:2", "crm:2")])
def test_what_a_handler_is_told_too_often_by_is_closed_here_too(closes: str | None, closed: str) -> None:
    ledger = Ledger()
    told = facts("snoozed", delay=5.0, closed_for=5.0, closes=closes, infrastructure=False)

    ledger.ended(attempt(resource="crm:1"), Frame(1, ENDED, 0.0, 0.1, b""), told)

    assert ledger.closed == {closed}


def test_what_waits_to_be_called_with_others_is_handed_back_as_well() -> None:
    ledger = Ledger()
    task = {"name": "task", "batch": (10, 60.0), "isolation": "thread", "retry": {}}
    ledger.learn_tasks([task])
    jobs = [attempt(lease=lease(number), attempt=1, crash_count=0, resource=f"crm:{number}").job for number in (1, 2)]
    ledger.claimed(jobs, idle=1)
    assert len(ledger.gathering) == 2

    ledger.release_users({"crm:1"})

    assert [release.lease for release in ledger.outbox.take(0.0).releases] == [lease(1)]
    assert [waiting.lease for waiting in ledger.gathering] == [lease(2)]


# -- hunger ---------------------------------------------------------------------------------------------


class SilentClaimer:
    """Takes requests and never answers."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.closed = False

    def ask(self, request: object) -> None:
        """The test answers in its place."""
        self.asked.append(request)

    def close(self) -> None:
        self.closed = True


class NothingGiven:
    given = 0
    idle = 0
    seconds = 0.0
    tied = 0.0

    def typical_seconds(self, _now: float) -> float:
        return self.seconds

    def tied_up(self, _now: float) -> float:
        return self.tied


def test_a_bell_that_rings_while_a_claim_is_on_its_way_is_not_lost() -> None:
    supply = Supply(SilentClaimer(), Ledger(), NothingGiven(), capacity=1, poll=1000)  # type: ignore[arg-type]
    supply.ask(0.0, worker_id=1)
    assert supply.in_flight

    supply.wake()
    supply.claimed(Claimed(1, [], more=False))
    supply.ask(0.0, worker_id=1)

    assert supply.in_flight


@pytest.mark.parametrize(("idle", "jobs", "slots"), [(2, 1, 1), (1, 2, 1), (3, 3, 3), (0, 2, 0), (2, 0, 0)])
def test_slots_that_waited_for_a_claim_and_have_something_to_do_now_stood_idle(
    idle: int, jobs: int, slots: int
) -> None:
    dispatch = NothingGiven()
    dispatch.idle = idle
    supply = Supply(SilentClaimer(), Ledger(), dispatch, capacity=4, poll=1000)  # type: ignore[arg-type]
    supply.ask(monotonic() - 100, worker_id=1)

    stood_idle = supply.claimed(Claimed(1, [claimed(number + 1) for number in range(jobs)], more=False))

    assert stood_idle // 100 == slots


def test_the_wait_for_a_claim_is_charged() -> None:
    """Both have jobs of which nothing is known, and only that of the second was waited for."""
    waited, at_once = Ledger(), Ledger()

    waited.claimed([claimed(1)], idle=1, came_round=True, stood_idle=100.0)
    at_once.claimed([claimed(1)], idle=1, came_round=True)

    assert waited.shares._level > at_once.shares._level


class Draining:
    """A worker with jobs that take no time, whose last claim was full. Its claimer answers when it is told to."""

    def __init__(self) -> None:
        self.ledger, self.dispatch, self.claimer = Ledger(), NothingGiven(), SilentClaimer()
        self.ledger.pace.took("task", 0.0)
        self.supply = Supply(self.claimer, self.ledger, self.dispatch, capacity=2, poll=1000)  # type: ignore[arg-type]
        self.ask()
        self.answer()

    def ask(self) -> list[Any]:
        """What is asked of the claimer now."""
        before = len(self.claimer.asked)
        self.supply.ask(0.0, worker_id=1)
        return self.claimer.asked[before:]

    def answer(self, jobs: int = CLAIM_JOBS) -> float:
        """The oldest claim on its way brings so many, which are through already."""
        return self.supply.claimed(Claimed(1, [claimed(1)] * jobs, more=jobs > 0))


def test_behind_a_claim_on_its_way_the_next_one_is_asked_for_and_no_third() -> None:
    draining = Draining()

    (first,), (second,) = draining.ask(), draining.ask()

    assert (first.limit, second.limit) == (CLAIM_JOBS, CLAIM_JOBS)
    assert draining.ask() == []
    draining.answer()
    assert len(draining.ask()) == 1
    assert draining.ask() == []


def test_no_third_claim_is_asked_for_although_there_would_be_room() -> None:
    draining = Draining()
    for left in (FOLLOWING_JOBS, 2 * FOLLOWING_JOBS):
        draining.dispatch.given = AHEAD_JOBS - left
        assert [claim.limit for claim in draining.ask()] == [FOLLOWING_JOBS]
    draining.dispatch.given = 0

    assert draining.ask() == []


def test_what_is_on_its_way_leaves_that_much_less_room() -> None:
    draining = Draining()
    draining.ask()

    draining.dispatch.given = AHEAD_JOBS - CLAIM_JOBS - FOLLOWING_JOBS + 1
    assert draining.ask() == []
    draining.dispatch.given -= 1
    (second,) = draining.ask()

    assert second.limit == FOLLOWING_JOBS


class OneGiven(NothingGiven):
    given = 1

    def take_back_all(self) -> None: ...

    def running(self) -> list[Any]:
        return []


class RunningPool:
    """One job runs, and goes on."""

    dispatch = OneGiven()

    def retire_all(self) -> None: ...

    def hurry_all(self, at: float) -> None: ...


class SilentMembership:
    draining = False

    def beat_soon(self) -> None: ...


def departure_of(draining: Draining) -> Departure:
    return Departure(
        RunningPool(),  # type: ignore[arg-type]
        draining.ledger,
        SilentMembership(),  # type: ignore[arg-type]
        draining.supply,
        drain_timeout=60,
        quiet=lambda: True,
    )


def test_a_worker_that_drains_has_no_claim_made_that_has_not_begun() -> None:
    draining = Draining()
    departure = departure_of(draining)
    departure.step(0.0)
    assert not draining.claimer.closed

    departure.request()
    departure.step(0.0)

    assert draining.claimer.closed


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        (["drain", "request"], Phase.DRAINING),
        (["request", "drain"], Phase.DRAINING),
        (["drain", "drain"], Phase.DRAINING),
        (["request", "drain", "request"], Phase.HANDING_BACK),
        (["drain", "request", "request"], Phase.HANDING_BACK),
    ],
)
def test_who_may_have_been_heard_already_makes_nobody_else_s_request_a_second_one(
    said: list[str], phase: Phase
) -> None:
    departure = departure_of(Draining())

    for how in said:
        getattr(departure, how)()
        departure.step(0.0)

    assert departure.phase is phase


def test_behind_a_claim_that_may_find_no_more_none_is_asked_for() -> None:
    draining = Draining()
    draining.ask()
    draining.answer(jobs=CLAIM_JOBS - 1)
    assert len(draining.ask()) == 1

    assert draining.ask() == []


def test_jobs_that_take_their_time_are_claimed_when_the_last_claim_is_answered() -> None:
    draining = Draining()
    for _ in range(100):
        draining.ledger.pace.took("task", 0.001)

    assert [len(draining.ask()) for _ in range(2)] == [1, 0]


def test_nothing_is_asked_for_before_or_behind_reconciling() -> None:
    draining = Draining()
    draining.ask()
    draining.supply.reconcile_soon()
    assert draining.ask() == []
    draining.answer()

    (request,) = draining.ask()

    assert isinstance(request, Reconcile)
    assert draining.ask() == []
    draining.supply.reconciled(0)
    assert isinstance(draining.ask()[0], ClaimWanted)


def test_after_a_claim_that_failed_both_have_to_be_answered_before_reconciling() -> None:
    draining = Draining()
    draining.ask()
    draining.ask()

    draining.supply.failed()
    assert draining.ask() == []
    draining.answer()

    assert isinstance(draining.ask()[0], Reconcile)


def test_who_waits_for_the_claim_before_does_not_wait_for_the_one_behind_it_too() -> None:
    draining = Draining()
    draining.dispatch.idle = 2
    draining.ask()
    draining.ask()

    assert draining.answer() > 0
    assert draining.answer() == 0


def test_a_bell_while_claims_are_on_their_way_wakes_for_no_job() -> None:
    draining = Draining()
    draining.ask()
    draining.supply.rang([ONE], ["default"])

    (second,) = draining.ask()

    assert second.rung is None


ONE, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000009"


def rung_of(ledger: Ledger, bells: list[tuple[list[str], list[str]]]) -> Rung | None:
    """What a claim is told it is for, after these bells: workspaces, and queues."""
    claimer = SilentClaimer()
    supply = Supply(claimer, ledger, NothingGiven(), capacity=8, poll=1000)  # type: ignore[arg-type]
    for workspaces, queues in bells:
        supply.rang(workspaces, queues)
    supply.ask(0.0, worker_id=1)
    rung: Rung | None = claimer.asked[-1].rung
    return rung


def test_a_worker_that_has_nothing_to_do_says_which_job_it_was_woken_for() -> None:
    assert rung_of(Ledger(), [([ONE], ["default"])]) == Rung("default", ONE)


@pytest.mark.parametrize(
    "bells",
    [[], [([ONE, OTHER], ["default"])], [([ONE], ["default", "other"])], [([ONE], [])], [([], ["default"])]],
    ids=["no bell", "two workspaces", "two queues", "no queue", "no workspace"],
)
def test_a_bell_for_more_than_one_job_is_for_none(bells: list[tuple[list[str], list[str]]]) -> None:
    assert rung_of(Ledger(), bells) is None


def test_who_has_something_to_do_is_woken_for_nothing() -> None:
    ledger = Ledger()
    ledger.claimed([claimed(1)], idle=1)

    assert rung_of(ledger, [([ONE], ["default"])]) is None


def test_whoever_has_had_more_than_others_must_be_alone_to_be_woken_for() -> None:
    ledger = Ledger()
    jobs = [attempt(lease=LEASE._replace(workspace_id=workspace_id)).job for workspace_id in (ONE, OTHER)]
    charges = ledger.shares.claimed(jobs)
    for job, charged, seconds in zip(jobs, charges, (10.0, 0.1), strict=True):
        ledger.shares.ended(job, charged, seconds)
    ledger.shares.claimed([], came_round=True)
    assert not ledger.shares.is_behind(ONE)

    assert rung_of(ledger, [([ONE], ["default"])]) is None, "the other is looked at first, once"
    assert rung_of(ledger, [([ONE], ["default"])]) == Rung("default", ONE, alone=True)
    assert rung_of(ledger, [([OTHER], ["default"])]) == Rung("default", OTHER, alone=False)


def test_a_claim_that_is_not_the_first_after_the_bell_is_for_no_job() -> None:
    claimer = SilentClaimer()
    supply = Supply(claimer, Ledger(), NothingGiven(), capacity=8, poll=1000)  # type: ignore[arg-type]
    supply.rang([ONE], ["default"])
    supply.ask(0.0, worker_id=1)
    supply.claimed(Claimed(1, [], more=True))
    supply.ask(0.0, worker_id=1)

    assert [wanted.rung for wanted in claimer.asked] == [Rung("default", ONE), None]


class Calm:
    """Somebody who looks, and has last seen at this moment that nothing is ready."""

    def __init__(self, claim: Claimed) -> None:
        """After the first claim was answered so; the poll is every hundred seconds."""
        self.at = 0.0
        self.claimer = SilentClaimer()
        self.supply = Supply(
            self.claimer,  # type: ignore[arg-type]
            Ledger(),
            NothingGiven(),  # type: ignore[arg-type]
            capacity=8,
            poll=100,
            calm_at=lambda: self.at,
        )
        self.supply.ask(0.0, worker_id=1)
        self.supply.claimed(claim)
        self.claimed_at = monotonic()

    def claims(self, after: float) -> bool:
        """Whether there is another claim so many seconds after the first."""
        self.supply.ask(self.claimed_at + after, worker_id=1)
        return len(self.claimer.asked) > 1


def test_no_claim_asks_what_somebody_has_just_seen() -> None:
    calm = Calm(Claimed(1, [], more=False))

    calm.at = calm.claimed_at + 150

    assert not calm.claims(after=201)
    assert not calm.claims(after=349)


def test_when_nobody_looks_any_more_the_worker_asks_again_two_polls_later() -> None:
    calm = Calm(Claimed(1, [], more=False))
    calm.at = calm.claimed_at + 150
    assert not calm.claims(after=201)

    assert calm.claims(after=351)


def test_a_calm_before_the_last_claim_does_not_put_off_what_that_has_left_waiting() -> None:
    calm = Calm(Claimed(1, [], more=False, wait=5.0))
    calm.at = calm.claimed_at - 1

    assert calm.claims(after=6)


def test_an_ending_while_a_claim_is_on_its_way_is_not_lost_on_what_a_limit_held_back() -> None:
    supply = Supply(SilentClaimer(), Ledger(), NothingGiven(), capacity=1, poll=1000)  # type: ignore[arg-type]
    supply.ask(0.0, worker_id=1)

    supply.ended()
    supply.claimed(Claimed(1, [], more=False, held_back=True))
    supply.ask(0.0, worker_id=1)

    assert supply.in_flight


def test_beside_children_that_are_tied_up_the_others_have_their_stock() -> None:
    """Three of four children are at a long job, the fourth does one of 2 ms after the other."""
    ledger, dispatch, claimer = Ledger(), NothingGiven(), SilentClaimer()
    supply = Supply(claimer, ledger, dispatch, capacity=4, poll=1000)  # type: ignore[arg-type]
    for _ in range(20):
        ledger.pace.took("short", 0.002)
    dispatch.tied, dispatch.given = 0.75, 3
    waiting = [attempt(lease=LEASE._replace(epoch=epoch), crash_count=0).job for epoch in range(1, 41)]

    supply.ask(0.0, worker_id=1)
    wanted = claimer.asked[-1].limit
    ledger.claimed(waiting, idle=1)
    supply.ask(0.0, worker_id=1)

    assert wanted == ledger.pace.room(1) == 10
    assert len(ledger.ready) == ledger.pace.keep(1) == 20


def test_a_backlog_of_jobs_that_take_no_time_leaves_the_ring_its_part_of_all_claims() -> None:
    """Its workspace is late for as long as there are others whose jobs take time."""
    claimer, ledger = SilentClaimer(), Ledger()
    supply = Supply(claimer, ledger, NothingGiven(), capacity=1, poll=1000)  # type: ignore[arg-type]
    ring = cycle([ONE, "slow-1", "slow-2", "slow-3"])
    served: list[str] = []

    for _ in range(200):
        supply.ask(0.0, worker_id=1)
        first = claimer.asked[-1].newcomers
        whose = first[0] if first else next(ring)
        job = attempt(lease=LEASE._replace(workspace_id=whose)).job
        [charged] = ledger.shares.claimed([job], came_round=not first and whose == "slow-3")
        ledger.shares.ended(job, charged, 0.0 if whose == ONE else 1.0)
        served.append("out of turn" if first else whose)
        supply.claimed(Claimed(1, [], more=True))

    assert served.count("out of turn") > 10
    assert min(served.count(f"slow-{number}") for number in (1, 2, 3)) >= 8


def test_jobs_that_turn_out_long_do_not_wait_here_for_each_other() -> None:
    """Claimed ahead because what ran before was short: those that cannot start soon go back for others to run."""
    ledger, dispatch = Ledger(), NothingGiven()
    supply = Supply(SilentClaimer(), ledger, dispatch, capacity=4, poll=1000)  # type: ignore[arg-type]
    ledger.pace.took("short", 0.00001)
    ledger.claimed([attempt(lease=LEASE._replace(epoch=epoch), crash_count=0).job for epoch in range(1, 181)], idle=4)

    supply.ask(0.0, worker_id=1)
    before = len(ledger.ready)
    dispatch.seconds = 0.01
    supply.ask(0.0, worker_id=1)
    of_a_middling_length = [waiting.lease.epoch for waiting in ledger.ready]
    dispatch.seconds = 0.1
    supply.ask(0.0, worker_id=1)
    of_a_tenth_of_a_second = [waiting.lease.epoch for waiting in ledger.ready]
    dispatch.seconds = 1.0
    supply.ask(0.0, worker_id=1)

    assert before == 180
    assert of_a_middling_length == list(range(1, 17))
    assert of_a_tenth_of_a_second == list(range(1, 5))
    assert not ledger.ready
    assert ledger.outbox.endings == 180


def test_how_much_is_claimed_ahead_falls_at_once_and_grows_slowly() -> None:
    pace = Pace()
    for _ in range(50):
        pace.took("task", 0.00001)
    before = pace.room(4)

    pace.took("task", 0.01)
    after_one_long = pace.room(4)
    for _ in range(5):
        pace.took("task", 0.00001)

    assert before == AHEAD_JOBS
    assert after_one_long < 30
    assert pace.room(4) < 2 * after_one_long


def test_the_collector_is_left_as_it_was_found() -> None:
    found = gc.get_threshold()

    with few_collections():
        assert gc.get_threshold() == (COLLECT_AFTER, *found[1:])

    assert gc.get_threshold() == found
