"""Leftover: is anything left to do for a worker that is to leave when there is not?

What counts is ready or due, of a queue and a task of the worker's, and readable for its code. What a limit or a rate
holds back counts too: it runs when something else has ended, or some seconds later. What cannot run for as long as
somebody wants it so does not: what is paused, has a limit of nothing, or uses a resource that is closed for now. Nor
does what waits for another job, or for a later time.

Something may also be about to become ready: an ending that nobody has looked at yet, for whose sake others wait, or a
schedule that is due. Then the answer is yes, until that is done.

It sees what is committed, and waits for no lock: a job that somebody is just claiming is left until that is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from jobplatform.queue.after.succeed import WAITING
from jobplatform.queue.chores.look_around import ENDINGS
from jobplatform.queue.claim.jobs import NEWEST
from jobplatform.queue.claim.taking import READABLE
from jobplatform.queue.claim.weighing import LIMITS_OF_WORKSPACE
from jobplatform.queue.schedules.fire import NEXT_DUE
from jobplatform.queue.statement import array, run, text_array

#: Lanes of a queue that are looked at one by one. Where there are more, most are short, and to read what is in them
#: takes less time than an index descent each.
LANES = 500

# What holds for all of a queue or a task is found out before anything is read. What is ready is looked at lane by lane,
# since all that is in one may run or none of it: a backlog that is paused, or of tasks that are not known here, costs
# what its lanes cost.
LEFT = f"""
with recursive pause as materialized (
    select kind, key from jobplatform.pauses where until is null or until > jobplatform.clock()
),
open_queue as materialized (
    select mine.queue
    from unnest(%(queues)s::text[]) as mine(queue)
    left join jobplatform.queue_limits q on q.queue = mine.queue
    where coalesce(q.max_running, 1) > 0
        and ('queue', mine.queue) not in (select kind, key from pause)
),
open_task as materialized (
    select mine.task
    from unnest(%(tasks)s::text[]) as mine(task)
    left join jobplatform.task_limits t on t.task = mine.task
    where coalesce(t.max_running, 1) > 0
        and coalesce(t.max_running_per_workspace, 1) > 0
        and ('task', mine.task) not in (select kind, key from pause)
),
lane as (
    select open_queue.queue, first.workspace_id, first.lane, first.task, first.payload_version, first.resource, 1 as nth
    from open_queue
    cross join lateral (
        select workspace_id, lane, task, payload_version, resource
        from jobplatform.job_queue
        where state = 1 and queue = open_queue.queue
        order by workspace_id, lane
        limit 1
    ) first
    union all
    select lane.queue, next.workspace_id, next.lane, next.task, next.payload_version, next.resource, lane.nth + 1
    from lane
    cross join lateral (
        select workspace_id, lane, task, payload_version, resource
        from jobplatform.job_queue
        where state = 1 and queue = lane.queue and (workspace_id, lane) > (lane.workspace_id, lane.lane)
        order by workspace_id, lane
        limit 1
    ) next
    where lane.nth < {LANES}
)
select
    (
        select true
        from (
            select workspace_id, task, payload_version, resource
            from lane
            union all
            select rest.workspace_id, rest.task, rest.payload_version, rest.resource
            from lane
            join jobplatform.job_queue rest
                on rest.state = 1 and rest.queue = lane.queue
                and (rest.workspace_id, rest.lane) > (lane.workspace_id, lane.lane)
            where lane.nth = {LANES}
            union all
            select workspace_id, task, payload_version, resource
            from jobplatform.job_queue
            where state = 0 and run_after <= jobplatform.clock() and queue = any(array(select queue from open_queue))
        ) l
        {LIMITS_OF_WORKSPACE.strip()}
        left join jobplatform.resource_limits r on r.resource = l.resource
        left join jobplatform.resource_limits k on k.resource = split_part(l.resource, ':', 1) || ':*'
        where l.task = any(array(select task from open_task)) and {READABLE}
            and coalesce(w.max_running, p.max_running, 1) > 0
            and coalesce(case when r.resource is null then k.max_running else r.max_running end, 1) > 0
            and ('workspace', l.workspace_id::text) not in (select kind, key from pause)
            and (l.resource is null or ('resource', l.resource) not in (select kind, key from pause))
            and not exists (
                select
                from jobplatform.buckets b
                where b.kind = 'resource' and b.key = l.resource and b.closed_until > jobplatform.clock()
            )
        limit 1
    ) is true
    or {ENDINGS.strip()}
    or (select true {WAITING.strip()} limit 1) is true
    or coalesce(({NEXT_DUE.strip()}) <= 0, false)
"""


def is_anything_left(
    session: Session, *, queues: Iterable[str], tasks: Sequence[str], versions: Mapping[str, int] | None = None
) -> bool:
    """Whether a worker of these ``queues`` and ``tasks`` has something to do, or soon will have. ``versions`` are those
    of the payloads that its code reads.
    """
    left: bool = run(
        session,
        LEFT,
        queues=text_array(queues),
        tasks=text_array(tasks),
        versions=array((versions or {}).get(task, NEWEST) for task in tasks),
    ).scalar_one()
    return left
