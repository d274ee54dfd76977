"""The weighed claim: everything against everything, in twice the server's time."""

from __future__ import annotations

from jobplatform.queue.claim.by_workspace import LIMITS, PLACED
from jobplatform.queue.claim.taking import MAY_RUN, OF_THE_LANE, TAKEN, answer
from jobplatform.queue.claim.walk import SEEN, lane
from jobplatform.queue.claim.weighing import (
    CONTENDED,
    LIMITS_OF_WORKSPACE,
    QUEUE_IS_LIMITED,
    SOMETHING_IS_PAUSED,
    Weighing,
)
from jobplatform.queue.limits.breaker import FAILURES_IN_A_ROW, TRIES
from jobplatform.queue.locks import TRIAL

#: Lanes of a workspace whose jobs a claim locks besides those it needs: others may have locked all that those have.
SPARE_LANES = 8

_WEIGHED = f"""
pause as materialized (
    select kind, key, until from jobplatform.pauses where until is null or until > jobplatform.clock()
),
troubled as materialized (
    select key, closed_until, failures
    from jobplatform.buckets
    where kind = 'resource' and key = any(array(select resource from lane))
        and (closed_until > jobplatform.clock() or failures >= {FAILURES_IN_A_ROW})
),
closed as materialized (
    select key, closed_until from troubled where closed_until > jobplatform.clock()
),
-- What has failed again and again is tried by one job. The lock is for claims of the same moment, which do not see each
-- other's: all workers wake at the end of a pause.
on_trial as materialized (
    select
        t.key,
        case
            when exists (select from jobplatform.job_queue q where q.state = 2 and q.resource = t.key and {TRIES})
            then true
            else not pg_try_advisory_xact_lock({TRIAL}, hashtext(t.key))
        end as tried
    from troubled t
    where t.failures >= {FAILURES_IN_A_ROW}
),
open as materialized (
    select
        l.workspace_id, l.lane, l.place, l.nth, l.task, l.resource, l.priority, l.run_after, l.id,
        {PLACED.strip()}
        {LIMITS.strip()}
        t.max_running as task_most,
        t.max_running_per_workspace as task_most_here
    from lane l
    {LIMITS_OF_WORKSPACE.strip()}
    left join jobplatform.task_limits t on t.task = l.task
    where {MAY_RUN}
        and not exists (select from pause where kind = 'queue' and key = %(queue)s)
        and l.task not in (select key from pause where kind = 'task')
        and l.workspace_id::text not in (select key from pause where kind = 'workspace')
        and (
            l.resource is null
            or l.resource not in (
                select key from pause where kind = 'resource'
                union all
                select key from closed
                union all
                select key from on_trial where tried
            )
        )
),
facts as materialized (
    select
        coalesce(bool_or(num_nonnulls(most, rate_size, resource, task_most, task_most_here) > 0), false) as limited,
        coalesce(bool_or(num_nonnulls(resource, task_most, task_most_here) > 0), false) as shared,
        coalesce(max(nth) > 1, false) as mixed
    from open
),
allowance as materialized (
    select f.*
    from (
        select
            array_agg(workspace_id order by lead, place) as workspaces,
            array_agg(lane order by lead, place) as lanes,
            array_agg(task order by lead, place) as tasks,
            array_agg(resource order by lead, place) as resources,
            array_agg(most order by lead, place) as most,
            array_agg(rate_size order by lead, place) as sizes,
            array_agg(per_second order by lead, place) as rates,
            array_agg(task_most order by lead, place) as tasks_most,
            array_agg(task_most_here order by lead, place) as tasks_most_here
        from open
        where (select limited from facts)
    ) l
    cross join lateral jobplatform.allowance(
        %(limit)s::integer, l.workspaces, l.lanes, l.tasks, l.resources, l.most, l.sizes, l.rates, l.tasks_most,
        l.tasks_most_here
    ) f
    where l.workspaces is not null
),
allowed as materialized (
    select
        o.workspace_id, o.lane, o.place, o.lead, o.weight, o.task, o.resource, o.priority, o.run_after, o.id, a.burst,
        coalesce(a.here, %(limit)s) as here,
        coalesce(a.of_task, %(limit)s) as of_task,
        coalesce(a.of_task_here, %(limit)s) as of_task_here,
        coalesce(a.tokens, 'infinity') as tokens,
        a.wait
    from open o
    left join allowance a on a.workspace_id = o.workspace_id and a.lane = o.lane
),
room as materialized (
    select f.*
    from (
        select
            array_agg(resource order by lead, place, priority desc, run_after, id) as resources,
            array_agg(workspace_id order by lead, place, priority desc, run_after, id) as workspaces,
            array_agg(weight order by lead, place, priority desc, run_after, id) as weights,
            array_agg(lead > %(fair)s order by lead, place, priority desc, run_after, id) as late
        from allowed
        where resource is not null
            and here > 0 and of_task > 0 and of_task_here > 0 and tokens >= 1
            and exists (select from jobplatform.resource_limits)
    ) l
    cross join lateral jobplatform.free_on_resources(
        %(limit)s::integer, l.resources, l.workspaces, l.weights, l.late
    ) f
    where l.resources is not null
),
queue_limit as materialized (
    select case when most is null then %(limit)s::integer else jobplatform.free_in_queue(%(queue)s, most) end as free
    from (select (select max_running from jobplatform.queue_limits where queue = %(queue)s) as most) l
    where exists (select from open)
),
-- The best jobs of a workspace are in the lanes whose first jobs are best: `rank` says in which. Others' jobs need not
-- be locked, which would be most of what a claim costs where somebody has spread a backlog over many resources.
turn as materialized (
    select
        t.*,
        round(sum(t.take::float8 / t.lanes) over (order by t.lead, t.place)) - t.take as before
    from (
        select
            w.*,
            least(
                w.here,
                -- Thirds of a weight do not add up to a whole one, and must not be worth another job.
                w.weight * ceil(
                    (%(limit)s / sum(w.weight / w.lanes) over (partition by w.lead > %(fair)s))::numeric(20, 6)
                )
            )::integer as take
        from (
            select
                allowed.*,
                case when room.resource is null then %(limit)s::integer else room.free end as of_resource,
                count(*) over of_workspace::float8 as lanes,
                row_number() over of_workspace as rank
            from allowed
            left join room on room.resource = allowed.resource
            where here > 0 and of_task > 0 and of_task_here > 0 and tokens >= 1
                and (room.resource is null or room.free > 0)
            window of_workspace as (
                partition by lead, place
                order by priority desc, run_after, id
                rows between unbounded preceding and unbounded following
            )
        ) w
    ) t
),
best as materialized (
    select
        turn.lead, turn.place, turn.task, turn.resource, turn.of_task, turn.of_task_here, turn.of_resource, turn.tokens,
        job.tid, turn.take,
        row_number() over (
            partition by turn.lead, turn.place
            order by job.priority desc, job.run_after, job.id
        ) as nth,
        least(job.units, turn.burst) as price
    from (select * from turn where before < %(limit)s and rank <= take + {SPARE_LANES}) turn
    cross join lateral (
        select *
        from (
            select q.ctid as tid, q.priority, q.run_after, q.id, q.units
            {OF_THE_LANE}
        ) locked
        limit least(greatest(turn.take - turn.rank + 1, 1), turn.of_task, turn.of_task_here, turn.of_resource)
    ) job
),
admitted as materialized (
    select lead, place, nth, tid
    from best
    where nth <= take and not (select shared from facts)
    union all
    select lead, place, nth, tid
    from (
        select
            *,
            sum(price) over on_resource as used,
            row_number() over on_resource as nth_of_resource
        from (
            select
                *,
                row_number() over (partition by task order by lead, place, nth) as nth_of_task,
                row_number() over (partition by lead, place, task order by nth) as nth_of_task_here
            from best
            where nth <= take and (select shared from facts)
        ) b
        where nth_of_task <= of_task and nth_of_task_here <= of_task_here
        window on_resource as (partition by resource order by lead, place, nth)
    ) b
    where (used is null or used <= tokens)
        and (resource is null or nth_of_resource <= of_resource)
        and (nth_of_resource = 1 or resource is null or resource not in (select key from on_trial))
),
pick as materialized (
    select tid
    from admitted
    order by lead, place, nth
    limit (select coalesce(free, 0) from queue_limit)
)
"""

