"""A second opinion about cron lines in time zones: slow, and written without looking at the first.

It walks real time minute by minute, looks at the clock on the wall, and asks of each minute whether the line matches.
Nothing of the platform and nothing of cronsim is used.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from zoneinfo import ZoneInfo

UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)
#: More than any clock of these zones is ever set back.
BEFORE = datetime.timedelta(hours=3)
DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


def numbers(field: str, low: int, high: int) -> set[int]:
    """What a field of a line allows, as numbers."""
    found: set[int] = set()
    for part in field.split(","):
        base, _, step = part.partition("/")
        if base == "*":
            first, last = low, high
        elif "-" in base:
            first, last = (_number(text) for text in base.split("-"))
        else:
            first = _number(base)
            last = high if step else first
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(text: str) -> int:
    return DAYS[text.lower()] if text.lower() in DAYS else int(text)


class Line:
    """A line of numbers, lists, ranges, steps and weekdays."""

    def __init__(self, text: str) -> None:
        minute, hour, day, month, weekday = text.split()
        self.minutes, self.hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
        self.days, self.months = numbers(day, 1, 31), numbers(month, 1, 12)
        self.weekdays = {number % 7 for number in numbers(weekday, 0, 7)}
        self.both_days = day.startswith("*") or weekday.startswith("*")
        self.follows_the_wall = minute.startswith("*") or hour.startswith("*")

    def matches(self, wall: datetime.datetime) -> bool:
        by_date, by_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        on_day = (by_date and by_weekday) if self.both_days else (by_date or by_weekday)
        return on_day and wall.month in self.months and wall.hour in self.hours and wall.minute in self.minutes


def ticks(text: str, zone: str, begin: datetime.datetime, end: datetime.datetime) -> list[datetime.datetime]:
    """Every tick in [begin, end), by looking at every minute."""
    line, place = Line(text), ZoneInfo(zone)
    found: list[datetime.datetime] = []
    # Some hours before, to know what the wall has shown already when ours begins.
    earlier = begin - BEFORE
    highest = wall_at(earlier, place) - MINUTE
    for moment, wall in walls(zone, earlier, end):
        if line.follows_the_wall:
            if line.matches(wall):
                found.append(moment)
        else:
            # What the wall shows for the first time, and what it jumped over to get there, happens now.
            passed = highest + MINUTE
            happens = False
            while passed <= wall:
                happens = happens or line.matches(passed)
                passed += MINUTE
            if happens:
                found.append(moment)
            highest = max(highest, wall)
    return [moment for moment in found if moment >= begin]


@functools.lru_cache(maxsize=8)
def walls(
    zone: str, begin: datetime.datetime, end: datetime.datetime
) -> Sequence[tuple[datetime.datetime, datetime.datetime]]:
    """Every minute of real time, and what the clock on the wall shows then."""
    count = -(-(end - begin) // MINUTE)
    return [(begin + n * MINUTE, wall_at(begin + n * MINUTE, ZoneInfo(zone))) for n in range(count)]


def wall_at(moment: datetime.datetime, zone: ZoneInfo) -> datetime.datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)
