"""The limited claim: it knows the limits and rates of workspaces, and the limit of the queue."""

from __future__ import annotations

from jobplatform.queue.claim.by_workspace import LIMITS, QUOTAS, SHARE, pick, workspaces
from jobplatform.queue.claim.taking import TAKEN, answer
from jobplatform.queue.claim.walk import SEEN, lane
from jobplatform.queue.claim.weighing import CONTENDED, WEIGHTS, Weighing

# `here`: how many may start in the workspace. What is being claimed by somebody else has no answer, and nothing starts.
_LIMITED = f"""
{workspaces(LIMITS).strip()},
weights as materialized (
    select {WEIGHTS.strip()} from open
),
mine as materialized (
    select o.* from open o cross join weights where weights.weighs <= {Weighing.WORKSPACES:d} order by o.lead, o.place
),
counted as materialized (
    select f.*
    from (select array_agg(workspace_id) as ids, array_agg(most) as most from mine where most is not null) l
    cross join lateral jobplatform.free_in_workspaces(l.ids, l.most, %(limit)s::integer) f
    where l.ids is not null
),
metered as materialized (
    select f.*
    from (
        select array_agg(workspace_id::text) as keys, array_agg(rate_size) as sizes, array_agg(per_second) as per_second
        from mine
        where rate_size is not null
    ) l
    cross join lateral jobplatform.tokens_in_buckets('workspace', l.keys, l.sizes, l.per_second) f
    where l.keys is not null
),
allowed as materialized (
    select
        m.*, metered.tokens,
        least(
            %(limit)s::integer,
            case when m.most is not null then coalesce(counted.free, 0) end,
            case when m.rate_size is not null then coalesce(floor(metered.tokens), 0)::integer end
        ) as here,
        case
            when m.most is not null and counted.workspace_id is null then {CONTENDED}
            when m.rate_size is not null and metered.key is null then {CONTENDED}
            when metered.tokens < 1 then (1 - metered.tokens) / m.per_second
        end as wait
    from mine m
    left join counted on counted.workspace_id = m.workspace_id
    left join metered on metered.key = m.workspace_id::text
),
queue_limit as materialized (
    select case when most is null then %(limit)s::integer else jobplatform.free_in_queue(%(queue)s, most) end as free
    from (select (select max_running from jobplatform.queue_limits where queue = %(queue)s) as most) l
    where exists (select from mine)
),
facts as materialized (
    select
        {QUOTAS.strip()}
    from allowed
    where here > 0
),
{
    pick(
        "allowed o cross join facts where o.here > 0",
        f"least(o.here, {SHARE})",
        "(select coalesce(free, 0) from queue_limit)",
    ).strip()
}
"""

_LIMITED_SEEN = f"""
select
    {SEEN.strip()}
    (select weighs from weights),
    (select leads from facts),
    least((select min(wait) from allowed), (select {CONTENDED} from queue_limit where free is null)) as wait,
    exists (select from allowed where here <= 0) or exists (select from queue_limit where free = 0) as held_back,
    (select nothing from paid) as paid
"""

LIMITED_CLAIM = f"""
with recursive
{lane().strip()},
{_LIMITED.strip()},
{TAKEN.strip()},
paid as (
    select jobplatform.leave_in_buckets('workspace', array_agg(b.key), array_agg(b.left_over)) as nothing
    from (
        select t.workspace_id::text as key, min(a.tokens) - count(*) as left_over
        from taken t
        join allowed a on a.workspace_id = t.workspace_id
        where a.tokens is not null
        group by t.workspace_id
    ) b
    having count(*) > 0
)
{answer(_LIMITED_SEEN).strip()}
"""
