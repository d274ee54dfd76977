"""What is free under a limit can be asked.

Revision ID: 0004
Revises: 0003

A claim calls ``allowance`` once, with all it wants to ask, and only if something it looks at has a limit.

Each of the functions below it first tries for a lock that every claimer of the same thing has to hold until it commits,
and only then counts, in a statement of its own. That statement's snapshot is younger than the lock, so it sees all that
earlier holders made running: the count is exact, nothing about it is stored, and a crash leaves nothing behind. What
cannot be locked at once is not answered: somebody else is just claiming it.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Locks are taken on (class, hash of the key); the classes keep a workspace from meeting a queue of the same hash.
# Seconds after which to ask again about what somebody else is just claiming.
CONTENDED = 0.05

FUNCTIONS = {
    # The limits may be null for workspaces that are only locked, for limits on a task inside them. A look without locks
    # comes first: a claimer holds no more of them than there are jobs to claim. Full ones are answered with zero.
    "free_in_workspaces(uuid[], integer[], integer)": """
create function jobplatform.free_in_workspaces(workspaces uuid[], limits integer[], most integer)
returns table (workspace_id uuid, free integer) language plpgsql volatile as $$
#variable_conflict use_column
declare
    taken integer[];
    locked uuid[];
begin
    select array_agg(
        (select count(*) from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id)
        order by w.nth
    )
    into taken
    from unnest(workspaces) with ordinality as w(id, nth);
    select array_agg(open.id) into locked
    from (
        select w.id
        from unnest(workspaces, limits, taken) with ordinality as w(id, allowed, running, nth)
        where w.allowed is null or w.allowed > w.running
        order by w.nth
        limit most
    ) open
    where pg_try_advisory_xact_lock(724618001, hashtext(open.id::text));
    return query
        select w.id, 0 from unnest(workspaces, limits, taken) as w(id, allowed, running) where w.allowed <= w.running
        union all
        select
            w.id,
            w.allowed - (
                select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id
            )
        from unnest(workspaces, limits) as w(id, allowed)
        where w.id = any(locked);
end $$
""",
    "free_in_queue(text, integer)": """
create function jobplatform.free_in_queue(name text, allowed integer)
returns integer language plpgsql volatile as $$
begin
    if not pg_try_advisory_xact_lock(724618002, hashtext(name)) then
        return null;
    end if;
    return greatest(0, allowed - (
        select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.queue = name
    ));
end $$
""",
    "free_of_tasks(text[], integer[])": """
create function jobplatform.free_of_tasks(names text[], limits integer[])
returns table (task text, free integer) language plpgsql volatile as $$
#variable_conflict use_column
declare locked text[];
begin
    select array_agg(name) into locked
    from unnest(names) as n(name)
    where pg_try_advisory_xact_lock(724618003, hashtext(name));
    return query
        select
            l.name,
            l.allowed - (select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.task = l.name)
        from unnest(names, limits) as l(name, allowed)
        where l.name = any(locked);
end $$
""",
    # Asked only about workspaces that free_in_workspaces has locked.
    "free_of_tasks_in_workspaces(uuid[], text[], integer[])": """
create function jobplatform.free_of_tasks_in_workspaces(workspaces uuid[], names text[], limits integer[])
returns table (workspace_id uuid, task text, free integer) language plpgsql volatile as $$
#variable_conflict use_column
begin
    return query
        select
            l.id,
            l.name,
            l.allowed - (
                select count(*)::integer
                from jobplatform.job_queue q
                where q.state = 2 and q.workspace_id = l.id and q.task = l.name
            )
        from unnest(workspaces, names, limits) as l(id, name, allowed);
end $$
""",
    # A bucket that nobody has taken from is full. A transaction that began before the last one to take tells an
    # earlier time: then nothing has flowed in since, and the bucket's own time must not go back.
    "tokens_in_buckets(text, text[], double precision[], double precision[])": """
