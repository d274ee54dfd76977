"""An operator reads nothing by which a token is known, and changes of a token what ending one takes.

Revision ID: 0040
Revises: 0039

The version before reads the hash along with the rest where an operator lists, makes or replaces tokens: until its
processes are replaced it is refused that, and nothing else. Tokens go on.
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

OPERATOR = "jobplatform_operator"
TOKENS = "jobplatform.api_tokens"

FORTH = (
    f"revoke select (secret_hash), update on {TOKENS} from {OPERATOR}",
    # The key, to end all that was signed with it.
    f"grant update (revoked_at, signing_key) on {TOKENS} to {OPERATOR}",
)

BACK = (
    f"revoke update (revoked_at, signing_key) on {TOKENS} from {OPERATOR}",
    f"grant select (secret_hash), update on {TOKENS} to {OPERATOR}",
)


def upgrade() -> None:
    for statement in FORTH:
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK:
        op.execute(statement)
