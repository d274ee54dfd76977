"""Endings of jobs are told to webhooks.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)

SUBSCRIPTIONS = """
create table jobplatform.webhook_subscriptions (
    workspace_id uuid not null,
    id uuid not null,
    name text not null,
    url text not null,
    events text[] not null,
    tasks text[],
    secret text not null,
    previous_secret text,
    previous_until timestamptz,
    made_by text not null,
    created_at timestamptz default jobplatform.clock() not null,
    failing_since timestamptz,
    disabled_at timestamptz,
    disabled_by text,
    disabled_why text,
    told_at timestamptz,
    constraint webhook_subscriptions_pkey primary key (workspace_id, id),
    constraint webhook_subscriptions_named check (name <> '' and url <> '' and made_by <> ''),
    constraint webhook_subscriptions_known_events check (
        cardinality(events) > 0 and events <@ array['job.completed', 'job.failed', 'job.cancelled']
    ),
    constraint webhook_subscriptions_some_tasks check (cardinality(tasks) > 0),
    constraint webhook_subscriptions_secrets_sealed check (
        starts_with(secret, '{"$sealed":') and starts_with(coalesce(previous_secret, secret), '{"$sealed":')
    ),
    constraint webhook_subscriptions_previous_for_a_while check ((previous_secret is null) = (previous_until is null)),
    constraint webhook_subscriptions_disabled_by_somebody check (
        num_nulls(disabled_at, disabled_by, disabled_why) in (0, 3)
    ),
    constraint webhook_subscriptions_known_why check (disabled_why in ('by hand', 'gone', 'failing'))
)
"""

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"
TABLE = "jobplatform.webhook_subscriptions"

SECURITY = (
    f"alter table {TABLE} enable row level security, force row level security",
    f"create policy own_workspace on {TABLE} to {OWNER}, {API}, {HANDLER} using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on {TABLE} to {OPERATOR} using (true) with check (true)",
    f"create policy works_for_all on {TABLE} to {WORKER} using (true) with check (true)",
    f"grant select, insert, update, delete on {TABLE} to {API}, {OPERATOR}",
    # The job that delivers is a handler's, and says how it went.
    f"grant select, update (failing_since, disabled_at, disabled_by, disabled_why) on {TABLE} to {HANDLER}",
    # Whose endings are told, and to how many; not where, and not with which secret.
    f"grant select (workspace_id, id, name, events, tasks, disabled_at, disabled_by, disabled_why, told_at), "
    f"update (told_at) on {TABLE} to {WORKER}",
    # A worker writes down what the platform itself has decided. (It may insert already, for bulk actions.)
    f"create policy lines_of_the_platform on jobplatform.audit_log for insert to {WORKER} "
    "with check (actor = 'jobplatform')",
)


def upgrade() -> None:
    for statement in (SUBSCRIPTIONS, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop policy lines_of_the_platform on jobplatform.audit_log")
    op.execute("drop table jobplatform.webhook_subscriptions")
