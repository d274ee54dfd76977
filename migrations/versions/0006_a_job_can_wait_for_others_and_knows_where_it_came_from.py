"""A job can wait for others, and knows where it came from.

Revision ID: 0006
Revises: 0005

Processes of the version before never see a blocked row: nothing makes one before all of them are new.
"""

from alembic import op

from jobplatform.migrations.building import committed

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVERYBODY = ", ".join(f"jobplatform_{name}" for name in ("api", "operator", "worker", "handler"))

# -1 is below what waits for nothing but its turn, so "still waiting" stays `state < 2`.
STATES = (
    "alter table jobplatform.job_queue drop constraint if exists job_queue_known_state, "
    "add constraint job_queue_known_state check (state in (-1, 0, 1, 2)) not valid",
    "alter table jobplatform.job_queue validate constraint job_queue_known_state",
)
CHANGES = (
    "alter table jobplatform.job_records add column parent_id uuid, add column batch_id uuid",
    "alter table jobplatform.job_queue add column followed boolean default 'false' not null",
)

BACK = (
    "alter table jobplatform.job_queue drop constraint job_queue_known_state",
    "alter table jobplatform.job_queue add constraint job_queue_known_state check (state in (0, 1, 2))",
    "alter table jobplatform.job_queue drop column followed",
    "alter table jobplatform.job_records drop column parent_id, drop column batch_id",
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
    r.completed_at"""

VIEW = """
create or replace view jobplatform.jobs with (security_invoker = true) as
select {columns}
from jobplatform.job_records r
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
"""


def upgrade() -> None:
    with committed():
        for statement in STATES:
            op.execute(statement)
    for change in CHANGES:
        op.execute(change)
    # Replaced and not dropped: what was granted on it stays. New columns can only stand at the end.
    op.execute(VIEW.format(columns=COLUMNS + ",\n    r.parent_id,\n    r.batch_id"))


def downgrade() -> None:
    """Fails while a job still waits for others; let them run, or cancel them."""
    op.execute("drop view jobplatform.jobs")
    for change in BACK:
        op.execute(change)
    op.execute(VIEW.format(columns=COLUMNS))
    op.execute(f"grant select on jobplatform.jobs to {EVERYBODY}")
