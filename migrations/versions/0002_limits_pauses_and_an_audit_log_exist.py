"""Limits, pauses and an audit log exist; jobs may use a resource, and their lane is known.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = (
    """
    alter table jobplatform.job_records
        add column resource text,
        add column units smallint default '1' not null,
        add constraint job_records_units_in_range check (units between 1 and 10000)
    """,
    """
    alter table jobplatform.job_queue
        add column resource text,
        add column units smallint default '1' not null,
        add column lane bigint
            generated always as (hashtextextended(task || coalesce(chr(31) || resource, ''), 0)) stored not null,
        add constraint job_queue_units_in_range check (units between 1 and 10000)
    """,
)

TABLES = (
    """
    create table jobplatform.plans (
        name text not null,
        weight smallint,
        max_running integer,
        max_pending integer,
        shed boolean,
        rate_units integer,
        rate_period_ms bigint,
        constraint plans_pkey primary key (name),
        constraint plans_name_not_empty check (name <> ''),
        constraint plans_weight_in_range check (weight between 1 and 100),
        constraint plans_limits_not_negative check (max_running >= 0 and max_pending >= 0),
        constraint plans_rate_whole check (
            (rate_units is null) = (rate_period_ms is null) and rate_units > 0 and rate_period_ms > 0
        )
    )
    """,
    """
    create table jobplatform.workspace_limits (
        workspace_id uuid not null,
        plan text,
        weight smallint,
        max_running integer,
        max_pending integer,
        shed boolean,
        rate_units integer,
        rate_period_ms bigint,
        updated_at timestamptz default jobplatform.clock() not null,
        constraint workspace_limits_pkey primary key (workspace_id),
        constraint workspace_limits_plan_fkey foreign key (plan) references jobplatform.plans (name),
        constraint workspace_limits_weight_in_range check (weight between 1 and 100),
        constraint workspace_limits_limits_not_negative check (max_running >= 0 and max_pending >= 0),
        constraint workspace_limits_rate_whole check (
            (rate_units is null) = (rate_period_ms is null) and rate_units > 0 and rate_period_ms > 0
        )
    )
    """,
    """
    create table jobplatform.queue_limits (
        queue text not null,
        max_running integer not null,
        constraint queue_limits_pkey primary key (queue),
        constraint queue_limits_limits_not_negative check (max_running >= 0)
    )
    """,
    """
    create table jobplatform.task_limits (
        task text not null,
        max_running integer,
        max_running_per_workspace integer,
        constraint task_limits_pkey primary key (task),
        constraint task_limits_limits_not_negative check (max_running >= 0 and max_running_per_workspace >= 0)
    )
    """,
    """
    create table jobplatform.rate_limits (
        resource text not null,
        units integer not null,
        period_ms bigint not null,
        burst integer not null,
        constraint rate_limits_pkey primary key (resource),
        constraint rate_limits_rate_positive check (units > 0 and period_ms > 0 and burst > 0)
    )
    """,
    """
    create table jobplatform.buckets (
        kind text not null,
        key text not null,
        tokens double precision not null,
        filled_at timestamptz not null,
        closed_until timestamptz,
        failures integer default '0' not null,
        constraint buckets_pkey primary key (kind, key),
        constraint buckets_known_kind check (kind in ('workspace', 'resource')),
        constraint buckets_failures_not_negative check (failures >= 0)
    ) with (fillfactor = 50)
    """,
    """
    create table jobplatform.pauses (
        kind text not null,
        key text not null,
        reason text not null,
        actor text not null,
        paused_at timestamptz default jobplatform.clock() not null,
        until timestamptz,
        constraint pauses_pkey primary key (kind, key),
        constraint pauses_known_kind check (kind in ('queue', 'task', 'workspace', 'resource')),
        constraint pauses_named check (key <> '' and actor <> '')
    )
    """,
    """
    create table jobplatform.audit_log (
        id bigint generated always as identity,
        at timestamptz default jobplatform.clock() not null,
        actor text not null,
        token_id text,
        workspace_id uuid,
        action text not null,
        target text not null,
        request_id text,
        details jsonb default '{}' not null,
        constraint audit_log_pkey primary key (id)
    )
    """,
)

INDEXES = (
    "drop index jobplatform.job_queue_ready",
    "create index job_queue_ready "
    "on jobplatform.job_queue (queue, workspace_id, lane, priority desc, run_after, id) where state = 1",
    "create index audit_log_workspace on jobplatform.audit_log (workspace_id, id)",
)

JOBS = """
create view jobplatform.jobs with (security_invoker = true) as
select
    r.workspace_id,
    r.id,
    r.task as job_type,
    r.queue,
    case
        when r.status = 3 then 'completed'
        when r.status = 4 then 'failed'
        when r.status = 5 then 'cancelled'
        when q.state = 2 then 'running'
        else 'pending'
    end as status,
    r.outcome,
    r.priority,
    r.payload,
    r.payload_version,
    case when q.id is null then r.progress else q.progress end as progress,
    r.result,
    r.error_type,
    r.error,
    coalesce(q.attempts, r.attempts) as attempts,
    r.max_attempts,
    coalesce(q.crash_count, r.crash_count) as crash_count,
    coalesce(q.epoch, r.epoch) as epoch,
    r.timeout_ms,
    r.unique_key,
    r.resource,
    r.units,
    r.tags,
    r.request_id,
    r.trace_parent,
    q.worker_id,
    q.cancel_requested_at,
    r.created_at,
    coalesce(q.run_after, r.run_after) as run_after,
    coalesce(q.started_at, r.started_at) as started_at,
    r.completed_at
