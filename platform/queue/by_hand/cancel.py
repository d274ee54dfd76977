"""Cancel: a waiting job ends at once; a running one is asked to, through its worker."""

from __future__ import annotations

import enum
import uuid

from sqlalchemy.orm import Session

from jobplatform.models import visit
from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import CANCEL, ring_after_commit
from jobplatform.queue.end_waiting import end_waiting
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.statement import one_transaction, run

#: The second is made with the row locked. For that to be in vain the job must have ended and been retried meanwhile.
ROUNDS = 5

# `state + 0`: see COMPLETE; the plain form walks every running row of the workspace.
CANCEL_JOB = f"""
with gone as (
    delete from jobplatform.job_queue
    where workspace_id = %(workspace_id)s and id = %(id)s and state + 0 < 2
    returning workspace_id, id, attempts, crash_count, epoch, progress, followed
),
flagged as (
    update jobplatform.job_queue
    set cancel_requested_at = coalesce(cancel_requested_at, jobplatform.clock()),
        resource = resource
    where workspace_id = %(workspace_id)s and id = %(id)s and state + 0 = 2
    returning id
),
ended as (
    {end_waiting("cancelled")}
),
{tell_ended("gone", "5")}
select
    (select count(*) from gone),
    (select count(*) from flagged),
    (select status is not null from jobplatform.job_records where workspace_id = %(workspace_id)s and id = %(id)s),
    exists (select from told)
"""

LOCK_JOB = """
select from jobplatform.job_queue where workspace_id = %(workspace_id)s and id = %(id)s for update
"""


class CancelAnswer(enum.Enum):
    """What became of a request to cancel."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    FINISHED = "finished"
    BUSY = "busy"
    UNKNOWN = "unknown"


@checks_arguments()
@says_what_it_cannot_see
def cancel_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> CancelAnswer:
    """Cancel a job of a workspace, in the caller's transaction.

    ``CANCELLED``: it was waiting and has ended. ``REQUESTED``: it runs; its worker is told as soon as this commits
    and stops it. ``FINISHED``: it had already ended. ``UNKNOWN``: the workspace has no such job. ``BUSY``: it ended
    and was retried again and again while we looked; nothing was done, ask again.
    """
    with one_transaction(session):
        visit(session, workspace_id)
        for _ in range(ROUNDS):
            answer = _cancel(session, workspace_id, job_id)
            if answer is not CancelAnswer.BUSY:
                return answer
            # It was claimed or handed back between our look and our lock. Once it is locked it stays what it is.
            run(session, LOCK_JOB, workspace_id=workspace_id, id=job_id)
    return CancelAnswer.BUSY


def _cancel(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> CancelAnswer:
    gone, flagged, finished, told = run(session, CANCEL_JOB, workspace_id=workspace_id, id=job_id).one()
    if told:
        ask_to_settle(session)
    if gone:
        return CancelAnswer.CANCELLED
    if flagged:
        ring_after_commit(session, {CANCEL})
        return CancelAnswer.REQUESTED
    if finished is None:
        return CancelAnswer.UNKNOWN
    return CancelAnswer.FINISHED if finished else CancelAnswer.BUSY
