"""The data keys of workspaces, each wrapped by a master key that the database never sees."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, LargeBinary, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class WorkspaceKey(Base):
    """A data key of a workspace: all of its keys open, the newest one seals. Without its keys its payloads are noise.

    ``wrapped_by`` is the id of the master key. With ``encrypts`` on any of its keys a workspace has every job sealed,
    and not only those of tasks that ask for it.
    """

    __tablename__ = "workspace_keys"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_by: Mapped[str] = mapped_column(Text)
    encrypts: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        CheckConstraint("key_id > 0", name="key_id_positive"),
        # Nonce, key, tag: what is shorter or longer was not wrapped by us.
        CheckConstraint("octet_length(wrapped_key) = 60", name="wrapped_key_is_wrapped"),
    )
