"""Numbers, rates and times as people write them."""

from __future__ import annotations

import datetime
import re
from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import clock

MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
NONE = "none"
NOW = "now"
#: Seconds of a hundred years. Longer than that nothing here lasts, and a timedelta has an end.
CENTURY = 36_525 * 86_400

_BETWEEN = re.compile(r"(\d{1,10})\.\.(\d{1,10})")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})(ms|s|m|h|d)?")
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(ms|s|m|h|d)")


class Count(click.ParamType[Any]):
    """A whole number, or ``none`` to clear what is set. Answers with None for that, in a tuple of one."""

    name = "number|none"

    def __init__(self, low: int, high: int = 2**31 - 1) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if value.lower() == NONE:
            return (None,)
        if not re.fullmatch(r"\d{1,10}", value) or not self.low <= int(value) <= self.high:
            self.fail(f"{value!r} is neither a whole number from {self.low} to {self.high} nor {NONE!r}", param, ctx)
        return (int(value),)


class Between(click.ParamType[Any]):
    """``1..50``: from a least of 1 at least to a most. Answers with the two."""

    name = "least..most"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        found = _BETWEEN.fullmatch(value)
        least, most = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= least <= most < 2**31:
            self.fail(f"{value!r} is not from one number to another that is no less, such as 1..50", param, ctx)
        return (least, most)


class Rate(click.ParamType[Any]):
    """``100/10s``: so many in each period. ``none`` clears. Answers with units and milliseconds."""

    name = "number/period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if value.lower() == NONE:
            return (None, None)
        found = _RATE.fullmatch(value)
        units, period = (int(found[1]), int(found[2] or 1) * MILLISECONDS[found[3]]) if found else (0, 0)
        if not units or not period:
            self.fail(f"{value!r} is not a rate such as 100/10s, 5/m or 1000/h", param, ctx)
        return (units, period)


class Duration(click.ParamType[Any]):
    """``90s``, ``5m``, ``1.5h``, ``1d``. A number alone is of seconds, or of the unit ``alone``; of none if that is
    empty. ``shortest`` and ``longest`` are seconds."""

    name = "duration"

    def __init__(self, shortest: float = 0.001, longest: float = CENTURY, *, alone: str = "s") -> None:
        self.shortest, self.longest, self.alone = shortest, longest, alone

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        found = _DURATION.fullmatch(value.strip())
        unit = (found[2] or self.alone) if found else ""
        seconds = float(found[1]) * MILLISECONDS[unit] / 1000 if found and unit else -1
        if seconds < min(self.shortest, 0.001):
            self.fail(f"{value!r} is not a duration such as 90s, 5m, 2h or 1d", param, ctx)
        if seconds > CENTURY:
            self.fail(f"{value!r} is longer than a hundred years", param, ctx)
        if not self.shortest <= seconds <= self.longest:
            self.fail(f"{value!r} is not a duration from {self.shortest:g}s to {self.longest:g}s", param, ctx)
        return datetime.timedelta(seconds=seconds)


class Moment(click.ParamType[Any]):
    """``2026-01-05T12:00:00Z``: a moment with its offset."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        moment = _parse(value)
        if moment is None or moment.tzinfo is None:
            self.fail(f"{value!r} is not a moment with an offset, such as 2026-01-05T12:00:00Z", param, ctx)
        return moment


class MomentOrNow(Moment):
    """The same, or ``now``, which is answered with itself."""

    name = "moment|now"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.lower() == NOW:
            return NOW
        return super().convert(value, param, ctx)


def _parse(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return None


def moment_after(session: Session, duration: datetime.timedelta) -> datetime.datetime:
    """So long from now, by the database's clock."""
    return session.execute(select(clock())).scalar_one() + duration


def show_rate(units: int | None, period_ms: int | None) -> str | None:
    """As it is written on the command line."""
    if units is None or period_ms is None:
        return None
    name, size = next((name, size) for name, size in reversed(MILLISECONDS.items()) if period_ms % size == 0)
    return f"{units}/{period_ms // size}{name}"
