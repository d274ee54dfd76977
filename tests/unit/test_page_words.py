"""What the pages say of numbers, durations and moments."""

from __future__ import annotations

import datetime
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.pages import words

NOON = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (-3, "0 ms"),
        (0.0004, "0 ms"),
        (0.23, "230 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
        (86_399, "24 h"),
        (90_000, "1 d 1 h"),
        (172_800, "2 d"),
    ],
)
def test_a_duration_is_said_in_two_parts_at_most(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


@given(st.floats(0, 1e9))
def test_a_duration_never_says_sixty_of_what_has_a_larger_unit(seconds: float) -> None:
    said = words.duration(seconds).split()

    assert not any(
        (number, unit) in (("60", "s"), ("60", "min"), ("1000", "ms")) for number, unit in itertools.pairwise(said)
    )


def test_a_moment_is_said_from_where_the_reader_is() -> None:
    assert words.ago(NOON - datetime.timedelta(minutes=3), NOON) == "3 min ago"
    assert words.ago(NOON + datetime.timedelta(hours=30), NOON) == "in 1 d"
    assert words.ago(NOON, NOON) == "just now"
    assert words.ago(None, NOON) == "–"
    berlin = datetime.timezone(datetime.timedelta(hours=1))
    assert words.moment(NOON.astimezone(berlin)) == "2026-01-05 12:00:00 UTC"
    assert words.iso(NOON.astimezone(berlin)) == "2026-01-05T12:00:00.000Z"


def test_a_moment_of_a_rule_is_said_in_the_rule_s_own_time_zone() -> None:
    assert words.local(NOON, "Europe/Berlin") == "2026-01-05 13:00 Europe/Berlin"
    assert words.local(NOON + datetime.timedelta(seconds=5), None) == "2026-01-05 12:00:05 UTC"


def test_moments_within_a_sentence_are_said_for_people() -> None:
    said = words.readable("It is due at 2026-01-05T12:00:00Z, or at 2026-01-05T12:00:00.123Z, of T1Z")

    assert said == "It is due at 2026-01-05 12:00:00 UTC, or at 2026-01-05 12:00:00 UTC, of T1Z"


def test_characters_that_turn_others_round_are_written_out_in_json() -> None:
    name = "x\u202egnp.exe\u2066"

    assert words.pretty(name) == words.compact(name) == '"x\\u202egnp.exe\\u2066"'
    assert json.loads(words.pretty(name)) == name
    assert words.pretty("שלום") == '"שלום"'


@given(st.text())
def test_a_key_of_any_text_is_fit_for_an_id(text: str) -> None:
    assert words.key(text) == words.key(text)
    assert words.key(text).isalnum()


def test_numbers_have_their_thousands_apart_and_shares_a_decimal_where_it_says_something() -> None:
    assert (words.number(1_234_567), words.number(None)) == ("1,234,567", "–")
    assert [words.percent(one) for one in (None, 0, 0.034, 0.5, 1)] == ["–", "0 %", "3.4 %", "50 %", "100 %"]


def test_large_integers_are_shown_as_they_are() -> None:
    assert words.pretty({"id": 2**63 + 1}) == '{\n  "id": 9223372036854775809\n}'
    assert words.compact({"a": [1, "é"]}) == '{"a": [1, "é"]}'


def test_what_jobs_are_changed_to_is_said_in_one_order() -> None:
    assert words.changes({"queue": "slow", "runAfter": None, "priority": 0}) == "priority 0, queue slow, at once"
    assert words.changes({"runAfter": "2031-01-01T06:00:00+00:00"}) == "not before 2031-01-01T06:00:00+00:00"
