"""Succeed: what waits for the running job of its key, when that has ended.

Nobody who ends a job looks for one that waits for it: every worker does that at its poll, and after each round of
``settle``. A job that somebody came to wait for is followed and leaves a notice when it ends, so that round comes at
once; the others say nothing, and cost nothing. The poll is what works however the job ended and whatever was lost in
between. In the meantime an enqueue of the key finds the one that waits.

    1. A job of the key that went back to waiting while a newer one waits is given up for it. (Who hands it back does
       that already, unless the newer one came in that very moment.)
    2. Where the key is free the one that waits takes it, and is as ready as its time says.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.end_waiting import end_waiting
from jobplatform.queue.patience import out_of_patience, wait_briefly
from jobplatform.queue.statement import array, one_transaction, run

#: Jobs of one round.
MOST = 200
#: When they cannot all be helped at once: so many by themselves.
MOST_SINGLY = 20

# There are never more rows in this index than jobs that run.
WAITING = """
from jobplatform.job_queue s
where s.state = -1 and left(s.unique_key, 1) = chr(30)
    and (
        select true
        from jobplatform.job_queue holder
        where holder.workspace_id = s.workspace_id
            and holder.unique_key = substr(s.unique_key, 2)
            and holder.state + 0 = 2
    ) is null
"""
LOOK = f"""
select s.workspace_id::text, s.id::text
{WAITING.strip()}
    and (%(only)s::uuid is null or s.workspace_id = %(only)s::uuid)
limit {MOST}
"""

_SUPERSEDED = end_waiting(
    "discarded", "coalesce(r.error_type, 'Superseded')", "coalesce(r.error, 'a newer job of its key was waiting')"
)
GIVE_UP = f"""
with superseded as materialized (
    select h.workspace_id, h.id
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    join jobplatform.job_queue s on s.workspace_id = u.workspace_id and s.id = u.id and s.state + 0 = -1
    join jobplatform.job_queue h on h.workspace_id = s.workspace_id and h.unique_key = substr(s.unique_key, 2)
    where left(s.unique_key, 1) = chr(30) and h.state + 0 < 2
    order by h.workspace_id, h.id
    for update of h skip locked
),
gone as (
    delete from jobplatform.job_queue q
    using superseded h
    where q.workspace_id = h.workspace_id and q.id = h.id
    returning q.workspace_id, q.id, q.attempts, q.crash_count, q.epoch, q.progress, q.followed
),
{tell_ended("gone", "5").strip()}
{_SUPERSEDED}
"""

TAKE_OVER = """
update jobplatform.job_queue q
set unique_key = substr(q.unique_key, 2),
    state = case when q.run_after > jobplatform.clock() then 0 else 1 end,
    resource = q.resource
where q.ctid = any(array(
    select s.ctid
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    join jobplatform.job_queue s on s.workspace_id = u.workspace_id and s.id = u.id and s.state + 0 = -1
    where left(s.unique_key, 1) = chr(30)
        and (
            select true
            from jobplatform.job_queue holder
            where holder.workspace_id = s.workspace_id and holder.unique_key = substr(s.unique_key, 2)
        ) is null
    for update of s skip locked
))
returning q.workspace_id::text, q.id::text, q.task, q.queue, q.state = 1
"""

#: Somebody has just taken the key.
TAKEN = "23505"

Place = tuple[str, str]


class Successor(NamedTuple):
    """A job that waits for nothing but its turn now."""

    workspace_id: str
    job_id: str
    task: str


class Succeeded(NamedTuple):
    """The jobs that took over, and the queues in which they are ready."""

    jobs: list[Successor]
    queues: set[str]

    @property
    def workspaces(self) -> list[str]:
        return [job.workspace_id for job in self.jobs]


def succeed_jobs(session: Session, workspace_id: uuid.UUID | None = None) -> Succeeded:
    """Let up to 200 jobs, of all workspaces or of one, take the place of those they waited for. Any worker does it, on
    a connection that commits each statement."""
    waiting: Sequence[Place] = [(row[0], row[1]) for row in run(session, LOOK, only=workspace_id)]
    if not waiting:
        return Succeeded([], set())
    try:
        return _succeed(session, waiting)
    except DBAPIError as error:
        if not _is_in_the_way(error):
            raise
    return _singly(session, waiting)


def _singly(session: Session, waiting: Sequence[Place]) -> Succeeded:
    """One of them is in somebody's hands, and the others need not wait for it."""
    jobs: list[Successor] = []
    queues: set[str] = set()
    for place in random.sample(waiting, min(len(waiting), MOST_SINGLY)):
        try:
            found = _succeed(session, [place])
        except DBAPIError as error:
            if not _is_in_the_way(error):
                raise
            continue
        jobs += found.jobs
        queues |= found.queues
    return Succeeded(jobs, queues)


def _is_in_the_way(error: DBAPIError) -> bool:
    """Whether somebody has just taken the key, or is about to, in a transaction that is still open."""
    return getattr(error.orig, "sqlstate", None) == TAKEN or out_of_patience(error)


def _succeed(session: Session, waiting: Sequence[Place]) -> Succeeded:
    places = {
        "workspace_ids": array(workspace_id for workspace_id, _ in waiting),
        "ids": array(job_id for _, job_id in waiting),
    }
    with one_transaction(session):
        wait_briefly(session)
        if run(session, GIVE_UP, **places).rowcount:
            ask_to_settle(session)
        rows = run(session, TAKE_OVER, **places).all()
    return Succeeded([Successor(*row[:3]) for row in rows], {row[3] for row in rows if row[4]})
