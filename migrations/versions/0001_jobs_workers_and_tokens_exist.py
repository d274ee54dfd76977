"""Jobs, attempts, workers, tokens and connections exist.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Time through one function of one select: the planner inlines it, and a test that replaces its body moves time.
CLOCK = """
create function jobplatform.clock() returns timestamptz language sql stable parallel safe as $$ select now() $$
"""

TABLES = (
    """
    create table jobplatform.job_records (
        workspace_id uuid not null,
        id uuid not null,
        task text not null,
        queue text not null,
        payload jsonb not null,
        payload_version smallint default '1' not null,
        priority smallint default '0' not null,
        max_attempts smallint default '3' not null,
        timeout_ms integer default '600000' not null,
        unique_key text,
        tags text[] default '{}' not null,
        request_id text,
        trace_parent text,
        status smallint,
        outcome text,
        progress jsonb,
        result jsonb,
        error_type text,
        error text,
        attempts smallint default '0' not null,
        crash_count smallint default '0' not null,
        epoch integer default '0' not null,
        created_at timestamptz default jobplatform.clock() not null,
        run_after timestamptz default jobplatform.clock() not null,
        started_at timestamptz,
        completed_at timestamptz,
        constraint job_records_pkey primary key (workspace_id, id),
        constraint job_records_final_status check (status in (3, 4, 5)),
        constraint job_records_completed_at_when_final check ((status is null) = (completed_at is null)),
        constraint job_records_outcome_when_final check ((status is null) = (outcome is null)),
        constraint job_records_known_outcome check (
            outcome in ('ok', 'skipped', 'error', 'timeout', 'lost', 'cancelled', 'discarded')
        ),
        constraint job_records_attempts_in_range check (
            max_attempts between 1 and 1000 and attempts between 0 and max_attempts
        ),
        constraint job_records_counters_not_negative check (crash_count >= 0 and epoch >= 0),
        constraint job_records_timeout_in_range check (timeout_ms between 1 and 604800000)
    ) with (fillfactor = 80)
    """,
    """
    create table jobplatform.job_queue (
        workspace_id uuid not null,
        id uuid not null,
        queue text not null,
        task text not null,
        state smallint not null,
        priority smallint not null,
        attempts smallint default '0' not null,
        max_attempts smallint not null,
        crash_count smallint default '0' not null,
        epoch integer default '0' not null,
        timeout_ms integer not null,
        worker_id integer,
        cancel_requested_at timestamptz,
        run_after timestamptz not null,
        started_at timestamptz,
        unique_key text,
        progress jsonb,
        constraint job_queue_pkey primary key (workspace_id, id),
        constraint job_queue_known_state check (state in (0, 1, 2)),
        constraint job_queue_worker_when_running check (
            (state = 2) = (worker_id is not null) and (state = 2) = (started_at is not null)
        ),
        constraint job_queue_epoch_when_running check (state < 2 or epoch > 0),
        constraint job_queue_cancel_requested_when_running check (cancel_requested_at is null or state = 2),
        constraint job_queue_attempts_in_range check (attempts between 0 and max_attempts),
        constraint job_queue_counters_not_negative check (crash_count >= 0 and epoch >= 0)
    ) with (
        fillfactor = 85,
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 20000
    )
    """,
    """
    create table jobplatform.job_attempts (
        workspace_id uuid not null,
        job_id uuid not null,
        epoch integer not null,
        attempt smallint not null,
        worker_id integer,
        started_at timestamptz,
        ended_at timestamptz not null,
        outcome text not null,
        final boolean not null,
        error_type text,
        error text,
        traceback text,
        constraint job_attempts_pkey primary key (workspace_id, job_id, epoch),
        constraint job_attempts_known_outcome check (
            outcome in ('ok', 'skipped', 'error', 'timeout', 'lost', 'cancelled', 'discarded')
        )
    )
    """,
    """
    create table jobplatform.job_logs (
        workspace_id uuid not null,
        job_id uuid not null,
        epoch integer not null,
        line integer not null,
        level text not null,
        message text not null,
        logged_at timestamptz default jobplatform.clock() not null,
        constraint job_logs_pkey primary key (workspace_id, job_id, epoch, line)
    )
    """,
    """
    create table jobplatform.workers (
        id integer generated always as identity,
        name text not null,
        host text not null,
        pid integer not null,
        version text not null,
        queues text[] not null,
        tasks text[] not null,
        slots smallint not null,
        started_at timestamptz default jobplatform.clock() not null,
        heartbeat_at timestamptz default jobplatform.clock() not null,
        draining boolean default 'false' not null,
        dead_at timestamptz,
        constraint workers_pkey primary key (id)
    ) with (fillfactor = 50)
    """,
    """
    create table jobplatform.workspaces (
        id uuid not null,
        name text not null,
        created_at timestamptz default jobplatform.clock() not null,
        constraint workspaces_pkey primary key (id),
        constraint workspaces_name_not_empty check (name <> '')
    )
    """,
    """
    create table jobplatform.api_tokens (
        id text not null,
        workspace_id uuid,
        name text not null,
        secret_hash bytea not null,
        scopes text[] not null,
        created_at timestamptz default jobplatform.clock() not null,
        expires_at timestamptz,
        last_used_at timestamptz,
        revoked_at timestamptz,
        constraint api_tokens_pkey primary key (id),
        constraint api_tokens_secret_hash_is_sha256 check (octet_length(secret_hash) = 32),
        constraint api_tokens_has_a_scope check (cardinality(scopes) > 0),
        constraint api_tokens_operator_or_workspace check ((workspace_id is null) = ('operator' = any(scopes)))
    )
    """,
    """
    create table jobplatform.connections (
        workspace_id uuid not null,
        id uuid not null,
        connector_type text not null,
        name text not null,
        config jsonb not null,
        created_at timestamptz default jobplatform.clock() not null,
        constraint connections_pkey primary key (workspace_id, id),
        constraint connections_named check (name <> '' and connector_type <> '')
    )
    """,
    """
    create table jobplatform.records (
        workspace_id uuid not null,
        connection_id uuid not null,
        stream text not null,
        external_id text not null,
        data jsonb not null,
        synced_at timestamptz default jobplatform.clock() not null,
        constraint records_pkey primary key (workspace_id, connection_id, stream, external_id),
        constraint records_workspace_id_connection_id_fkey foreign key (workspace_id, connection_id)
            references jobplatform.connections (workspace_id, id) on delete cascade
    )
    """,
)

INDEXES = (
    "create index job_records_created_at "
    "on jobplatform.job_records using brin (created_at) with (pages_per_range = 32)",
    "create index job_queue_due on jobplatform.job_queue (run_after) where state = 0",
    "create index job_queue_ready "
    "on jobplatform.job_queue (queue, workspace_id, priority desc, run_after, id) where state = 1",
    "create index job_queue_running on jobplatform.job_queue (workspace_id, queue) where state = 2",
    "create unique index job_queue_unique "
    "on jobplatform.job_queue (workspace_id, unique_key) where unique_key is not null",
    "create index job_attempts_ended_at on jobplatform.job_attempts using brin (ended_at) with (pages_per_range = 32)",
    "create index job_attempts_newest on jobplatform.job_attempts (workspace_id, ended_at desc, job_id)",
    "create index api_tokens_workspace on jobplatform.api_tokens (workspace_id, created_at)",
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
    "records",
    "connections",
    "api_tokens",
    "workspaces",
    "workers",
    "job_logs",
    "job_attempts",
    "job_queue",
    "job_records",
)


def upgrade() -> None:
    op.execute(CLOCK)
    for table in TABLES:
        op.execute(table)
    for index in INDEXES:
        op.execute(index)
    op.execute(JOBS)


def downgrade() -> None:
    op.execute("drop view jobplatform.jobs")
    for name in NAMES:
        op.execute(f"drop table jobplatform.{name}")
    op.execute("drop function jobplatform.clock()")
