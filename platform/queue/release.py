"""Release: hand back a job whose attempt was not the job's fault to lose. The attempt is given back too.

Used when a worker stops, when a claimed job was never started, and for a handler that asks to be run later (snooze).
The epoch stays, so the old lease is worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.ending import ENDING, end_attempts
from jobplatform.queue.statement import Lease, array, lease_arrays, leases_of

# A cancel that arrived in the meantime is honoured here: going back to waiting would lose it.
RELEASE = f"""
with verdict as materialized (
    select
        q.workspace_id, q.id, q.epoch, q.worker_id, q.attempts, q.crash_count, q.started_at, q.progress, q.followed,
        q.unique_key,
        u.delay,
        1::smallint as give_back, 0::smallint as crash, q.cancel_requested_at is not null as recorded,
        q.cancel_requested_at is not null as final, true as cancelled,
        'cancelled' as outcome, null::text as error_type, null::text as error, null::text as traceback
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(delays)s::float8[])
        as u(workspace_id, id, epoch, delay)
    join jobplatform.job_queue q on q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch
    where q.state + 0 = 2
    order by q.workspace_id, q.id
    for update of q
),
{ENDING}
"""


class Release(NamedTuple):
    """A lease to hand back; the job may run again after ``delay`` seconds."""

    lease: Lease
    delay: float = 0.0


def release_jobs(session: Session, releases: Sequence[Release]) -> set[Lease]:
    """Hand jobs back without spending an attempt and answer with the leases that still held."""
    rows = end_attempts(
        session,
        RELEASE,
        **lease_arrays([release.lease for release in releases]),
        delays=array(max(0.0, release.delay) for release in releases),
    )
    return leases_of(rows)
