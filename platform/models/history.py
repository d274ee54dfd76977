"""What has ended, in numbers: for the charts, the percentiles and the groups of errors that people look at.

Whatever ends a job says so in ``endings``, in the same statement. Workers count these by turns, off the path of jobs,
and take them away: into *cells*, of which each is a number of jobs that ended alike within a minute. Old cells become
coarser ones.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Column, DateTime, Index, Integer, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock

#: How many minutes a cell is long: fine ones for what has just been, coarse ones for what is long past.
CELL_MINUTES: Final = (1, 15, 60, 1440)
#: Jobs whose wait, or run, took from 2^(n-1) up to 2^n ms are in bucket n; below 1 ms it is 0, from 2^30 ms on 31.
BUCKETS: Final = 32
#: The bucket of what is not known.
UNKNOWN: Final = -1

#: What ended of a workspace and is not counted yet: a row a statement. No key and no index: it is written with every
#: job, read as a whole, and has a minute's rows at most.
endings = Table(
    "endings",
    Base.metadata,
    Column("workspace_id", UUID(as_uuid=True), nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("ended_at", DateTime(timezone=True), server_default=clock(), nullable=False),
    Column("ids", ARRAY(UUID(as_uuid=True)), nullable=False),
    CheckConstraint("status in (3, 4, 5)", name="final_status"),
    postgresql_with={
        # Up to a page a row: what is gone in a minute is not worth compressing.
        "toast_tuple_target": 8160,
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_vacuum_cost_delay": 0,
    },
)

_KNOWN_MINUTES = f"minutes in ({', '.join(map(str, CELL_MINUTES))})"
_KNOWN_BUCKETS = f"wait between {UNKNOWN} and {BUCKETS - 1} and run between {UNKNOWN} and {BUCKETS - 1}"
_CELL = {"postgresql_with": {"fillfactor": 80}}


class _Cell:
    """``amount`` jobs that ended alike, in the ``minutes`` from ``at`` on.

    ``retries``: the attempts before their last ones. ``wait_ms`` and ``run_ms`` are sums, over those of which they are
    known.
    """

    status: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    outcome: Mapped[str] = mapped_column(Text, primary_key=True)
    wait: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    run: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    retries: Mapped[int] = mapped_column(BigInteger)
    wait_ms: Mapped[int] = mapped_column(BigInteger)
    run_ms: Mapped[int] = mapped_column(BigInteger)


class WorkspaceCell(_Cell, Base):
    """A cell of one workspace: jobs of a task in a queue, with the same status, outcome, wait and run."""

    __tablename__ = "workspace_cells"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, sort_order=-1)
    minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True, sort_order=-1)
    at: Mapped[datetime.datetime] = mapped_column(primary_key=True, sort_order=-1)
    queue: Mapped[str] = mapped_column(Text, primary_key=True, sort_order=-1)
    task: Mapped[str] = mapped_column(Text, primary_key=True, sort_order=-1)

    __table_args__ = (
        CheckConstraint("status in (3, 4, 5)", name="known_status"),
        CheckConstraint(_KNOWN_MINUTES, name="known_minutes"),
        CheckConstraint(_KNOWN_BUCKETS, name="known_buckets"),
        # What has to become coarser, or to go; and what all workspaces did of late.
        Index("workspace_cells_at", "minutes", "at"),
        _CELL,
    )


class WorkspaceTotal(Base):
    """What ended of a workspace in the ``minutes`` from ``at`` on, in one row: a chart of a week is about as many rows
    as it has points, however many cells there are.

    Only of what is old enough to be in coarse cells; what is younger is few enough to be added up. ``skipped`` are
    among the completed. ``waits[n]`` jobs are in the bucket n - 1 of waits, ``runs[n]`` in that of runs; buckets behind
    the last one with a job are left out.
    """

    __tablename__ = "workspace_totals"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    at: Mapped[datetime.datetime] = mapped_column(primary_key=True)
    completed: Mapped[int] = mapped_column(BigInteger)
    skipped: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    cancelled: Mapped[int] = mapped_column(BigInteger)
    retries: Mapped[int] = mapped_column(BigInteger)
    waits: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    runs: Mapped[list[int]] = mapped_column(ARRAY(Integer))

    __table_args__ = (
        CheckConstraint(f"minutes in ({', '.join(map(str, CELL_MINUTES[1:]))})", name="known_minutes"),
        CheckConstraint(
            f"cardinality(waits) <= {BUCKETS} and cardinality(runs) <= {BUCKETS}",
            name="known_buckets",
        ),
        Index("workspace_totals_at", "minutes", "at"),
        _CELL,
    )


class PlatformCell(_Cell, Base):
    """A cell of all workspaces together. It stays when a workspace is erased: it is a number.

    Of very many jobs the combinations of all that is known would be nearly as many. So a job is counted here by its
    status and outcome, and again, with the status 0, by its wait and by its run; and each of that for all jobs
    (``queue`` and ``task`` are empty), for its queue and for its task. By queue and task together only its status is
    counted, and for an hour or so: rules of health ask for that.
    """

    __tablename__ = "platform_cells"

    queue: Mapped[str] = mapped_column(Text, primary_key=True, sort_order=-1)
    task: Mapped[str] = mapped_column(Text, primary_key=True, sort_order=-1)
    minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True, sort_order=-1)
    at: Mapped[datetime.datetime] = mapped_column(primary_key=True, sort_order=-1)

    __table_args__ = (
        CheckConstraint("status in (0, 3, 4, 5)", name="known_status"),
        Index("platform_cells_at", "minutes", "at"),
        CheckConstraint(_KNOWN_MINUTES, name="known_minutes"),
        CheckConstraint(_KNOWN_BUCKETS, name="known_buckets"),
        _CELL,
    )


class ErrorGroupRow(Base):
    """Jobs of a workspace that failed alike: same task, same type of error, same message but for what varies in it."""

    __tablename__ = "error_groups"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    task: Mapped[str] = mapped_column(Text)
    error_type: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[datetime.datetime]
    last_at: Mapped[datetime.datetime]
    last_job_id: Mapped[uuid.UUID]

    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        # Which workspaces a failure has hit.
        Index("error_groups_fingerprint", "fingerprint", "workspace_id"),
        Index("error_groups_last_at", "last_at"),
        {"postgresql_with": {"fillfactor": 80}},
    )


class PlatformErrorGroup(Base):
    """The same of all workspaces together, for operators: what of a message does not vary is in it."""

    __tablename__ = "platform_error_groups"

    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    task: Mapped[str] = mapped_column(Text)
    error_type: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[datetime.datetime]
    last_at: Mapped[datetime.datetime]
    last_workspace_id: Mapped[uuid.UUID]
    last_job_id: Mapped[uuid.UUID]

    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        Index("platform_error_groups_last_at", "last_at"),
        {"postgresql_with": {"fillfactor": 80}},
    )


class BulkActionRow(Base):
    """Something that workers do to all jobs which a search finds. ``position`` is where the next round goes on.
    ``arguments``: of a change, what is to be different.

    It begins with the newest job of the moment it was asked for, so later ones are left alone.
    """

    __tablename__ = "bulk_actions"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    deed: Mapped[str] = mapped_column(Text)
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    search: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="waiting")
    expected: Mapped[int | None] = mapped_column(Integer)
    position: Mapped[str | None] = mapped_column(Text)
    looked_at: Mapped[int] = mapped_column(BigInteger, server_default="0")
    done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    left_alone: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    started_at: Mapped[datetime.datetime | None]
    ended_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("deed in ('retry', 'cancel', 'delete', 'change')", name="known_deed"),
        CheckConstraint("(deed = 'change') = (arguments <> '{}')", name="change_says_what"),
        CheckConstraint("state in ('waiting', 'running', 'done', 'stopped', 'failed')", name="known_state"),
        CheckConstraint("(ended_at is null) = (state in ('waiting', 'running'))", name="ended_when_final"),
        CheckConstraint("actor <> ''", name="by_somebody"),
        {"postgresql_with": {"fillfactor": 50}},
    )


class TaskType(Base):
    """A task as the worker that knew it last has described it."""

    __tablename__ = "task_types"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB)
    seen_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