create function jobplatform.tokens_in_buckets(
    of_kind text, keys text[], sizes double precision[], per_second double precision[]
)
returns table (key text, tokens double precision) language plpgsql volatile as $$
#variable_conflict use_column
begin
    insert into jobplatform.buckets (kind, key, tokens, filled_at)
    select of_kind, b.key, b.size, jobplatform.clock()
    from unnest(keys, sizes) as b(key, size)
    where not exists (select from jobplatform.buckets there where there.kind = of_kind and there.key = b.key)
    order by b.key
    on conflict do nothing;
    return query
        select
            have.key,
            least(
                asked.size,
                have.tokens
                    + greatest(0, extract(epoch from jobplatform.clock() - have.filled_at)) * asked.per_second
            )
        from jobplatform.buckets have
        join unnest(keys, sizes, per_second) as asked(key, size, per_second) on asked.key = have.key
        where have.kind = of_kind
            and have.key = any(keys)
        for update of have skip locked;
end $$
""",
    # Asked about lanes of workspaces, in the order in which a claim would take from them: how many jobs may start in
    # the workspace (over all its lanes), of the task anywhere and of the task there, what is left of the workspace's
    # rate, and of the resource's, of the `burst` it can be at most. `wait`: in how many seconds there may be more.
    "allowance(integer, uuid[], bigint[], text[], text[], integer[], double precision[], double precision[], "
    "integer[], integer[])": f"""
