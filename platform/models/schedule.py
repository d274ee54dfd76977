"""A schedule: a rule that enqueues. And its ticks: what became of each moment that a rule named."""

from __future__ import annotations

import datetime
import enum
import uuid
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock

#: The workspace of what is nobody's: platform-wide schedules, and the jobs they enqueue unless it is for everybody.
PLATFORM_WORKSPACE = uuid.UUID("00000000-0000-8000-8000-000000000000")


class CatchUp(enum.StrEnum):
    """What becomes of ticks that nobody looked at in time, because no worker ran."""

    NONE = "none"
    ONE = "one"
    ALL = "all"


class Overlap(enum.StrEnum):
    """What a tick does when an unfinished job holds the guard: leave it at that, or ask for the newest."""

    SKIP = "skip"
    REPLACE = "replace"


class TickOutcome(enum.StrEnum):
    """What came of a tick. ``deduplicated``: an unfinished job holds the guard, or its last one was made too recently;
    ``job_id`` names it. ``replaced``: it waited, and is this tick's now."""

    ENQUEUED = "enqueued"
    REPLACED = "replaced"
    DEDUPLICATED = "deduplicated"
    SKIPPED = "skipped"
    FANNED_OUT = "fanned_out"


class Schedule(Base):
    """A rule that enqueues jobs of one task.

    Exactly one of ``cron``, ``every_ms`` (from ``anchor``) and ``run_at`` is the rule. ``next_tick_at`` is the moment
    the rule names next, ``next_run_at`` when that is done: later by this schedule's place within its spread. Both are
    null when nothing is to come: it is paused, or over. What is null of a job's options, and of ``if_active``, is the
    task's default. The ``payload`` of an encrypted one is sealed.
    ``declared_by`` says which tasks it was declared with in code, ``fingerprint`` in which form.
    ``paused_why`` is there when the platform paused it, because of its connection.
    ``fan_tick_at`` is the tick that is just being enqueued for every workspace, ``fan_after`` the last one that has it.
    """

    __tablename__ = "schedules"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(Text)
    payload: Mapped[Any] = mapped_column(JSONB)
    payload_version: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    cron: Mapped[str | None] = mapped_column(Text)
    every_ms: Mapped[int | None] = mapped_column(BigInteger)
    anchor: Mapped[datetime.datetime | None]
    run_at: Mapped[datetime.datetime | None]
    timezone: Mapped[str] = mapped_column(Text, server_default="UTC")
    every_workspace: Mapped[bool] = mapped_column(server_default="false")
    catch_up: Mapped[str] = mapped_column(Text, server_default="one")
    spread_ms: Mapped[int] = mapped_column(BigInteger, server_default="0")
    queue: Mapped[str | None] = mapped_column(Text)
    priority: Mapped[int | None] = mapped_column(SmallInteger)
    max_attempts: Mapped[int | None] = mapped_column(SmallInteger)
    timeout_ms: Mapped[int | None] = mapped_column(Integer)
    start_within_ms: Mapped[int | None] = mapped_column(BigInteger)
    unique_key: Mapped[str | None] = mapped_column(Text)
    if_active: Mapped[str | None] = mapped_column(Text)
    resource: Mapped[str | None] = mapped_column(Text)
    units: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    made_by: Mapped[str] = mapped_column(Text)
    declared_by: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str | None] = mapped_column(Text)
    replaced_fingerprint: Mapped[str | None] = mapped_column(Text)
    declared_at: Mapped[datetime.datetime | None]
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    updated_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    paused_at: Mapped[datetime.datetime | None]
    paused_by: Mapped[str | None] = mapped_column(Text)
    paused_why: Mapped[str | None] = mapped_column(Text)
    next_tick_at: Mapped[datetime.datetime | None]
    next_run_at: Mapped[datetime.datetime | None]
    fan_tick_at: Mapped[datetime.datetime | None]
    fan_after: Mapped[uuid.UUID | None]

    __table_args__ = (
        CheckConstraint("num_nonnulls(cron, every_ms, run_at) = 1", name="one_rule"),
        CheckConstraint("(every_ms is null) = (anchor is null) and every_ms >= 1000", name="interval_anchored"),
        CheckConstraint("name <> '' and made_by <> ''", name="named"),
        CheckConstraint("catch_up in ('none', 'one', 'all')", name="known_catch_up"),
        CheckConstraint("if_active in ('skip', 'replace')", name="known_if_active"),
        CheckConstraint("spread_ms >= 0", name="spread_not_negative"),
        CheckConstraint("start_within_ms > 0", name="start_within_positive"),
        CheckConstraint("units between 1 and 10000", name="units_in_range"),
        CheckConstraint(
            f"not every_workspace or workspace_id = '{PLATFORM_WORKSPACE}'", name="platform_when_every_workspace"
        ),
        CheckConstraint("num_nulls(declared_by, fingerprint, declared_at) in (0, 3)", name="declared_or_not"),
        CheckConstraint("(paused_at is null) = (paused_by is null)", name="paused_by_somebody"),
        CheckConstraint(
            "num_nulls(fan_tick_at, fan_after) in (0, 2) and (fan_tick_at is null or every_workspace)",
            name="fanning_out_or_not",
        ),
        # Whoever finds something due asks for the tasks that it knows: those of a task that nobody knows cost nothing.
        Index("schedules_due", "task", "next_run_at", postgresql_where=text("next_run_at is not null")),
        Index("schedules_name", "workspace_id", "name", unique=True),
        {"postgresql_with": {"fillfactor": 80}},
    )


class ScheduleTick(Base):
    """One tick of a schedule in one workspace: its key is what lets it be done once, whoever does it.

    Written in the transaction that enqueues, and kept for longer than any job. ``manual`` is a person's "run now".
    """

    __tablename__ = "schedule_ticks"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    schedule_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tick_at: Mapped[datetime.datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[uuid.UUID | None]
    manual: Mapped[bool] = mapped_column(server_default="false")
    fired_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        CheckConstraint(
            "outcome in ('enqueued', 'replaced', 'deduplicated', 'skipped', 'fanned_out')", name="known_outcome"
        ),
        CheckConstraint(
            "(outcome in ('enqueued', 'replaced', 'deduplicated')) = (job_id is not null)", name="job_when_enqueued"
        ),
        # In insert order: what is too old to keep is at one end of the table.
        Index("schedule_ticks_fired_at", "fired_at", postgresql_using="brin", postgresql_with={"pages_per_range": 32}),
    )
