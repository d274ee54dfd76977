"""Charts, computed: where the marks of a picture go. Templates draw them, with a title, a description and a table.

Pure.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

LEFT, RIGHT, TOP, BOTTOM = 48, 6, 8, 24


@dataclass(frozen=True, slots=True)
class Frame:
    """How large a picture is drawn; SVG scales it to its place, so its words are of the size that they have there."""

    width: int
    height: int

    def room(self, moments: int) -> float:
        """For each of so many moments."""
        return (self.width - LEFT - RIGHT) / max(1, moments)

    def height_of(self, value: float, top: float) -> float:
        return self.height - BOTTOM - value / top * (self.height - TOP - BOTTOM)


WIDE = Frame(1050, 210)
HALF = Frame(510, 160)


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar. ``kind`` is its class; ``tip`` says what it is."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True, slots=True)
class Column:
    """Everything at one moment, with what to say about it."""

    x: float
    width: float
    tip: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the grid, or a word below the axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class BarChart:
    columns: tuple[Column, ...]
    grid: tuple[Mark, ...]
    words: tuple[Mark, ...]
    frame: Frame
    left: int = LEFT
    is_empty: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    #: What an SVG path takes; gaps are where nothing is known.
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    lines: tuple[Line, ...]
    grid: tuple[Mark, ...]
    words: tuple[Mark, ...]
    columns: tuple[Column, ...]
    frame: Frame
    left: int = LEFT
    is_empty: bool = False


def bar_chart(
    moments: Sequence[datetime.datetime],
    series: Sequence[tuple[str, Sequence[float]]],
    tips: Sequence[str],
    *,
    step_seconds: float,
    frame: Frame = HALF,
) -> BarChart:
    """Stacked bars, the first of ``series`` at the bottom: ``[("completed", [...]), ("failed", [...])]``."""
    sums = [sum(values[at] for _, values in series) for at in range(len(moments))]
    top = nice_top(max(sums, default=0))
    room = frame.room(len(moments))
    columns = []
    for at in range(len(moments)):
        x, y = LEFT + at * room, float(frame.height - BOTTOM)
        bars: list[Bar] = []
        for kind, values in series:
            height = values[at] / top * (frame.height - TOP - BOTTOM)
            # What there is is seen, be it one among thousands.
            height = max(height, 1.5) if values[at] else 0.0
            if height:
                y -= height
                bars.append(Bar(_r(x + room * 0.12), _r(y), _r(room * 0.76), _r(height), kind))
        columns.append(Column(_r(x), _r(room), tips[at], tuple(bars)))
    grid = tuple(Mark(_r(frame.height_of(value, top)), _amount(value)) for value in (0, top / 2, top))
    return BarChart(tuple(columns), grid, time_words(moments, step_seconds, frame), frame, is_empty=not any(sums))


def line_chart(
    moments: Sequence[datetime.datetime],
    series: Sequence[tuple[str, Sequence[float | None]]],
    tips: Sequence[str],
    *,
    step_seconds: float,
    frame: Frame = HALF,
) -> LineChart:
    """Lines of seconds: ``[("p50", [...]), ("p95", [...])]``; None where nothing is known."""
    known = [value for _, values in series for value in values if value is not None]
    top = nice_top(max(known, default=0), smallest=0.01)
    room = frame.room(len(moments))
    xs = [_r(LEFT + (at + 0.5) * room) for at in range(len(moments))]
    lines = tuple(_line(kind, xs, values, top, frame) for kind, values in series)
    grid = tuple(Mark(_r(frame.height_of(value, top)), _seconds(value)) for value in (0, top / 2, top))
    columns = tuple(Column(_r(LEFT + at * room), _r(room), tips[at], ()) for at in range(len(moments)))
    return LineChart(lines, grid, time_words(moments, step_seconds, frame), columns, frame, is_empty=not known)


def sparkline(values: Sequence[float], width: int = 120, height: int = 28) -> str:
    """The path of a small line without axes."""
    top = max([*values, 1])
    step = width / max(1, len(values) - 1)
    points = [f"{_r(at * step):g} {_r(height - 2 - value / top * (height - 4)):g}" for at, value in enumerate(values)]
    return "M" + " L".join(points) if points else ""


def nice_top(most: float, smallest: float = 4) -> float:
    """A round number not below ``most``, that halves well."""
    most = max(most, smallest)
    power = 10.0 ** math.floor(math.log10(most))
    for factor in (1, 2, 4, 6, 8, 10):
        if factor * power >= most - 1e-12:
            return factor * power
    raise AssertionError("ten times the power is above it")


def time_words(moments: Sequence[datetime.datetime], step_seconds: float, frame: Frame = HALF) -> tuple[Mark, ...]:
    """Five words below the axis, in UTC."""
    if not moments:
        return ()
    form = "%H:%M" if step_seconds * len(moments) <= 90_000 else "%d %b"
    room = frame.room(len(moments))
    every = max(1, len(moments) // 5)
    return tuple(
        Mark(_r(LEFT + (at + 0.5) * room), moments[at].astimezone(datetime.UTC).strftime(form))
        for at in range(every // 2, len(moments), every)
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a job's life on its bar: from and to, out of 1000. ``kind``: wait, run, ok, error, …"""

    x: float
    width: float
    kind: str
    label: str


def stretches(
    parts: Sequence[tuple[str, datetime.datetime, datetime.datetime, str]],
    start: datetime.datetime,
    end: datetime.datetime,
) -> tuple[Stretch, ...]:
    """A life, drawn to scale; what took no time at all is a hair wide, so that it is seen."""
    whole = max((end - start).total_seconds(), 0.001)
    drawn = []
    for kind, begin, finish, label in parts:
        x = min(max((begin - start).total_seconds() / whole, 0), 1) * 1000
        width = min(max((finish - begin).total_seconds() / whole, 0), 1) * 1000
        drawn.append(Stretch(_r(min(x, 996)), _r(max(width, 4)), kind, label))
    return tuple(drawn)


def _line(kind: str, xs: Sequence[float], values: Sequence[float | None], top: float, frame: Frame) -> Line:
    path: list[str] = []
    dots: list[tuple[float, float]] = []
    pen_down = False
    for at, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        y = _r(frame.height_of(value, top))
        path.append(f"{'L' if pen_down else 'M'}{xs[at]:g} {y:g}")
        alone = not pen_down and (at + 1 >= len(values) or values[at + 1] is None)
        if alone:
            dots.append((xs[at], y))
        pen_down = True
    return Line(kind, " ".join(path), tuple(dots))


def _amount(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    if value < 1:
        return f"{value * 1000:g} ms"
    if value < 120:
        return f"{value:g} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def _r(value: float) -> float:
    return round(value, 2)
