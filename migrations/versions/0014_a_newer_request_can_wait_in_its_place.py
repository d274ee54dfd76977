"""Rows know the version of their payload, tasks the limits of their code, and a newer request can wait in its place.

Revision ID: 0014
Revises: 0013

Processes of the version before go on: rows that they enqueue are taken for version 1, as a worker that reads more of
the record finds out. They never see a job that waits for the one before it: nothing makes one before all are new.
The queue table is rewritten once, under a lock; it holds only what is not done yet.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

API, OPERATOR, WORKER, HANDLER = (f"jobplatform_{name}" for name in ("api", "operator", "worker", "handler"))

READY = """
create index job_queue_ready on jobplatform.job_queue (queue, workspace_id, lane, priority desc, run_after, id)
where state = 1
"""
LANE = """
alter table jobplatform.job_queue add column lane bigint
generated always as (hashtextextended({name}, 0)) stored not null
"""
NAME = "task || coalesce(chr(31) || resource, '')"
VERSION = "case when payload_version > 1 then chr(30) || payload_version::text else '' end"

#: What a request asks for, which a newer one may replace while the job waits.
REQUEST = (
    "(task, queue, payload, payload_version, priority, max_attempts, timeout_ms, resource, units, tags, request_id, "
    "trace_parent, parent_id)"
)

CHANGES = (
    "alter table jobplatform.workers add column versions smallint[] default '{}' not null",
    "alter table jobplatform.job_queue add column payload_version smallint default '1' not null",
    # The rows are everybody's, and the owner sees them only while it is not told to keep to its own policies.
    "alter table jobplatform.job_queue no force row level security",
    "alter table jobplatform.job_records no force row level security",
    "update jobplatform.job_queue q set payload_version = r.payload_version from jobplatform.job_records r "
    "where r.workspace_id = q.workspace_id and r.id = q.id and r.payload_version > 1",
    "alter table jobplatform.job_queue force row level security",
    "alter table jobplatform.job_records force row level security",
    # Jobs that a worker with older code cannot read are a lane of their own: it steps over them, however many.
    "alter table jobplatform.job_queue drop column lane",
    LANE.format(name=f"{NAME} || {VERSION}"),
    READY,
    # A newer request for a key waits under that key with a mark before it, until the one that runs has ended.
    "alter table jobplatform.job_queue add constraint job_queue_successor_is_blocked "
    "check (unique_key is null or left(unique_key, 1) <> chr(30) or state = -1)",
    "create index job_queue_successors on jobplatform.job_queue (workspace_id, unique_key) "
    "where state = -1 and left(unique_key, 1) = chr(30)",
    "alter table jobplatform.task_limits add column code_max_running integer, "
    "add column code_max_running_per_workspace integer",
    f"grant update {REQUEST} on jobplatform.job_records to {API}, {OPERATOR}, {HANDLER}",
    # When a worker starts it says which limits the code of its tasks declares.
    f"grant insert, update, delete on jobplatform.task_limits to {WORKER}",
)

BACK = (
    # The older code would never start them.
    "alter table jobplatform.job_queue add constraint job_queue_has_no_successors "
    "check (unique_key is null or left(unique_key, 1) <> chr(30))",
    "alter table jobplatform.job_queue drop constraint job_queue_has_no_successors",
    f"revoke insert, update, delete on jobplatform.task_limits from {WORKER}",
    f"revoke update {REQUEST} on jobplatform.job_records from {API}, {OPERATOR}, {HANDLER}",
    "alter table jobplatform.task_limits drop column code_max_running, drop column code_max_running_per_workspace",
    "drop index jobplatform.job_queue_successors",
    "alter table jobplatform.job_queue drop constraint job_queue_successor_is_blocked",
    "alter table jobplatform.job_queue drop column lane",
    LANE.format(name=NAME),
    READY,
    "alter table jobplatform.job_queue drop column payload_version",
    "alter table jobplatform.workers drop column versions",
)


def upgrade() -> None:
    for change in CHANGES:
        op.execute(change)


def downgrade() -> None:
    """Fails while a newer request waits for the one before it; let them run, or cancel them."""
    for change in BACK:
        op.execute(change)
