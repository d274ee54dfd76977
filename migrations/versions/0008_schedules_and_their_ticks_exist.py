"""Schedules and their ticks exist, and a worker may enqueue what they ask for.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)
EVERYBODY = f"{API}, {OPERATOR}, {WORKER}, {HANDLER}"

SCHEDULES = """
create table jobplatform.schedules (
    workspace_id uuid not null,
    id uuid not null,
    name text not null,
    task text not null,
    payload jsonb not null,
    payload_version smallint default '1' not null,
    cron text,
    every_ms bigint,
    anchor timestamptz,
    run_at timestamptz,
    timezone text default 'UTC' not null,
    every_workspace boolean default 'false' not null,
    catch_up text default 'one' not null,
    spread_ms bigint default '0' not null,
    queue text,
    priority smallint,
    max_attempts smallint,
    timeout_ms integer,
    unique_key text,
    resource text,
    units smallint default '1' not null,
    tags text[] default '{}' not null,
    made_by text not null,
    declared_by text,
    fingerprint text,
    replaced_fingerprint text,
    declared_at timestamptz,
    created_at timestamptz default jobplatform.clock() not null,
    updated_at timestamptz default jobplatform.clock() not null,
    paused_at timestamptz,
    paused_by text,
    next_tick_at timestamptz,
    next_run_at timestamptz,
    fan_tick_at timestamptz,
    fan_after uuid,
    constraint schedules_pkey primary key (workspace_id, id),
    constraint schedules_one_rule check (num_nonnulls(cron, every_ms, run_at) = 1),
    constraint schedules_interval_anchored check ((every_ms is null) = (anchor is null) and every_ms >= 1000),
    constraint schedules_named check (name <> '' and made_by <> ''),
    constraint schedules_known_catch_up check (catch_up in ('none', 'one', 'all')),
    constraint schedules_spread_not_negative check (spread_ms >= 0),
    constraint schedules_units_in_range check (units between 1 and 10000),
    constraint schedules_platform_when_every_workspace check (
        not every_workspace or workspace_id = '00000000-0000-8000-8000-000000000000'
    ),
    constraint schedules_declared_or_not check (num_nulls(declared_by, fingerprint, declared_at) in (0, 3)),
    constraint schedules_paused_by_somebody check ((paused_at is null) = (paused_by is null)),
    constraint schedules_fanning_out_or_not check (
        num_nulls(fan_tick_at, fan_after) in (0, 2) and (fan_tick_at is null or every_workspace)
    )
) with (fillfactor = 80)
"""
TICKS = """
create table jobplatform.schedule_ticks (
    workspace_id uuid not null,
    schedule_id uuid not null,
    tick_at timestamptz not null,
    outcome text not null,
    reason text,
    job_id uuid,
    manual boolean default 'false' not null,
    fired_at timestamptz default jobplatform.clock() not null,
    constraint schedule_ticks_pkey primary key (workspace_id, schedule_id, tick_at),
    constraint schedule_ticks_known_outcome check (
        outcome in ('enqueued', 'deduplicated', 'skipped', 'fanned_out')
    ),
    constraint schedule_ticks_job_when_enqueued check (
        (outcome in ('enqueued', 'deduplicated')) = (job_id is not null)
    )
)
"""
INDEXES = (
    "create index schedules_due on jobplatform.schedules (task, next_run_at) where next_run_at is not null",
    "create unique index schedules_name on jobplatform.schedules (workspace_id, name)",
    "create index schedule_ticks_fired_at on jobplatform.schedule_ticks using brin (fired_at) "
    "with (pages_per_range = 32)",
)

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

SECURITY = tuple(
    statement
    for table in ("schedules", "schedule_ticks")
    for statement in (
        f"alter table jobplatform.{table} enable row level security, force row level security",
        f"create policy own_workspace on jobplatform.{table} to {OWNER}, {API}, {HANDLER} "
        f"using ({OWN}) with check ({OWN})",
        f"create policy every_workspace on jobplatform.{table} to {OPERATOR} using (true) with check (true)",
        f"create policy works_for_all on jobplatform.{table} to {WORKER} using (true) with check (true)",
    )
)
GRANTS = (
    f"grant select, insert, update, delete on jobplatform.schedules to {EVERYBODY}",
    # A tick is history: a request adds one ("run now"), a worker says what came of it and deletes old ones.
    f"grant select, insert on jobplatform.schedule_ticks to {EVERYBODY}",
    f"grant update, delete on jobplatform.schedule_ticks to {WORKER}",
    # Every worker does what is due, so a worker's own process enqueues. What it asked for, it still cannot change.
    f"grant insert on jobplatform.job_records to {WORKER}",
    # Whom a schedule for every workspace is for; and who has everything sealed, which a worker's own process cannot.
    # Not a name, and not a key.
    f"grant select (id) on jobplatform.workspaces to {WORKER}",
    f"create policy works_for_all on jobplatform.workspaces for select to {WORKER} using (true)",
    f"grant select (workspace_id, encrypts) on jobplatform.workspace_keys to {WORKER}",
    f"create policy works_for_all on jobplatform.workspace_keys for select to {WORKER} using (true)",
)


def upgrade() -> None:
    for statement in (SCHEDULES, TICKS, *INDEXES, *SECURITY, *GRANTS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop policy works_for_all on jobplatform.workspace_keys")
    op.execute(f"revoke select (workspace_id, encrypts) on jobplatform.workspace_keys from {WORKER}")
    op.execute("drop policy works_for_all on jobplatform.workspaces")
    op.execute(f"revoke select (id) on jobplatform.workspaces from {WORKER}")
    op.execute(f"revoke insert on jobplatform.job_records from {WORKER}")
    op.execute("drop table jobplatform.schedule_ticks")
    op.execute("drop table jobplatform.schedules")
