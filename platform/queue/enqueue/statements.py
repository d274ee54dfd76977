"""What an enqueue asks the database: a statement for one job that stands alone, and one for many of any kind.

Each of them writes both halves of a job, the row of the queue and the record.
"""

from __future__ import annotations

from jobplatform.queue.guard import holder_of_guard
from jobplatform.queue.hooks.told import told
from jobplatform.queue.locks import QUOTA
from jobplatform.queue.start_by import start_by

# It answers with a row count and no rows: what SQLAlchemy does for a result costs a single enqueue as much as both
# inserts cost the server. Nothing is written for a workspace with a quota; that takes a lock first (limits/quota.py).
# The key may be free because the job that takes it over has not done so yet: see after/succeed.py.
# The end of a job that a webhook is told of leaves a notice: see hooks/tell_webhooks.py.
# `on conflict` names no index: a repeat of a request that is just being committed waits and is answered like any other.
ENQUEUE_ONE = f"""
with queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key,
        resource, units, payload_version, start_within_ms, start_by, followed
    )
    select
        a.workspace_id, a.id, %(queue)s, %(task)s,
        case when a.due_at > jobplatform.clock() then 0 else 1 end,
        %(priority)s::smallint, %(max_attempts)s::smallint, %(timeout)s::int, a.due_at, %(unique_key)s,
        %(resource)s, %(units)s::smallint, %(version)s::smallint,
        %(start_within)s::bigint, {start_by("a.due_at", "%(start_within)s::bigint")},
        (
            select true
            from jobplatform.webhook_subscriptions s
            where {told("a.workspace_id", "%(task)s")}
            limit 1
        ) is true
    from (
        select
            %(workspace_id)s::uuid as workspace_id,
            %(id)s::uuid as id,
            coalesce(
                %(run_after)s::timestamptz, jobplatform.clock() + make_interval(secs => %(delay)s::float8)
            ) as due_at
    ) a
    where not exists (select from jobplatform.job_records r where r.workspace_id = a.workspace_id and r.id = a.id)
    and not exists (
        select
        from jobplatform.job_queue successor
        where successor.workspace_id = a.workspace_id and successor.unique_key = chr(30) || %(unique_key)s
    )
    and not exists (
        select
        from jobplatform.workspace_limits l
        left join jobplatform.plans p on p.name = l.plan
        where l.workspace_id = a.workspace_id and coalesce(l.max_pending, p.max_pending) is not null
    )
    and (
        %(sealed)s::bool
        or not exists (select from jobplatform.workspace_keys k where k.workspace_id = a.workspace_id and k.encrypts)
    )
    on conflict do nothing
    returning workspace_id, id, run_after
)
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, payload_version, priority, max_attempts, timeout_ms,
    unique_key, resource, units, start_within_ms, tags, request_id, trace_parent, parent_id, run_after
)
select
    queued.workspace_id, queued.id, %(task)s, %(queue)s, %(payload)s::jsonb, %(version)s::smallint,
    %(priority)s::smallint, %(max_attempts)s::smallint, %(timeout)s::int,
    %(unique_key)s, %(resource)s, %(units)s::smallint, %(start_within)s::bigint, %(tags)s::text[], %(request_id)s,
    %(trace_parent)s, %(parent_id)s::uuid, queued.run_after
from queued
"""

