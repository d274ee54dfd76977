"""Retry-After: what an exception, or the HTTP response that it carries, says about when to come back. Pure.

No HTTP library is imported: an error of ``httpx``, ``requests``, ``urllib``, ``aiohttp`` or any other that has its
answer where these have it is read alike. An error that was raised ``from`` such a one says the same.
"""

from __future__ import annotations

import datetime
import math
import numbers
import re
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from jobplatform.queue.run.asking import answer_of, asked

#: Answers that mean "later", and not "no".
LATER = (429, 503)
#: Of these the one that means "less".
TOO_OFTEN = 429
#: Whoever asks for more than a day is asked again after a day.
LONGEST = 86_400.0
_SECONDS = re.compile(r"[0-9]{1,9}\Z")
#: How far down the causes of an exception are looked at.
DEPTH = 5


class Wait(NamedTuple):
    """So many seconds. ``everybody``: a service said so, to whoever uses it and not to this job alone."""

    seconds: float
    everybody: bool


def asked_to_wait(error: BaseException) -> Wait | None:
    """What ``error`` or one of its causes asks for; None when it asks for nothing that makes sense."""
    cause: BaseException | None = error
    for _ in range(DEPTH):
        if cause is None:
            return None
        if (wait := _asked_by(cause)) is not None:
            return wait
        cause = cause.__cause__
    return None


def says_too_often(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes carries an answer that says "too often", with or without a time."""
    cause: BaseException | None = error
    for _ in range(DEPTH):
        if cause is None:
            return False
        answer = answer_of(cause)
        if answer is not None and answer.status == TOO_OFTEN:
            return True
        cause = cause.__cause__
    return False


def _asked_by(error: BaseException) -> Wait | None:
    if (said := _sensible(asked(error, "retry_after"))) is not None:
        return Wait(said, everybody=False)
    answer = answer_of(error)
    if answer is None or answer.status not in LATER:
        return None
    said = _sensible(header_seconds(_header(answer.headers, "Retry-After"), _header(answer.headers, "Date")))
    return None if said is None else Wait(said, everybody=True)


def header_seconds(after: str | None, now: str | None = None) -> float | None:
    """What a ``Retry-After`` asks for, which is seconds or a moment; of one that has passed less than nothing.

    None for none, and for what makes no sense. ``now`` is the answer's own ``Date``, where it has one: two machines'
    clocks are not compared with each other.
    """
    if after is None:
        return None
    if _SECONDS.match(after.strip()):
        return float(after)
    moment = _moment(after)
    if moment is None:
        return None
    return (moment - (_moment(now) or datetime.datetime.now(datetime.UTC))).total_seconds()


def _header(headers: Any, name: str) -> str | None:
    try:
        value = headers.get(name)
    except AttributeError:
        return None
    return value if isinstance(value, str) else None


def _moment(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _sensible(value: Any) -> float | None:
    """Seconds from a number or a duration. Nothing, and less, is no wish: then the task's own delay counts."""
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if type(value) is bool or not isinstance(value, numbers.Real):
        return None
    seconds = float(value)
    return min(seconds, LONGEST) if seconds > 0 and not math.isnan(seconds) else None
