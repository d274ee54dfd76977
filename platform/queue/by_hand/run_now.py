"""Run now: a job that was to run later, or to be tried again later, is ready at once."""

from __future__ import annotations

import enum
import uuid

from sqlalchemy.orm import Session

from jobplatform.models import State, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import ring_after_commit
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.start_by import start_by
from jobplatform.queue.statement import run

# `state + 0`: see COMPLETE; by its key, and not by an index of a state. A row that somebody else moves meanwhile is
# waited for, and looked at again as it is then. The record says since when the first attempt was due, so it is told as
# long as there was none that counts.
RUN_NOW = f"""
with hastened as (
    update jobplatform.job_queue
    set state = 1,
        run_after = jobplatform.clock(),
        start_by = case when start_by is not null then {start_by("jobplatform.clock()", "start_within_ms")} end,
        resource = resource
    where workspace_id = %(workspace_id)s and id = %(id)s and state + 0 = 0
    returning workspace_id, id, queue, attempts, run_after
),
recorded as (
    update jobplatform.job_records r
    set run_after = h.run_after
    from hastened h
    where r.workspace_id = h.workspace_id and r.id = h.id and h.attempts = 0
)
select
    (select queue from hastened),
    (select state from jobplatform.job_queue where workspace_id = %(workspace_id)s and id = %(id)s),
    exists (select from jobplatform.job_records where workspace_id = %(workspace_id)s and id = %(id)s)
"""

#: In the second the row is seen as whoever moved it has left it. For that to be in vain it must have been moved back.
ROUNDS = 5


class RunNowAnswer(enum.Enum):
    """What became of a request to run a job now."""

    READY = "ready"
    """It is ready, or was already."""
    RUNNING = "running"
    BLOCKED = "blocked"
    """It waits for other jobs, and they decide."""
    FINISHED = "finished"
    UNKNOWN = "unknown"
    BUSY = "busy"
    """It changed hands again and again while we looked; nothing was done, ask again."""


@checks_arguments()
@says_what_it_cannot_see
def run_job_now(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> RunNowAnswer:
    """Make a scheduled job of a workspace ready, in the caller's transaction; also one that waits for its next attempt.

    It takes its turn among what is ready: pauses, limits and the fair share count as ever.
    """
    visit(session, workspace_id)
    for _ in range(ROUNDS):
        queue, state, exists = run(session, RUN_NOW, workspace_id=workspace_id, id=job_id).one()
        if queue is not None:
            ring_after_commit(session, {f"q:{queue}"})
            return RunNowAnswer.READY
        if state is None:
            return RunNowAnswer.FINISHED if exists else RunNowAnswer.UNKNOWN
        if state != State.SCHEDULED:
            return _ANSWERS[state]
    return RunNowAnswer.BUSY


_ANSWERS = {
    State.BLOCKED: RunNowAnswer.BLOCKED,
    State.READY: RunNowAnswer.READY,
    State.RUNNING: RunNowAnswer.RUNNING,
}
