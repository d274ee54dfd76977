"""A job, in the two tables that hold it, and the view by which everybody reads it.

``job_records`` is the record: inserted once, updated when the job ends. ``job_queue`` has one narrow row for each
*live* job and is all that claims, leases and the uniqueness guard touch; it stays small whatever the history. A queue
row exists exactly while the record has no final status. ``jobs`` joins them into what a reader expects.
"""

from __future__ import annotations

import datetime
import enum
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Index,
    Integer,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, RoomyKey, clock


class State(enum.IntEnum):
    """Where a live job is. Numbers, because this column is in every row that a claim touches.

    ``BLOCKED``: until other jobs have ended. Whatever is below ``RUNNING`` waits.
    """

    BLOCKED = -1
    SCHEDULED = 0
    READY = 1
    RUNNING = 2


class Status(enum.StrEnum):
    """What a reader sees. A job that waits for its next attempt is ``pending`` with a later ``run_after``."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(enum.StrEnum):
    """How an attempt or a job ended, more finely than its status."""

    OK = "ok"
    SKIPPED = "skipped"
    ERROR = "error"
    TIMEOUT = "timeout"
    LOST = "lost"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


#: The final statuses as ``job_records.status`` stores them.
FINAL_STATUSES = {3: Status.COMPLETED, 4: Status.FAILED, 5: Status.CANCELLED}
OUTCOMES = ", ".join(f"'{outcome}'" for outcome in Outcome)


class JobRecord(Base):
    """The record of a job. No index on anything that finishing changes, so that finishing is a HOT update."""

    __tablename__ = "job_records"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    task: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    payload: Mapped[Any] = mapped_column(JSONB)
    payload_version: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    max_attempts: Mapped[int] = mapped_column(SmallInteger, server_default="3")
    timeout_ms: Mapped[int] = mapped_column(Integer, server_default="600000")
    unique_key: Mapped[str | None] = mapped_column(Text)
    resource: Mapped[str | None] = mapped_column(Text)
    units: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    start_within_ms: Mapped[int | None] = mapped_column(BigInteger)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    request_id: Mapped[str | None] = mapped_column(Text)
    trace_parent: Mapped[str | None] = mapped_column(Text)
    parent_id: Mapped[uuid.UUID | None]
    batch_id: Mapped[uuid.UUID | None]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    outcome: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[Any | None] = mapped_column(JSONB)
    result: Mapped[Any | None] = mapped_column(JSONB)
    error_type: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    crash_count: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    run_after: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    started_at: Mapped[datetime.datetime | None]
    completed_at: Mapped[datetime.datetime | None]
    #: Of the last attempt that is over.
    worker_id: Mapped[int | None] = mapped_column(Integer)
    #: What a retry by hand took back: ``[{epoch, status, outcome, endedAt, retriedAt}, …]``.
    past_endings: Mapped[Any | None] = mapped_column(JSONB)

    # Many jobs that end together find no room for their new versions in their pages, so that their index entries double
    # in one transaction. Pages full to the brim then try in vain to get rid of the first ones, and split.
    __table_args__ = (
        RoomyKey("workspace_id", "id", filled=75),
        CheckConstraint("status in (3, 4, 5)", name="final_status"),
        CheckConstraint("(status is null) = (completed_at is null)", name="completed_at_when_final"),
        CheckConstraint("(status is null) = (outcome is null)", name="outcome_when_final"),
        CheckConstraint(f"outcome in ({OUTCOMES})", name="known_outcome"),
        CheckConstraint(
            "max_attempts between 1 and 1000 and attempts between 0 and max_attempts",
            name="attempts_in_range",
        ),
        CheckConstraint("crash_count >= 0 and epoch >= 0", name="counters_not_negative"),
        CheckConstraint("units between 1 and 10000", name="units_in_range"),
        CheckConstraint("timeout_ms between 1 and 604800000", name="timeout_in_range"),
        # In insert order, so a few kilobytes of BRIN find the old end of the table for retention.
        Index(
            "job_records_created_at",
            "created_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
        # Ids are in the order in which jobs were made: the newest of all workspaces, and a job of which only the id is
        # known. It never changes, so finishing stays a HOT update.
        Index("job_records_id", "id", "workspace_id", postgresql_with={"fillfactor": 75}),
        Index("job_records_batch", "workspace_id", "batch_id", "id", postgresql_where=text("batch_id is not null")),
        Index("job_records_parent", "workspace_id", "parent_id", "id", postgresql_where=text("parent_id is not null")),
        # Not by the webhook: it is in the payload, and row security keeps what is made of that from leading anywhere.
        Index("job_records_deliveries", "workspace_id", "id", postgresql_where=text("task = 'jobplatform.webhook'")),
        {"postgresql_with": {"fillfactor": 80}},
    )


#: Jobs of one task on one resource form a lane: they may run, or have to wait, together. So do those whose payload has
#: the same version, which the code of a worker can read or cannot.
#: Every UPDATE of the queue table sets ``resource``, to what it is. PostgreSQL computes a generated column anew only
#: when something it is made of was set; but when nothing was, it reads the column's definition again for each row to
#: find that out (seen in 18): a seventh of a claim, where the computing itself is not to be noticed.
LANE = (
    "hashtextextended(task || coalesce(chr(31) || resource, '') "
    "|| case when payload_version > 1 then chr(30) || payload_version::text else '' end, 0)"
)

#: What stands before the key of a job that waits for the running one of that key.
SUCCESSOR = "\x1e"


class QueueRow(Base):
    """A live job as claims, leases and the guard see it.

    ``lane`` lets a claim step over everything of a task or a resource that must wait, in one index descent however
    much of it there is. ``followed``: somebody waits for this job's end. ``unique_key`` is the record's, with
    :data:`SUCCESSOR` before it for a job that waits for the running one of that key. ``start_by`` is the last moment at
    which it may begin: null where there is none, once it has begun, and while it waits for other jobs.
    """

    __tablename__ = "job_queue"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(Text)
    state: Mapped[int] = mapped_column(SmallInteger)
    priority: Mapped[int] = mapped_column(SmallInteger)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    max_attempts: Mapped[int] = mapped_column(SmallInteger)
    crash_count: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    timeout_ms: Mapped[int] = mapped_column(Integer)
    worker_id: Mapped[int | None] = mapped_column(Integer)
    cancel_requested_at: Mapped[datetime.datetime | None]
    run_after: Mapped[datetime.datetime]
    started_at: Mapped[datetime.datetime | None]
    unique_key: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[Any | None] = mapped_column(JSONB)
    resource: Mapped[str | None] = mapped_column(Text)
    units: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    followed: Mapped[bool] = mapped_column(server_default="false")
    payload_version: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    start_within_ms: Mapped[int | None] = mapped_column(BigInteger)
    start_by: Mapped[datetime.datetime | None]
    lane: Mapped[int] = mapped_column(BigInteger, Computed(LANE, persisted=True))

    __table_args__ = (
        # Each claim makes a second entry of each job's, beside the first; see the records.
        RoomyKey("workspace_id", "id", filled=60),
        CheckConstraint("state in (-1, 0, 1, 2)", name="known_state"),
        CheckConstraint(
            "(state = 2) = (worker_id is not null) and (state = 2) = (started_at is not null)",
            name="worker_when_running",
        ),
        CheckConstraint("state < 2 or epoch > 0", name="epoch_when_running"),
        CheckConstraint("cancel_requested_at is null or state = 2", name="cancel_requested_when_running"),
        CheckConstraint("attempts between 0 and max_attempts", name="attempts_in_range"),
        CheckConstraint("crash_count >= 0 and epoch >= 0", name="counters_not_negative"),
        CheckConstraint("units between 1 and 10000", name="units_in_range"),
        CheckConstraint("start_within_ms > 0", name="start_within_positive"),
        CheckConstraint("start_by is null or start_within_ms is not null", name="start_by_with_start_within"),
        Index(
            "job_queue_ready",
            "queue",
            "workspace_id",
            "lane",
            text("priority desc"),
            "run_after",
            "id",
            postgresql_where=text("state = 1"),
        ),
        Index("job_queue_due", "run_after", postgresql_where=text("state = 0")),
        Index("job_queue_start_by", "start_by", postgresql_where=text("start_by is not null and state < 2")),
        CheckConstraint(
            "unique_key is null or left(unique_key, 1) <> chr(30) or state = -1", name="successor_is_blocked"
        ),
        Index(
            "job_queue_successors",
            "workspace_id",
            "unique_key",
            postgresql_where=text("state = -1 and left(unique_key, 1) = chr(30)"),
        ),
        # An entry for each job: lists of equal ones would be looked through for jobs that have ended, again and again.
        Index(
            "job_queue_running",
            "workspace_id",
            "queue",
            postgresql_where=text("state = 2"),
            postgresql_with={"deduplicate_items": "off"},
        ),
        Index(
            "job_queue_unique",
            "workspace_id",
            "unique_key",
            unique=True,
            postgresql_where=text("unique_key is not null"),
        ),
        {
            "postgresql_with": {
                "fillfactor": 85,
                "autovacuum_vacuum_scale_factor": 0,
                "autovacuum_vacuum_threshold": 2000,
                "autovacuum_vacuum_cost_delay": 0,
                "autovacuum_analyze_scale_factor": 0,
                "autovacuum_analyze_threshold": 20000,
            }
        },
    )


class JobAttempt(Base):
    """One attempt that did not simply succeed, for as long as the record is kept."""

    __tablename__ = "job_attempts"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger)
    worker_id: Mapped[int | None] = mapped_column(Integer)
    started_at: Mapped[datetime.datetime | None]
    ended_at: Mapped[datetime.datetime]
    outcome: Mapped[str] = mapped_column(Text)
    final: Mapped[bool]
    error_type: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    #: What it has in common with other failures; written when it is counted, of those that ended a job.
    fingerprint: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint(f"outcome in ({OUTCOMES})", name="known_outcome"),
        # All that failed alike, newest job first.
        Index(
            "job_attempts_fingerprint",
            "fingerprint",
            "job_id",
            "workspace_id",
            postgresql_where=text("fingerprint is not null"),
        ),
        # "The failed jobs of a workspace, newest first", without an index on the record's status.
        Index("job_attempts_newest", "workspace_id", text("ended_at desc"), "job_id"),
        Index(
            "job_attempts_ended_at",
            "ended_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
    )


class JobLog(Base):
    """One line that a handler logged, in order, with the attempt that said it."""

    __tablename__ = "job_logs"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    line: Mapped[int] = mapped_column(Integer, primary_key=True)
    level: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    logged_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())


#: In front of the name of a row that is a part of the checkpoint.
CHECKPOINT_PART = "\x1e"


class JobStep(Base):
    """What a job has done already, saved in the transaction that did it, so that its next attempt goes on from there.

    A row a step that is done, with its result as ``value``. The one whose name is empty is the job's checkpoint, with
    the state that was saved last, and those whose name begins with U+001E are its parts. ``epoch`` is that of the
    attempt which saved it.
    """

    __tablename__ = "job_steps"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer)
    value: Mapped[Any] = mapped_column(JSONB)
    saved_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        CheckConstraint("char_length(name) <= 200", name="name_not_long"),
        # A checkpoint is written anew for each page, beside the version that goes.
        {"postgresql_with": {"fillfactor": 80}},
    )


class Job(Base):
    """The view ``jobs``: one row a job with all there is to know. Read-only; only the verbs of the queue write."""

    __tablename__ = "jobs"
    __table_args__ = ({"info": {"is_view": True}},)

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_type: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    status: Mapped[Status] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(Text)
    priority: Mapped[int]
    payload: Mapped[Any] = mapped_column(JSONB)
    payload_version: Mapped[int]
    progress: Mapped[Any | None] = mapped_column(JSONB)
    result: Mapped[Any | None] = mapped_column(JSONB)
    error_type: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    crash_count: Mapped[int]
    epoch: Mapped[int]
    timeout_ms: Mapped[int]
    unique_key: Mapped[str | None] = mapped_column(Text)
    resource: Mapped[str | None] = mapped_column(Text)
    units: Mapped[int]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    request_id: Mapped[str | None] = mapped_column(Text)
    trace_parent: Mapped[str | None] = mapped_column(Text)
    worker_id: Mapped[int | None]
    cancel_requested_at: Mapped[datetime.datetime | None]
    created_at: Mapped[datetime.datetime]
    run_after: Mapped[datetime.datetime]
    started_at: Mapped[datetime.datetime | None]
    completed_at: Mapped[datetime.datetime | None]
    parent_id: Mapped[uuid.UUID | None]
    batch_id: Mapped[uuid.UUID | None]
    start_within_ms: Mapped[int | None]
    start_by: Mapped[datetime.datetime | None]
    last_worker_id: Mapped[int | None]
