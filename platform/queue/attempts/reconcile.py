"""Reconcile: a worker hands back its own running rows that it does not know.

A claim that was committed while its answer was lost with the connection leaves rows that carry a living worker's id
and that nobody works on. Its heartbeat would keep them running for ever. As no handler has begun with them, what they
took of rates goes back, as with all that is handed back unstarted. (A rescue gives nothing back: what a dead worker had
begun, nobody knows.)
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from jobplatform.queue.attempts.ending import ENDING, end_attempts
from jobplatform.queue.attempts.refund import REFUND
from jobplatform.queue.statement import Lease, lease_arrays

RECONCILE = f"""
with verdict as materialized (
    select
        q.workspace_id, q.id, q.epoch, q.worker_id, q.attempts, q.crash_count, q.started_at, q.progress, q.followed,
        q.unique_key, q.start_by, q.resource, q.units,
        0::float8 as delay, true as unstarted,
        1::smallint as give_back, 0::smallint as crash, q.cancel_requested_at is not null as recorded,
        q.cancel_requested_at is not null as final, true as cancelled,
        'cancelled' as outcome, null::text as error_type, null::text as error, null::text as traceback
    from jobplatform.job_queue q
    where q.state = 2
        and q.worker_id = %(worker_id)s
        and not exists (
            select from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[])
                as u(workspace_id, id, epoch)
            where u.workspace_id = q.workspace_id and u.id = q.id and u.epoch = q.epoch
        )
    for update of q skip locked
),
{REFUND}
{ENDING}
"""


def release_unknown_jobs(session: Session, worker_id: int, known: Sequence[Lease]) -> int:
    """Hand back this worker's running rows that are not in ``known``, and say how many there were.

    Only while no claim of this worker is in flight: the rows of one whose answer is still on its way are unknown too.
    """
    return len(end_attempts(session, RECONCILE, worker_id=worker_id, **lease_arrays(known)))
