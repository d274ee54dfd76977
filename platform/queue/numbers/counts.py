"""Counts: what waits and runs, by queue and task, and what ended within the last hour.

What is live comes from the narrow table. What failed is found by its last attempt, which is written once, when it
ends. For what went well nothing leads to the moment of its end (an index on that would cost every finish), so it is
looked for among the records of the last hours, as far back as the present queue makes likely: see :func:`likely_reach`.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

HOUR = datetime.timedelta(hours=1)
#: Jobs that were made longer ago are not looked for among those that went well.
LONGEST_REACH = datetime.timedelta(days=1)

# The table is read once for all that is asked of it, and each row is added to one sum: of its state. Adding it to one
# for each question takes half as long again. Of all workspaces or of one are two statements: a plan for both would take
# all jobs for a few, and sort them.
_LIVE = """
select
    q.queue,
    q.task,
    coalesce(sum(q.amount) filter (where q.state = 1), 0)::bigint,
    coalesce(sum(q.amount) filter (where q.state = 0), 0)::bigint,
    coalesce(sum(q.amount) filter (where q.state = -1), 0)::bigint,
    coalesce(sum(q.amount) filter (where q.state = 2), 0)::bigint,
    sum(q.locked)::bigint,
    sum(q.stuck)::bigint,
    extract(epoch from jobplatform.clock() - min(q.due_at) filter (where q.state = 1))::float8,
    extract(epoch from jobplatform.clock() - min(q.began_at) filter (where q.state = 2))::float8,
    coalesce(array_agg(distinct q.payload_version) filter (where q.state = 1), '{{}}')
from (
    select
        q.queue,
        q.task,
        q.payload_version,
        q.state,
        count(*) as amount,
        count(*) filter (where q.state < 2 and q.epoch > 0 and q.progress ->> 'waitsFor' = 'key') as locked,
        count(*) filter (
            where q.state = 2 and q.started_at < jobplatform.clock() - make_interval(secs => %(stuck_after)s)
        ) as stuck,
        min(q.run_after) as due_at,
        min(q.started_at) as began_at
    from jobplatform.job_queue q
    {which}
    group by q.queue, q.task, q.payload_version, q.state
) q
group by q.queue, q.task
"""
LIVE_OF_ALL = _LIVE.format(which="")
LIVE_OF_WORKSPACE = _LIVE.format(which="where q.workspace_id = %(workspace_id)s::uuid")

ENDED = """
select r.queue, r.task, count(*) filter (where r.status = 3), 0::bigint, count(*) filter (where r.status = 5)
from jobplatform.job_records r
where r.created_at > jobplatform.clock() - make_interval(secs => %(reach)s)
    and r.completed_at > jobplatform.clock() - make_interval(secs => %(within)s)
    and r.status in (3, 5)
    and (%(workspace_id)s::uuid is null or r.workspace_id = %(workspace_id)s::uuid)
group by r.queue, r.task
"""

# Lateral, so that no plan can read all records to find those of a few attempts. A job that was retried by hand since
# has no end any more; one that was cancelled while it failed is not a failure.
FAILED = """
select failed.queue, failed.task, 0::bigint, count(*), 0::bigint
from jobplatform.job_attempts a
cross join lateral (
    select r.queue, r.task
    from jobplatform.job_records r
    where r.workspace_id = a.workspace_id and r.id = a.job_id and r.epoch = a.epoch and r.status = 4
    limit 1
) failed
where a.ended_at > jobplatform.clock() - make_interval(secs => %(within)s)
    and a.final
    and (%(workspace_id)s::uuid is null or a.workspace_id = %(workspace_id)s::uuid)
group by failed.queue, failed.task
"""


class Live(NamedTuple):
    """Live jobs of a task in a queue. ``blocked`` wait for other jobs, ``locked`` for a key; ``stuck`` run for too
    long. ``ready_versions`` are the payload versions of the ready ones."""

    queue: str
    task: str
    ready: int
    scheduled: int
    blocked: int
    running: int
    locked: int
    stuck: int
    oldest_ready_seconds: float | None
    longest_running_seconds: float | None
    ready_versions: Sequence[int] = ()


class Done(NamedTuple):
    """What ended within the last hour, of a task in a queue."""

    queue: str
    task: str
    completed: int
    failed: int
    cancelled: int


def count_live(session: Session, workspace_id: uuid.UUID | None, stuck_after: datetime.timedelta) -> Sequence[Live]:
    """Live jobs, by queue and task. Reads all of the narrow table, or a workspace's part of it."""
    sql = LIVE_OF_ALL if workspace_id is None else LIVE_OF_WORKSPACE
    rows = run(session, sql, workspace_id=workspace_id, stuck_after=stuck_after.total_seconds())
    return [Live(*row) for row in rows]


def count_done(
    session: Session,
    workspace_id: uuid.UUID | None,
    reach: datetime.timedelta,
    within: datetime.timedelta = HOUR,
) -> Sequence[Done]:
    """What ended within the last hour, by queue and task: what failed however old it was, the rest only if it was made
    within ``reach``."""
    parameters = {"workspace_id": workspace_id, "within": within.total_seconds()}
    well = run(session, ENDED, reach=reach.total_seconds(), **parameters)
    badly = run(session, FAILED, **parameters)
    return [Done(*row) for row in [*well, *badly]]


def likely_reach(live: Iterable[Live], within: datetime.timedelta = HOUR) -> datetime.timedelta:
    """How long ago jobs were made that end now: as long as the oldest waits and the longest runs, and an hour more."""
    waits = max((one.oldest_ready_seconds or 0.0 for one in live), default=0.0)
    runs = max((one.longest_running_seconds or 0.0 for one in live), default=0.0)
    seconds = max(0.0, waits) + max(0.0, runs)
    return min(LONGEST_REACH, within + HOUR + datetime.timedelta(seconds=min(seconds, LONGEST_REACH.total_seconds())))
