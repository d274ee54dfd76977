"""What the workers do by turns, and how far they are."""

from __future__ import annotations

import datetime

from sqlalchemy import BigInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class Chore(Base):
    """A chore of the whole platform. Whoever has its row locked does it; ``position`` is where the next one goes on."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    due_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    position: Mapped[int] = mapped_column(BigInteger, server_default="0")

    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)
