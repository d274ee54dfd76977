"""What becomes of an attempt, from how it ended: complete it, fail it, hand it back, or nothing. Pure.

Each function answers with what is to be written, in the queue's own words; None means that nothing is.
"""

import signal
from collections.abc import Mapping
from typing import Any, Final

from jobplatform.queue import Completion, Failure, Release, RetryPolicy, bounded_delay
from jobplatform.worker.attempt import Attempt
from jobplatform.worker.frames import Reason

Verdict = Completion | Failure | Release | None

DEFAULT_RETRY: Final = RetryPolicy()


def ended(attempt: Attempt, facts: Mapping[str, Any], retry: RetryPolicy) -> Verdict:
    """The child told how the handler ended, other than with a plain result.

    An attempt that was told to stop and failed, stopped: what it raised on the way out is not what ended it.
    """
    kind = facts["kind"]
    if kind == "completed":
        return Completion(attempt.lease, facts["result"], facts["outcome"])
    if kind == "completed_in":
        return None
    if attempt.reason is not None:
        return interrupted(attempt, attempt.reason, retry)
    if kind == "snoozed":
        return Release(attempt.lease, bounded_delay(facts["delay"]))
    if kind == "interrupted" and facts["outcome"] == "lost":
        # Its own write told the handler. If the lease is ours all the same, nobody else hands back what has begun:
        # reconciling takes it for a claim whose answer was lost, and gives units of rates back.
        return Release(attempt.lease)
    return failed(attempt, facts, retry)


def failed(attempt: Attempt, facts: Mapping[str, Any], retry: RetryPolicy) -> Failure:
    """The handler raised. What it raised that only the worker may raise counts as an error like any other."""
    by_handler = facts["kind"] == "failed"
    return Failure(
        lease=attempt.lease,
        outcome=facts["outcome"] if by_handler else "error",
        error_type=facts["error_type"] or "JobInterrupted",
        message=facts["message"],
        traceback=facts["traceback"],
        delay=bounded_delay(facts["delay"] if by_handler else retry.delay(attempt.job.attempt)),
        retry=facts["retry"] if by_handler else True,
    )


def interrupted(attempt: Attempt, reason: Reason, retry: RetryPolicy) -> Verdict:
    """The attempt was stopped because the worker wanted it, by an exception or by its process's end."""
    match reason:
        case Reason.TIMEOUT:
            return Failure(
                lease=attempt.lease,
                outcome="timeout",
                error_type="TimedOut",
                message=f"ran longer than its timeout of {attempt.timeout:g} s",
                delay=bounded_delay(retry.delay(attempt.job.attempt)),
            )
        case Reason.CANCELLED:
            return cancelled(attempt)
        case Reason.SHUTDOWN:
            return Release(attempt.lease)
        case Reason.LEASE_LOST:
            return Release(attempt.lease) if attempt.release_after else None


def cancelled(attempt: Attempt) -> Failure:
    """Somebody cancelled the job before or while it ran."""
    return Failure(
        lease=attempt.lease,
        outcome="cancelled",
        error_type="Cancelled",
        message="cancelled on request",
        retry=False,
    )


def crashed(attempt: Attempt, message: str, retry: RetryPolicy, error_type: str = "ProcessCrashed") -> Failure:
    """The attempt's process ended under it. Counts against the job's crashes, not against its attempts."""
    return Failure(
        lease=attempt.lease,
        outcome="lost",
        error_type=error_type,
        message=message,
        delay=bounded_delay(retry.delay(attempt.job.crash_count + 1)),
        crash=True,
    )


def exit_message(code: int) -> str:
    """How a process ended, from its exit code (negative: the signal that ended it)."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
