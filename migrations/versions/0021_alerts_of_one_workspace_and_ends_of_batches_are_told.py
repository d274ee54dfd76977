"""A workspace can have rules of its own; its alerts, and the ends of its batches, are told to its webhooks.

Revision ID: 0021
Revises: 0020

Code of the version before goes on: it subscribes to endings of jobs, and knows no rules of a workspace.
"""

from alembic import op

from jobplatform.migrations.building import committed

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)

TABLES = (
    """
create table jobplatform.workspace_alert_rules (
    workspace_id uuid not null,
    name text not null,
    metric text not null,
    queue text,
    task text,
    above double precision not null,
    enabled boolean default 'true' not null,
    constraint workspace_alert_rules_pkey primary key (workspace_id, name),
    constraint workspace_alert_rules_named check (name <> '' and metric <> ''),
    constraint workspace_alert_rules_threshold_not_negative check (above >= 0)
)
""",
    """
create table jobplatform.workspace_alerts (
    workspace_id uuid not null,
    code text not null,
    message text not null,
    raised_at timestamptz default jobplatform.clock() not null,
    resolved_at timestamptz,
    constraint workspace_alerts_pkey primary key (workspace_id, code)
)
""",
    # Few are raised at a time, and a look asks for those of all workspaces.
    "create index workspace_alerts_raised on jobplatform.workspace_alerts (workspace_id) where resolved_at is null",
)

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"
RULES, ALERTS = "jobplatform.workspace_alert_rules", "jobplatform.workspace_alerts"

SECURITY = (
    *(
        statement
        for table in (RULES, ALERTS)
        for statement in (
            f"alter table {table} enable row level security, force row level security",
            f"create policy own_workspace on {table} to {OWNER}, {API}, {HANDLER} using ({OWN}) with check ({OWN})",
            f"create policy every_workspace on {table} to {OPERATOR} using (true) with check (true)",
            f"create policy works_for_all on {table} to {WORKER} using (true) with check (true)",
            f"grant select on {table} to {API}, {OPERATOR}, {WORKER}, {HANDLER}",
        )
    ),
    f"grant insert, update, delete on {RULES} to {OPERATOR}",
    # Who looks writes down what is wrong.
    f"grant insert, update on {ALERTS} to {WORKER}, {OPERATOR}",
)

JOBS = "'job.completed', 'job.failed', 'job.cancelled'"
MORE = "'batch.completed', 'batch.failed', 'batch.cancelled', 'alert.raised', 'alert.resolved'"
SUBSCRIPTIONS = "jobplatform.webhook_subscriptions"


def _known_events(events: str) -> tuple[str, ...]:
    return (
        f"alter table {SUBSCRIPTIONS} drop constraint if exists webhook_subscriptions_known_events, "
        f"add constraint webhook_subscriptions_known_events "
        f"check (cardinality(events) > 0 and events <@ array[{events}]) not valid",
        # Not under the lock that the others need.
        f"alter table {SUBSCRIPTIONS} validate constraint webhook_subscriptions_known_events",
    )


BACK = (
    # What the older code cannot tell is asked for by nobody; one that asked for nothing else has nothing to do.
    f"alter table {SUBSCRIPTIONS} no force row level security",
    f"delete from {SUBSCRIPTIONS} where not events && array[{JOBS}]",
    f"update {SUBSCRIPTIONS} set events = array(select e from unnest(events) e where e in ({JOBS}))",
    f"alter table {SUBSCRIPTIONS} force row level security",
    *_known_events(JOBS),
    f"drop table {ALERTS}",
    f"drop table {RULES}",
)


def upgrade() -> None:
    with committed():
        for statement in _known_events(f"{JOBS}, {MORE}"):
            op.execute(statement)
    for statement in (*TABLES, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK:
        op.execute(statement)
