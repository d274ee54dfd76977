"""Many: the statement for many is asked until each job is written, or it is known what there is instead.

That takes one round, but for a workspace with a quota or one that wants its payloads sealed, and for a key that another
transaction took or left meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from jobplatform.queue.enqueue.new_job import NewJob
from jobplatform.queue.enqueue.statements import ENQUEUE
from jobplatform.queue.enqueue.unseen import conflict_over, run_for
from jobplatform.queue.enqueue.values import columns_of
from jobplatform.queue.limits.quota import Wanted, make_room
from jobplatform.queue.statement import array, run
from jobplatform.queue.vault import is_open, seal_payloads

#: A holder can end and another begin between our two looks; more often than this it is not chance.
ROUNDS = 10


def enqueue_many(session: Session, jobs: Sequence[NewJob]) -> dict[int, uuid.UUID]:
    """Enqueue jobs and answer which jobs there were instead of those that were not created."""
    existing: dict[int, uuid.UUID] = {}
    gated = unsealed = workspaces = _workspaces(jobs)
    if not all(map(is_open, jobs)):
        unsealed = _workspaces(jobs, unsealed_only=True)
    for _ in range(ROUNDS):
        if not jobs:
            return existing
        asked = {"workspaces": array(workspaces), "gated": array(gated), "unsealed": array(unsealed)}
        rows = run_for(session, jobs, ENQUEUE, **asked, **columns_of(jobs)).all()
        if rows and rows[0][3]:
            jobs = seal_payloads(session, jobs)
            unsealed = _workspaces(jobs, unsealed_only=True)
            continue
        if any(locked for _, _, locked, _ in rows):
            found = make_room(session, [_wanted(job) for job in jobs])
            left = [job for number, job in enumerate(jobs) if number not in found]
        else:
            found = {number: uuid.UUID(job_id) for number, job_id, *_ in rows if job_id}
            left = [jobs[number] for number, job_id, *_ in rows if not job_id]
        existing.update((jobs[number].id.int, job_id) for number, job_id in found.items())
        jobs, gated = left, set()
    if jobs:
        raise conflict_over(jobs)
    return existing


def enqueue_unasked(session: Session, jobs: Sequence[NewJob]) -> int:
    """Enqueue jobs as they are: no quota is asked and nobody's wish to have payloads sealed. Says how many are new."""
    there = run(session, ENQUEUE, workspaces=array(_workspaces(jobs)), gated="{}", unsealed="{}", **columns_of(jobs))
    return len(jobs) - len(there.all())


def _workspaces(jobs: Iterable[NewJob], *, unsealed_only: bool = False) -> set[str]:
    """By number, as hashing a UUID is a call into Python: of a thousand jobs most are for the same few."""
    return {f"{number:032x}" for number in {job.workspace_id.int for job in jobs if not unsealed_only or is_open(job)}}


def _wanted(job: NewJob) -> Wanted:
    return Wanted(job.workspace_id, job.id, job.unique_key, job.priority)
