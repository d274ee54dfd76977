"""What may run at a time, how often, and what may not run at all for now.

Limits are rows, so they change while everything runs. None of them is ever compared with a stored counter: what is
running is counted. Only the buckets of rate limits hold a number, because the past cannot be counted.
"""

from __future__ import annotations

import datetime
import enum
import uuid

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Integer, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock

WEIGHT_IN_RANGE = "weight between 1 and 100"
LIMITS_NOT_NEGATIVE = "max_running >= 0 and max_pending >= 0"
RATE_WHOLE = "(rate_units is null) = (rate_period_ms is null) and rate_units > 0 and rate_period_ms > 0"


class Plan(Base):
    """A preset of limits. A workspace on it has these values wherever it has none of its own."""

    __tablename__ = "plans"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    weight: Mapped[int | None] = mapped_column(SmallInteger)
    max_running: Mapped[int | None] = mapped_column(Integer)
    max_pending: Mapped[int | None] = mapped_column(Integer)
    shed: Mapped[bool | None]
    rate_units: Mapped[int | None] = mapped_column(Integer)
    rate_period_ms: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        CheckConstraint("name <> ''", name="name_not_empty"),
        CheckConstraint(WEIGHT_IN_RANGE, name="weight_in_range"),
        CheckConstraint(LIMITS_NOT_NEGATIVE, name="limits_not_negative"),
        CheckConstraint(RATE_WHOLE, name="rate_whole"),
    )


class WorkspaceLimits(Base):
    """The share and the limits of one workspace. Without a row: weight 1, no limits.

    ``weight``: its share of the slots against others'. ``max_running``: jobs that run at a time. ``max_pending``: its
    quota of jobs that wait; a full one refuses new jobs or, with ``shed``, gives up the least important that waits.
    ``rate_units`` in each ``rate_period_ms``: how many jobs start.
    """

    __tablename__ = "workspace_limits"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    plan: Mapped[str | None] = mapped_column(ForeignKey("jobplatform.plans.name"))
    weight: Mapped[int | None] = mapped_column(SmallInteger)
    max_running: Mapped[int | None] = mapped_column(Integer)
    max_pending: Mapped[int | None] = mapped_column(Integer)
    shed: Mapped[bool | None]
    rate_units: Mapped[int | None] = mapped_column(Integer)
    rate_period_ms: Mapped[int | None] = mapped_column(BigInteger)
    updated_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        CheckConstraint(WEIGHT_IN_RANGE, name="weight_in_range"),
        CheckConstraint(LIMITS_NOT_NEGATIVE, name="limits_not_negative"),
        CheckConstraint(RATE_WHOLE, name="rate_whole"),
    )


class QueueLimits(Base):
    """How many jobs of a queue run at a time, over all workers and workspaces."""

    __tablename__ = "queue_limits"

    queue: Mapped[str] = mapped_column(Text, primary_key=True)
    max_running: Mapped[int] = mapped_column(Integer)

    __table_args__ = (CheckConstraint("max_running >= 0", name="limits_not_negative"),)


class TaskLimits(Base):
    """How many jobs of a task run at a time: in all, and for each workspace.

    ``code_…`` is what the code of the task declares, as the last worker that started said. A limit that is the same
    follows the code; any other is an operator's.
    """

    __tablename__ = "task_limits"

    task: Mapped[str] = mapped_column(Text, primary_key=True)
    max_running: Mapped[int | None] = mapped_column(Integer)
    max_running_per_workspace: Mapped[int | None] = mapped_column(Integer)
    code_max_running: Mapped[int | None] = mapped_column(Integer)
    code_max_running_per_workspace: Mapped[int | None] = mapped_column(Integer)

    __table_args__ = (
        CheckConstraint("max_running >= 0 and max_running_per_workspace >= 0", name="limits_not_negative"),
    )


