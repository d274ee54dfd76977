"""Providers deliver to hooks, and what they deliver is remembered.

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER = (f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker"))

HOOKS = """
create table jobplatform.hooks (
    workspace_id uuid not null,
    id uuid not null,
    name text not null,
    connection_id uuid,
    scheme text not null,
    task text not null,
    split text default 'event' not null,
    key_hash bytea not null,
    secret text,
    previous_secret text,
    previous_until timestamptz,
    subscription_id text,
    replay_seconds integer default '300' not null,
    url text,
    made_by text not null,
    created_at timestamptz default jobplatform.clock() not null,
    disabled_at timestamptz,
    disabled_by text,
    constraint hooks_pkey primary key (workspace_id, id),
    constraint hooks_named check (name <> '' and scheme <> '' and task <> '' and made_by <> ''),
    constraint hooks_known_split check (split in ('event', 'delivery')),
    constraint hooks_key_hash_is_a_digest check (octet_length(key_hash) = 32),
    constraint hooks_replay_in_range check (replay_seconds between 1 and 86400),
    constraint hooks_secrets_sealed check (
        starts_with(secret, '{"$sealed":') and starts_with(coalesce(previous_secret, secret), '{"$sealed":')
    ),
    constraint hooks_secret_unless_none check ((scheme = 'none') = (secret is null)),
    constraint hooks_previous_for_a_while check ((previous_secret is null) = (previous_until is null)),
    constraint hooks_disabled_by_somebody check ((disabled_at is null) = (disabled_by is null))
)
"""
DELIVERIES = """
create table jobplatform.hook_deliveries (
    workspace_id uuid not null,
    hook_id uuid not null,
    delivery_id text not null,
    answer smallint default '200' not null,
    job_id uuid,
    received_at timestamptz default jobplatform.clock() not null,
    repeats integer default '0' not null,
    repeated_at timestamptz,
    constraint hook_deliveries_pkey primary key (workspace_id, hook_id, delivery_id),
    constraint hook_deliveries_id_in_range check (length(delivery_id) between 1 and 200),
    constraint hook_deliveries_job_when_accepted check ((answer = 200) = (job_id is not null)),
    constraint hook_deliveries_repeated_or_not check ((repeats = 0) = (repeated_at is null) and repeats >= 0)
)
"""
INDEXES = (
    "create index hook_deliveries_newest on jobplatform.hook_deliveries (workspace_id, hook_id, received_at)",
    "create index hook_deliveries_received_at on jobplatform.hook_deliveries using brin (received_at) "
    "with (pages_per_range = 32)",
)

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

SECURITY = (
    *(
        statement
        for table in ("hooks", "hook_deliveries")
        for statement in (
            f"alter table jobplatform.{table} enable row level security, force row level security",
            f"create policy own_workspace on jobplatform.{table} to {OWNER}, {API} using ({OWN}) with check ({OWN})",
            f"create policy every_workspace on jobplatform.{table} to {OPERATOR} using (true) with check (true)",
        )
    ),
    f"grant select, insert, update, delete on jobplatform.hooks to {API}, {OPERATOR}",
    f"grant select, insert, update on jobplatform.hook_deliveries to {API}, {OPERATOR}",
    # A worker takes away what is old, and has no business with what it says.
    f"create policy works_for_all on jobplatform.hook_deliveries to {WORKER} using (true) with check (true)",
    f"grant select (workspace_id, hook_id, delivery_id, received_at), delete on jobplatform.hook_deliveries "
    f"to {WORKER}",
)


def upgrade() -> None:
    for statement in (HOOKS, DELIVERIES, *INDEXES, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table jobplatform.hook_deliveries")
    op.execute("drop table jobplatform.hooks")
