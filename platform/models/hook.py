"""Where providers deliver to, and what of it we remember."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class Hook(Base):
    """Where a provider delivers to: each delivery becomes a job of ``task``.

    ``key_hash`` is of the key in its URL, which is stored nowhere. ``secret`` is what the provider signs with, sealed;
    ``previous_secret`` is good until ``previous_until``. ``scheme`` says how it signs, ``subscription_id`` whose
    deliveries are meant where it does not sign at all. ``split`` says whether a delivery of several events is one job
    or one for each. ``url`` is where the provider reaches us, without the key; null is "as it was asked for".
    """

    __tablename__ = "hooks"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    connection_id: Mapped[uuid.UUID | None]
    scheme: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(Text)
    split: Mapped[str] = mapped_column(Text, server_default="event")
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    secret: Mapped[str | None] = mapped_column(Text)
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime.datetime | None]
    subscription_id: Mapped[str | None] = mapped_column(Text)
    replay_seconds: Mapped[int] = mapped_column(Integer, server_default="300")
    url: Mapped[str | None] = mapped_column(Text)
    made_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    disabled_at: Mapped[datetime.datetime | None]
    disabled_by: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("name <> '' and scheme <> '' and task <> '' and made_by <> ''", name="named"),
        CheckConstraint("split in ('event', 'delivery')", name="known_split"),
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash_is_a_digest"),
        CheckConstraint("replay_seconds between 1 and 86400", name="replay_in_range"),
        # Whatever writes here: a secret that anybody could read is none.
        CheckConstraint(
            "starts_with(secret, '{\"$sealed\":') and starts_with(coalesce(previous_secret, secret), '{\"$sealed\":')",
            name="secrets_sealed",
        ),
        CheckConstraint("(scheme = 'none') = (secret is null)", name="secret_unless_none"),
        CheckConstraint("(previous_secret is null) = (previous_until is null)", name="previous_for_a_while"),
        CheckConstraint("(disabled_at is null) = (disabled_by is null)", name="disabled_by_somebody"),
    )


class HookDelivery(Base):
    """A delivery that was believed: its key is what lets it be done once, long after its job has ended.

    Written in the transaction that enqueues. ``answer`` is the status it was answered with; without a job it was turned
    away and may come again. ``repeats`` counts how often it did come again.
    """

    __tablename__ = "hook_deliveries"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    hook_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    delivery_id: Mapped[str] = mapped_column(Text, primary_key=True)
    answer: Mapped[int] = mapped_column(SmallInteger, server_default="200")
    job_id: Mapped[uuid.UUID | None]
    received_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    repeats: Mapped[int] = mapped_column(Integer, server_default="0")
    repeated_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("length(delivery_id) between 1 and 200", name="id_in_range"),
        CheckConstraint("(answer = 200) = (job_id is not null)", name="job_when_accepted"),
        CheckConstraint("(repeats = 0) = (repeated_at is null) and repeats >= 0", name="repeated_or_not"),
        Index("hook_deliveries_newest", "workspace_id", "hook_id", "received_at"),
        # In insert order, or nearly: what is too old to keep is at one end of the table.
        Index(
            "hook_deliveries_received_at",
            "received_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
    )
