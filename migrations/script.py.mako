## What may stand in a migration of a database in use, and in which order: see building.py.
"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from alembic import op

from jobplatform.migrations.building import build_index, committed

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    # First and outside of the transaction: indexes of tables that are there, and checks that are validated after it.
    build_index("create index NAME on jobplatform.TABLE (...)")
    with committed():
        op.execute("...")
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
