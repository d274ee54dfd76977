"""Rescue: take back the jobs of workers that are dead.

Any worker does it, every few seconds; there is no leader to lose. Rows that another rescuer has are skipped. A lost
worker counts against the job's crash counter, not its attempts: a job that kills whoever runs it ends as failed with
outcome ``lost``, one that was merely near a dying host does not.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.attempts.ending import ENDING, end_attempts
from jobplatform.queue.statement import Lease
from jobplatform.queue.sync_logs import note_rescued

LEFT_BEHIND = """
    from jobplatform.job_queue q
    left join jobplatform.workers w on w.id = q.worker_id
    where q.state = 2 and (w.id is null or w.dead_at is not null)
"""

# A worker that was declared dead cannot come back under its id, so what is rescued here stays rescued. Its last words
# may come while we look, and somebody else take the job: so what is locked has to be the attempt that was seen. The
# server looks again at a row that has changed, but takes a worker that is not the one of before for none at all.
RESCUE = f"""
with seen as materialized (
    select q.workspace_id, q.id, q.epoch
    {LEFT_BEHIND.strip()}
    limit 500
),
locked as materialized (
    select
        q.workspace_id, q.id, q.epoch, q.worker_id, q.attempts, q.crash_count, q.started_at, q.progress, q.followed,
        q.unique_key, q.start_by,
        q.cancel_requested_at is not null as cancelled
    from seen s
    join jobplatform.job_queue q on q.workspace_id = s.workspace_id and q.id = s.id and q.epoch = s.epoch
    where q.state + 0 = 2
    for update of q skip locked
),
verdict as materialized (
    select
        l.*,
        least(600, 2 * 2 ^ least(l.crash_count, 9)) * (0.5 + random() / 2) as delay,
        1::smallint as give_back, 1::smallint as crash, true as recorded,
        l.cancelled or l.crash_count + 1 >= %(crash_limit)s as final,
        'lost' as outcome,
        'WorkerLost' as error_type,
        'worker ' || l.worker_id || ' stopped answering while it ran this attempt' as error,
        null::text as traceback
    from locked l
),
{ENDING}
"""


class Rescued(NamedTuple):
    """A job that was taken back from a dead worker, and its status now."""

    lease: Lease
    status: str


def rescue_jobs(session: Session, *, crash_limit: int = 3) -> list[Rescued]:
    """Take back up to 500 jobs of dead workers. Commit :func:`bury_workers` before this looks."""
    rows = end_attempts(session, RESCUE, crash_limit=crash_limit)
    rescued = [Rescued(Lease(row[0], row[1], row[2]), row[3]) for row in rows]
    note_rescued(session, [one.lease for one in rescued])
    return rescued
