"""When cron lines, intervals and single moments recur; on the nights of changed clocks an oracle says so too."""

from __future__ import annotations

import datetime
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobplatform.errors import InvalidScheduleError
from jobplatform.queue.schedules.recurrence import (
    Cron,
    Every,
    Once,
    Rule,
    latest_tick,
    offset_in,
    ticks_after,
)
from tests.unit import cron_oracle

UTC = datetime.UTC
SECOND = datetime.timedelta(seconds=1)
HOUR = datetime.timedelta(hours=1)


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def ticks(rule: Rule, begin: datetime.datetime, end: datetime.datetime) -> list[datetime.datetime]:
    """In [begin, end)."""
    return list(itertools.takewhile(lambda tick: tick < end, ticks_after(rule, begin - SECOND)))


#: Zones with a change of an hour, of half an hour, at midnight, backwards in the month of fasting, and with none.
#: All of a year that was over when this was written: what is to come, governments change.
ZONES = {
    "Europe/Berlin": ("2025-03-30", "2025-10-26"),
    "America/New_York": ("2025-03-09", "2025-11-02"),
    "Australia/Lord_Howe": ("2025-10-05", "2025-04-06"),
    "Africa/Casablanca": ("2025-04-06", "2025-02-23"),
    "Africa/Cairo": ("2025-04-25", "2025-10-31"),
    "America/Havana": ("2025-03-09", "2025-11-02"),
    "Europe/London": ("2025-03-30", "2025-10-26"),
    "Asia/Tokyo": ("2025-03-30", "2025-10-26"),
    "UTC": ("2025-03-30", "2025-10-26"),
}
NIGHTS = [(zone, night) for zone, nights in ZONES.items() for night in nights]
LINES = [
    "30 2 * * *",
    "15 2 * * *",
    "0 3 * * *",
    "0,30 2 * * *",
    "15 1-3 * * *",
    "30 0 * * *",
    "0 0 * * *",
    "*/15 * * * *",
    "0 * * * *",
    "*/30 2 * * *",
    "*/15 3 * * *",
    "*/15 0 * * *",
    "10 */2 * * *",
    "5-59/20 1-4 * * sun",
    "0 2 1-7 * sun",
    "* 2 * * *",
]


def test_the_nights_are_nights_of_changed_clocks() -> None:
    for zone, nights in ZONES.items():
        for night in nights:
            noon = at(f"{night}T12:00:00+00:00")
            offsets = {(noon - 24 * HOUR * n).astimezone(ZoneInfo(zone)).utcoffset() for n in (0, 1, 2)}
            assert len(offsets) == (1 if zone in ("Asia/Tokyo", "UTC") else 2), (zone, night)


@pytest.mark.parametrize(("zone", "night"), NIGHTS)
def test_every_line_ticks_on_a_night_of_changed_clocks_as_the_oracle_says(zone: str, night: str) -> None:
    noon = at(f"{night}T12:00:00+00:00")
    begin, end = noon - 26 * HOUR, noon + 6 * HOUR

    for line in LINES:
        assert ticks(Cron(line, zone), begin, end) == cron_oracle.ticks(line, zone, begin, end), line


def fields() -> st.SearchStrategy[str]:
    """Lines of the kinds that matter on such nights."""
    minute = st.sampled_from(["0", "30", "15,45", "*/20", "*", "7-50/9", "59"])
    hour = st.sampled_from(["*", "2", "1-3", "0", "*/3", "0,2,23", "1"])
    rest = st.sampled_from(["* * *", "* * sun", "1-31 * *", "* 3,4,10,11 *", "1,8,15,22,25,29 * mon"])
    return st.builds(lambda *parts: " ".join(parts), minute, hour, rest)


@settings(max_examples=30, deadline=None)
@given(line=fields(), place=st.sampled_from(NIGHTS), minutes=st.integers(0, 1500))
def test_from_any_minute_of_such_a_night_the_next_tick_is_the_oracle_s(
    line: str, place: tuple[str, str], minutes: int
) -> None:
    zone, night = place
    moment = at(f"{night}T12:00:00+00:00") - 26 * HOUR + datetime.timedelta(minutes=minutes)
    end = moment + 12 * HOUR

    expected = cron_oracle.ticks(line, zone, moment + SECOND * 60, end)

    assert ticks(Cron(line, zone), moment + SECOND, end) == expected