create function jobplatform.allowance(
    wanted integer, workspaces uuid[], lanes bigint[], tasks text[], resources text[],
    most integer[], rate_sizes double precision[], rates_per_second double precision[],
    tasks_most integer[], tasks_most_here integer[]
)
returns table (
    workspace_id uuid, lane bigint, here integer, of_task integer, of_task_here integer,
    workspace_tokens double precision, tokens double precision, burst double precision, wait double precision
)
language plpgsql volatile as $$
#variable_conflict use_column
begin
    -- The usual case by itself: what follows takes twice as long.
    if num_nonnulls(variadic rate_sizes) = 0 and num_nonnulls(variadic resources) = 0
        and num_nonnulls(variadic tasks_most) = 0 and num_nonnulls(variadic tasks_most_here) = 0
    then
        return query
        with workspace as materialized (
            select f.*
            from (
                select array_agg(id order by nth) as ids, array_agg(allowed order by nth) as most
                from (
                    select distinct on (id) id, allowed, nth
                    from unnest(workspaces, most) with ordinality as w(id, allowed, nth)
                    where allowed is not null
                    order by id, nth
                ) w
            ) l
            cross join lateral jobplatform.free_in_workspaces(l.ids, l.most, wanted) f
        )
        select
            a.id, a.lane, case when a.allowed is null then wanted else coalesce(w.free, 0) end, wanted, wanted,
            null::float8, 'infinity'::float8, null::float8,
            case when a.allowed is null or w.workspace_id is not null then 0 else {CONTENDED} end::float8
        from unnest(workspaces, lanes, most) as a(id, lane, allowed)
        left join workspace w on w.workspace_id = a.id;
        return;
    end if;
    return query
    with asked as materialized (
        select *
        from unnest(
            workspaces, lanes, tasks, resources, most, rate_sizes, rates_per_second, tasks_most, tasks_most_here
        ) with ordinality as a(
            workspace_id, lane, task, resource, most, rate_size, per_second, task_most, task_most_here, place
        )
    ),
    workspace as materialized (
        select f.*
        from (
            select array_agg(workspace_id order by place) as ids, array_agg(most order by place) as most
            from (
                select distinct on (workspace_id) workspace_id, most, place
                from asked
                where most is not null or task_most_here is not null
                order by workspace_id, place
            ) l
        ) l
        cross join lateral jobplatform.free_in_workspaces(l.ids, l.most, wanted) f
        where l.ids is not null
    ),
    task as materialized (
        select f.*
        from (
            select array_agg(task) as names, array_agg(task_most) as most
            from (select distinct task, task_most from asked where task_most is not null) l
        ) l
        cross join lateral jobplatform.free_of_tasks(l.names, l.most) f
        where l.names is not null
    ),
    task_here as materialized (
        select f.*
        from (
            select array_agg(workspace_id) as ids, array_agg(task) as names, array_agg(task_most_here) as most
            from (
                select distinct workspace_id, task, task_most_here
                from asked
                join workspace using (workspace_id)
                where task_most_here is not null
            ) l
        ) l
        cross join lateral jobplatform.free_of_tasks_in_workspaces(l.ids, l.names, l.most) f
        where l.names is not null
    ),
    pace as materialized (
        select f.key::uuid as workspace_id, f.tokens
        from (
            select
                array_agg(workspace_id::text) as keys,
                array_agg(rate_size) as sizes,
                array_agg(per_second) as per_second
            from (select distinct workspace_id, rate_size, per_second from asked where rate_size is not null) l
        ) l
        cross join lateral jobplatform.tokens_in_buckets('workspace', l.keys, l.sizes, l.per_second) f
        where l.keys is not null
    ),
    rate as materialized (
        select used.resource, r.burst::float8 as burst, r.units * 1000.0::float8 / r.period_ms as per_second
        from (select distinct resource from asked where resource is not null) used
        cross join lateral (
            select *
            from jobplatform.rate_limits l
            where l.resource in (used.resource, split_part(used.resource, ':', 1) || ':*')
            order by l.resource = used.resource desc
            limit 1
        ) r
    ),
    meter as materialized (
        select f.key as resource, f.tokens
        from (
            select array_agg(resource) as keys, array_agg(burst) as sizes, array_agg(per_second) as per_second from rate
        ) l
        cross join lateral jobplatform.tokens_in_buckets('resource', l.keys, l.sizes, l.per_second) f
        where l.keys is not null
    )
    select
        a.workspace_id,
        a.lane,
        least(
            case
                when a.most is null and a.task_most_here is null then wanted
                when workspace.workspace_id is null then 0
                else coalesce(workspace.free, wanted)
            end,
            case when a.rate_size is null then wanted else coalesce(floor(pace.tokens), 0)::integer end
        ),
        case when a.task_most is null then wanted else coalesce(task.free, 0) end,
        case when a.task_most_here is null then wanted else coalesce(task_here.free, 0) end,
        case when a.rate_size is not null then coalesce(pace.tokens, 0) end,
        case when rate.resource is null then 'infinity' else coalesce(meter.tokens, 0) end,
        rate.burst,
        greatest(
            case
                when a.most is null and a.task_most_here is null or workspace.workspace_id is not null then 0
                else {CONTENDED}
            end,
            case when a.task_most is null or task.task is not null then 0 else {CONTENDED} end,
            case when pace.tokens < 1 then (1 - pace.tokens) / a.per_second else 0 end,
            case when meter.tokens < 1 then (1 - meter.tokens) / rate.per_second else 0 end
        )
    from asked a
    left join workspace on workspace.workspace_id = a.workspace_id
    left join task on task.task = a.task
    left join task_here on task_here.workspace_id = a.workspace_id and task_here.task = a.task
    left join pace on pace.workspace_id = a.workspace_id
    left join rate on rate.resource = a.resource
    left join meter on meter.resource = a.resource;
end $$
""",
    # Asked only for buckets that tokens_in_buckets has locked, with what it said less what was taken.
    "leave_in_buckets(text, text[], double precision[])": """
create function jobplatform.leave_in_buckets(of_kind text, keys text[], left_over double precision[])
returns integer language plpgsql volatile as $$
begin
    update jobplatform.buckets b
    set tokens = l.tokens,
        filled_at = greatest(b.filled_at, jobplatform.clock())
    from unnest(keys, left_over) as l(key, tokens)
    where b.kind = of_kind and b.key = l.key;
    return 0;
end $$
""",
}


def upgrade() -> None:
    for function in FUNCTIONS.values():
        op.execute(function)


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"drop function jobplatform.{name}")
