"""Files that the records of a workspace were written to, and the links by which they are fetched."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import BigInteger, CheckConstraint, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class ExportFile(Base):
    """A file in the store of exports. Its row is there before it, and goes after it: no file is ever forgotten."""

    __tablename__ = "exports"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID]
    name: Mapped[str] = mapped_column(Text)
    """What it is called when it is fetched."""
    key: Mapped[str] = mapped_column(Text)
    """Where it is in the store."""
    rows: Mapped[int | None] = mapped_column(BigInteger)
    size: Mapped[int | None] = mapped_column(BigInteger)
    digest: Mapped[bytes | None]
    """SHA-256; null, with ``rows`` and ``size``, until all of the file is there."""
    link_hash: Mapped[bytes | None]
    """SHA-256 of the secret in the newest link."""
    link_expires_at: Mapped[datetime.datetime | None]
    made_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    expires_at: Mapped[datetime.datetime]
    """When the file is deleted."""

    __table_args__ = (
        CheckConstraint("num_nulls(rows, size, digest) in (0, 3)", name="whole"),
        CheckConstraint("(link_hash is null) = (link_expires_at is null)", name="link_expires"),
        CheckConstraint("name <> '' and key <> ''", name="named"),
        Index("exports_expires_at", "expires_at"),
    )