@pytest.mark.parametrize(
    ("line", "night", "runs"),
    [
        # The hour from two to three is left out: what was to be in it is at three, once.
        ("30 2 * * *", "2026-03-29", ["2026-03-29T03:00:00+02:00"]),
        # It comes twice: the first time counts.
        ("30 2 * * *", "2026-10-25", ["2026-10-25T02:30:00+02:00"]),
        ("0,30 2 * * *", "2026-03-29", ["2026-03-29T03:00:00+02:00"]),
    ],
)
def test_a_nightly_run_is_there_once_on_both_nights(line: str, night: str, runs: list[str]) -> None:
    begin = datetime.datetime.fromisoformat(night).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)

    assert ticks(Cron(line, "Europe/Berlin"), begin, begin + 23 * HOUR) == [at(run) for run in runs]


@pytest.mark.parametrize("night", ["2026-03-29", "2026-10-25"])
def test_every_quarter_of_an_hour_goes_through_both_nights(night: str) -> None:
    begin = at(f"{night}T00:00:00+01:00")

    found = ticks(Cron("*/15 * * * *", "Europe/Berlin"), begin, begin + 8 * HOUR)

    assert found == [begin + n * 15 * 60 * SECOND for n in range(32)]


def test_a_day_that_a_country_left_out_has_its_run_when_the_next_one_begins() -> None:
    begin = at("2011-12-29T20:00:00+00:00")

    found = ticks(Cron("30 2 * * *", "Pacific/Apia"), begin, begin + 48 * HOUR)

    assert [tick.astimezone(ZoneInfo("Pacific/Apia")).isoformat() for tick in found] == [
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T02:30:00+14:00",
        "2012-01-01T02:30:00+14:00",
    ][: len(found)]
    assert len(found) >= 2


@given(
    line=fields(),
    zone=st.sampled_from(sorted(ZONES)),
    moment=st.datetimes(at("2020-01-01T00:00:00"), at("2030-01-01T00:00:00")),
)
@settings(max_examples=30, deadline=None)
def test_ticks_only_go_forward(line: str, zone: str, moment: datetime.datetime) -> None:
    found = list(itertools.islice(ticks_after(Cron(line, zone), moment.replace(tzinfo=UTC)), 20))

    assert all(early < late for early, late in itertools.pairwise([moment.replace(tzinfo=UTC), *found]))


