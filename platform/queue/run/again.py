"""Again: whether, and when, a job whose attempt raised something is tried again. Pure.

    1. The exception says ``should_retry = False``, or the payload cannot be read: never.
    2. The task's own function of attempt and exception, where it has one and it says something.
    3. What the exception or the HTTP response behind it asks for (Retry-After).
    4. The task's retry policy.

How many attempts there are is the job's own affair, and decided where the failure is written.
"""

from __future__ import annotations

import datetime
import logging
import math
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from jobplatform.errors import InvalidPayloadError
from jobplatform.queue.run.asking import unless_it_raises
from jobplatform.queue.run.outcomes import JobInterrupted
from jobplatform.queue.run.retry_after import asked_to_wait
from jobplatform.queue.tasks.retry import RetryPolicy

#: From the attempt's number (from 1) and what it raised: seconds or a duration to wait, False for no further attempt,
#: None (or True) for "as if there were no such function".
RetryFunction = Callable[[int, BaseException], "datetime.timedelta | float | bool | None"]

#: Of what a service asks for, so much at most is added by chance: those it told the same do not come back as one.
SPREAD = 0.1
#: And never more than these seconds.
LONGEST_SPREAD = 5.0

#: Seconds until a job may run again, at most: more than that is never.
LONGEST_DELAY: Final = 10 * 365 * 86_400.0

_log = logging.getLogger("jobplatform.queue")


class Again(NamedTuple):
    """``retry`` after ``delay`` seconds. ``closed_for``: a service said that nobody should come for so long. ``asked``:
    the delay is what was asked for."""

    retry: bool
    delay: float = 0.0
    closed_for: float = 0.0
    asked: bool = False


def bounded_delay(seconds: float) -> float:
    """A delay that an interval can hold: handlers have snoozed for infinity and NaN, and a policy's cap may be none.

    >>> bounded_delay(-1), bounded_delay(60)
    (0.0, 60)
    """
    return min(seconds, LONGEST_DELAY) if seconds >= 0 else 0.0


def again(policy: RetryPolicy, decide: RetryFunction | None, attempt: int, error: BaseException) -> Again:
    """What follows from an attempt that raised ``error``."""
    if not _may_be_tried_again(error):
        return Again(retry=False)
    wait = unless_it_raises(lambda: asked_to_wait(error), None)
    closed_for = wait.seconds if wait is not None and wait.everybody else 0.0
    decided = _decided(decide, attempt, error)
    if decided is False:
        return Again(retry=False, closed_for=closed_for)
    if decided is not None:
        return Again(retry=True, delay=decided, closed_for=closed_for)
    if wait is not None:
        delay = wait.seconds + random.uniform(0, min(wait.seconds * SPREAD, LONGEST_SPREAD))
        return Again(retry=True, delay=delay, closed_for=closed_for, asked=True)
    return Again(retry=True, delay=policy.delay(attempt))


def _may_be_tried_again(error: BaseException) -> bool:
    # A payload that does not load will not load the next time either.
    unasked = not isinstance(error, InvalidPayloadError)
    return unless_it_raises(lambda: bool(getattr(error, "should_retry", unasked)), unasked)


def _decided(decide: RetryFunction | None, attempt: int, error: BaseException) -> float | bool | None:
    """What the task's function says: seconds, False, or None. One that fails itself says nothing."""
    if decide is None:
        return None
    try:
        said = decide(attempt, error)
        if said is False:
            return False
        if said is None or said is True:
            return None
        seconds = said.total_seconds() if isinstance(said, datetime.timedelta) else float(said)
    except JobInterrupted:
        raise
    except BaseException:  # noqa: BLE001 - user code: whatever it raises, the attempt has to end
        _log.exception("a task's retry function failed; its policy decides")
        return None
    return None if math.isnan(seconds) else max(0.0, seconds)
