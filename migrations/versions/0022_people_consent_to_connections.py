"""People are sent to providers to consent to a connection.

Revision ID: 0022
Revises: 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR = (f"jobplatform_{name}" for name in ("owner", "api", "operator"))

AUTHORIZATIONS = """
create table jobplatform.connection_authorizations (
    workspace_id uuid not null,
    state_hash bytea not null,
    connection_id uuid not null,
    actor text not null,
    binding_hash bytea not null,
    sealed text not null,
    redirect_url text not null,
    origin text,
    scopes text[] not null,
    created_at timestamptz default jobplatform.clock() not null,
    expires_at timestamptz not null,
    constraint connection_authorizations_pkey primary key (workspace_id, state_hash),
    constraint connection_authorizations_workspace_id_connection_id_fkey foreign key (workspace_id, connection_id)
        references jobplatform.connections (workspace_id, id) on delete cascade,
    constraint connection_authorizations_named check (actor <> '' and redirect_url <> ''),
    constraint connection_authorizations_hashes_are_digests check (
        octet_length(state_hash) = 32 and octet_length(binding_hash) = 32
    ),
    constraint connection_authorizations_sealed_is_sealed check (left(sealed, 15) = '{"$sealed":"v1:')
)
"""

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"
TABLE = "jobplatform.connection_authorizations"

SECURITY = (
    f"alter table {TABLE} enable row level security, force row level security",
    f"create policy own_workspace on {TABLE} to {OWNER}, {API} using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on {TABLE} to {OPERATOR} using (true) with check (true)",
    # Nothing of it is for workers: who is asked is somebody in front of a browser.
    f"grant select, insert, delete on {TABLE} to {API}, {OPERATOR}",
)


def upgrade() -> None:
    for statement in (AUTHORIZATIONS, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    op.execute(f"drop table {TABLE}")
