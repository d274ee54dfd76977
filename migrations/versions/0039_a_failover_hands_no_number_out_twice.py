"""A failover hands no number out twice.

Revision ID: 0039
Revises: 0038

A standby that takes over may not have the last commits of the server before it: it has a job that is running there as
one that waits. Counted on from what it knows, the next claim would get the same epoch, and the worker register under
the same id, as somebody has who is still at work. Each taking over begins a timeline, so numbers begin higher with it.

Code of the version before goes on counting from what is there until the last of its workers has stopped.
"""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

WORKER = "jobplatform_worker"

#: More claims than a job has, and more workers than are registered, before the next failover but a few.
APART = 100_000
#: The last timeline whose numbers are whole numbers of 32 bits.
LAST = 21_000

# The control file says only at the next checkpoint that another timeline has begun; the name of the log's file says it
# at once, in its first eight digits. Where that means nothing, as on a server that only speaks like PostgreSQL, numbers
# go on as they did.
FIRST = f"""
create function jobplatform.first_number()
returns integer
language plpgsql volatile as $$
declare
    timeline text;
begin
    timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
    return least(('x' || timeline)::bit(32)::bigint - 1, {LAST}) * {APART} + 1;
exception when others then
    return 1;
end $$
"""


def upgrade() -> None:
    op.execute(FIRST)
    op.execute(f"grant usage on sequence jobplatform.workers_id_seq to {WORKER}")


def downgrade() -> None:
    op.execute(f"revoke usage on sequence jobplatform.workers_id_seq from {WORKER}")
    op.execute("drop function jobplatform.first_number()")
