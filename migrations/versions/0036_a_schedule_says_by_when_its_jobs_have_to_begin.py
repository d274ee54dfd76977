"""A schedule says by when its jobs have to begin.

Revision ID: 0036
Revises: 0035

Workers of the version before leave the column alone: their ticks' jobs have what the task says, as before.
"""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

FORTH = (
    "alter table jobplatform.schedules add column start_within_ms bigint "
    "constraint schedules_start_within_positive check (start_within_ms > 0)"
)
BACK = "alter table jobplatform.schedules drop column start_within_ms"


def upgrade() -> None:
    op.execute(FORTH)


def downgrade() -> None:
    op.execute(BACK)
