"""Predecessors: what a job waits for, how far that is, and what came of it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import Job, JobEdge, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.statement import array, run
from jobplatform.queue.vault import reveal

# `status` is that of the job, or whether the batch is open, runs, or how it ended.
WAITS = """
select
    e.job_id, e.after_id, e.of_batch, e.run_if,
    case
        when e.of_batch then (
            select case
                when b.ended_at is null and b.closed_at is null then 'open'
                when b.ended_at is null then 'running'
                when b.completed = b.total then 'completed'
                when b.cancelled_at is not null then 'cancelled'
                else 'failed'
            end
            from jobplatform.batches b
            where b.workspace_id = e.workspace_id and b.id = e.after_id
        )
        else (select j.status from jobplatform.jobs j where j.workspace_id = e.workspace_id and j.id = e.after_id)
    end,
    e.after_status is not null
from jobplatform.job_edges e
where e.workspace_id = %(workspace_id)s and e.job_id = any(%(ids)s::uuid[])
order by e.job_id, e.number
"""


class Wait(NamedTuple):
    """One thing a job waits for, or did. ``status`` is None when that is not kept any more; ``settled`` says that the
    job has been told how it ended.
    """

    job_id: uuid.UUID
    after_id: uuid.UUID
    of_batch: bool
    run_if: str
    status: str | None
    settled: bool


class PredecessorResult(NamedTuple):
    """What came of a job that this one waited for."""

    job_id: uuid.UUID
    task: str
    status: str
    outcome: str | None
    result: Any


@checks_arguments()
def list_waits(
    session: Session, workspace_id: uuid.UUID, job_ids: Iterable[uuid.UUID]
) -> Mapping[uuid.UUID, list[Wait]]:
    """For each of these jobs what it waits for, in the order in which it was said."""
    visit(session, workspace_id)
    found: dict[uuid.UUID, list[Wait]] = defaultdict(list)
    for row in run(session, WAITS, workspace_id=workspace_id, ids=array(job_ids)):
        wait = Wait(*row)
        found[wait.job_id].append(wait)
    return found


def results_of_predecessors(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> list[PredecessorResult]:
    """The results of the jobs that this job waited for, in the order in which it named them; sealed ones opened."""
    visit(session, workspace_id)
    statement = (
        select(Job)
        .join(JobEdge, (JobEdge.workspace_id == Job.workspace_id) & (JobEdge.after_id == Job.id))
        .where(JobEdge.workspace_id == workspace_id, JobEdge.job_id == job_id)
        .order_by(JobEdge.number)
    )
    jobs = session.scalars(statement).all()
    reveal(session, jobs)
    return [PredecessorResult(job.id, job.job_type, str(job.status), job.outcome, job.result) for job in jobs]
