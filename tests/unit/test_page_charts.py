"""Where the marks of pictures go."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from jobplatform.pages.charts import HALF, bar_chart, line_chart, nice_top, sparkline, stretches

NOON = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC)
MINUTES = [NOON + datetime.timedelta(minutes=at) for at in range(60)]
AMOUNTS = st.lists(st.integers(0, 10**9), min_size=60, max_size=60)


def tips(moments: list[datetime.datetime]) -> list[str]:
    return [f"{moment:%H:%M}" for moment in moments]


@given(AMOUNTS, AMOUNTS)
def test_every_bar_is_inside_its_picture_and_what_there_is_is_seen(good: list[int], bad: list[int]) -> None:
    chart = bar_chart(MINUTES, [("completed", good), ("failed", bad)], tips(MINUTES), step_seconds=60)

    for column, (ok, failed) in zip(chart.columns, zip(good, bad, strict=True), strict=True):
        assert [bar.kind for bar in column.bars] == ["completed"] * bool(ok) + ["failed"] * bool(failed)
        for bar in column.bars:
            assert 0 <= bar.x <= bar.x + bar.width <= HALF.width
            # A hair more where one is drawn although it is too small to be.
            assert -2 <= bar.y <= bar.y + bar.height <= HALF.height
            assert bar.height >= 1.5
    assert chart.is_empty == (not any(good) and not any(bad))


@given(st.floats(0.001, 1e12))
def test_the_top_of_an_axis_is_round_and_not_below_what_is_drawn(most: float) -> None:
    top = nice_top(most, smallest=0.01)

    assert top >= most * 0.999999
    assert top <= max(most, 0.01) * 2.5
    assert f"{top:.1e}"[0] in "12468"


def test_a_line_has_gaps_where_nothing_is_known_and_a_dot_where_it_is_alone() -> None:
    values = [1.0, 2.0, None, 3.0, None, 1.0]
    moments = MINUTES[:6]

    chart = line_chart(moments, [("p50", values)], tips(moments), step_seconds=60)

    (line,) = chart.lines
    assert line.path.count("M") == 3
    assert line.path.count("L") == 1
    assert len(line.dots) == 2


def test_a_picture_of_nothing_says_so() -> None:
    chart = bar_chart(MINUTES, [("completed", [0] * 60)], tips(MINUTES), step_seconds=60)

    assert chart.is_empty
    assert [mark.text for mark in chart.grid] == ["0", "2", "4"]
    assert line_chart([], [("p50", [])], [], step_seconds=60).is_empty
    assert sparkline([]) == ""
    assert sparkline([0, 5, 10]).startswith("M0 26 L60 14")


def test_five_words_say_when_it_was() -> None:
    chart = bar_chart(MINUTES, [("completed", [1] * 60)], tips(MINUTES), step_seconds=60)

    assert [mark.text for mark in chart.words] == ["12:06", "12:18", "12:30", "12:42", "12:54"]


def test_a_life_is_drawn_to_scale() -> None:
    def at(seconds: float) -> datetime.datetime:
        return NOON + datetime.timedelta(seconds=seconds)

    drawn = stretches(
        [("wait", at(0), at(5), "w"), ("ok", at(5), at(10), "r"), ("ok", at(10), at(10), "")], at(0), at(10)
    )

    assert [(one.x, one.width) for one in drawn] == [(0, 500), (500, 500), (996, 4)]
