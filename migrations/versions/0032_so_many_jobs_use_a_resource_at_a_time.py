"""So many jobs use a resource at a time.

Revision ID: 0032
Revises: 0031

A resource, or each of a kind, can have a limit of jobs that run. What runs on it is counted under a lock, as for every
other limit, by a function of its own: ``allowance`` stays what code of the version before asks. Such code does not know
these limits and goes beyond them until the last of its workers has stopped.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

OPERATOR, WORKER = "jobplatform_operator", "jobplatform_worker"
EVERYBODY = "jobplatform_api, jobplatform_operator, jobplatform_worker, jobplatform_handler"
FREE_ON_RESOURCES = "jobplatform.free_on_resources(integer, text[], uuid[], integer[], boolean[])"
#: Seconds after which to ask again about what somebody else is just claiming.
CONTENDED = 0.05

RUNNING = """
        select q.resource, count(*) as jobs
        from jobplatform.job_queue q
        where q.state = 2 and q.resource = any(names)
        group by q.resource
    """

LIMITS = """
create table jobplatform.resource_limits (
    resource text not null,
    max_running integer,
    code_max_running integer,
    declared_by text,
    constraint resource_limits_pkey primary key (resource),
    constraint resource_limits_limits_not_negative check (max_running >= 0 and code_max_running >= 0),
    constraint resource_limits_declared_or_not check ((code_max_running is null) = (declared_by is null))
)
"""

# Asked about the lanes that a claim may take from, each workspace's best first, those that come after the others marked
# as late: which of their resources have a limit, and how many more jobs may start on each. The line of the very
# resource counts, also one that says that there is no limit, else that of its kind.
# No more of them are locked than the claim takes jobs, in the order in which it would take those, so that another claim
# takes from others. Most are full where it is one job at a time: a look without a lock comes first, and those are
# answered with zero. What somebody else is just claiming is not answered, nor what is not needed; `wait` is for the
# former: in how many seconds there may be more.
FREE = f"""
create function jobplatform.free_on_resources(
    wanted integer, resources text[], workspaces uuid[], weights integer[], late boolean[]
)
returns table (resource text, free integer, wait double precision)
language plpgsql volatile set enable_seqscan = off as $$
#variable_conflict use_column
declare
    names text[];
    limits integer[];
    taken integer[];
    locked boolean[];
    holding integer := 0;
begin
    select array_agg(resource order by late, turn, nth), array_agg(most order by late, turn, nth)
    into names, limits
    from (
        select used.*, case when own.resource is null then of_kind.max_running else own.max_running end as most
        from (
            select distinct on (resource) resource, late, turn, nth
            from (
                select
                    a.*, row_number() over (partition by workspace_id, late order by nth) / weight::float8 as turn
                from unnest(resources, workspaces, weights, late) with ordinality
                    as a(resource, workspace_id, weight, late, nth)
            ) a
            order by resource, late, turn, nth
        ) used
        left join jobplatform.resource_limits own on own.resource = used.resource
        left join jobplatform.resource_limits of_kind on of_kind.resource = split_part(used.resource, ':', 1) || ':*'
    ) l
    where most is not null;
    if names is null then
        return;
    end if;
    select array_agg(coalesce(r.jobs, 0) order by n.nth) into taken
    from unnest(names) with ordinality as n(resource, nth)
    left join ({RUNNING}) r on r.resource = n.resource;
    for nth in 1 .. cardinality(names) loop
        if taken[nth] >= limits[nth] or holding >= wanted then
            locked[nth] := null;
        else
            locked[nth] := pg_try_advisory_xact_lock(724618016, hashtext(names[nth]));
            holding := holding + locked[nth]::integer;
        end if;
    end loop;
    return query
        select
            n.resource,
            case
                when n.taken >= n.allowed then 0
                when n.locked then n.allowed - coalesce(r.jobs, 0)::integer
            end,
            case when not n.locked then {CONTENDED}::float8 end
        from unnest(names, limits, taken, locked) as n(resource, allowed, taken, locked)
        left join ({RUNNING}) r on r.resource = n.resource;
end $$
"""

SECURITY = (
    f"grant select on jobplatform.resource_limits to {EVERYBODY}",
    # When a worker starts it says which limits the code of its tasks declares.
    f"grant insert, update, delete on jobplatform.resource_limits to {OPERATOR}, {WORKER}",
)


def upgrade() -> None:
    for statement in (LIMITS, FREE, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    op.execute(f"drop function {FREE_ON_RESOURCES}")
    op.execute("drop table jobplatform.resource_limits")
