"""A workspace, and the tokens by which its API is reached."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class Workspace(Base):
    """A customer. Jobs do not need this row: a host application may keep its workspaces in tables of its own."""

    __tablename__ = "workspaces"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (CheckConstraint("name <> ''", name="name_not_empty"),)


class ApiToken(Base):
    """A bearer token. Only a hash of its secret is here; ``workspace_id`` is null for an operator's token.

    The database makes its ``signing_key``, which nobody is told. That and the hash only the API may read, so they are
    not loaded with the rest: ask for them by name.
    """

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    workspace_id: Mapped[uuid.UUID | None]
    name: Mapped[str] = mapped_column(Text)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, deferred=True, deferred_raiseload=True)
    signing_key: Mapped[bytes] = mapped_column(
        LargeBinary,
        server_default=text("(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))"),
        deferred=True,
        deferred_raiseload=True,
    )
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    expires_at: Mapped[datetime.datetime | None]
    last_used_at: Mapped[datetime.datetime | None]
    revoked_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("octet_length(secret_hash) = 32", name="secret_hash_is_sha256"),
        CheckConstraint("octet_length(signing_key) = 32", name="signing_key_has_32_bytes"),
        CheckConstraint("cardinality(scopes) > 0", name="has_a_scope"),
        CheckConstraint("(workspace_id is null) = ('operator' = any(scopes))", name="operator_or_workspace"),
        Index("api_tokens_workspace", "workspace_id", "created_at"),
    )
    #: Or whoever makes a token would be told its key.
    __mapper_args__ = {"eager_defaults": False}
