"""What of missed ticks is still done: none, one, or all of them within bounds."""

from __future__ import annotations

import datetime

import pytest

from jobplatform.models import CatchUp
from jobplatform.queue.schedules.due import LATE, MOST_CAUGHT_UP, due_ticks
from jobplatform.queue.schedules.recurrence import Cron, Every, Once

MINUTE = datetime.timedelta(minutes=1)
FIRST = datetime.datetime(2026, 1, 5, 12, 0, tzinfo=datetime.UTC)
BY_MINUTE = Every(MINUTE, FIRST)


@pytest.mark.parametrize("policy", CatchUp)
@pytest.mark.parametrize("late", [0, 1, 59])
def test_a_tick_that_is_looked_at_in_time_is_done_whatever_the_policy(policy: str, late: int) -> None:
    due = due_ticks(BY_MINUTE, policy, FIRST, FIRST + datetime.timedelta(seconds=late))

    assert due == ([FIRST], None, FIRST + MINUTE)


@pytest.mark.parametrize(
    ("policy", "ticks", "missed"),
    [
        (CatchUp.NONE, [], FIRST),
        (CatchUp.ONE, [FIRST + 5 * MINUTE * 12], FIRST),
        (CatchUp.ALL, [FIRST + n * MINUTE * 60 for n in range(2)], None),
    ],
)
def test_after_an_outage_the_policy_decides(
    policy: str, ticks: list[datetime.datetime], missed: datetime.datetime | None
) -> None:
    """Two hourly ticks came and went; the newest is half an hour late."""
    hourly = Every(60 * MINUTE, FIRST)

    due = due_ticks(hourly, policy, FIRST, FIRST + 90 * MINUTE)

    assert due == (ticks, missed, FIRST + 120 * MINUTE)


def test_without_catch_up_the_newest_is_done_while_it_is_no_more_than_a_minute_late() -> None:
    hourly = Every(60 * MINUTE, FIRST)
    newest = FIRST + 120 * MINUTE

    assert due_ticks(hourly, CatchUp.NONE, FIRST, newest + LATE).ticks == [newest]
    assert due_ticks(hourly, CatchUp.NONE, FIRST, newest + LATE * 1.01).ticks == []


def test_one_missed_tick_is_done_late_with_catch_up_and_not_without() -> None:
    hourly = Every(60 * MINUTE, FIRST)

    assert due_ticks(hourly, CatchUp.ONE, FIRST, FIRST + 30 * MINUTE) == ([FIRST], None, FIRST + 60 * MINUTE)
    assert due_ticks(hourly, CatchUp.NONE, FIRST, FIRST + 30 * MINUTE) == ([], FIRST, FIRST + 60 * MINUTE)


def test_catching_up_goes_on_where_a_batch_ended() -> None:
    now = FIRST + 9 * MINUTE
    first = due_ticks(BY_MINUTE, CatchUp.ALL, FIRST, now, most=4)
    assert first.next_tick is not None
    second = due_ticks(BY_MINUTE, CatchUp.ALL, first.next_tick, now, most=100)

    assert first.ticks + second.ticks == [FIRST + n * MINUTE for n in range(10)]
    assert second.next_tick == FIRST + 10 * MINUTE


def test_all_means_the_last_day() -> None:
    now = FIRST + datetime.timedelta(days=30, minutes=1)

    due = due_ticks(Cron("0 * * * *"), CatchUp.ALL, FIRST, now)

    assert len(due.ticks) == 24
    assert due.ticks[-1] == FIRST + datetime.timedelta(days=30)
    assert due.missed == FIRST


def test_all_means_a_thousand_at_most() -> None:
    now = FIRST + datetime.timedelta(hours=20)

    for rule in (Cron("* * * * *"), BY_MINUTE, Every(datetime.timedelta(seconds=1), FIRST)):
        due = due_ticks(rule, CatchUp.ALL, FIRST, now)
        assert len(due.ticks) == MOST_CAUGHT_UP
        assert due.ticks[-1] == now
        assert due.missed == FIRST


def test_of_a_rule_that_ticks_once_a_year_the_newest_missed_one_is_within_all() -> None:
    now = FIRST + datetime.timedelta(days=100)

    due = due_ticks(Cron("0 12 5 1 *"), CatchUp.ALL, FIRST, now)

    assert due.ticks == [FIRST]
    assert due.missed is None


@pytest.mark.parametrize("policy", CatchUp)
def test_a_single_moment_is_done_however_late(policy: str) -> None:
    due = due_ticks(Once(FIRST), policy, FIRST, FIRST + datetime.timedelta(days=400))

    assert due == ([FIRST], None, None)
