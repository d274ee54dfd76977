"""Claim the one job that a worker with nothing to do was woken for.

The doorbell says whose it is and in which queue, so nobody has to be looked for. One job is taken, of a workspace that
the usual claim would look at first as well, and only where there is nothing to weigh (see ``weighing``). A job of one
that has had more than others is taken if nothing else is ready: then there is nobody to share with. Where there is
something to weigh, and when the job is gone, nothing is taken and the usual claim decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.claim.claimed_job import COLUMNS
from jobplatform.queue.claim.ready import first_ready
from jobplatform.queue.claim.taking import READABLE, TAKE
from jobplatform.queue.claim.weighing import (
    LIMITS_OF_WORKSPACE,
    QUEUE_IS_LIMITED,
    SOMETHING_IS_PAUSED,
    TASK_IS_LIMITED,
    WORKSPACE_IS_LIMITED,
)
from jobplatform.queue.statement import run

# `others`: something else is ready, as this statement sees it. Whoever adds to that rings.
CLAIM_RUNG = f"""
with here as materialized (
    select count(*) > 1 as others
    {first_ready(2)}
),
l as materialized (
    select lane, task, resource, payload_version
    from jobplatform.job_queue
    where state = 1 and queue = %(queue)s and workspace_id = %(workspace_id)s::uuid
    order by lane
    limit 1
),
pick as materialized (
    select best.tid
    from l
    cross join lateral (
        select q.ctid as tid
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = %(queue)s and q.workspace_id = %(workspace_id)s::uuid and q.lane = l.lane
        order by q.priority desc, q.run_after, q.id
        limit 1
        for update skip locked
    ) best
    where not (%(alone)s::bool and (select others from here))
        and l.task = any(%(tasks)s) and {READABLE}
        and l.resource is null
        and not {TASK_IS_LIMITED}
        and (
            select true
            from jobplatform.job_queue other
            where other.state = 1 and other.queue = %(queue)s and other.workspace_id = %(workspace_id)s::uuid
                and other.lane > l.lane
            limit 1
        ) is null
        and not exists (
            select
            from (select %(workspace_id)s::uuid as workspace_id) l
            {LIMITS_OF_WORKSPACE.strip()}
            where {WORKSPACE_IS_LIMITED}
        )
        and not {QUEUE_IS_LIMITED}
        and not {SOMETHING_IS_PAUSED}
),
taken as (
    {TAKE}
    where q.ctid = any(array(select tid from pick))
    returning q.*
)
select
    (select others from here),
    {COLUMNS},
    (
        select coalesce(w.weight, p.weight)
        from (select u.workspace_id) l
        {LIMITS_OF_WORKSPACE.strip()}
    )
from taken u
join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
"""


#: Its place on the ring: before all others.
FIRST = -1


class Rung(NamedTuple):
    """What the doorbell said: a job of this workspace is ready in this queue. One that is ``alone`` is taken only if
    nothing else is ready.
    """

    queue: str
    workspace_id: str
    alone: bool = False


class Found(NamedTuple):
    """The claimed row, as the usual claim answers it, and whether there are other ready jobs in the worker's queues."""

    row: Sequence[Any]
    others: bool


def claim_rung(session: Session, rung: Rung, queues: Sequence[str], values: Mapping[str, Any]) -> Found | None:
    """Claim the job; None when there is none (any more), or something to weigh."""
    row = run(
        session,
        CLAIM_RUNG,
        queue=rung.queue,
        workspace_id=rung.workspace_id,
        alone=rung.alone,
        queues=list(queues),
        **{name: values[name] for name in ("worker_id", "tasks", "versions")},
    ).one_or_none()
    if row is None:
        return None
    others, *columns, weight = row
    return Found((*columns, weight or 1, FIRST), others)