# The answer has only what was not created, since that is all there is to tell.
# The limit says nothing new to the reader; to the planner it says "one row" where it would assume ten, and so makes
# one generic plan the cheapest for one job and for a thousand. Without it every enqueue was planned anew (1 ms).
# Scalar subselects, because a join may be planned as a scan of the whole table: that took two thirds of a bulk enqueue.
# A full join and a `not in`, because they are never planned as nested loops: with "one row" those look cheapest, and
# took 130 of 180 ms for a thousand. (Nothing is queued that was not asked for, so the full join says what an inner one
# would; the planner must not notice, hence num_nulls() where "is not null" would do.)
# The payloads are one JSON text, since in an array of texts each quotation mark is escaped, and read, once more. In a
# subselect, because a parameter that comes as text would be taken apart anew for each job.
# `gated` are the workspaces whose quota has not been looked at yet. If one of them has a quota nothing is written, and
# the locks that looking at it takes are taken here already, which saves such a workspace a round trip.
# `unsealed` are the workspaces of payloads that are not sealed. If one of them wants all of its sealed nothing is
# written either: no process can forget that, whatever it knows of keys.
ENQUEUE = f"""
with asked as materialized (
    select
        u.id,
        coalesce(u.workspace_id, %(workspace_id)s::uuid) as workspace_id,
        coalesce(u.task, %(task)s::text) as task,
        coalesce(u.queue, %(queue)s::text) as queue,
        (select %(payloads)s::jsonb) -> (u.number::int - 1) as payload,
        coalesce(u.payload_version, %(version)s::smallint) as payload_version,
        coalesce(u.priority, %(priority)s::smallint) as priority,
        coalesce(
            u.run_after,
            %(run_after)s::timestamptz,
            jobplatform.clock() + make_interval(secs => coalesce(u.delay, %(delay)s::float8, 0))
        ) as due_at,
        coalesce(u.max_attempts, %(max_attempts)s::smallint) as max_attempts,
        coalesce(u.timeout_ms, %(timeout)s::int) as timeout_ms,
        coalesce(u.unique_key, %(unique_key)s::text) as unique_key,
        coalesce(u.resource, %(resource)s::text) as resource,
        coalesce(u.units, %(units)s::smallint) as units,
        coalesce(u.start_within_ms, %(start_within)s::bigint) as start_within_ms,
        coalesce(u.tags::text[], %(tags)s::text[]) as tags,
        coalesce(u.request_id, %(request_id)s::text) as request_id,
        coalesce(u.trace_parent, %(trace_parent)s::text) as trace_parent,
        coalesce(u.parent_id, %(parent_id)s::uuid) as parent_id,
        coalesce(u.batch_id, %(batch_id)s::uuid) as batch_id,
        coalesce(u.blocked, %(blocked)s::bool) as blocked,
        coalesce(u.followed, %(followed)s::bool) as followed,
        u.number
    from unnest(
        %(ids)s::uuid[], %(workspace_ids)s::uuid[], %(tasks)s::text[], %(queues)s::text[],
        %(versions)s::smallint[], %(priorities)s::smallint[], %(run_afters)s::timestamptz[], %(delays)s::float8[],
        %(all_max_attempts)s::smallint[], %(timeouts)s::int[], %(unique_keys)s::text[], %(resources)s::text[],
        %(all_units)s::smallint[], %(all_tags)s::text[], %(request_ids)s::text[], %(trace_parents)s::text[],
        %(parent_ids)s::uuid[], %(batch_ids)s::uuid[], %(all_blocked)s::bool[], %(all_followed)s::bool[],
        %(all_start_within)s::bigint[]
    ) with ordinality as u(
        id, workspace_id, task, queue, payload_version, priority, run_after, delay,
        max_attempts, timeout_ms, unique_key, resource, units, tags, request_id, trace_parent,
        parent_id, batch_id, blocked, followed, start_within_ms, number
    )
    limit cardinality(%(ids)s::uuid[])
),
limited as materialized (
    select hashtext(l.workspace_id::text) as lock
    from jobplatform.workspace_limits l
    left join jobplatform.plans p on p.name = l.plan
    where l.workspace_id = any(%(gated)s::uuid[]) and coalesce(l.max_pending, p.max_pending) is not null
    order by 1
),
unsealed as materialized (
    select
    from jobplatform.workspace_keys k
    where k.workspace_id = any(%(unsealed)s::uuid[]) and k.encrypts
    limit 1
),
queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key,
        resource, units, followed, payload_version, start_within_ms, start_by
    )
    select
        a.workspace_id, a.id, a.queue, a.task,
        case when a.blocked then -1 when a.due_at > jobplatform.clock() then 0 else 1 end,
        a.priority, a.max_attempts, a.timeout_ms, a.due_at, a.unique_key,
        a.resource, a.units,
        a.followed or (
            exists (select from jobplatform.webhook_subscriptions s where s.workspace_id = any(%(workspaces)s::uuid[]))
            and (
                select true
                from jobplatform.webhook_subscriptions s
                where {told("a.workspace_id", "a.task")}
                limit 1
            ) is true
        ),
        a.payload_version,
        a.start_within_ms,
        case
            when not a.blocked or left(a.unique_key, 1) = chr(30)
            then {start_by("a.due_at", "a.start_within_ms")}
        end
    from asked a
    where (
        select true from jobplatform.job_records r where r.workspace_id = a.workspace_id and r.id = a.id
    ) is null
    and (
        a.unique_key is null
        or (
            select true
            from jobplatform.job_queue successor
            where successor.workspace_id = a.workspace_id and successor.unique_key = chr(30) || a.unique_key
        ) is null
    )
    and not exists (select from limited)
    and not exists (select from unsealed)
    order by a.workspace_id, a.unique_key, a.id
    on conflict do nothing
    returning workspace_id, id
),
recorded as (
    insert into jobplatform.job_records (
        workspace_id, id, task, queue, payload, payload_version, priority, max_attempts, timeout_ms,
        unique_key, resource, units, start_within_ms, tags, request_id, trace_parent, parent_id, batch_id, run_after
    )
    select
        a.workspace_id, a.id, a.task, a.queue, a.payload, a.payload_version, a.priority, a.max_attempts, a.timeout_ms,
        ltrim(a.unique_key, chr(30)), a.resource, a.units, a.start_within_ms, a.tags, a.request_id, a.trace_parent,
        a.parent_id, a.batch_id, a.due_at
    from asked a
    full join queued on queued.workspace_id = a.workspace_id and queued.id = a.id
    where num_nulls(queued.id, a.id) = 0
)
select
    a.number - 1,
    coalesce(
        (
            select r.id
            from jobplatform.job_records r
            where r.workspace_id = a.workspace_id and r.id = a.id
        ),
        {holder_of_guard("a")}
    )::text,
    (select count(pg_advisory_xact_lock({QUOTA}, limited.lock)::text) from limited),
    exists (select from unsealed)
from asked a
where (select count(*) from queued) < cardinality(%(ids)s::uuid[])
    and (a.workspace_id, a.id) not in (select queued.workspace_id, queued.id from queued)
"""
