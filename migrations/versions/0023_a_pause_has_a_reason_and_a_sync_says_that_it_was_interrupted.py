"""A schedule says why it is paused, and the entry of a sync that its worker died with it.

Revision ID: 0023
Revises: 0022

Code of the version before goes on: it leaves the reason alone, and reads an interrupted entry as one that has not
ended.
"""

from alembic import op

from jobplatform.migrations.building import build_index, committed

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

LOGS = "jobplatform.sync_logs"
BEFORE = "'running', 'completed', 'failed', 'cancelled'"


def _known_status(statuses: str) -> tuple[str, ...]:
    return (
        f"alter table {LOGS} drop constraint if exists sync_logs_known_status, "
        f"add constraint sync_logs_known_status check (status in ({statuses})) not valid",
        # Not under the lock that the others need.
        f"alter table {LOGS} validate constraint sync_logs_known_status",
    )


def _open_entries(name: str, which: str) -> str:
    return f"create index {name} on {LOGS} (workspace_id, job_id) where {which}"


FORTH = (
    "alter table jobplatform.schedules add column paused_why text",
    "drop index jobplatform.sync_logs_running",
)

BACK = (
    f"alter table {LOGS} no force row level security",
    f"update {LOGS} set status = 'running' where status = 'interrupted'",
    f"alter table {LOGS} force row level security",
    *_known_status(BEFORE),
    _open_entries("sync_logs_running", "status = 'running'"),
    "drop index jobplatform.sync_logs_open",
    "alter table jobplatform.schedules drop column paused_why",
)


def upgrade() -> None:
    with committed():
        for statement in _known_status(f"{BEFORE}, 'interrupted'"):
            op.execute(statement)
    build_index(_open_entries("sync_logs_open", "status in ('running', 'interrupted')"))
    for statement in FORTH:
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK:
        op.execute(statement)
