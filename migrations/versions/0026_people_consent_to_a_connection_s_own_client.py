"""People consent to a connection's own client, and what nobody came back from goes by itself.

Revision ID: 0026
Revises: 0024

Expand only: code of before writes no ``client_hash``, and asks for consent to clients of the platform alone.
"""

from alembic import op

revision = "0026"
down_revision = "0024"
branch_labels = None
depends_on = None

WORKER = "jobplatform_worker"
TABLE = "jobplatform.connection_authorizations"


def upgrade() -> None:
    op.execute(f"alter table {TABLE} add column client_hash bytea")
    op.execute(
        f"alter table {TABLE} add constraint connection_authorizations_client_is_a_digest "
        "check (octet_length(client_hash) = 32)"
    )
    # A worker takes away what is over, by its key, and has no business with whose it is.
    op.execute(f"create policy works_for_all on {TABLE} to {WORKER} using (true) with check (true)")
    op.execute(f"grant select (workspace_id, state_hash, expires_at), delete on {TABLE} to {WORKER}")


def downgrade() -> None:
    op.execute(f"revoke all on {TABLE} from {WORKER}")
    op.execute(f"drop policy works_for_all on {TABLE}")
    op.execute(f"alter table {TABLE} drop column client_hash")
