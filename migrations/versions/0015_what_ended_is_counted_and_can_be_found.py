"""What ended is counted for charts, failures are grouped, jobs are found across workspaces, and tasks are described.

Revision ID: 0015
Revises: 0014

What a process of the version before ends meanwhile is not in the numbers.
"""

from alembic import op

from jobplatform.migrations.building import build_index, committed

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)
EVERYBODY = f"{API}, {OPERATOR}, {WORKER}, {HANDLER}"
READERS = f"{API}, {OPERATOR}, {HANDLER}"

ENDINGS = """
create table jobplatform.endings (
    workspace_id uuid not null,
    status smallint not null,
    ended_at timestamptz default jobplatform.clock() not null,
    ids uuid[] not null,
    constraint endings_final_status check (status in (3, 4, 5))
) with (
    toast_tuple_target = 8160,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
)
"""

_CELL = """
    minutes smallint not null,
    at timestamptz not null,
    queue text not null,
    task text not null,
    status smallint not null,
    outcome text not null,
    wait smallint not null,
    run smallint not null,
    amount bigint not null,
    retries bigint not null,
    wait_ms bigint not null,
    run_ms bigint not null,
    constraint {table}_known_minutes check (minutes in (1, 15, 60, 1440)),
    constraint {table}_known_buckets check (wait between -1 and 31 and run between -1 and 31)
"""
WORKSPACE_CELLS = f"""
create table jobplatform.workspace_cells (
    workspace_id uuid not null,
    {_CELL.format(table="workspace_cells").strip()},
    constraint workspace_cells_known_status check (status in (3, 4, 5)),
    constraint workspace_cells_pkey
        primary key (workspace_id, minutes, at, queue, task, status, outcome, wait, run)
) with (fillfactor = 80)
"""
PLATFORM_CELLS = f"""
create table jobplatform.platform_cells (
    {_CELL.format(table="platform_cells").strip()},
    constraint platform_cells_known_status check (status in (0, 3, 4, 5)),
    constraint platform_cells_pkey primary key (queue, task, minutes, at, status, outcome, wait, run)
) with (fillfactor = 80)
"""

_GROUP = """
    task text not null,
    error_type text not null,
    message text not null,
    amount bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    last_job_id uuid not null,
    constraint {table}_amount_positive check (amount > 0),
"""
ERROR_GROUPS = f"""
create table jobplatform.error_groups (
    workspace_id uuid not null,
    fingerprint text not null,
    {_GROUP.format(table="error_groups").strip()}
    constraint error_groups_pkey primary key (workspace_id, fingerprint)
) with (fillfactor = 80)
"""
PLATFORM_ERROR_GROUPS = f"""
create table jobplatform.platform_error_groups (
    fingerprint text not null,
    last_workspace_id uuid not null,
    {_GROUP.format(table="platform_error_groups").strip()}
    constraint platform_error_groups_pkey primary key (fingerprint)
) with (fillfactor = 80)
"""

BULK_ACTIONS = """
create table jobplatform.bulk_actions (
    id uuid not null,
    deed text not null,
    search text not null,
    actor text not null,
    state text default 'waiting' not null,
    expected integer,
    position text,
    looked_at bigint default '0' not null,
    done bigint default '0' not null,
    left_alone jsonb default '{}' not null,
    error text,
    created_at timestamptz default jobplatform.clock() not null,
    started_at timestamptz,
    ended_at timestamptz,
    constraint bulk_actions_pkey primary key (id),
    constraint bulk_actions_known_deed check (deed in ('retry', 'cancel', 'delete')),
    constraint bulk_actions_known_state check (state in ('waiting', 'running', 'done', 'stopped', 'failed')),
    constraint bulk_actions_ended_when_final check ((ended_at is null) = (state in ('waiting', 'running'))),
    constraint bulk_actions_by_somebody check (actor <> '')
) with (fillfactor = 50)
"""

TASK_TYPES = """
create table jobplatform.task_types (
    name text not null,
    details jsonb not null,
    seen_at timestamptz default jobplatform.clock() not null,
    constraint task_types_pkey primary key (name)
)
"""

