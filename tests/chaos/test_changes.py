"""What a claim can have seen of a limit that changed beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobplatform.proof.changes import Changes, Scope
from jobplatform.proof.clients import Promises
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.history import Event
from jobplatform.proof.rate_rules import Meter
from jobplatform.proof.standstill_rules import nothing_stands_still
from jobplatform.proof.starts import Start
from jobplatform.proof.watcher import Census, Seen, Snapshot

LIMIT = Scope("queue", "narrow")
#: 3 from the start; then 1, announced at 10 and settled at 11.
LOWERED = Changes([("queue", "narrow", 3, 0.0, 1.0), ("queue", "narrow", 1, 10.0, 11.0)])


@pytest.mark.parametrize(
    ("began", "at", "values"),
    [
        (8.0, 9.0, [3]),
        (9.0, 10.5, [1, 3]),
        (10.5, 10.6, [1, 3]),
        (10.9, 12.0, [1, 3]),
        (11.0, 12.0, [1]),
        (0.5, 0.6, [3, None]),
        (-2.0, -1.0, [None]),
    ],
)
def test_a_value_is_certain_once_it_is_settled_and_until_the_next_is_announced(
    began: float, at: float, values: list[int | None]
) -> None:
    assert LOWERED.possible(LIMIT, began, at) == values


def test_a_change_whose_commit_nobody_acknowledged_may_count_or_not_until_the_next_one_is_settled() -> None:
    changes = Changes([("queue", "narrow", 3, 0.0, 1.0), ("queue", "narrow", 1, 10.0, None)])

    assert changes.possible(LIMIT, 99.0, 99.1) == [1, 3]


def test_a_snapshot_sees_what_had_ended_when_it_was_taken() -> None:
    snapshot = Snapshot.parse("5:9:6,8")

    assert [number for number in range(4, 11) if snapshot.sees(number)] == [4, 5, 7]


@pytest.mark.parametrize(
    ("began", "left"),
    [
        ([0, 0, 0], [1, 0, -1]),
        ([0, 10, 20], [1, 1, 1]),
        ([0, 1, 2, 3], [1, 0.5, 0, -0.5]),
        # The second began before the first and came after it: no time has passed.
        ([1, 0, 1], [1, 0, -1]),
    ],
)
def test_a_bucket_is_never_fuller_than_it_can_be(began: list[int], left: list[float]) -> None:
    pace = Scope("pace", "workspace")
    changes = Changes([("pace", "workspace", [2, 0.5], -2.0, -1.0)])
    start = Start(1, "job", 1, 0.0, 0.0, "workspace", "default", "noop", None, 1, {})
    claims = [[replace(start, began=float(moment), at=float(moment))] for moment in began]

    assert [level for _, _, level in Meter(pace, changes, claims).levels()] == left


@pytest.mark.parametrize(
    ("units", "left"),
    [
        # What goes back finds the bucket full, and then room: whoever comes next has it.
        ([2, -1, 2, 1], [0, 2, 0, 0]),
        ([2, -1, 2, 2], [0, 2, 0, -1]),
        # There was room for it at once, and it is there once.
        ([2, 0, -1, 1, 1], [0, 0, 1, 0, -1]),
    ],
)
def test_what_goes_back_late_is_there_once(units: list[int], left: list[float]) -> None:
    pace = Scope("rate", "pool")
    changes = Changes([("rate", "pool", [2, 1], -2.0, -1.0)])
    start = Start(1, "job", 1, 0.0, 0.0, "workspace", "default", "noop", "pool", 1, {})
    moments = [0.0, 10.0, 10.0, 10.0] if units[1] < 0 else [0.0] * 5
    claims = [[replace(start, units=n, began=at, at=at)] for n, at in zip(units, moments, strict=False)]

    assert [level for _, _, level in Meter(pace, changes, claims).levels()] == left


def _look(at: float, sees: int = 0, blind: float = 0.0) -> Census:
    """One that saw so many transactions, and a workspace with something to start."""
    return Census(at, Snapshot.parse(f"{sees}:{sees}:"), {}, {}, {"a workspace": 3}, {}, free=2, blind=blind)


def _evidence(*looks: Census, started: int = 0) -> Evidence:
    """These looks, and so many starts of others, each in a transaction of its own."""
    row = {"workspace_id": "another", "queue": "default", "task": "noop", "resource": None, "units": 1}
    history = [Event(n, "job_queue", f"{n}", f"{n}", None, row, running={"here": 1}) for n in range(started)]
    seen = Seen(censuses=list(looks))
    return Evidence(crash_limit=3, promises=Promises(), diary=[], seen=seen, history=history, patience=5)


@pytest.mark.parametrize(("blind", "found"), [(0.0, 1), (8.0, 0)])
def test_time_in_which_there_is_no_server_is_not_held_against_workers(blind: float, found: int) -> None:
    evidence = _evidence(_look(0.0), _look(9.0, blind=blind), _look(11.0))

    assert len(list(nothing_stands_still(evidence))) == found


@pytest.mark.parametrize(
    ("looks", "started", "found"),
    [
        # Every second somebody starts: few for so long, or many more than there are who wait.
        ([_look(float(n), sees=n) for n in range(12)], 12, 0),
        ([_look(float(n), sees=10 * n) for n in range(12)], 120, 1),
        # The same few, and then nothing at all.
        ([_look(float(n), sees=n) for n in range(12)], 4, 1),
    ],
)
def test_who_waits_long_is_passed_over_if_others_have_many_turns_or_nobody_any(
    looks: list[Census], started: int, found: int
) -> None:
    assert len(list(nothing_stands_still(_evidence(*looks, started=started)))) == found