from jobplatform.job_records r
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
"""

OLD_INDEX = (
    "create index job_queue_ready "
    "on jobplatform.job_queue (queue, workspace_id, priority desc, run_after, id) where state = 1"
)

OLD_JOBS = """
create view jobplatform.jobs with (security_invoker = true) as
select
    r.workspace_id,
    r.id,
    r.task as job_type,
    r.queue,
    case
        when r.status = 3 then 'completed'
        when r.status = 4 then 'failed'
        when r.status = 5 then 'cancelled'
        when q.state = 2 then 'running'
        else 'pending'
    end as status,
    r.outcome,
    r.priority,
    r.payload,
    r.payload_version,
    case when q.id is null then r.progress else q.progress end as progress,
    r.result,
    r.error_type,
    r.error,
    coalesce(q.attempts, r.attempts) as attempts,
    r.max_attempts,
    coalesce(q.crash_count, r.crash_count) as crash_count,
    coalesce(q.epoch, r.epoch) as epoch,
    r.timeout_ms,
    r.unique_key,
    r.tags,
    r.request_id,
    r.trace_parent,
    q.worker_id,
    q.cancel_requested_at,
    r.created_at,
    coalesce(q.run_after, r.run_after) as run_after,
    coalesce(q.started_at, r.started_at) as started_at,
    r.completed_at
from jobplatform.job_records r
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
"""

NAMES = (
    "audit_log",
    "pauses",
    "buckets",
    "rate_limits",
    "task_limits",
    "queue_limits",
    "workspace_limits",
    "plans",
)


def upgrade() -> None:
    op.execute("drop view jobplatform.jobs")
    for statement in (*COLUMNS, *TABLES, *INDEXES):
        op.execute(statement)
    op.execute(JOBS)


def downgrade() -> None:
    op.execute("drop view jobplatform.jobs")
    op.execute("drop index jobplatform.job_queue_ready")
    for name in NAMES:
        op.execute(f"drop table jobplatform.{name}")
    op.execute("alter table jobplatform.job_queue drop column lane, drop column units, drop column resource")
    op.execute("alter table jobplatform.job_records drop column units, drop column resource")
    op.execute(OLD_INDEX)
    op.execute(OLD_JOBS)
