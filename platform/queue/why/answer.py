"""Why: what a job waits for, where it stands in line, and when it will probably start.

    1. Read the job. One that runs or has ended waits for nothing.
    2. Read what could hold it: pauses, limits, rates, workers; name what does (see ``blockers``).
    3. Read who is before it and how long jobs took lately, and compute when it is its turn (see ``estimate``).

Everything is read when it is asked for; nothing is kept. It takes a handful of index walks, whatever the backlog.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jobplatform.models import State, Status
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.why.blockers import (
    Blocker,
    JobsAhead,
    behind,
    blockers_of_blocked,
    blockers_of_final,
    blockers_of_running,
    blockers_of_waiting,
    status_of,
    too_late,
)
from jobplatform.queue.why.crowd_facts import (
    read_ended,
    read_ended_anywhere,
    read_line,
    read_others,
    read_running,
)
from jobplatform.queue.why.estimate import Crowd, Estimate, estimate
from jobplatform.queue.why.hold_facts import (
    Holds,
    PauseFacts,
    WorkerFacts,
    read_holds,
    read_pauses,
    read_workers,
)
from jobplatform.queue.why.job_facts import (
    JobFacts,
    read_holder,
    read_job,
    read_retry,
    read_waits,
)

#: Seconds. What would be further away than a year is not known any better.
FURTHEST = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job is not running. ``blockers`` are in the order in which to look at them, and never empty.

    ``position`` is the number of jobs of its workspace and queue that come before it, and ``ahead`` says more; both
    only for a job that is ready. ``estimated_start_at`` is None for one that runs or has ended, and where nothing is
    known: no run times yet, no worker, a pause without an end.
    """

    job_id: uuid.UUID
    status: Status
    asked_at: datetime.datetime
    blockers: Sequence[Blocker]
    position: int | None = None
    ahead: JobsAhead | None = None
    estimated_start_at: datetime.datetime | None = None


@checks_arguments()
def why_waiting(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, *, tells_all: bool = True) -> Why | None:
    """Why a job of this workspace is not running; None when the workspace has no such job.

    The session should see all workspaces (an operator's): one that sees a single workspace counts nobody else, and
    estimates too early. The answer names no other workspace either way. Without ``tells_all`` it is fit for the
    workspace's own people: pauses that an operator made of anything else have no reason and no name.
    """
    job = read_job(session, workspace_id, job_id)
    if job is None:
        return None
    if job.state is None:
        # Whatever may be retried might have to wait for a guard or for room.
        retry = read_retry(session, workspace_id, job.unique_key) if status_of(job) is not Status.COMPLETED else None
        return Why(job_id, status_of(job), job.now, blockers_of_final(job, retry))
    if job.state == State.RUNNING:
        return Why(job_id, Status.RUNNING, job.now, blockers_of_running(job))
    if job.state == State.BLOCKED:
        return _blocked(session, workspace_id, job_id, job, tells_all=tells_all)
    return _waiting(session, workspace_id, job_id, job, tells_all=tells_all)


def _blocked(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, job: JobFacts, *, tells_all: bool) -> Why:
    """When it will start is not known: nobody knows how long what it waits for takes."""
    waits = read_waits(session, workspace_id, job_id)
    holder = read_holder(session, workspace_id, job_id)
    pauses = read_pauses(session, workspace_id, job)
    found = blockers_of_blocked(job, waits, holder, pauses, read_workers(session, job), tells_all=tells_all)
    return Why(job_id, Status.PENDING, job.now, [*found, *too_late(job)])


def _waiting(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, job: JobFacts, *, tells_all: bool) -> Why:
    pauses = read_pauses(session, workspace_id, job)
    holds = read_holds(session, workspace_id, job)
    workers = read_workers(session, job)
    crowd = _read_crowd(session, workspace_id, job_id, job, workers)
    found = blockers_of_waiting(job, pauses, holds, workers, tells_all=tells_all)
    estimated = estimate(str(workspace_id), job, holds, workers, crowd)
    start_at = _start_at(job, pauses, holds, workers, estimated)
    if job.state == State.SCHEDULED:
        return Why(job_id, Status.PENDING, job.now, [*found, *too_late(job)], estimated_start_at=start_at)
    ahead = _ahead(crowd, workers, estimated)
    found = [*(found or [behind(ahead)]), *too_late(job)]
    return Why(job_id, Status.PENDING, job.now, found, ahead.own_jobs, ahead, start_at)


def _read_crowd(
    session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, job: JobFacts, workers: WorkerFacts
) -> Crowd:
    line = read_line(session, workspace_id, job_id, job, workers.able)
    others = read_others(session, workspace_id, job.queue)
    running = read_running(session, workers.able)
    busy = [*(one.workspace_id for one in running), *(other.workspace_id for other in others)]
    ended = read_ended(session, [str(workspace_id), *busy])
    if not any(one.task == job.task for one in ended):
        ended += read_ended_anywhere(session)
    return Crowd(line, others, running, ended)


def _ahead(crowd: Crowd, workers: WorkerFacts, estimated: Estimate) -> JobsAhead:
    in_use = sum(one.here for one in crowd.running)
    return JobsAhead(
        own_jobs=sum(lane.before for lane in crowd.line),
        other_jobs=estimated.others,
        other_workspaces=len(crowd.others),
        slots=workers.slots,
        slots_in_use=min(in_use, workers.slots),
    )


def _start_at(
    job: JobFacts, pauses: Sequence[PauseFacts], holds: Holds, workers: WorkerFacts, estimated: Estimate
) -> datetime.datetime | None:
    """Its turn comes after a pause, as during one nothing before it moves; a moment to run at passes meanwhile. What
    becomes of a trial, and who has a key, nobody knows."""
    endless = holds.on_trial or job.lacked_key or any(pause.until is None for pause in pauses)
    if endless or not workers.slots or estimated.wait is None or estimated.wait > FURTHEST:
        return None
    ends = [pause.until for pause in pauses if pause.until is not None]
    resumed_at = max([job.now, *ends, *([holds.closed_until] if holds.closed_until else [])])
    in_turn_at = resumed_at + datetime.timedelta(seconds=estimated.wait)
    return max(in_turn_at, job.run_after or job.now)
