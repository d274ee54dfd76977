"""A sync goes on where it was, marks what has vanished, and leaves an entry behind.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, HANDLER = (f"jobplatform_{name}" for name in ("owner", "api", "operator", "handler"))

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

CHANGES = (
    "alter table jobplatform.records add column generation integer default '0' not null, "
    "add column deleted_at timestamptz",
    """
    create table jobplatform.sync_streams (
        workspace_id uuid not null,
        connection_id uuid not null,
        stream text not null,
        generation integer default '0' not null,
        state text,
        synced_at timestamptz,
        constraint sync_streams_pkey primary key (workspace_id, connection_id, stream),
        constraint sync_streams_workspace_id_connection_id_fkey foreign key (workspace_id, connection_id)
            references jobplatform.connections (workspace_id, id) on delete cascade
    )
    """,
    """
    create table jobplatform.sync_logs (
        workspace_id uuid not null,
        id uuid not null,
        job_id uuid not null,
        reference text,
        mode text not null,
        status text default 'running' not null,
        total_records integer default '0' not null,
        results jsonb default '[]' not null,
        errors jsonb default '[]' not null,
        started_at timestamptz default jobplatform.clock() not null,
        ended_at timestamptz,
        constraint sync_logs_pkey primary key (workspace_id, id),
        constraint sync_logs_known_status check (status in ('running', 'completed', 'failed'))
    )
    """,
)


def security_of(table: str) -> tuple[str, ...]:
    name = f"jobplatform.{table}"
    return (
        f"alter table {name} enable row level security, force row level security",
        f"create policy own_workspace on {name} to {OWNER}, {API}, {HANDLER} using ({OWN}) with check ({OWN})",
        f"create policy every_workspace on {name} to {OPERATOR} using (true) with check (true)",
        f"grant select, insert, update, delete on {name} to {API}, {OPERATOR}, {HANDLER}",
    )


def upgrade() -> None:
    for change in (*CHANGES, *security_of("sync_streams"), *security_of("sync_logs")):
        op.execute(change)


def downgrade() -> None:
    op.execute("drop table jobplatform.sync_logs")
    op.execute("drop table jobplatform.sync_streams")
    op.execute("alter table jobplatform.records drop column deleted_at, drop column generation")
