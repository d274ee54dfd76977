"""A job remembers what it has done, so that its next attempt goes on from there.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)

TABLE = """
create table jobplatform.job_steps (
    workspace_id uuid not null,
    job_id uuid not null,
    name text not null,
    epoch integer not null,
    value jsonb not null,
    saved_at timestamptz default jobplatform.clock() not null,
    constraint job_steps_pkey primary key (workspace_id, job_id, name),
    constraint job_steps_name_not_long check (char_length(name) <= 200)
) with (fillfactor = 80)
"""

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

SECURITY = (
    "alter table jobplatform.job_steps enable row level security, force row level security",
    f"create policy own_workspace on jobplatform.job_steps to {OWNER}, {API}, {HANDLER} "
    f"using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on jobplatform.job_steps to {OPERATOR} using (true) with check (true)",
    f"create policy works_for_all on jobplatform.job_steps to {WORKER} using (true) with check (true)",
    f"grant select on jobplatform.job_steps to {API}, {OPERATOR}, {WORKER}, {HANDLER}",
    # Handlers save; in synchronous mode, and for a Session of the host's, with the rights of the API's login.
    f"grant insert, update on jobplatform.job_steps to {HANDLER}, {API}",
    # A retry from the start, from code that runs in a handler too; and retention.
    f"grant delete on jobplatform.job_steps to {API}, {OPERATOR}, {WORKER}, {HANDLER}",
)


def upgrade() -> None:
    op.execute(TABLE)
    for statement in SECURITY:
        op.execute(statement)


def downgrade() -> None:
    """Jobs that were in the middle begin anew."""
    op.execute("drop table jobplatform.job_steps")
