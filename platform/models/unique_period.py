"""Keys that are not to have another job yet, although their last one may have ended."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class UniquePeriod(Base):
    """The last job of a key that was made with ``unique_for``, and until when no other is made.

    ``job_id`` may be of a job that failed, was cancelled or is deleted by now: then the key is free.
    """

    __tablename__ = "unique_periods"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    unique_key: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[uuid.UUID]
    began_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    until: Mapped[datetime.datetime]

    __table_args__ = (
        CheckConstraint("until > began_at", name="not_over_before_it_began"),
        # What is over is deleted.
        Index("unique_periods_until", "until"),
    )
