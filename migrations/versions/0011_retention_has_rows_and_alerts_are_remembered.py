"""Retention and health have rows, alerts are remembered, chores have turns, and a worker can be told to drain.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR = "jobplatform_owner", "jobplatform_api", "jobplatform_operator"
WORKER, HANDLER = "jobplatform_worker", "jobplatform_handler"

_KEEPS = "completed interval, failed interval, cancelled interval"
_NOT_NEGATIVE = "check (completed >= '0 s'::interval and failed >= '0 s'::interval and cancelled >= '0 s'::interval)"

TABLES = (
    f"""
create table jobplatform.task_retention (
    task text not null,
    {_KEEPS},
    declared_completed interval,
    declared_failed interval,
    declared_cancelled interval,
    constraint task_retention_pkey primary key (task),
    constraint task_retention_not_negative {_NOT_NEGATIVE}
)
""",
    f"""
create table jobplatform.workspace_retention (
    workspace_id uuid not null,
    task text default '' not null,
    {_KEEPS},
    updated_at timestamptz default jobplatform.clock() not null,
    constraint workspace_retention_pkey primary key (workspace_id, task),
    constraint workspace_retention_not_negative {_NOT_NEGATIVE}
)
""",
    """
create table jobplatform.health_rules (
    name text not null,
    metric text,
    queue text,
    task text,
    declared_above double precision,
    declared_by text,
    above double precision,
    enabled boolean default 'true' not null,
    constraint health_rules_pkey primary key (name),
    constraint health_rules_name_not_empty check (name <> ''),
    constraint health_rules_thresholds_not_negative check (above >= 0 and declared_above >= 0)
)
""",
    """
create table jobplatform.alerts (
    code text not null,
    message text not null,
    raised_at timestamptz default jobplatform.clock() not null,
    resolved_at timestamptz,
    constraint alerts_pkey primary key (code)
)
""",
    """
create table jobplatform.chores (
    name text not null,
    due_at timestamptz default jobplatform.clock() not null,
    position bigint default '0' not null,
    constraint chores_pkey primary key (name)
) with (fillfactor = 50)
""",
)

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

SECURITY = (
    "alter table jobplatform.workspace_retention enable row level security, force row level security",
    f"create policy own_workspace on jobplatform.workspace_retention to {OWNER}, {API}, {HANDLER} "
    f"using ({OWN}) with check ({OWN})",
    f"create policy every_workspace on jobplatform.workspace_retention to {OPERATOR} using (true) with check (true)",
    f"create policy works_for_all on jobplatform.workspace_retention to {WORKER} using (true) with check (true)",
    f"grant select on jobplatform.workspace_retention to {API}, {OPERATOR}, {WORKER}, {HANDLER}",
    f"grant insert, update, delete on jobplatform.workspace_retention to {OPERATOR}",
    # A worker writes down what the code asks for, and whether somebody has to be told.
    f"grant select, insert, update, delete on jobplatform.task_retention, jobplatform.health_rules, "
    f"jobplatform.alerts, jobplatform.chores to {OPERATOR}, {WORKER}",
    f"grant select on jobplatform.task_retention, jobplatform.health_rules, jobplatform.alerts, jobplatform.chores "
    f"to {API}, {HANDLER}",
    # Retention of the audit log: it sees of a line that it is old, and of younger ones nothing.
    f"create policy old_lines on jobplatform.audit_log for select to {WORKER} "
    "using (at < jobplatform.clock() - interval '30 days')",
    f"create policy old_lines_go on jobplatform.audit_log for delete to {WORKER} "
    "using (at < jobplatform.clock() - interval '30 days')",
    f"grant select (id, at), delete on jobplatform.audit_log to {WORKER}",
    f"grant update (drain_requested_at) on jobplatform.workers to {OPERATOR}",
)


def upgrade() -> None:
    op.execute("alter table jobplatform.workers add column drain_requested_at timestamptz")
    for statement in (*TABLES, *SECURITY):
        op.execute(statement)


def downgrade() -> None:
    op.execute(f"revoke select (id, at), delete on jobplatform.audit_log from {WORKER}")
    op.execute("drop policy old_lines_go on jobplatform.audit_log")
    op.execute("drop policy old_lines on jobplatform.audit_log")
    op.execute("alter table jobplatform.workers drop column drain_requested_at")
    for table in ("chores", "alerts", "health_rules", "workspace_retention", "task_retention"):
        op.execute(f"drop table jobplatform.{table}")
