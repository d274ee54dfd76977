"""Claim one job that is known: whoever asks wants it to run, whatever the limits."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from jobplatform.queue.claim.claimed_job import COLUMNS, ClaimedJob, claimed
from jobplatform.queue.claim.taking import TAKE
from jobplatform.queue.statement import run

CLAIM_ONE = f"""
with u as (
    {TAKE}
    where q.workspace_id = %(workspace_id)s and q.id = %(id)s and q.state = 1
    returning q.*
)
select {COLUMNS}, 1, 1
from u
join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
"""


def claim_job(session: Session, *, worker_id: int, workspace_id: uuid.UUID, job_id: uuid.UUID) -> ClaimedJob | None:
    """Claim this one job if it is ready, whatever the limits; None when it is not ready (any more)."""
    row = run(session, CLAIM_ONE, worker_id=worker_id, workspace_id=workspace_id, id=job_id).one_or_none()
    return claimed(row) if row else None
