"""Failed jobs, newest first: in one workspace, or everywhere for whoever runs the platform."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem, refuse
from jobplatform.models import Job, visit
from jobplatform.queue.allowed import id_problem, moment_problem
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.statement import run

# The last attempt of a job that failed tells when: by index in a workspace, by BRIN everywhere. Lateral, so that no
# plan reads all records for a page of attempts. A job that was retried since is not failed.
FAILED = """
select a.workspace_id, a.job_id, a.ended_at
from jobplatform.job_attempts a
cross join lateral (
    select
    from jobplatform.job_records r
    where r.workspace_id = a.workspace_id and r.id = a.job_id and r.epoch = a.epoch and r.status = 4
        and (%(task)s::text is null or r.task = %(task)s)
    limit 1
) failed
where a.final
    and a.ended_at > %(since)s
    and a.ended_at <= %(before)s
    and (a.ended_at, a.job_id) < (%(before)s, %(before_id)s)
    and {workspace}
order by a.ended_at desc, a.job_id desc
limit %(limit)s
"""
NOW = "select jobplatform.clock()"

#: Everywhere there is no order to walk in, only page ranges by time: so the last hour first, and further back if that
#: is not enough.
WINDOWS = tuple(datetime.timedelta(days=days) for days in (1 / 24, 1, 30, 36_500))
#: What ends while we look has a later moment than our transaction.
MARGIN = datetime.timedelta(minutes=1)
LAST_ID = uuid.UUID(int=2**128 - 1)


class FailedCursor(NamedTuple):
    """Where a page ended: what the next one is ``before``."""

    ended_at: datetime.datetime
    job_id: uuid.UUID


class FailedPage(NamedTuple):
    """Failed jobs, and the cursor of the next page; None on the last."""

    jobs: Sequence[Job]
    next: FailedCursor | None


@checks_arguments()
def failed_jobs(
    session: Session,
    workspace_id: uuid.UUID | None = None,
    *,
    task: str | None = None,
    limit: int = 20,
    before: FailedCursor | None = None,
) -> FailedPage:
    """The jobs that failed, newest failure first. Without a workspace on a Session that sees all of them.

    Errors are as they are stored; those of encrypted jobs are opened by :func:`reveal`.
    """
    if before is not None:
        refuse(InvalidJobError, _problems_of(before))
    if workspace_id is not None:
        visit(session, workspace_id)
    last = before or FailedCursor(run(session, NOW).scalar_one() + MARGIN, LAST_ID)
    found = _find(session, workspace_id, task, limit + 1, last)
    page = found[:limit]
    jobs = _jobs(session, [(row[0], row[1]) for row in page])
    following = FailedCursor(page[-1][2], page[-1][1]) if len(found) > limit else None
    return FailedPage(jobs, following)


def _problems_of(before: FailedCursor) -> Iterator[Problem]:
    """It may have come from outside, and is a tuple of two."""
    if problem := moment_problem("ended_at", before.ended_at) or id_problem(before.job_id):
        yield Problem("/before", problem)


def _find(
    session: Session, workspace_id: uuid.UUID | None, task: str | None, limit: int, last: FailedCursor
) -> Sequence[tuple[uuid.UUID, uuid.UUID, datetime.datetime]]:
    workspace = "true" if workspace_id is None else "a.workspace_id = %(workspace_id)s"
    parameters = {"task": task, "limit": limit, "before": last.ended_at, "before_id": last.job_id}
    rows: Sequence[tuple[uuid.UUID, uuid.UUID, datetime.datetime]] = []
    for window in WINDOWS[-1:] if workspace_id is not None else WINDOWS:
        since = max(last.ended_at - window, datetime.datetime(1, 1, 2, tzinfo=datetime.UTC))
        sql = FAILED.format(workspace=workspace)
        rows = [tuple(row) for row in run(session, sql, since=since, workspace_id=workspace_id, **parameters)]
        if len(rows) >= limit:
            break
    return rows


def _jobs(session: Session, keys: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> Sequence[Job]:
    if not keys:
        return []
    statement = select(Job).where(tuple_(Job.workspace_id, Job.id).in_(keys))
    found = session.scalars(statement, execution_options={"populate_existing": True}).all()
    by_key = {(job.workspace_id, job.id): job for job in found}
    return [by_key[key] for key in keys if key in by_key]
