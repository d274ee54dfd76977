"""A job can come too late, and says who ran it.

Revision ID: 0031
Revises: 0030

How soon a job has to begin stands in its record, and the moment in the row that is claimed. Jobs without one have no
entry in the index. Workers of the version before know nothing of it and start what is late, and when one of them writes
the queue table anew (see compact.py) the moments are lost.

The worker of the last attempt stays with the record, and of a worker whose row is gone it stays known where it ran, for
as long as there are jobs that may name it. Of jobs that ended before, nobody knows.

A worker may put a newer request in the place of one that waits, as its schedules ask for; so far it was refused.
"""

from alembic import op

from jobplatform.migrations.building import build_index, committed

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

API, HANDLER, OPERATOR, WORKER = (f"jobplatform_{role}" for role in ("api", "handler", "operator", "worker"))
READERS = f"{API}, {OPERATOR}, {HANDLER}"
EVERYBODY = f"{READERS}, {WORKER}"

# As others may since 0014.
REQUEST = (
    "(task, queue, payload, payload_version, priority, max_attempts, timeout_ms, resource, units, tags, request_id, "
    "trace_parent, parent_id)"
)

PAST_WORKERS = """
create table jobplatform.past_workers (
    id integer not null,
    name text not null,
    host text not null,
    pid integer not null,
    dead_at timestamptz not null,
    constraint past_workers_pkey primary key (id)
)
"""

QUEUE = "jobplatform.job_queue"
COLUMNS_OF_QUEUE = (
    f"alter table {QUEUE} add column if not exists start_within_ms bigint, "
    "add column if not exists start_by timestamptz"
)
INDEX = f"create index job_queue_start_by on {QUEUE} (start_by) where start_by is not null and state < 2"
# Checked in the queue alone: each job begins with such a row, and to read all records for it would take long.
CHECKS = {
    "job_queue_start_within_positive": "start_within_ms > 0",
    "job_queue_start_by_with_start_within": "start_by is null or start_within_ms is not null",
}
# As it may have been added by a run that ended after it.
ADD_CHECK = f"""
do $$
begin
    if not exists (select from pg_constraint where conrelid = '{QUEUE}'::regclass and conname = '{{name}}') then
        alter table {QUEUE} add constraint {{name}} check ({{check}}) not valid;
    end if;
end
$$
"""
CHANGES = (
    "alter table jobplatform.job_records add column start_within_ms bigint, add column worker_id integer",
    # A newer request may say it anew of the job that waits.
    f"grant update (start_within_ms) on jobplatform.job_records to {EVERYBODY}",
    f"grant update {REQUEST} on jobplatform.job_records to {WORKER}",
    f"grant update (worker_id) on jobplatform.job_records to {EVERYBODY}",
    PAST_WORKERS,
    f"grant select on jobplatform.past_workers to {READERS}",
    f"grant select, insert, delete on jobplatform.past_workers to {WORKER}",
)

BACK = (
    f"revoke update {REQUEST} on jobplatform.job_records from {WORKER}",
    "drop index jobplatform.job_queue_start_by",
    "alter table jobplatform.job_queue drop column start_by, drop column start_within_ms",
    "alter table jobplatform.job_records drop column start_within_ms, drop column worker_id",
    "drop table jobplatform.past_workers",
)

COLUMNS = """
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
    r.completed_at,
    r.parent_id,
    r.batch_id"""
#: New ones can only stand at the end.
NEW = ",\n    r.start_within_ms,\n    q.start_by,\n    coalesce(q.worker_id, r.worker_id) as last_worker_id"

VIEW = """
create or replace view jobplatform.jobs with (security_invoker = true) as
select {columns}
from jobplatform.job_records r
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
"""


def upgrade() -> None:
    with committed():
        op.execute(COLUMNS_OF_QUEUE)
        for name, check in CHECKS.items():
            op.execute(ADD_CHECK.format(name=name, check=check))
            op.execute(f"alter table {QUEUE} validate constraint {name}")
    build_index(INDEX)
    for change in CHANGES:
        op.execute(change)
    # Replaced and not dropped: what was granted on it stays.
    op.execute(VIEW.format(columns=COLUMNS + NEW))


def downgrade() -> None:
    op.execute("drop view jobplatform.jobs")
    for change in BACK:
        op.execute(change)
    op.execute(VIEW.format(columns=COLUMNS))
    op.execute(f"grant select on jobplatform.jobs to {EVERYBODY}")