class RateLimit(Base):
    """How many units of an external resource jobs may use in a period.

    ``resource`` is one resource (``hubspot:4711``) or, with a star after the first colon (``hubspot:*``), each of its
    kind by itself. A bucket holds ``burst`` units and fills evenly.
    """

    __tablename__ = "rate_limits"

    resource: Mapped[str] = mapped_column(Text, primary_key=True)
    units: Mapped[int] = mapped_column(Integer)
    period_ms: Mapped[int] = mapped_column(BigInteger)
    burst: Mapped[int] = mapped_column(Integer)

    __table_args__ = (CheckConstraint("units > 0 and period_ms > 0 and burst > 0", name="rate_positive"),)


class ResourceLimits(Base):
    """How many jobs that use an external resource run at a time, over all tasks and workspaces.

    ``resource`` is one resource or each of a kind, as in a rate; without a ``max_running`` there is no limit, also when
    its kind has one. With a ``min_running`` it is adaptive: what counts is each resource's :class:`ResourceLevel`,
    between the two. ``code_…`` is what the code of tasks declares and ``declared_by`` whose code that is, as the last
    worker that started said. A limit that is the same follows the code; any other is an operator's.
    """

    __tablename__ = "resource_limits"

    resource: Mapped[str] = mapped_column(Text, primary_key=True)
    max_running: Mapped[int | None] = mapped_column(Integer)
    code_max_running: Mapped[int | None] = mapped_column(Integer)
    declared_by: Mapped[str | None] = mapped_column(Text)
    min_running: Mapped[int | None] = mapped_column(Integer)
    code_min_running: Mapped[int | None] = mapped_column(Integer)

    __table_args__ = (
        CheckConstraint("max_running >= 0 and code_max_running >= 0", name="limits_not_negative"),
        CheckConstraint("(code_max_running is null) = (declared_by is null)", name="declared_or_not"),
        CheckConstraint("min_running > 0 and code_min_running > 0", name="least_is_positive"),
    )


class ResourceLevel(Base):
    """How many jobs use a resource with an adaptive limit at a time, as its answers say.

    Whole jobs count, and never fewer or more than the limit says. A level that no integer can be is refused, as each
    claim that comes to its resource would fail on it. ``lowered_at`` and ``lowered_for`` say when and why it was
    lowered last, if ever; ``used_at`` when it was in use, to a day.
    """

    __tablename__ = "resource_levels"

    resource: Mapped[str] = mapped_column(Text, primary_key=True)
    level: Mapped[float] = mapped_column(Double)
    used_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    lowered_at: Mapped[datetime.datetime | None]
    lowered_for: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("level > 0", name="level_positive"),
        CheckConstraint(f"level <= {2**31 - 1}", name="level_readable"),
        CheckConstraint("(lowered_at is null) = (lowered_for is null)", name="lowered_for_something"),
        {"postgresql_with": {"fillfactor": 50}},
    )


class BucketKind(enum.StrEnum):
    """Whose rate a bucket keeps."""

    WORKSPACE = "workspace"
    RESOURCE = "resource"


class Bucket(Base):
    """What is left of a rate. ``tokens`` were left at ``filled_at``; nothing is taken before ``closed_until``.

    ``failures`` counts the infrastructure errors in a row, for the circuit breaker.
    """

    __tablename__ = "buckets"

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    tokens: Mapped[float] = mapped_column(Double)
    filled_at: Mapped[datetime.datetime]
    closed_until: Mapped[datetime.datetime | None]
    failures: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        CheckConstraint("kind in ('workspace', 'resource')", name="known_kind"),
        CheckConstraint("failures >= 0", name="failures_not_negative"),
        {"postgresql_with": {"fillfactor": 50}},
    )


class PauseKind(enum.StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TASK = "task"
    WORKSPACE = "workspace"
    RESOURCE = "resource"


class Pause(Base):
    """Nothing of this queue, task, workspace (its id) or resource is started, until it is resumed or ``until``."""

    __tablename__ = "pauses"

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    paused_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    until: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("kind in ('queue', 'task', 'workspace', 'resource')", name="known_kind"),
        CheckConstraint("key <> '' and actor <> ''", name="named"),
    )
