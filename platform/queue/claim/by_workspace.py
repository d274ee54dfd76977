"""Where a claim weighs workspaces, and nothing within them: what each has, its share, and its best jobs."""

from __future__ import annotations

from jobplatform.queue.claim.taking import MAY_RUN, OF_THE_LANE
from jobplatform.queue.claim.weighing import LIMITS_OF_WORKSPACE, TASK_IS_LIMITED, WORKSPACE_IS_LIMITED, Weighing

# `lead` is 0 for a workspace that has not had more than its fair share; the others come after those, in the order of
# their leads.
PLACED = """
        coalesce(array_position(%(ahead)s::uuid[], l.workspace_id), 0) as lead,
        coalesce(w.weight, p.weight, 1) as weight,
"""
LIMITS = """
        coalesce(w.max_running, p.max_running) as most,
        coalesce(w.rate_units, p.rate_units)::float8 as rate_size,
        coalesce(w.rate_units * 1000.0::float8 / w.rate_period_ms, p.rate_units * 1000.0::float8 / p.rate_period_ms)
            as per_second,
"""


def workspaces(limits: str = "") -> str:
    """Those that have something for this worker: one row each, or there are lanes to weigh."""
    return f"""
open as materialized (
    select
        l.workspace_id, l.lane, l.place,
        {PLACED.strip()}{limits.rstrip()}
        case
            when l.nth > 1 or l.resource is not null or {TASK_IS_LIMITED} then {Weighing.LANES:d}
            when {WORKSPACE_IS_LIMITED} then {Weighing.WORKSPACES:d}
            else {Weighing.NOTHING:d}
        end as weighs
    from lane l
    {LIMITS_OF_WORKSPACE.strip()}
    where {MAY_RUN}
)"""


# A workspace's part of this claim by weight: of all of it for those whose lead is fair still, of what they leave for
# the rest, so that nobody far ahead gets what others want and no slot stands idle.
QUOTAS = """
        ceil(%(limit)s / sum(weight) filter (where lead <= %(fair)s)::float8) as quota,
        ceil(%(limit)s / sum(weight) filter (where lead > %(fair)s)::float8) as heavy_quota,
        array_agg(lead) filter (where lead > 0) as leads
"""
SHARE = "(o.weight * case when o.lead > %(fair)s then facts.heavy_quota else facts.quota end)::integer"


def pick(turns: str, share: str, most: str) -> str:
    """The best jobs of each of these workspaces, as many as its share, until there are enough."""
    return f"""
pick as materialized (
    select best.tid
    from (
        select o.*, {share} as share
        from {turns}
        order by o.lead, o.place
    ) turn
    cross join lateral (
        select tid
        from (
            select q.ctid as tid
            {OF_THE_LANE}
        ) locked
        limit turn.share
    ) best
    limit {most}
)"""
