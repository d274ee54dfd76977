"""When something recurs: pure arithmetic over moments, with no I/O.

A rule names *ticks*, moments in UTC. There are three: :class:`Cron` (a crontab line in a time zone), :class:`Every` (an
interval from a fixed anchor, so that nothing drifts) and :class:`Once`.

What a cron line says in a time zone, on the nights when clocks are changed:

- A line with fixed times (neither minute nor hour begins with ``*``) names events of a day. One that falls into the
  hour that is skipped happens when the clock goes on, once; in the hour that comes twice, the first time only.
- A line with a ``*`` (or ``*/15``) in minute or hour follows the clock on the wall through real time: it loses nothing
  and repeats nothing but what the wall itself leaves out and shows again.

cronsim reads the lines and walks the wall clock. Which moments a wall clock's reading stands for is decided here,
because walking it in a zone that changes by half an hour (Lord Howe) loses ticks.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cronsim import CronSim, CronSimError

from jobplatform.errors import InvalidScheduleError, Problem, refuse
from jobplatform.queue.allowed import duration_problem, moment_problem
from jobplatform.queue.safe_json import text_problem

UTC: Final = datetime.UTC
SHORTEST_INTERVAL: Final = datetime.timedelta(seconds=1)
LONGEST_INTERVAL: Final = datetime.timedelta(days=366)
LONGEST_CRON: Final = 200
#: For how long after a change of the clock a tick of before it can still be ahead: clocks jump by a day at most.
SHADOW: Final = datetime.timedelta(hours=25)
EARLIEST: Final = datetime.datetime(1970, 1, 1, tzinfo=UTC)
#: Beyond this nobody plans, and no time zone is known.
LATEST: Final = datetime.datetime(2100, 1, 1, tzinfo=UTC)

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_SECOND = datetime.timedelta(seconds=1)
_DAY = datetime.timedelta(days=1)
_UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"), (1, "millisecond"))
_WIDENING = tuple(datetime.timedelta(hours=hours) for hours in (1, 24, 24 * 31, 24 * 366, 24 * 366 * 9))


@dataclass(frozen=True, slots=True)
class Cron:
    """A line of a crontab, five fields, in a time zone: ``Cron("30 2 * * mon-fri", "Europe/Berlin")``.

    ``@hourly``, ``@daily``, ``@weekly``, ``@monthly`` and ``@yearly`` are known. Raises :class:`InvalidScheduleError`
    for a line that cannot be read or names no moment at all, and for an unknown zone.
    """

    line: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        refuse(InvalidScheduleError, [_zone_problem(self.timezone), _line_problem(self.line)])

    @property
    def fields(self) -> str:
        return NAMES.get(self.line.strip().lower(), self.line)

    @property
    def has_fixed_times(self) -> bool:
        minute, hour, *_ = self.fields.split()
        return not minute.startswith("*") and not hour.startswith("*")

    @property
    def words(self) -> str:
        """The line in plain words: ``At 02:30 on Monday through Friday``."""
        return CronSim(self.fields, _A_DAY).explain()

    def next_after(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The first tick after ``moment``; None when there is none any more."""
        zone = zone_of(self.timezone)
        found = (
            _next_event(self.fields, zone, moment) if self.has_fixed_times else _next_sight(self.fields, zone, moment)
        )
        return found if found is not None and found <= LATEST else None


