"""A limited claim asks for no more than it needs.

Revision ID: 0028
Revises: 0027

What a claim under limits asks became cheaper, with the same answers and signatures, so that workers of before go on:

- ``free_in_workspaces`` tries for the next workspace when it cannot have the lock of one, and keeps what it has locked
  by its place, which spares a search;
- ``tokens_in_buckets`` counts buckets and makes those that are missing only when some are;
- both that and ``leave_in_buckets`` find them by their keys. A plan from the time of a few buckets read all of the
  table, twice in each claim, for as long as the connection lasted or until the table was analysed.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

# Of more workspaces than there are jobs to claim no more are locked than needed, and full ones not at all. Otherwise
# all are, in one query, which is cheaper than a loop.
FREE = """
create or replace function jobplatform.free_in_workspaces(workspaces uuid[], limits integer[], most integer)
returns table (workspace_id uuid, free integer) language plpgsql volatile as $$
#variable_conflict use_column
declare
    locked boolean[];
    taken integer;
    holding integer := 0;
begin
    if cardinality(workspaces) <= most then
        select array_agg(pg_try_advisory_xact_lock(724618001, hashtext(w.id::text)) order by w.nth) into locked
        from unnest(workspaces) with ordinality as w(id, nth);
    else
        for nth in 1 .. coalesce(cardinality(workspaces), 0) loop
            exit when holding >= most;
            select count(*) into taken
            from jobplatform.job_queue q
            where q.state = 2 and q.workspace_id = workspaces[nth];
            if taken >= limits[nth] then
                return query select workspaces[nth], 0;
                locked[nth] := false;
            else
                locked[nth] := pg_try_advisory_xact_lock(724618001, hashtext(workspaces[nth]::text));
                holding := holding + locked[nth]::integer;
            end if;
        end loop;
    end if;
    return query
        select
            w.id,
            w.allowed - (
                select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id
            )
        from unnest(workspaces, limits, locked) as w(id, allowed, held)
        where w.held;
end $$
"""

# Buckets are made before any is locked: who makes one may wait for somebody who makes the same, and must not hold what
# that one waits for.
TOKENS = """
create or replace function jobplatform.tokens_in_buckets(
    of_kind text, keys text[], sizes double precision[], per_second double precision[]
)
returns table (key text, tokens double precision) language plpgsql volatile set enable_seqscan = off as $$
#variable_conflict use_column
begin
    if cardinality(keys) > (
        select count(*) from jobplatform.buckets there where there.kind = of_kind and there.key = any(keys)
    ) then
        insert into jobplatform.buckets (kind, key, tokens, filled_at)
        select of_kind, b.key, b.size, jobplatform.clock()
        from unnest(keys, sizes) as b(key, size)
        where not exists (
            select from jobplatform.buckets there
            where there.kind = of_kind and there.key = any(keys) and there.key = b.key
        )
        order by b.key
        on conflict do nothing;
    end if;
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
"""

LEAVE = """
create or replace function jobplatform.leave_in_buckets(of_kind text, keys text[], left_over double precision[])
returns integer language plpgsql volatile set enable_seqscan = off as $$
begin
    update jobplatform.buckets b
    set tokens = l.tokens,
        filled_at = greatest(b.filled_at, jobplatform.clock())
    from unnest(keys, left_over) as l(key, tokens)
    where b.kind = of_kind and b.key = any(keys) and b.key = l.key;
    return 0;
end $$
"""

# As migrations 0024 and 0004 made them.
FREE_BEFORE = """
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

TOKENS_BEFORE = """
create or replace function jobplatform.tokens_in_buckets(
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
"""

LEAVE_BEFORE = """
create or replace function jobplatform.leave_in_buckets(of_kind text, keys text[], left_over double precision[])
returns integer language plpgsql volatile as $$
begin
    update jobplatform.buckets b
    set tokens = l.tokens,
        filled_at = greatest(b.filled_at, jobplatform.clock())
    from unnest(keys, left_over) as l(key, tokens)
    where b.kind = of_kind and b.key = l.key;
    return 0;
end $$
"""


def upgrade() -> None:
    for function in (FREE, TOKENS, LEAVE):
        op.execute(function)


def downgrade() -> None:
    for function in (FREE_BEFORE, TOKENS_BEFORE, LEAVE_BEFORE):
        op.execute(function)
