"""What waits for what: batches, edges between jobs, and notices of what happened and is not settled yet."""

from __future__ import annotations

import datetime
import enum
import uuid

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Integer, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class RunIf(enum.StrEnum):
    """When a job runs that waits for another: if that completed, however it ended, or if it did not complete."""

    COMPLETED = "completed"
    ENDED = "ended"
    FAILED = "failed"


class BatchRow(Base):
    """A set of jobs. The counts are of what is settled; together with its notices they are exact at every moment."""

    __tablename__ = "batches"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    total: Mapped[int] = mapped_column(Integer, server_default="0")
    completed: Mapped[int] = mapped_column(Integer, server_default="0")
    failed: Mapped[int] = mapped_column(Integer, server_default="0")
    cancelled: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    closed_at: Mapped[datetime.datetime | None]
    cancelled_at: Mapped[datetime.datetime | None]
    ended_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("ended_at is null or closed_at is not null", name="ends_when_closed"),
        Index(
            "batches_ended_at",
            "ended_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
    )


class JobEdge(Base):
    """A job waits for another one, or for a batch. ``after_status`` is how that ended, once it did and it is settled.

    Whoever decides about a job holds the first of its edges: there is always one, and nobody else wants it.
    """

    __tablename__ = "job_edges"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    after_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger)
    of_batch: Mapped[bool] = mapped_column(server_default="false")
    run_if: Mapped[str] = mapped_column(Text, server_default="completed")
    after_status: Mapped[int | None] = mapped_column(SmallInteger)

    __table_args__ = (
        CheckConstraint("run_if in ('completed', 'ended', 'failed')", name="known_run_if"),
        CheckConstraint("after_status in (3, 4, 5)", name="final_status"),
        CheckConstraint("job_id <> after_id", name="not_itself"),
        Index("job_edges_after", "workspace_id", "after_id", "job_id"),
        Index("job_edges_status", "workspace_id", "job_id", "after_status"),
    )


class Notice(Base):
    """Something that others wait for has happened. Written with it, deleted by whoever settles it.

    ``ended`` and ``reopened`` have the final status that a job got, or had; ``added`` the ``amount`` of new members;
    ``look`` asks to look again, and ``cancel`` to go on cancelling.
    """

    __tablename__ = "notices"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    job_id: Mapped[uuid.UUID | None]
    batch_id: Mapped[uuid.UUID | None]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    amount: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        CheckConstraint("kind in ('ended', 'reopened', 'added', 'look', 'cancel')", name="known_kind"),
        CheckConstraint("job_id is not null or batch_id is not null", name="about_something"),
        Index(
            "notices_of_batches",
            "workspace_id",
            "batch_id",
            "id",
            postgresql_where=text("batch_id is not null"),
        ),
        Index("notices_of_jobs", "id", postgresql_where=text("batch_id is null")),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": 0,
                "autovacuum_vacuum_threshold": 1000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )
