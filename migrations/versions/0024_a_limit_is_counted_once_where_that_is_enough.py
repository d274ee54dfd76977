"""A limit is counted once where that is enough.

Revision ID: 0024
Revises: 0023

``free_in_workspaces`` looked twice at every workspace that a claim asked about: without a lock, so as to lock no more
of them than there are jobs to claim, and once more under the lock. Where there are as many jobs as workspaces the
first look decides nothing and is left out; otherwise it ends when enough are locked.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

FREE = """
create or replace function jobplatform.free_in_workspaces(workspaces uuid[], limits integer[], most integer)
returns table (workspace_id uuid, free integer) language plpgsql volatile as $$
#variable_conflict use_column
declare
    candidates uuid[] := '{}';
    locked uuid[];
    taken integer;
begin
    if coalesce(cardinality(workspaces), 0) <= most then
        candidates := workspaces;
    else
        for nth in 1 .. cardinality(workspaces) loop
            exit when cardinality(candidates) >= most;
            select count(*) into taken
            from jobplatform.job_queue q
            where q.state = 2 and q.workspace_id = workspaces[nth];
            if taken >= limits[nth] then
                return query select workspaces[nth], 0;
            else
                candidates := candidates || workspaces[nth];
            end if;
        end loop;
    end if;
    select array_agg(open.id) into locked
    from unnest(candidates) as open(id)
    where pg_try_advisory_xact_lock(724618001, hashtext(open.id::text));
    return query
        select
            w.id,
            w.allowed - (
                select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id
            )
        from unnest(workspaces, limits) as w(id, allowed)
        where w.id = any(locked);
end $$
"""

# As migration 0004 made it.
BEFORE = """
create or replace function jobplatform.free_in_workspaces(workspaces uuid[], limits integer[], most integer)
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
"""


def upgrade() -> None:
    op.execute(FREE)


def downgrade() -> None:
    op.execute(BEFORE)
