"""A schedule says what its tick does when an unfinished job holds the guard, and a tick can have replaced one.

Revision ID: 0020
Revises: 0019

Workers of the version before go on as they did: they leave the column alone, and do not replace.
"""

from alembic import op

from jobplatform.migrations.building import committed

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

WITH = "'enqueued', 'replaced', 'deduplicated'"
WITHOUT = "'enqueued', 'deduplicated'"


def _outcomes(with_job: str) -> tuple[str, ...]:
    ticks = "alter table jobplatform.schedule_ticks"
    return (
        f"{ticks} drop constraint if exists schedule_ticks_known_outcome, "
        f"add constraint schedule_ticks_known_outcome "
        f"check (outcome in ({with_job}, 'skipped', 'fanned_out')) not valid",
        f"{ticks} drop constraint if exists schedule_ticks_job_when_enqueued, "
        f"add constraint schedule_ticks_job_when_enqueued "
        f"check ((outcome in ({with_job})) = (job_id is not null)) not valid",
        # Not under the lock that the others need: what is there is checked while ticks go on being written.
        f"{ticks} validate constraint schedule_ticks_known_outcome",
        f"{ticks} validate constraint schedule_ticks_job_when_enqueued",
    )


IF_ACTIVE = (
    "alter table jobplatform.schedules add column if_active text "
    "constraint schedules_known_if_active check (if_active in ('skip', 'replace'))"
)

BACK = (
    # The older code knows no such outcome; what it would say of it is that the tick met an unfinished job.
    "alter table jobplatform.schedule_ticks no force row level security",
    "update jobplatform.schedule_ticks set outcome = 'deduplicated' where outcome = 'replaced'",
    "alter table jobplatform.schedule_ticks force row level security",
    *_outcomes(WITHOUT),
    "alter table jobplatform.schedules drop column if_active",
)


def upgrade() -> None:
    with committed():
        for change in _outcomes(WITH):
            op.execute(change)
    op.execute(IF_ACTIVE)


def downgrade() -> None:
    for change in BACK:
        op.execute(change)
