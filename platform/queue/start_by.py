"""Start by: the last moment at which a job may begin, in SQL for the verbs. One that has not begun by then never does.

The term begins when the job is due: at its ``run_after``, and for one that waits for other jobs when they have ended.
It is over when a handler begins (see attempts/begin.py); what becomes of further attempts is none of its business.
Whoever makes a job due anew, by a retry or by running it now, gives it a new term.

``job_queue.start_by`` is null for whatever has no term (left), and no statement looks at it for those. Where a job goes
back to waiting its time may be up (attempts/ending.py), and chores/end_late.py ends those that nobody claims.
"""

from __future__ import annotations

from typing import Final

#: The error type of a job that was not started because it was too late.
TOO_LATE: Final = "TooLate"


def start_by(due_at: str, within: str) -> str:
    """The moment, from when it is due and its ``start_within_ms``; null where that is."""
    return f"{due_at} + {within} * interval '1 millisecond'"


def why_too_late(moment: str) -> str:
    """What is said of a job that had not begun at its moment."""
    at = f"to_char({moment} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    return f"'it was to begin by ' || {at} || ' and had not, so it was not started'"
