"""Allowed: what a queue may be called, how important a job may be and when it may run. Pure.

For whoever makes a job, and for whoever changes one that waits.
"""

from __future__ import annotations

import datetime
import functools
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeGuard

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.settings import QUEUE_NAME

PRIORITIES: Final = range(-1000, 1001)
#: So many jobs can be the most that run, or wait: what a column of the database holds.
COUNTS: Final = range(2**31)
#: Of payloads.
VERSIONS: Final = range(1, 32_768)
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
    seconds = value if is_number(value) and abs(value) < 1e9 else 60
    return f"{name}={value!r:.100} is no duration: write timedelta(seconds={seconds})"


def moment_problem(name: str, value: object) -> str | None:
    """The same of a moment. One without a time zone is another one on each machine."""
    if not isinstance(value, datetime.datetime):
        return f"{name}={value!r:.100} is no moment: write datetime(2026, 1, 5, 9, 0, tzinfo=UTC)"
    if value.utcoffset() is None:
        return "must have a time zone"
    return None if value.year in YEARS else f"must be in a year from {YEARS[0]} to {YEARS[-1]}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is one, and not one of those that are none: what is computed wrongly is often NaN."""
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def is_whole(value: object, allowed: range) -> bool:
    """Whether it is a whole number of these. A float is none, nor is True: the database reads what they are written
    as, and no equal is that.

    >>> is_whole(2, range(3)), is_whole(2.0, range(3)), is_whole(True, range(3))
    (True, False, False)
    """
    return isinstance(value, int) and value in allowed and not isinstance(value, bool)


def id_problem(said: object) -> str | None:
    """That this is no id, with what makes one of it; None for one. Not every caller has a type checker, and many have
    the number of a customer or an id as it came by HTTP.
    """
    if isinstance(said, uuid.UUID):
        return None
    kind = type(said).__name__
    if kind == "UUID":
        return f"is a UUID of {type(said).__module__}, not of uuid; UUID(str(…)) makes one"
    hint = "UUID(…) reads one" if isinstance(said, str) else "uuid5(NAMESPACE, …) makes one of an id of yours"
    return f"is a {kind}, not a UUID; {hint}"


def list_problem(said: object) -> str | None:
    """That this is no list; None for one. A single text would be walked through letter by letter."""
    if isinstance(said, Iterable) and not isinstance(said, str | bytes | Mapping):
        return None
    return f"must be a list, and is a {type(said).__name__}: write […]"


def session_problem(said: object) -> str | None:
    """That this is no Session; None for one. Whoever comes from a broker begins with the payload."""
    if hasattr(said, "sync_session"):
        return f"is a {type(said).__name__}; call it in run_sync(lambda session: …)"
    return f"is a {type(said).__name__}" if getattr(said, "flush", None) is None else None


def seconds_wanted(name: str, given: object) -> str:
    """That a number of seconds is asked for here, with the one that a duration would be."""
    if isinstance(given, datetime.timedelta):
        return f"{name} is a number of seconds: write {name}={given.total_seconds()}"
    return f"{name}={given!r:.100} is no number of seconds: write {name}=60"


def require_durations(**given: datetime.timedelta | None) -> None:
    """Raises :class:`InvalidLimitError` for each that is none. What is None is not said."""
    said = {name: value for name, value in given.items() if value is not None}
    wrong = [Problem(f"/{name}", text) for name, value in said.items() if (text := duration_problem(name, value))]
    refuse(InvalidLimitError, wrong)


def is_name(text: object) -> bool:
    """Whether a task or a queue may be called that."""
    return isinstance(text, str) and is_name_text(text)


@functools.lru_cache(maxsize=1024)
def is_name_text(text: str) -> bool:
    """The same of what is known to be a text: every job asks it twice."""
    return QUEUE_NAME.match(text) is not None


def outside(allowed: range, path: str) -> Problem:
    """That what stands at ``path`` is no number of these."""
    return Problem(path, f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def problems_of_moment(run_after: datetime.datetime) -> Iterator[Problem]:
    """What is wrong with the moment before which a job is not to run."""
    said: object = run_after
    if problem := moment_problem("run_after", said):
        hint = "" if isinstance(said, datetime.datetime) else "; for so long from now there is delay"
        yield Problem("/runAfter", f"{problem}{hint}")
