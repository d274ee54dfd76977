"""Connections have credentials, say when they need attention, and share the limits of the accounts they use.

Revision ID: 0016
Revises: 0015

Code of the version before goes on: it reads connections as they were, and configurations with headers still work.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, HANDLER = (f"jobplatform_{name}" for name in ("owner", "api", "operator", "handler"))

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

CHANGES = (
    """
    alter table jobplatform.connections
        add column updated_at timestamptz default jobplatform.clock() not null,
        add column attention text,
        add column attention_at timestamptz,
        add constraint connections_attention_whole check ((attention is null) = (attention_at is null))
    """,
    """
    create table jobplatform.connection_credentials (
        workspace_id uuid not null,
        connection_id uuid not null,
        scheme text not null,
        sealed text not null,
        version integer default '1' not null,
        set_at timestamptz default jobplatform.clock() not null,
        renewed_at timestamptz,
        expires_at timestamptz,
        constraint connection_credentials_pkey primary key (workspace_id, connection_id),
        constraint connection_credentials_workspace_id_connection_id_fkey foreign key (workspace_id, connection_id)
            references jobplatform.connections (workspace_id, id) on delete cascade,
        constraint connection_credentials_named_and_counted check (scheme <> '' and version > 0),
        constraint connection_credentials_sealed_is_sealed check (left(sealed, 15) = '{"$sealed":"v1:')
    )
    """,
    """
    create table jobplatform.source_limits (
        workspace_id uuid not null,
        resource text not null,
        full_at timestamptz default jobplatform.clock() not null,
        closed_until timestamptz,
        constraint source_limits_pkey primary key (workspace_id, resource),
        constraint source_limits_named check (resource <> '')
    ) with (fillfactor = 50)
    """,
)


def security_of(table: str) -> tuple[str, ...]:
    name = f"jobplatform.{table}"
    return (
        f"alter table {name} enable row level security, force row level security",
        f"create policy own_workspace on {name} to {OWNER}, {API}, {HANDLER} using ({OWN}) with check ({OWN})",
        f"create policy every_workspace on {name} to {OPERATOR} using (true) with check (true)",
        f"grant select, insert, update, delete on {name} to {API}, {OPERATOR}",
    )


GRANTS = (
    # A handler opens credentials and renews them; to give or take them is for people.
    f"grant select, update (sealed, version, renewed_at, expires_at) on jobplatform.connection_credentials "
    f"to {HANDLER}",
    f"grant select, insert, update on jobplatform.source_limits to {HANDLER}",
)


def upgrade() -> None:
    security = (*security_of("connection_credentials"), *security_of("source_limits"))
    for change in (*CHANGES, *security, *GRANTS):
        op.execute(change)


def downgrade() -> None:
    """Credentials are gone then: only their connections' own owners have them."""
    op.execute("drop table jobplatform.source_limits")
    op.execute("drop table jobplatform.connection_credentials")
    op.execute(
        "alter table jobplatform.connections drop column attention_at, drop column attention, drop column updated_at"
    )