FINGERPRINT = "alter table jobplatform.job_attempts add column if not exists fingerprint text"
OF_TABLES_IN_USE = (
    "create index job_records_id on jobplatform.job_records (id, workspace_id)",
    "create index job_attempts_fingerprint on jobplatform.job_attempts (fingerprint, job_id, workspace_id) "
    "where fingerprint is not null",
    "create index sync_logs_id on jobplatform.sync_logs (id, workspace_id)",
)
INDEXES = (
    "create index workspace_cells_at on jobplatform.workspace_cells (minutes, at)",
    "create index platform_cells_at on jobplatform.platform_cells (minutes, at)",
    "create index error_groups_fingerprint on jobplatform.error_groups (fingerprint, workspace_id)",
    "create index error_groups_last_at on jobplatform.error_groups (last_at)",
    "create index platform_error_groups_last_at on jobplatform.platform_error_groups (last_at)",
)

TABLES = (
    "endings",
    "workspace_cells",
    "platform_cells",
    "error_groups",
    "platform_error_groups",
    "bulk_actions",
    "task_types",
)
OF_WORKSPACES = ("endings", "workspace_cells", "error_groups")

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

GRANTS = (
    # Whatever ends a job says so; workers count it.
    f"grant select, insert on jobplatform.endings to {EVERYBODY}",
    f"grant delete on jobplatform.endings to {WORKER}",
    f"grant select on jobplatform.workspace_cells, jobplatform.error_groups to {READERS}",
    f"grant select, insert, update, delete on jobplatform.workspace_cells, jobplatform.error_groups to {WORKER}",
    f"grant update (fingerprint) on jobplatform.job_attempts to {WORKER}",
    # What all workspaces did together is for those who run the platform.
    f"grant select on jobplatform.platform_cells, jobplatform.platform_error_groups to {OPERATOR}",
    "grant select, insert, update, delete on jobplatform.platform_cells, jobplatform.platform_error_groups "
    f"to {WORKER}",
    # An operator asks for it, workers do it.
    f"grant select, insert, update on jobplatform.bulk_actions to {OPERATOR}",
    f"grant select, update, delete on jobplatform.bulk_actions to {WORKER}",
    # Who asked for it did it, to each job: of that a worker adds the line, and no other.
    f"grant insert on jobplatform.audit_log to {WORKER}",
    f"create policy bulk_lines on jobplatform.audit_log for insert to {WORKER} with check (details ? 'bulk')",
    f"grant select on jobplatform.task_types to {READERS}",
    f"grant select, insert, update, delete on jobplatform.task_types to {WORKER}",
)


def upgrade() -> None:
    with committed():
        op.execute(FINGERPRINT)
    for index in OF_TABLES_IN_USE:
        build_index(index)
    for table in (
        ENDINGS, WORKSPACE_CELLS, PLATFORM_CELLS, ERROR_GROUPS, PLATFORM_ERROR_GROUPS, BULK_ACTIONS, TASK_TYPES
    ):  # fmt: skip
        op.execute(table)
    for index in INDEXES:
        op.execute(index)
    for table in OF_WORKSPACES:
        op.execute(f"alter table jobplatform.{table} enable row level security, force row level security")
        op.execute(
            f"create policy own_workspace on jobplatform.{table} to {OWNER}, {API}, {HANDLER} "
            f"using ({OWN}) with check ({OWN})"
        )
        op.execute(f"create policy every_workspace on jobplatform.{table} to {OPERATOR} using (true) with check (true)")
        op.execute(f"create policy works_for_all on jobplatform.{table} to {WORKER} using (true) with check (true)")
    for grant in GRANTS:
        op.execute(grant)


def downgrade() -> None:
    op.execute("drop policy bulk_lines on jobplatform.audit_log")
    op.execute(f"revoke insert on jobplatform.audit_log from {WORKER}")
    op.execute("drop index jobplatform.sync_logs_id")
    op.execute("drop index jobplatform.job_records_id")
    op.execute(f"revoke update (fingerprint) on jobplatform.job_attempts from {WORKER}")
    op.execute("alter table jobplatform.job_attempts drop column fingerprint")
    for table in TABLES:
        op.execute(f"drop table jobplatform.{table}")
