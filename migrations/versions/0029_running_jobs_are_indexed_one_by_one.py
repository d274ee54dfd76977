"""The index of running jobs keeps an entry for each of them, and no lists of those that are alike.

Revision ID: 0029
Revises: 0028

All running jobs of a workspace in a queue have the same key there. PostgreSQL puts such entries together in lists, and
before it splits a page it looks through all that its lists name for rows that are gone: with short jobs that is a page
of a thousand that came and went, again and again, and a tenth of what a claim cost. One by one they fill a page with a
sixth of that. Lists that are there stay until their page is split or empty.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter index jobplatform.job_queue_running set (deduplicate_items = off)")


def downgrade() -> None:
    op.execute("alter index jobplatform.job_queue_running reset (deduplicate_items)")
