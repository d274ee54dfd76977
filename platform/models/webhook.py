"""Where we deliver to."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class WebhookSubscription(Base):
    """Where a workspace is told of ``events``: how its jobs ended (of ``tasks``; null: of all), how its batches did,
    and what is wrong with it.

    ``secret`` is what deliveries are signed with, sealed; while it is replaced, ``previous_secret`` signs too. The
    platform disables one whose receiver is gone, or has failed for days (``failing_since``), and says why.
    ``told_at``: that this was written in the audit log.
    """

    __tablename__ = "webhook_subscriptions"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    tasks: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    secret: Mapped[str] = mapped_column(Text)
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime.datetime | None]
    made_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    failing_since: Mapped[datetime.datetime | None]
    disabled_at: Mapped[datetime.datetime | None]
    disabled_by: Mapped[str | None] = mapped_column(Text)
    disabled_why: Mapped[str | None] = mapped_column(Text)
    told_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("name <> '' and url <> '' and made_by <> ''", name="named"),
        CheckConstraint(
            "cardinality(events) > 0 and events <@ array['job.completed', 'job.failed', 'job.cancelled', "
            "'batch.completed', 'batch.failed', 'batch.cancelled', 'alert.raised', 'alert.resolved']",
            name="known_events",
        ),
        CheckConstraint("cardinality(tasks) > 0", name="some_tasks"),
        CheckConstraint(
            "starts_with(secret, '{\"$sealed\":') and starts_with(coalesce(previous_secret, secret), '{\"$sealed\":')",
            name="secrets_sealed",
        ),
        CheckConstraint("(previous_secret is null) = (previous_until is null)", name="previous_for_a_while"),
        CheckConstraint("num_nulls(disabled_at, disabled_by, disabled_why) in (0, 3)", name="disabled_by_somebody"),
        CheckConstraint("disabled_why in ('by hand', 'gone', 'failing')", name="known_why"),
    )
