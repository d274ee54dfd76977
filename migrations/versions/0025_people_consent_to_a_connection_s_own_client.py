"""People consent to a connection's own client, and the platform's applications have limits for all.

Revision ID: 0025
Revises: 0024

Consent that nobody came back with is deleted by workers. Expand only: code of before writes no ``client_hash``, and
keeps limits of its workspaces alone.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

OWNER, API, HANDLER, WORKER = (f"jobplatform_{name}" for name in ("owner", "api", "handler", "worker"))
TABLE = "jobplatform.connection_authorizations"
#: Limits that a provider counts by application are shared by all who ask as the platform's.
SHARED = "workspace_id = '00000000-0000-8000-8000-000000000000' and starts_with(resource, 'application:')"


def upgrade() -> None:
    op.execute(f"alter table {TABLE} add column client_hash bytea")
    op.execute(
        f"alter table {TABLE} add constraint connection_authorizations_client_is_a_digest "
        "check (octet_length(client_hash) = 32)"
    )
    # A worker takes away what is over, by its key, and has no business with whose it is.
    op.execute(f"create policy works_for_all on {TABLE} to {WORKER} using (true) with check (true)")
    op.execute(f"grant select (workspace_id, state_hash, expires_at), delete on {TABLE} to {WORKER}")
    for right in ("for select to {} using ({})", "for insert to {} with check ({})", "for update to {} using ({})"):
        name = f"of_the_platform_{right.split()[1]}"
        whose = f"{OWNER}, {API}, {HANDLER}"
        op.execute(f"create policy {name} on jobplatform.source_limits {right.format(whose, SHARED)}")


def downgrade() -> None:
    for right in ("select", "insert", "update"):
        op.execute(f"drop policy of_the_platform_{right} on jobplatform.source_limits")
    op.execute(f"revoke all on {TABLE} from {WORKER}")
    op.execute(f"drop policy works_for_all on {TABLE}")
    op.execute(f"alter table {TABLE} drop column client_hash")
