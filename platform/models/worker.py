"""A worker process, as the other workers know it."""

from __future__ import annotations

import datetime

from sqlalchemy import Identity, Integer, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class WorkerRow(Base):
    """A worker process. One declared dead stays dead: it comes back under a new id, so nobody can disagree.

    ``drain_requested_at`` is an operator's, ``draining`` what the worker says of itself.
    """

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(Text)
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    tasks: Mapped[list[str]] = mapped_column(ARRAY(Text))
    slots: Mapped[int] = mapped_column(SmallInteger)
    started_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    heartbeat_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    draining: Mapped[bool] = mapped_column(server_default="false")
    dead_at: Mapped[datetime.datetime | None]
    versions: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), server_default="{}")
    """The newest payload version of each of its ``tasks`` that it can read."""
    drain_requested_at: Mapped[datetime.datetime | None]

    # Room for the heartbeat to stay on its page (HOT) for ever.
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)


class PastWorker(Base):
    """A worker whose row is gone: where it ran, for whoever looks at a job that names it."""

    __tablename__ = "past_workers"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    dead_at: Mapped[datetime.datetime]