@dataclass(frozen=True, slots=True)
class Every:
    """An interval, counted from a fixed anchor in real time: no run and no downtime ever shifts the next tick.

    A schedule whose anchor nobody names is anchored to the moment it was made.
    """

    interval: datetime.timedelta
    anchor: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if problem := duration_problem("interval", self.interval):
            refuse(InvalidScheduleError, [Problem("/everyMs", problem)])
        long_enough = SHORTEST_INTERVAL <= self.interval <= LONGEST_INTERVAL
        whole = self.interval % datetime.timedelta(milliseconds=1) == datetime.timedelta(0)
        refuse(
            InvalidScheduleError,
            [
                None if long_enough else Problem("/everyMs", "must be from 1 second to 366 days"),
                None if whole else Problem("/everyMs", "must be whole milliseconds"),
                None if self.anchor is None else _moment_problem(self.anchor, "/anchor"),
            ],
        )

    @property
    def origin(self) -> datetime.datetime:
        return self.anchor or EARLIEST

    @property
    def timezone(self) -> str:
        return "UTC"

    @property
    def words(self) -> str:
        """``Every 15 minutes``."""
        milliseconds = self.interval // datetime.timedelta(milliseconds=1)
        size, unit = next((size, unit) for size, unit in _UNITS if milliseconds % size == 0)
        count = milliseconds // size
        return f"Every {unit}" if count == 1 else f"Every {count:,} {unit}s"

    def next_after(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The first tick after ``moment``; the anchor is the first of all, if it is still to come."""
        if moment < self.origin:
            return self.origin
        elapsed = (moment - self.origin) // self.interval
        found = self.origin + (elapsed + 1) * self.interval
        return found if found <= LATEST else None


@dataclass(frozen=True, slots=True)
class Once:
    """A single tick, at this moment or as soon after it as somebody looks."""

    at: datetime.datetime

    def __post_init__(self) -> None:
        refuse(InvalidScheduleError, [_moment_problem(self.at, "/runAt")])

    @property
    def timezone(self) -> str:
        return "UTC"

    @property
    def words(self) -> str:
        """``Once, at 12:00 on 5 January 2026 (UTC)``."""
        at = self.at.astimezone(UTC)
        seconds = f":{at:%S}" if at.second else ""
        return f"Once, at {at:%H:%M}{seconds} on {at.day} {at:%B %Y} (UTC)"

    def next_after(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The moment itself, or None once it has passed."""
        return self.at if self.at > moment else None


Rule = Cron | Every | Once


def ticks_after(rule: Rule, moment: datetime.datetime) -> Iterator[datetime.datetime]:
    """Every tick after ``moment``, in order."""
    while (tick := rule.next_after(moment)) is not None:
        yield tick
        moment = tick


def latest_tick(rule: Rule, first: datetime.datetime, until: datetime.datetime) -> datetime.datetime:
    """The newest tick up to ``until``, where ``first`` is one of them. However long ago that is, few are walked."""
    if isinstance(rule, Every):
        return rule.origin + ((until - rule.origin) // rule.interval) * rule.interval
    for width in _WIDENING:
        start = max(first, until - width)
        newest = first if start == first else None
        for tick in ticks_after(rule, start):
            if tick > until:
                break
            newest = tick
        if newest is not None:
            return newest
    return first


def offset_in(spread: datetime.timedelta, *names: object) -> datetime.timedelta:
    """A place within ``spread`` that is always the same for these names, in whole milliseconds, and evenly drawn."""
    window = spread // datetime.timedelta(milliseconds=1)
    if window <= 0:
        return datetime.timedelta(0)
    digest = hashlib.sha256("|".join(map(str, names)).encode()).digest()
    return datetime.timedelta(milliseconds=int.from_bytes(digest[:8]) % window)


@functools.lru_cache(maxsize=256)
def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of this name. Raises KeyError (or ValueError) for none."""
    return zoneinfo.ZoneInfo(name)


# -- cron in a time zone -----------------------------------------------------------------------------


def _next_event(line: str, zone: zoneinfo.ZoneInfo, moment: datetime.datetime) -> datetime.datetime | None:
    """Readings of the wall clock are events: each happens once, and none before an earlier one."""
    wall = _wall(zone, moment)
    if _wall(zone, moment - SHADOW) != wall - SHADOW:
        # The clock was changed not long ago, and what it reads now it may have read, or left out, before.
        wall -= SHADOW
    for reading in _readings(line, wall):
        happens = _first_moment(zone, reading)
        if happens > moment:
            return happens
    return None


def _next_sight(line: str, zone: zoneinfo.ZoneInfo, moment: datetime.datetime) -> datetime.datetime | None:
    """The next moment at which the clock on the wall shows a reading. Until it is changed it runs evenly."""
    offset = _offset(zone, moment)
    wall = _wall(zone, moment)
    while (reading := next(_readings(line, wall), None)) is not None:
        found = (reading - offset).replace(tzinfo=UTC)
        changed = _first_change(zone, moment, found)
        if changed is None:
            return found
        # On with the clock as it is then; a reading that the change itself brings counts.
        moment, offset = changed, _offset(zone, changed)
        wall = _wall(zone, changed) - _SECOND
    return None


def _readings(line: str, after: datetime.datetime) -> Iterator[datetime.datetime]:
    """What a clock that is never changed reads at each tick, from the first one after ``after``."""
    return iter(CronSim(line, after))


def _first_change(
    zone: zoneinfo.ZoneInfo, begin: datetime.datetime, end: datetime.datetime
) -> datetime.datetime | None:
    """When the clock is first changed in (begin, end], if it is. Nowhere is it changed twice within a day."""
    offset = _offset(zone, begin)
    step = begin
    while step < end:
        step = min(step + _DAY, end)
        if _offset(zone, step) != offset:
            return _change(lambda moment: _offset(zone, moment) != offset, step - _DAY, step)
    return None


def _first_moment(zone: zoneinfo.ZoneInfo, reading: datetime.datetime) -> datetime.datetime:
    """When the wall clock first shows ``reading``, or goes past it."""
    earlier, later = (reading.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if _wall(zone, earlier) == reading:
        return earlier
    # It never does: by the clock of before that is a moment after the change, by the one of after a moment before it.
    before = min(earlier, later)
    offset = _offset(zone, before)
    return _change(lambda moment: _offset(zone, moment) != offset, before, max(earlier, later))


def _change(
    changed: Callable[[datetime.datetime], bool], begin: datetime.datetime, end: datetime.datetime
) -> datetime.datetime:
    """The first whole second in (begin, end] at which something has ``changed``, as it has at the end."""
    while end - begin > _SECOND:
        middle = begin + ((end - begin) // _SECOND // 2) * _SECOND
        begin, end = (begin, middle) if changed(middle) else (middle, end)
    return end


def _wall(zone: zoneinfo.ZoneInfo, moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(zone: zoneinfo.ZoneInfo, moment: datetime.datetime) -> datetime.timedelta:
    return moment.astimezone(zone).utcoffset() or datetime.timedelta(0)


# -- what cannot be a rule ---------------------------------------------------------------------------

_A_DAY = datetime.datetime(2024, 1, 1)  # noqa: DTZ001 - a reading of a wall clock has no zone


def _line_problem(line: str) -> Problem | None:
    if problem := text_problem(line):
        return Problem("/cron", problem)
    if len(line) > LONGEST_CRON:
        return Problem("/cron", f"must be at most {LONGEST_CRON} characters")
    fields = NAMES.get(line.strip().lower(), line)
    if fields.startswith("@"):
        return Problem("/cron", f"is none of {', '.join(NAMES)}")
    if (count := len(fields.split())) != 5:
        more = "; for seconds, say an interval" if count == 6 else ""
        return Problem("/cron", f"must have 5 fields (minute, hour, day, month, weekday) and has {count}{more}")
    try:
        first = next(_readings(fields, _A_DAY), None)
    except (CronSimError, ValueError, TypeError, AssertionError) as error:
        return Problem("/cron", f"cannot be read: {str(error) or 'a field is not valid'}")
    return None if first else Problem("/cron", "names no moment at all")


def _zone_problem(name: str) -> Problem | None:
    try:
        zone_of(name)
    except (KeyError, ValueError, OSError, TypeError):
        return Problem("/timezone", f"{name!r:.100} is not a time zone, such as Europe/Berlin or UTC")
    return None


def _moment_problem(moment: datetime.datetime, path: str) -> Problem | None:
    if problem := moment_problem("at" if path == "/runAt" else "anchor", moment):
        return Problem(path, problem)
    return None if EARLIEST <= moment <= LATEST else Problem(path, "must be between 1970 and 2100")
