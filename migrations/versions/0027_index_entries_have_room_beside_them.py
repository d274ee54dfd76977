"""Index entries of jobs have room beside them for their second ones.

Revision ID: 0027
Revises: 0026

A claim, and an ending whose page has no room left, write a second entry beside a job's first one, for many neighbours
in one transaction. In a full page PostgreSQL then looks for entries that can go, finds none as they are needed until
the transaction is over, and splits the page: a sixth of what an ending cost, and a twentieth of a claim. Pages that are
there stay as they are; new ones leave the room.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

ROOM = {"job_records_pkey": 75, "job_records_id": 75, "job_queue_pkey": 60}


def upgrade() -> None:
    for index, percent in ROOM.items():
        op.execute(f"alter index jobplatform.{index} set (fillfactor = {percent})")


def downgrade() -> None:
    for index in ROOM:
        op.execute(f"alter index jobplatform.{index} reset (fillfactor)")
