"""Allowed: what a queue may be called, how important a job may be and when it may run. Pure.

For whoever makes a job, and for whoever changes one that waits.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator
from typing import Final

from jobplatform.errors import Problem
from jobplatform.settings import QUEUE_NAME

PRIORITIES: Final = range(-1000, 1001)
#: The database knows years that nobody here could read again: because of one such job no list with it could be shown.
#: The first and the last one of the calendar are in UTC, or elsewhere, in a year that is none of it.
FIRST_YEAR: Final = 2
LAST_YEAR: Final = 9998


@functools.lru_cache(maxsize=1024)
def is_name(text: str) -> bool:
    """Whether a task or a queue may be called that."""
    return QUEUE_NAME.match(text) is not None


def outside(allowed: range, path: str) -> Problem:
    """That what stands at ``path`` is no number of these."""
    return Problem(path, f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def problems_of_moment(run_after: datetime.datetime) -> Iterator[Problem]:
    if not run_after.tzinfo:
        yield Problem("/runAfter", "must have a time zone")
    if run_after.year < FIRST_YEAR:
        yield Problem("/runAfter", f"must not be before the year {FIRST_YEAR}")
    if run_after.year > LAST_YEAR:
        yield Problem("/runAfter", f"must not be after the year {LAST_YEAR}")
