"""Cancel: a waiting job ends at once; a running one is asked to, through its worker."""

from __future__ import annotations

import enum
import uuid

from sqlalchemy.orm import Session

from jobplatform.queue.doorbell import CANCEL, ring_after_commit
from jobplatform.queue.statement import run

#: Between looking and locking a job may be claimed, or be handed back.
ROUNDS = 20

# `state + 0`: see COMPLETE; the plain form walks every running row of the workspace.
CANCEL_JOB = """
with gone as (
    delete from jobplatform.job_queue
    where workspace_id = %(workspace_id)s and id = %(id)s and state in (0, 1)
    returning workspace_id, id, attempts, crash_count, epoch, progress
),
flagged as (
    update jobplatform.job_queue
    set cancel_requested_at = coalesce(cancel_requested_at, jobplatform.clock())
    where workspace_id = %(workspace_id)s and id = %(id)s and state + 0 = 2
    returning id
),
ended as (
    update jobplatform.job_records r
    set status = 5,
        outcome = 'cancelled',
        completed_at = jobplatform.clock(),
        attempts = gone.attempts,
        crash_count = gone.crash_count,
        epoch = gone.epoch,
        progress = gone.progress
    from gone
    where r.workspace_id = gone.workspace_id and r.id = gone.id
)
select
    (select count(*) from gone),
    (select count(*) from flagged),
    (select status is not null from jobplatform.job_records where workspace_id = %(workspace_id)s and id = %(id)s)
"""


class CancelAnswer(enum.Enum):
    """What became of a request to cancel."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    FINISHED = "finished"
    UNKNOWN = "unknown"


def cancel_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> CancelAnswer:
    """Cancel a job of a workspace, in the caller's transaction.

    ``CANCELLED``: it was waiting and has ended. ``REQUESTED``: it runs; its worker is told as soon as this commits
    and stops it. ``FINISHED``: it had already ended. ``UNKNOWN``: the workspace has no such job.
    """
    for _ in range(ROUNDS):
        gone, flagged, finished = run(session, CANCEL_JOB, workspace_id=workspace_id, id=job_id).one()
        if gone:
            return CancelAnswer.CANCELLED
        if flagged:
            ring_after_commit(session, {CANCEL})
            return CancelAnswer.REQUESTED
        if finished is None:
            return CancelAnswer.UNKNOWN
        if finished:
            return CancelAnswer.FINISHED
    # It changed hands at every look: whoever has it now will see a later request.
    return CancelAnswer.FINISHED
