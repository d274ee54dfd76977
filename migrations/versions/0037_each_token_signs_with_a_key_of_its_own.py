"""Each token signs sessions and tokens for one job with a random key of its own.

Revision ID: 0037
Revises: 0036

The version before signs with the hash of the token's secret, which whoever holds the token knows as well, and goes on
doing so: it leaves the column alone, and the database gives a key to each token that it makes. What one version has
signed is nothing to the other.
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

OPERATOR = "jobplatform_operator"
TOKENS = "jobplatform.api_tokens"

#: 244 random bits in 32 bytes, without an extension of the server.
RANDOM = "uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())"
#: What an operator looks at, and the older code of all roles. Only the API checks what was signed.
SHOWN = "(id, workspace_id, name, secret_hash, scopes, created_at, expires_at, last_used_at, revoked_at)"

FORTH = (
    f"alter table {TOKENS} add column signing_key bytea, alter column signing_key set default {RANDOM}",
    # For all workspaces. Whoever comes with a token waits meanwhile: about two seconds where there are 100,000.
    f"alter table {TOKENS} no force row level security",
    f"update {TOKENS} set signing_key = default",
    f"alter table {TOKENS} force row level security",
    f"alter table {TOKENS} alter column signing_key set not null, "
    "add constraint api_tokens_signing_key_has_32_bytes check (octet_length(signing_key) = 32)",
    f"revoke select on {TOKENS} from {OPERATOR}",
    f"grant select {SHOWN} on {TOKENS} to {OPERATOR}",
)

BACK = (
    f"alter table {TOKENS} drop column signing_key",
    f"revoke select on {TOKENS} from {OPERATOR}",
    f"grant select on {TOKENS} to {OPERATOR}",
)


def upgrade() -> None:
    for statement in FORTH:
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK:
        op.execute(statement)
