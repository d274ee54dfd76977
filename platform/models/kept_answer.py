"""Answers that are kept for a day, so that the same request sent twice is done once."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock

#: After so long a key is as good as new.
KEPT_HOURS = 24


class KeptAnswer(Base):
    """What a caller was answered under a key of its own choice; ``fingerprint`` is of what it had asked.

    ``answer`` is null for one that held a secret. Requests about no workspace have the id of nobody's.
    """

    __tablename__ = "kept_answers"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    caller: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[Any | None] = mapped_column(JSONB)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        CheckConstraint("octet_length(fingerprint) = 32", name="fingerprint_is_a_digest"),
        CheckConstraint("length(key) between 1 and 255 and caller <> ''", name="named"),
        # In insert order: a few kilobytes find the old ones.
        Index(
            "kept_answers_created_at",
            "created_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
    )
