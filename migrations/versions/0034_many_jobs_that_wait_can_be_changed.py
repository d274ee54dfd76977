"""What workers do to all jobs that a search finds can be a change, and then it says what is to be different.

Revision ID: 0034
Revises: 0033

Code of the version before goes on, and reads the row of a change that new code has asked for as a deed it does not
know: it logs that, and a worker of this version does it.
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

WORKER = "jobplatform_worker"
ACTIONS = "jobplatform.bulk_actions"
BEFORE = "'retry', 'cancel', 'delete'"
#: What an operator may change anyway. A worker may already say when a job runs.
CHANGED = "(queue, priority)"


def _known_deed(deeds: str) -> tuple[str, ...]:
    return (
        f"alter table {ACTIONS} drop constraint bulk_actions_known_deed",
        f"alter table {ACTIONS} add constraint bulk_actions_known_deed check (deed in ({deeds})) not valid",
        # Not under the lock that the others need.
        f"alter table {ACTIONS} validate constraint bulk_actions_known_deed",
    )


FORTH = (
    f"alter table {ACTIONS} add column arguments jsonb default '{{}}' not null",
    *_known_deed(f"{BEFORE}, 'change'"),
    f"alter table {ACTIONS} add constraint bulk_actions_change_says_what "
    "check ((deed = 'change') = (arguments <> '{}'))",
    f"grant update {CHANGED} on jobplatform.job_records to {WORKER}",
)

BACK = (
    f"revoke update {CHANGED} on jobplatform.job_records from {WORKER}",
    f"alter table {ACTIONS} drop constraint bulk_actions_change_says_what",
    # The older code would begin with one of them again and again, and do nothing else.
    f"delete from {ACTIONS} where deed = 'change'",
    *_known_deed(BEFORE),
    f"alter table {ACTIONS} drop column arguments",
)


def upgrade() -> None:
    for statement in FORTH:
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK:
        op.execute(statement)