@pytest.mark.parametrize("name", ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"])
def test_names_stand_for_lines(name: str) -> None:
    assert Cron(name.upper()).next_after(at("2026-01-05T12:34:00+00:00")) is not None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("30 2 * * mon-fri", "At 02:30 on Monday through Friday"),
        ("*/15 * * * *", "Every 15th minute of every hour"),
        ("@daily", "At 00:00 every day"),
    ],
)
def test_a_line_can_be_said_in_words(line: str, words: str) -> None:
    assert Cron(line).words == words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Every(datetime.timedelta(seconds=1)), "Every second"),
        (Every(datetime.timedelta(minutes=90)), "Every 90 minutes"),
        (Every(datetime.timedelta(milliseconds=1500)), "Every 1,500 milliseconds"),
        (Every(datetime.timedelta(days=2)), "Every 2 days"),
        (Once(at("2026-01-05T12:00:00+00:00")), "Once, at 12:00 on 5 January 2026 (UTC)"),
    ],
)
def test_the_other_rules_have_words_too(rule: Rule, words: str) -> None:
    assert rule.words == words


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("*/5 * * * * *", "for seconds, say an interval"),
        ("* * * *", "must have 5 fields"),
        ("", "must have 5 fields"),
        ("61 * * * *", "Bad minute"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("R * * * *", "Bad minute"),
        ("@never", "@hourly"),
        ("0 0 * * 5#6", "Bad day-of-week"),
        ("x" * 300, "at most 200"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_what_is_wrong(line: str, problem: str) -> None:
    with pytest.raises(InvalidScheduleError, match=problem) as caught:
        Cron(line)

    assert [found.path for found in caught.value.problems] == ["/cron"]


@given(st.text(alphabet="*/-,#LWR 0123456789@monfrijan\t", max_size=30))
@settings(deadline=None)
def test_any_text_is_a_line_with_a_tick_or_refused(text: str) -> None:
    try:
        line = Cron(text, "Europe/Berlin")
    except InvalidScheduleError:
        return

    assert line.next_after(at("2026-01-01T00:00:00+00:00")) is not None
    assert line.words


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe/Berlin\0", "/etc/localtime", "x" * 500])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidScheduleError, match="is not a time zone"):
        Cron("0 * * * *", name)


@pytest.mark.parametrize("seconds", [0, 0.5, -1, 367 * 86_400, 1.0001])
def test_an_interval_has_its_limits(seconds: float) -> None:
    with pytest.raises(InvalidScheduleError, match="/everyMs"):
        Every(datetime.timedelta(seconds=seconds))


@given(
    seconds=st.integers(1, 100_000),
    anchor=st.datetimes(at("2020-01-01T00:00:00"), at("2030-01-01T00:00:00")),
    moment=st.datetimes(at("2020-01-01T00:00:00"), at("2030-01-01T00:00:00")),
)
def test_an_interval_never_drifts(seconds: int, anchor: datetime.datetime, moment: datetime.datetime) -> None:
    rule = Every(datetime.timedelta(seconds=seconds), anchor.replace(tzinfo=UTC))
    moment = moment.replace(tzinfo=UTC)

    tick = rule.next_after(moment)

    assert tick is not None
    assert moment < tick <= max(moment + rule.interval, rule.origin)
    assert tick >= rule.origin
    assert (tick - rule.origin) % rule.interval == datetime.timedelta(0)


def test_an_anchor_that_is_still_to_come_is_the_first_tick() -> None:
    rule = Every(HOUR, at("2026-01-05T12:00:00+00:00"))

    assert ticks(rule, at("2026-01-01T00:00:00+00:00"), at("2026-01-05T14:00:00+00:00")) == [
        rule.origin,
        rule.origin + HOUR,
    ]


def test_nothing_is_planned_beyond_the_century() -> None:
    assert Cron("@yearly").next_after(at("2099-06-01T00:00:00+00:00")) == at("2100-01-01T00:00:00+00:00")
    assert Cron("@yearly").next_after(at("2100-01-01T00:00:00+00:00")) is None
    assert Every(HOUR).next_after(at("2100-01-01T00:00:00+00:00")) is None


def test_a_single_moment_comes_once() -> None:
    rule = Once(at("2026-01-05T12:00:00+00:00"))

    assert rule.next_after(rule.at - SECOND) == rule.at
    assert rule.next_after(rule.at) is None


@given(
    rule=st.one_of(
        st.builds(Cron, fields(), st.sampled_from(sorted(ZONES))),
        st.builds(Every, st.integers(60, 100_000).map(lambda seconds: seconds * SECOND)),
    ),
    first=st.datetimes(at("2026-01-01T00:00:00"), at("2026-12-31T00:00:00")),
    hours=st.integers(0, 48),
)
@settings(max_examples=30, deadline=None)
def test_the_newest_of_many_missed_ticks_is_found_without_walking_them_all(
    rule: Rule, first: datetime.datetime, hours: int
) -> None:
    begin = rule.next_after(first.replace(tzinfo=UTC))
    assert begin is not None
    until = begin + hours * HOUR

    walked = [begin, *itertools.takewhile(lambda tick: tick <= until, ticks_after(rule, begin))]

    assert latest_tick(rule, begin, until) == walked[-1]


def test_the_newest_of_years_of_missed_ticks_takes_no_longer() -> None:
    first = at("1990-01-01T00:00:00+00:00")

    assert latest_tick(Cron("* * * * *"), first, at("2026-01-05T12:00:30+00:00")) == at("2026-01-05T12:00:00+00:00")
    assert latest_tick(Cron("0 0 29 2 *"), first, at("2026-01-05T12:00:30+00:00")) == at("2024-02-29T00:00:00+00:00")


def test_a_spread_is_the_same_each_time_and_even() -> None:
    spread = datetime.timedelta(minutes=10)

    offsets = [offset_in(spread, "workspace", number) for number in range(10_000)]

    assert offsets == [offset_in(spread, "workspace", number) for number in range(10_000)]
    assert all(datetime.timedelta(0) <= offset < spread for offset in offsets)
    per_second = [0] * 600
    for offset in offsets:
        per_second[offset // SECOND] += 1
    # 17 on average.
    assert max(per_second) < 45
    assert offset_in(datetime.timedelta(0), "workspace") == datetime.timedelta(0)
