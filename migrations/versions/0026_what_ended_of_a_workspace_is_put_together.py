"""What ended of a workspace is put together.

Revision ID: 0026
Revises: 0025

A chart of a workspace added up all cells of its span: of a busy one 60,000 rows for a week. From a quarter of an
hour on its jobs are in one row for each of them too, whatever their task and however long they took. What is in coarse
cells already is put together here; what a worker of the version before makes coarser later is missing in the charts of
its workspace for that time, and in no other.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

OWNER, API, HANDLER, OPERATOR, WORKER = (
    f"jobplatform_{role}" for role in ("owner", "api", "handler", "operator", "worker")
)
READERS = f"{API}, {OPERATOR}, {HANDLER}"

TABLE = """
create table jobplatform.workspace_totals (
    workspace_id uuid not null,
    minutes smallint not null,
    at timestamptz not null,
    completed bigint not null,
    skipped bigint not null,
    failed bigint not null,
    cancelled bigint not null,
    retries bigint not null,
    waits integer[] not null,
    runs integer[] not null,
    constraint workspace_totals_pkey primary key (workspace_id, minutes, at),
    constraint workspace_totals_known_minutes check (minutes in (15, 60, 1440)),
    constraint workspace_totals_known_buckets check (cardinality(waits) <= 32 and cardinality(runs) <= 32)
) with (fillfactor = 80)
"""
INDEX = "create index workspace_totals_at on jobplatform.workspace_totals (minutes, at)"


def _buckets(name: str) -> str:
    amounts = ", ".join(f"coalesce(sum(amount) filter (where {name} = {n}), 0)" for n in range(32))
    return f"(array[{amounts}]::integer[])[1:max({name}) + 1]"


FILL = f"""
insert into jobplatform.workspace_totals (
    workspace_id, minutes, at, completed, skipped, failed, cancelled, retries, waits, runs
)
select
    workspace_id,
    minutes,
    at,
    coalesce(sum(amount) filter (where status = 3), 0),
    coalesce(sum(amount) filter (where status = 3 and outcome = 'skipped'), 0),
    coalesce(sum(amount) filter (where status = 4), 0),
    coalesce(sum(amount) filter (where status = 5), 0),
    sum(retries),
    {_buckets("wait")},
    {_buckets("run")}
from jobplatform.workspace_cells
where minutes > 1
group by workspace_id, minutes, at
"""

OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(INDEX)
    # For all workspaces. Nobody counts meanwhile: what is put together is what there is.
    op.execute("alter table jobplatform.workspace_cells no force row level security")
    op.execute(FILL)
    op.execute("alter table jobplatform.workspace_cells force row level security")
    op.execute("alter table jobplatform.workspace_totals enable row level security, force row level security")
    op.execute(
        f"create policy own_workspace on jobplatform.workspace_totals to {OWNER}, {API}, {HANDLER} "
        f"using ({OWN}) with check ({OWN})"
    )
    op.execute(
        f"create policy every_workspace on jobplatform.workspace_totals to {OPERATOR} using (true) with check (true)"
    )
    op.execute(
        f"create policy works_for_all on jobplatform.workspace_totals to {WORKER} using (true) with check (true)"
    )
    op.execute(f"grant select on jobplatform.workspace_totals to {READERS}")
    op.execute(f"grant select, insert, update, delete on jobplatform.workspace_totals to {WORKER}")


def downgrade() -> None:
    op.execute("drop table jobplatform.workspace_totals")
