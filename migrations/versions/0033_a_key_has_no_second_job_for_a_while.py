"""A key has no second job for a while, also when its first has ended.

Revision ID: 0033
Revises: 0032
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

STATEMENTS = (
    """
    create table jobplatform.unique_periods (
        workspace_id uuid not null,
        unique_key text not null,
        job_id uuid not null,
        began_at timestamptz default jobplatform.clock() not null,
        until timestamptz not null,
        constraint unique_periods_pkey primary key (workspace_id, unique_key),
        constraint unique_periods_not_over_before_it_began check (until > began_at)
    )
    """,
    "create index unique_periods_until on jobplatform.unique_periods (until)",
    "alter table jobplatform.unique_periods enable row level security, force row level security",
    f"create policy own_workspace on jobplatform.unique_periods to {OWNER}, {API}, {HANDLER} "
    f"using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on jobplatform.unique_periods to {OPERATOR} using (true) with check (true)",
    f"create policy works_for_all on jobplatform.unique_periods to {WORKER} using (true) with check (true)",
    # Whoever enqueues: a worker does it for schedules, and takes away what is over.
    f"grant select, insert, update, delete on jobplatform.unique_periods to {API}, {OPERATOR}, {WORKER}, {HANDLER}",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table jobplatform.unique_periods")
