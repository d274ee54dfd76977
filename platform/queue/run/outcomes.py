"""What a handler may say instead of a result, and what may be said to a handler.

Outcomes can be returned or raised, whichever reads better. Interruptions are raised *in* a handler by the platform;
they are not ``Exception``s, so that ``except Exception`` in a handler does not swallow its own end.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

from jobplatform.queue.tasks.resources import resource_problem
from jobplatform.queue.tasks.retry import RetryPolicy


class HandlerOutcome(Exception):  # noqa: N818 - it is an answer, not an error
    """The base of what a handler may return or raise instead of a result."""

    def __init__(self, reason: str) -> None:
        # Whoever gives up because of an exception gives that as the reason.
        self.reason = str(reason)
        super().__init__(self.reason)


class Skip(HandlerOutcome):
    """There is nothing to do and trying again would not change that. The job is completed, its outcome ``skipped``."""


class Discard(HandlerOutcome):
    """It went wrong for good. The job fails with outcome ``discarded``, however many attempts it has left."""


class Cancel(HandlerOutcome):
    """The handler found that its job should not be done. It ends as cancelled, as if somebody had cancelled it."""


class Retry(HandlerOutcome):
    """Not this time: this attempt is spent, and the next one runs ``after`` so long (a duration or seconds; the task's
    own delay when nothing is said). The last attempt fails the job, with ``reason``.

    ``Retry(max_attempts=5, base=5)``, with the options of a :class:`RetryPolicy`, is that policy's former name and may
    be given to a task as its ``retry``.
    """

    def __init__(
        self, after: datetime.timedelta | float | None = None, reason: str = "asked to be tried again", **policy: Any
    ) -> None:
        if policy and after is not None:
            raise TypeError("Retry(after=…) says how an attempt ended; how a task is retried is a RetryPolicy(…)")
        self.seconds = None if after is None else _seconds("Retry", after)
        self.policy = RetryPolicy(**policy) if policy else None
        super().__init__(reason)


class Snooze(HandlerOutcome):
    """Not now: run it again after ``delay`` (a duration or seconds, 0 for at once). This attempt does not count."""

    def __init__(self, delay: datetime.timedelta | float) -> None:
        self.seconds = _seconds("Snooze", delay)
        if self.seconds < 0:
            raise ValueError(f"Snooze({delay!r}) would be over before it begins; max(0, …) for what may have passed")
        super().__init__(f"snoozed for {self.seconds:g} s")


class RateLimited(HandlerOutcome):
    """An external resource said "too often": it is left alone by every job for ``retry_after`` (a duration or seconds),
    and this one runs again after that. The attempt does not count. The resource is the job's own unless one is named.

    If it did not say for how long, leave that out: others may go on asking it, fewer at a time where its limit is
    adaptive, and this job runs again after the task's own delay. ``reason`` is what :func:`why_waiting` tells of it.
    """

    def __init__(
        self,
        retry_after: datetime.timedelta | float | None = None,
        resource: str | None = None,
        reason: str | None = None,
    ) -> None:
        if not isinstance(resource, str | None):
            raise TypeError(f"a resource is named by a text such as 'hubspot:4711', not by {type(resource).__name__}")
        if resource is not None and (problem := resource_problem(resource)):
            raise ValueError(f"{resource!r} is not the name of a resource such as 'hubspot:4711': it {problem}")
        self.seconds = None if retry_after is None else _seconds("RateLimited", retry_after)
        self.resource = resource
        limited = "rate limited" if self.seconds is None else f"rate limited for {self.seconds:g} s"
        super().__init__(limited if reason is None else reason)


def _seconds(outcome: str, said: datetime.timedelta | float) -> float:
    """What a service asks for is passed on as it came: as a text with a number in it, or less than nothing."""
    if isinstance(said, datetime.timedelta):
        return said.total_seconds()
    try:
        seconds = math.nan if isinstance(said, bool) else float(said)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds):
        raise TypeError(f"{outcome}({said!r:.100}): neither a duration nor a number of seconds, as in {outcome}(60)")
    return seconds


class JobInterrupted(BaseException):
    """The base of what the platform raises in a running handler. Clean up and let it pass."""

    reason = "interrupted"


class TimedOut(JobInterrupted):
    """The attempt used up its time."""

    reason = "timeout"


class Cancelled(JobInterrupted):
    """Somebody cancelled the job."""

    reason = "cancelled"


class LeaseLost(JobInterrupted):
    """The attempt is not ours any more: nothing this handler still writes through the platform is accepted."""

    reason = "lost"


class ShutDown(JobInterrupted):
    """The worker stops and cannot wait longer. The job goes back without spending an attempt."""

    reason = "shutdown"


INTERRUPTIONS: dict[str, type[JobInterrupted]] = {
    kind.reason: kind for kind in (TimedOut, Cancelled, LeaseLost, ShutDown)
}
