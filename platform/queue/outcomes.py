"""What a handler may say instead of a result, and what may be said to a handler.

The first four can be returned or raised, whichever reads better. Interruptions are raised *in* a handler by the
platform; they are not ``Exception``s, so that ``except Exception`` in a handler does not swallow its own end.
"""

from __future__ import annotations

import datetime


class HandlerOutcome(Exception):  # noqa: N818 - it is an answer, not an error
    """The base of what a handler may return or raise instead of a result."""


class Skip(HandlerOutcome):
    """There is nothing to do and trying again would not change that. The job is completed, its outcome ``skipped``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Discard(HandlerOutcome):
    """It went wrong for good. The job fails with outcome ``discarded``, however many attempts it has left."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Snooze(HandlerOutcome):
    """Not now: run it again after ``delay``. This attempt does not count."""

    def __init__(self, delay: datetime.timedelta | float) -> None:
        self.seconds = _seconds(delay)
        super().__init__(f"snoozed for {self.seconds:g} s")


class RateLimited(HandlerOutcome):
    """An external resource said "too often": it is left alone by every job for ``retry_after`` (a duration or seconds),
    and this one runs again after that. The attempt does not count. The resource is the job's own unless one is named.
    """

    def __init__(self, retry_after: datetime.timedelta | float, resource: str | None = None) -> None:
        self.seconds = _seconds(retry_after)
        self.resource = resource
        super().__init__(f"rate limited for {self.seconds:g} s")


def _seconds(duration: datetime.timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, datetime.timedelta) else float(duration)


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
