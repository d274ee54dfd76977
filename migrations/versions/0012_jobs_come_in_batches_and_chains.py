"""Jobs come in batches and chains: what waits for what, and what of that is not settled yet.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

from jobplatform.migrations.building import build_index

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)
EVERYBODY = f"{API}, {OPERATOR}, {WORKER}, {HANDLER}"
READERS = f"{API}, {OPERATOR}, {HANDLER}"

BATCHES = """
create table jobplatform.batches (
    workspace_id uuid not null,
    id uuid not null,
    name text,
    total integer default '0' not null,
    completed integer default '0' not null,
    failed integer default '0' not null,
    cancelled integer default '0' not null,
    created_at timestamptz default jobplatform.clock() not null,
    closed_at timestamptz,
    cancelled_at timestamptz,
    ended_at timestamptz,
    constraint batches_pkey primary key (workspace_id, id),
    constraint batches_ends_when_closed check (ended_at is null or closed_at is not null)
)
"""

EDGES = """
create table jobplatform.job_edges (
    workspace_id uuid not null,
    job_id uuid not null,
    after_id uuid not null,
    number smallint not null,
    of_batch boolean default 'false' not null,
    run_if text default 'completed' not null,
    after_status smallint,
    constraint job_edges_pkey primary key (workspace_id, job_id, after_id),
    constraint job_edges_known_run_if check (run_if in ('completed', 'ended', 'failed')),
    constraint job_edges_final_status check (after_status in (3, 4, 5)),
    constraint job_edges_not_itself check (job_id <> after_id)
)
"""

# Written by whatever ends a job that others wait for, and soon deleted: it is to stay a page or two.
NOTICES = """
create table jobplatform.notices (
    workspace_id uuid not null,
    id bigint generated always as identity,
    kind text not null,
    job_id uuid,
    batch_id uuid,
    status smallint,
    amount integer default '0' not null,
    constraint notices_pkey primary key (workspace_id, id),
    constraint notices_known_kind check (kind in ('ended', 'reopened', 'added', 'look', 'cancel')),
    constraint notices_about_something check (job_id is not null or batch_id is not null)
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
)
"""

INDEXES = (
    "create index job_edges_after on jobplatform.job_edges (workspace_id, after_id, job_id)",
    "create index job_edges_status on jobplatform.job_edges (workspace_id, job_id, after_status)",
    "create index notices_of_batches on jobplatform.notices (workspace_id, batch_id, id) where batch_id is not null",
    "create index notices_of_jobs on jobplatform.notices (id) where batch_id is null",
    "create index batches_ended_at on jobplatform.batches using brin (ended_at) with (pages_per_range = 32)",
)
JOBS_OF_BATCHES = (
    "create index job_records_batch on jobplatform.job_records (workspace_id, batch_id, id) where batch_id is not null"
)

TABLES = ("batches", "job_edges", "notices")

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

GRANTS = (
    f"grant select on jobplatform.batches, jobplatform.job_edges, jobplatform.notices to {EVERYBODY}",
    f"grant insert on jobplatform.batches, jobplatform.job_edges to {READERS}",
    # Who adds to a batch holds its row, and for that must be allowed to change something of it.
    f"grant update (closed_at, cancelled_at) on jobplatform.batches to {READERS}",
    f"grant insert on jobplatform.notices to {EVERYBODY}",
    # Settling, and retention.
    f"grant update, delete on jobplatform.batches, jobplatform.job_edges, jobplatform.notices to {WORKER}",
)


def upgrade() -> None:
    build_index(JOBS_OF_BATCHES)
    for table in (BATCHES, EDGES, NOTICES):
        op.execute(table)
    for index in INDEXES:
        op.execute(index)
    for table in TABLES:
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
    """What is not settled by then never will be; jobs that wait for others make the step before this one fail."""
    op.execute("drop index jobplatform.job_records_batch")
    for table in TABLES:
        op.execute(f"drop table jobplatform.{table}")
