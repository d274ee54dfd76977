"""A repeated request is answered as the first was.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER = (f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker"))

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

STATEMENTS = (
    """
    create table jobplatform.kept_answers (
        workspace_id uuid not null,
        caller text not null,
        key text not null,
        fingerprint bytea not null,
        answer jsonb,
        created_at timestamptz default jobplatform.clock() not null,
        constraint kept_answers_pkey primary key (workspace_id, caller, key),
        constraint kept_answers_fingerprint_is_a_digest check (octet_length(fingerprint) = 32),
        constraint kept_answers_named check (length(key) between 1 and 255 and caller <> '')
    )
    """,
    "create index kept_answers_created_at on jobplatform.kept_answers using brin (created_at) "
    "with (pages_per_range = 32)",
    "alter table jobplatform.kept_answers enable row level security, force row level security",
    f"create policy own_workspace on jobplatform.kept_answers to {OWNER}, {API} using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on jobplatform.kept_answers to {OPERATOR} using (true) with check (true)",
    # A worker takes away what is older than a day, and has no business with what it says.
    f"create policy works_for_all on jobplatform.kept_answers to {WORKER} using (true) with check (true)",
    f"grant select, insert, update on jobplatform.kept_answers to {API}, {OPERATOR}",
    f"grant select (workspace_id, caller, key, created_at), delete on jobplatform.kept_answers to {WORKER}",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table jobplatform.kept_answers")
