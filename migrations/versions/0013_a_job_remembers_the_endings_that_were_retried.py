"""A job remembers the endings that a retry by hand took back, so that nobody who watches it misses one.

Revision ID: 0013
Revises: 0012

Written by a retry by hand alone. One by a process of the version before writes none, and its job counts as never ended.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

EVERYBODY = ", ".join(f"jobplatform_{name}" for name in ("api", "operator", "worker", "handler"))


def upgrade() -> None:
    op.execute("alter table jobplatform.job_records add column past_endings jsonb")
    op.execute(f"grant update (past_endings) on jobplatform.job_records to {EVERYBODY}")


def downgrade() -> None:
    op.execute("alter table jobplatform.job_records drop column past_endings")
