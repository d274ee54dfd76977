"""Workspaces have keys, so that what is theirs can be sealed; the audit log can forget details, and nothing else.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, HANDLER = (f"jobplatform_{name}" for name in ("owner", "api", "operator", "handler"))

TABLE = """
create table jobplatform.workspace_keys (
    workspace_id uuid not null,
    key_id smallint not null,
    wrapped_key bytea not null,
    wrapped_by text not null,
    encrypts boolean default 'false' not null,
    created_at timestamptz default jobplatform.clock() not null,
    constraint workspace_keys_pkey primary key (workspace_id, key_id),
    constraint workspace_keys_key_id_positive check (key_id > 0),
    constraint workspace_keys_wrapped_key_is_wrapped check (octet_length(wrapped_key) = 60)
)
"""

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

SECURITY = (
    "alter table jobplatform.workspace_keys enable row level security, force row level security",
    f"create policy own_workspace on jobplatform.workspace_keys to {OWNER}, {API}, {HANDLER} "
    f"using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on jobplatform.workspace_keys to {OPERATOR} using (true) with check (true)",
    # Who enqueues seals, and makes the first key; who runs or shows a job opens. A worker's parent does neither.
    f"grant select on jobplatform.workspace_keys to {API}, {OPERATOR}, {HANDLER}",
    f"grant insert (workspace_id, key_id, wrapped_key, wrapped_by) on jobplatform.workspace_keys to {API}, {HANDLER}",
    f"grant insert on jobplatform.workspace_keys to {OPERATOR}",
    # Rotation. Deleting a key is erasing the workspace, and the owner's alone.
    f"grant update (wrapped_key, wrapped_by, encrypts) on jobplatform.workspace_keys to {OPERATOR}",
    # Erasing a workspace empties the details of its lines; who did what and when cannot be touched by anybody.
    f"grant update (details) on jobplatform.audit_log to {OWNER}",
    f"create policy forgets_details_only on jobplatform.audit_log as restrictive for update to {OWNER} "
    "using (true) with check (details = '{}')",
)


def upgrade() -> None:
    op.execute(TABLE)
    for statement in SECURITY:
        op.execute(statement)


def downgrade() -> None:
    """What is sealed by then can never be opened again."""
    op.execute("drop policy forgets_details_only on jobplatform.audit_log")
    op.execute(f"revoke update (details) on jobplatform.audit_log from {OWNER}")
    op.execute("drop table jobplatform.workspace_keys")