# The buckets are told what is left in them, by functions: an update here would not see a bucket that was made a moment
# ago. A SELECT runs only as far as it is read, so the answer has a column for this that nobody needs.
_PAID = """
paid as (
    select
        (
            select jobplatform.leave_in_buckets('workspace', array_agg(b.key), array_agg(b.left_over))
            from (
                select t.workspace_id::text as key, min(a.workspace_tokens) - count(*) as left_over
                from taken t
                join allowance a on a.workspace_id = t.workspace_id and a.lane = t.lane
                where a.workspace_tokens is not null
                group by t.workspace_id
            ) b
            having count(*) > 0
        ) as to_workspaces,
        (
            select jobplatform.leave_in_buckets('resource', array_agg(b.key), array_agg(b.left_over))
            from (
                select t.resource as key, min(a.tokens) - sum(least(t.units, a.burst)) as left_over
                from taken t
                join allowance a on a.workspace_id = t.workspace_id and a.lane = t.lane
                where a.burst is not null
                group by t.resource
            ) b
            having count(*) > 0
        ) as to_resources
)
"""

_WEIGHED_SEEN = f"""
select
    {SEEN.strip()}
    case
        when (select shared or mixed from facts) or {SOMETHING_IS_PAUSED} then {Weighing.LANES:d}
        when (select limited from facts) or {QUEUE_IS_LIMITED} then {Weighing.WORKSPACES:d}
        else {Weighing.NOTHING:d}
    end as weighs,
    (select array_agg(lead) filter (where lead > 0) from turn) as leads,
    exists (select from allowed where least(here, of_task, of_task_here) <= 0)
        or exists (select from room where free <= 0)
        or exists (select from queue_limit where free = 0)
        or exists (select from on_trial where tried) as held_back,
    (select num_nonnulls(to_workspaces, to_resources) from paid) as paid,
    least(
        (select min(wait) from allowance where wait > 0),
        (select extract(epoch from min(until) - jobplatform.clock())::float8 from pause),
        (select extract(epoch from min(closed_until) - jobplatform.clock())::float8 from closed),
        (select {CONTENDED} from queue_limit where free is null),
        (select min(wait) from room),
        (select {CONTENDED} where exists (select from turn) and not exists (select from best))
    ) as wait
"""

WEIGHED_CLAIM = f"""
with recursive
{lane("priority", "run_after", "id").strip()},
{_WEIGHED.strip()},
{TAKEN.strip()},
{_PAID.strip()}
{answer(_WEIGHED_SEEN, same_lane=" and open.lane = u.lane").strip()}
"""
