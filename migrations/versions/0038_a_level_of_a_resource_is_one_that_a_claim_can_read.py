"""A level of a resource is one that a claim can read.

Revision ID: 0038
Revises: 0037

Only who writes SQL by hand can have written another: NaN, infinity, or more than any integer. Each claim that came to
its resource failed on it. Those that are there are forgotten, as code of the version before did within a minute or two.
"""

from alembic import op

from jobplatform.migrations.building import committed

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

LEVELS = "jobplatform.resource_levels"
CHECK = "resource_levels_level_readable"
#: From here on nobody can write another. NaN is more than everything.
ADD_CHECK = f"""
do $$
begin
    if not exists (select from pg_constraint where conrelid = '{LEVELS}'::regclass and conname = '{CHECK}') then
        alter table {LEVELS} add constraint {CHECK} check (level <= 2147483647) not valid;
    end if;
end
$$
"""


def upgrade() -> None:
    with committed():
        op.execute(ADD_CHECK)
        op.execute(f"delete from {LEVELS} where level > 2147483647")
        op.execute(f"alter table {LEVELS} validate constraint {CHECK}")


def downgrade() -> None:
    op.execute(f"alter table {LEVELS} drop constraint {CHECK}")
