"""What a workspace connects, and the copy of it that syncs keep."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class Connection(Base):
    """A workspace's configured connector."""

    __tablename__ = "connections"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connector_type: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]]
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (CheckConstraint("name <> '' and connector_type <> ''", name="named"),)


class Record(Base):
    """One record of a source, as last seen."""

    __tablename__ = "records"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    data: Mapped[dict[str, Any]]
    synced_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"],
            ["jobplatform.connections.workspace_id", "jobplatform.connections.id"],
            ondelete="CASCADE",
        ),
    )
