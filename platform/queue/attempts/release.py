"""Release: hand back a job whose attempt was not the job's fault to lose. The attempt is given back too.

Used when a worker stops, when a claimed job was never started, and for a handler that asks to be run later (snooze).
The epoch stays, so the old lease is worth nothing. What was never started has used nothing of its workspace's rate or
of a resource's either: that goes back into the buckets, in the statement that hands the job back. Whoever has to ask
again, because the database went away, gives it back once: a lease is handed back once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.attempts.ending import ENDING, end_attempts
from jobplatform.queue.attempts.refund import REFUND
from jobplatform.queue.run.again import bounded_delay
from jobplatform.queue.statement import Lease, array, lease_arrays, leases_of

# A cancel that arrived in the meantime is honoured here: going back to waiting would lose it.
_VERDICT = """
with verdict as materialized (
    select
        q.workspace_id, q.id, q.epoch, q.worker_id, q.attempts, q.crash_count, q.started_at, q.progress, q.followed,
        q.unique_key, q.start_by, q.resource, q.units,
        u.delay, u.unstarted,
        1::smallint as give_back, 0::smallint as crash, q.cancel_requested_at is not null as recorded,
        q.cancel_requested_at is not null as final, true as cancelled,
        'cancelled' as outcome, null::text as error_type, null::text as error, null::text as traceback
    from unnest(
        %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(delays)s::float8[], %(unstarted)s::bool[]
    ) as u(workspace_id, id, epoch, delay, unstarted)
    join jobplatform.job_queue q on q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch
    where q.state + 0 = 2
    order by q.workspace_id, q.id
    for update of q
),
"""

RELEASE = f"{_VERDICT}{ENDING}"

RELEASE_UNSTARTED = f"""{_VERDICT}
{REFUND}
{ENDING}
"""


class Release(NamedTuple):
    """A lease to hand back; the job may run again after ``delay`` seconds. ``unstarted``: no handler has begun."""

    lease: Lease
    delay: float = 0.0
    unstarted: bool = False


def release_jobs(session: Session, releases: Sequence[Release]) -> set[Lease]:
    """Hand jobs back without spending an attempt and answer with the leases that still held."""
    rows = end_attempts(
        session,
        RELEASE_UNSTARTED if any(release.unstarted for release in releases) else RELEASE,
        **lease_arrays([release.lease for release in releases]),
        delays=array(bounded_delay(release.delay) for release in releases),
        unstarted=array(release.unstarted for release in releases),
    )
    return leases_of(rows)
