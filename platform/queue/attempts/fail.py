"""Fail: attempts that ended badly. Back to waiting with the delay that was computed for them, or final.

Whether an attempt was the last is decided in the statement, from the locked row: the counters there are the truth, a
worker's copy may be old.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import Outcome
from jobplatform.queue.attempts.ending import ENDING, end_attempts
from jobplatform.queue.run.again import bounded_delay
from jobplatform.queue.safe_json import ERROR_LIMIT, TRACEBACK_LIMIT, safe_text
from jobplatform.queue.statement import Lease, array, lease_arrays, text_array

FAIL = f"""
with locked as materialized (
    select
        q.workspace_id, q.id, q.epoch, q.worker_id, q.attempts, q.crash_count, q.started_at, q.progress, q.followed,
        q.unique_key, q.start_by,
        u.outcome, u.error_type, u.error, u.traceback, u.delay,
        u.crash::int::smallint as crash,
        q.cancel_requested_at is not null or u.outcome = 'cancelled' as cancelled,
        u.retry and case
            when u.crash then q.crash_count + 1 < %(crash_limit)s
            else q.attempts < q.max_attempts
        end as again
    from unnest(
        %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(outcomes)s::text[], %(error_types)s::text[],
        %(errors)s::text[], %(tracebacks)s::text[], %(delays)s::float8[], %(retries)s::bool[], %(crashes)s::bool[]
    ) as u(workspace_id, id, epoch, outcome, error_type, error, traceback, delay, retry, crash)
    join jobplatform.job_queue q on q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch
    where q.state + 0 = 2
    order by q.workspace_id, q.id
    for update of q
),
verdict as materialized (
    select l.*, l.crash as give_back, l.cancelled or not l.again as final, true as recorded from locked l
),
{ENDING}
"""


class Failure(NamedTuple):
    """The end of an attempt that went badly.

    ``delay`` is in seconds and counts only when the job may be tried again. ``crash`` says that the attempt took its
    process with it: the attempt is given back and the job's own crash counter, with a cap of its own, goes up instead.
    """

    lease: Lease
    outcome: str
    error_type: str
    message: str
    traceback: str | None = None
    delay: float = 0.0
    retry: bool = True
    crash: bool = False


def fail_jobs(session: Session, failures: Sequence[Failure], *, crash_limit: int = 3) -> dict[Lease, str]:
    """End attempts as failed and answer, for each lease that still held, with the job's status now.

    ``pending``: it will be tried again. ``failed``: not retryable, out of attempts, or crashed ``crash_limit`` times.
    ``cancelled``: somebody asked for that in the meantime. Texts are made safe and cut, so that saving an error can
    never be what fails. Every attempt is kept in ``job_attempts``.
    """
    rows = end_attempts(
        session,
        FAIL,
        **lease_arrays([failure.lease for failure in failures]),
        outcomes=text_array(Outcome(failure.outcome).value for failure in failures),
        error_types=text_array(safe_text(failure.error_type, 200) for failure in failures),
        errors=text_array(safe_text(failure.message, ERROR_LIMIT) for failure in failures),
        tracebacks=text_array(
            failure.traceback and safe_text(failure.traceback, TRACEBACK_LIMIT) for failure in failures
        ),
        delays=array(bounded_delay(failure.delay) for failure in failures),
        retries=array(failure.retry for failure in failures),
        crashes=array(failure.crash for failure in failures),
        crash_limit=crash_limit,
    )
    return {Lease(row[0], row[1], row[2]): row[3] for row in rows}
