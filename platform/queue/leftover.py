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

from jobplatform.queue.claim.jobs import NEWEST
from jobplatform.queue.claim.taking import READABLE
from jobplatform.queue.claim.weighing import LIMITS_OF_WORKSPACE
from jobplatform.queue.look_around import ENDINGS
from jobplatform.queue.schedules.fire import NEXT_DUE
from jobplatform.queue.statement import array, run, text_array
from jobplatform.queue.succeed import WAITING

# The states one after the other, each from its index.
LEFT = f"""
with pause as materialized (
    select kind, key from jobplatform.pauses where until is null or until > jobplatform.clock()
)
select
    (
        select true
        from (
            select workspace_id, queue, task, payload_version, resource
            from jobplatform.job_queue
            where state = 1 and queue = any(%(queues)s::text[])
            union all
            select workspace_id, queue, task, payload_version, resource
            from jobplatform.job_queue
            where state = 0 and run_after <= jobplatform.clock() and queue = any(%(queues)s::text[])
        ) l
        {LIMITS_OF_WORKSPACE.strip()}
        left join jobplatform.queue_limits q on q.queue = l.queue
        left join jobplatform.task_limits t on t.task = l.task
        left join jobplatform.resource_limits r on r.resource = l.resource
        left join jobplatform.resource_limits k on k.resource = split_part(l.resource, ':', 1) || ':*'
        where l.task = any(%(tasks)s::text[]) and {READABLE}
            and coalesce(w.max_running, p.max_running, 1) > 0
            and coalesce(q.max_running, 1) > 0
            and coalesce(t.max_running, 1) > 0
            and coalesce(t.max_running_per_workspace, 1) > 0
            and coalesce(case when r.resource is null then k.max_running else r.max_running end, 1) > 0
            and not exists (
                select
                from pause
                where (kind, key) in (
                    ('queue', l.queue), ('task', l.task), ('workspace', l.workspace_id::text), ('resource', l.resource)
                )
            )
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
