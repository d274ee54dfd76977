"""The limit of a resource can find itself, between a least and a most.

Revision ID: 0035
Revises: 0034

A limit with a ``min_running`` is adaptive: what counts of each resource is its level, which workers lower and raise by
what the resource answers. Workers of the version before ask the same function and so keep to the level, but do not tell
what they were answered; everything else of that version sees a plain limit of ``max_running``. It may set one that
is less than the least, which is why no check compares the two.
"""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

OPERATOR, WORKER = "jobplatform_operator", "jobplatform_worker"
LEVEL_OF_RESOURCE = "jobplatform.level_of_resource(text, integer, integer)"
#: Seconds after which to ask again about what somebody else is just claiming.
CONTENDED = 0.05

LIMITS = (
    "alter table jobplatform.resource_limits add column min_running integer, add column code_min_running integer",
    "alter table jobplatform.resource_limits add constraint resource_limits_least_is_positive "
    "check (min_running > 0 and code_min_running > 0)",
)

LEVELS = """
create table jobplatform.resource_levels (
    resource text not null,
    level double precision not null,
    used_at timestamptz default jobplatform.clock() not null,
    lowered_at timestamptz,
    lowered_for text,
    constraint resource_levels_pkey primary key (resource),
    constraint resource_levels_level_positive check (level > 0),
    constraint resource_levels_lowered_for_something check ((lowered_at is null) = (lowered_for is null))
) with (fillfactor = 50)
"""

# One of which nothing has been found out yet begins at the least.
LEVEL = """
create function jobplatform.level_of_resource(resource text, min_running integer, max_running integer)
returns integer language sql stable as $$
    select least(
        $3, greatest($2, (select floor(v.level)::integer from jobplatform.resource_levels v where v.resource = $1))
    )
$$
"""

RUNNING = """
        select q.resource, count(*) as jobs
        from jobplatform.job_queue q
        where q.state = 2 and q.resource = any(names)
        group by q.resource
    """

# As 0032 has it.
FREE_BEFORE = f"""
create or replace function jobplatform.free_on_resources(
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
# The level is asked for twice: in the look before the lock, and again by the statement that counts under it. What was
# lowered meanwhile counts.
LEVELLED = {
    "    taken integer[];": "    leasts integer[];\n    mosts integer[];\n    taken integer[];",
    "array_agg(most order by late, turn, nth)\n    into names, limits": """
        array_agg(
            case when least is null then most else jobplatform.level_of_resource(resource, least, most) end
            order by late, turn, nth
        ),
        array_agg(least order by late, turn, nth), array_agg(most order by late, turn, nth)
    into names, limits, leasts, mosts""",
    "own.max_running end as most": """own.max_running end as most,
            case when own.resource is null then of_kind.min_running else own.min_running end as least""",
    "n.locked then n.allowed -": """n.locked
                then case
                    when n.least is null then n.allowed
                    else jobplatform.level_of_resource(n.resource, n.least, n.most)
                end -""",
    "unnest(names, limits, taken, locked) as n(resource, allowed, taken, locked)": (
        "unnest(names, limits, taken, locked, leasts, mosts)\n"
        "            as n(resource, allowed, taken, locked, least, most)"
    ),
}


def _with(changes: dict[str, str], function: str) -> str:
    for before, after in changes.items():
        assert before in function
        function = function.replace(before, after)
    return function


FREE = _with(LEVELLED, FREE_BEFORE)

SECURITY = (
    # Workers write down what their jobs were answered. Resources are named after tenants' accounts: nobody else reads
    # their names here.
    f"grant select, insert, update, delete on jobplatform.resource_levels to {OPERATOR}, {WORKER}",
)


def upgrade() -> None:
    for statement in (*LIMITS, LEVELS, LEVEL, FREE, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    """What was adaptive is a plain limit of its most."""
    op.execute(FREE_BEFORE)
    op.execute(f"drop function {LEVEL_OF_RESOURCE}")
    op.execute("drop table jobplatform.resource_levels")
    op.execute("alter table jobplatform.resource_limits drop column min_running, drop column code_min_running")
