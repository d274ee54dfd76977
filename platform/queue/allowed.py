"""Allowed: what a queue may be called, how important a job may be and when it may run. Pure.

For whoever makes a job, and for whoever changes one that waits.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Iterator
from typing import Final

from jobplatform.errors import InvalidLimitError, Problem
from jobplatform.settings import QUEUE_NAME

PRIORITIES: Final = range(-1000, 1001)
#: So many jobs can be the most that run, or wait: what a column of the database holds.
COUNTS: Final = range(2**31)
#: The database knows years that nobody here could read again: because of one such job no list with it could be shown.
#: From these years no time zone leads to one, nor does the longest time within which a job has to begin.
YEARS: Final = range(2, 9998)


def duration_problem(name: str, value: object) -> str | None:
    """That this is no duration, with what to write; None for one. A number might be of seconds or of milliseconds.

    >>> duration_problem("timeout", 60)
    'timeout=60 is no duration: write timedelta(seconds=60)'
    """
    if isinstance(value, datetime.timedelta):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return f"{name}={value!r} is no duration: write timedelta(seconds={value if is_number else 60})"


def moment_problem(name: str, value: object) -> str | None:
    """The same of a moment."""
    if isinstance(value, datetime.datetime):
        return None
    return f"{name}={value!r} is no moment: write datetime(2026, 1, 5, 9, 0, tzinfo=UTC)"


def seconds_wanted(name: str, given: datetime.timedelta) -> str:
    """That a number of seconds is asked for here, with the one that this would be."""
    return f"{name} is a number of seconds: write {name}={given.total_seconds()}"


def require_durations(**given: datetime.timedelta | None) -> None:
    """Raises :class:`InvalidLimitError` for each that is none. What is None is not said."""
    said = {name: value for name, value in given.items() if value is not None}
    wrong = [Problem(f"/{name}", text) for name, value in said.items() if (text := duration_problem(name, value))]
    if wrong:
        raise InvalidLimitError(wrong)


@functools.lru_cache(maxsize=1024)
def is_name(text: str) -> bool:
    """Whether a task or a queue may be called that."""
    return QUEUE_NAME.match(text) is not None


def outside(allowed: range, path: str) -> Problem:
    """That what stands at ``path`` is no number of these."""
    return Problem(path, f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def problems_of_moment(run_after: datetime.datetime) -> Iterator[Problem]:
    """What is wrong with the moment before which a job is not to run."""
    if problem := moment_problem("run_after", run_after):
        yield Problem("/runAfter", f"{problem}; for so long from now there is delay")
        return
    if run_after.utcoffset() is None:
        yield Problem("/runAfter", "must have a time zone")
    if run_after.year not in YEARS:
        yield Problem("/runAfter", f"must be in a year from {YEARS[0]} to {YEARS[-1]}")
