"""Refund: what an attempt that no handler has begun took of its workspace's rate, and of a resource's, goes back.

A verb that hands jobs back puts :data:`REFUND` between its ``verdict`` and the ``ENDING``. Beside the columns that
``ENDING`` reads, ``verdict`` then has resource, units, and unstarted: whether nobody has begun.
"""

from __future__ import annotations

# Priced as a claim prices it. Buckets are locked one after the other in one order, those of workspaces first: a claim
# has them when it waits for whoever makes a resource's. It skips one that is locked, and asks again in a moment; jobs
# that are locked here it skips too, so to wait for its buckets is safe. What flowed in since is counted first, or a
# bucket that is full by now would overflow.
REFUND = """
back as materialized (
    select v.workspace_id, v.resource, v.units from verdict v where v.unstarted
),
given as materialized (
    select
        'workspace' as kind, b.workspace_id::text as key, count(*)::float8 as tokens,
        max(coalesce(w.rate_units, p.rate_units))::float8 as size,
        max(coalesce(w.rate_units * 1000.0 / w.rate_period_ms, p.rate_units * 1000.0 / p.rate_period_ms))::float8
            as per_second
    from back b
    join jobplatform.workspace_limits w on w.workspace_id = b.workspace_id
    left join jobplatform.plans p on p.name = w.plan
    where coalesce(w.rate_units, p.rate_units) is not null
    group by b.workspace_id
    union all
    select
        'resource', b.resource, sum(least(b.units, rate.burst))::float8, max(rate.burst)::float8,
        max(rate.units * 1000.0 / rate.period_ms)::float8
    from back b
    cross join lateral (
        select l.units, l.period_ms, l.burst
        from jobplatform.rate_limits l
        where l.resource in (b.resource, split_part(b.resource, ':', 1) || ':*')
        order by l.resource = b.resource desc
        limit 1
    ) rate
    where b.resource is not null
    group by b.resource
),
held as materialized (
    select have.kind, have.key, g.tokens, g.size, g.per_second
    from jobplatform.buckets have
    join given g on g.kind = have.kind and g.key = have.key
    order by have.kind desc, have.key
    for update of have
),
refunded as (
    update jobplatform.buckets b
    set tokens = least(
            h.size,
            least(
                h.size,
                b.tokens + greatest(0, extract(epoch from jobplatform.clock() - b.filled_at))::float8 * h.per_second
            ) + h.tokens
        ),
        filled_at = greatest(b.filled_at, jobplatform.clock())
    from held h
    where b.kind = h.kind and b.key = h.key
),
"""
