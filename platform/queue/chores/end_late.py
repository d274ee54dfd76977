"""End late: jobs that nobody has claimed by the last moment at which they might have begun.

Any worker does it, without a leader. Of what is claimed the worker that has it takes care, and hands it back; see
queue/start_by.py.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.end_waiting import end_waiting
from jobplatform.queue.start_by import TOO_LATE, why_too_late
from jobplatform.queue.statement import run

#: Jobs that are ended in one round.
MOST = 1000

# `state < 2` as it stands in the index, which has no entry for jobs without such a moment.
_NEXT = """
from jobplatform.job_queue
where start_by is not null and state < 2
order by start_by
limit 1
"""
#: Seconds until the next one is too late; not more than 0 when one is.
NEXT_LATE = f"select extract(epoch from start_by - jobplatform.clock())::float8 {_NEXT.strip()}"

_ENDED = end_waiting("discarded", f"'{TOO_LATE}'", why_too_late("gone.start_by"))
END_LATE = f"""
with late as materialized (
    select ctid as tid
    from jobplatform.job_queue
    where start_by is not null and state < 2 and start_by <= jobplatform.clock()
    order by start_by
    limit {MOST}
    for update skip locked
),
gone as (
    delete from jobplatform.job_queue
    where ctid = any(array(select tid from late))
    returning workspace_id, id, attempts, crash_count, epoch, progress, followed, start_by
),
ended as (
    {_ENDED}
),
{tell_ended("gone", "5").strip()}
select
    (select count(*) from gone),
    exists (select from told),
    (
        select extract(epoch from start_by - jobplatform.clock())::float8
        from jobplatform.job_queue
        where start_by is not null and state < 2 and start_by > jobplatform.clock()
        order by start_by
        limit 1
    )
"""


class EndedLate(NamedTuple):
    """How many jobs were ended, whether there may be ``more``, and the seconds until the next one is too late."""

    jobs: int
    more: bool
    next_due: float | None


def end_late_jobs(session: Session) -> EndedLate:
    """End up to 1,000 jobs that have not begun in time. Every worker does it; rows that another one has are skipped."""
    jobs, told, next_due = run(session, END_LATE).one()
    if told:
        ask_to_settle(session)
    return EndedLate(jobs, jobs >= MOST, next_due)
