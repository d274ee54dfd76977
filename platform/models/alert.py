"""When somebody should look, and what somebody was told to look at."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, Double, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


class HealthRule(Base):
    """A rule of health: alert when ``metric``, of a queue or a task or of everything, is above a threshold.

    ``above`` and ``enabled`` are an operator's, and win over what the code declared. A row of a built-in rule is there
    only while an operator has changed something about it; its ``metric`` is null then. ``declared_by`` says which
    application declared the others.
    """

    __tablename__ = "health_rules"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    metric: Mapped[str | None] = mapped_column(Text)
    queue: Mapped[str | None] = mapped_column(Text)
    task: Mapped[str | None] = mapped_column(Text)
    declared_above: Mapped[float | None] = mapped_column(Double)
    declared_by: Mapped[str | None] = mapped_column(Text)
    above: Mapped[float | None] = mapped_column(Double)
    enabled: Mapped[bool] = mapped_column(server_default="true")

    __table_args__ = (
        CheckConstraint("name <> ''", name="name_not_empty"),
        CheckConstraint("above >= 0 and declared_above >= 0", name="thresholds_not_negative"),
    )


class AlertRow(Base):
    """An alert that was raised: since when and why, and since when it is over. One row a code: the last time."""

    __tablename__ = "alerts"

    code: Mapped[str] = mapped_column(Text, primary_key=True)
    message: Mapped[str] = mapped_column(Text)
    raised_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    resolved_at: Mapped[datetime.datetime | None]


class WorkspaceAlertRule(Base):
    """A rule of health for one workspace, made by an operator: alert when ``metric`` of its jobs is above ``above``.

    Of a ``queue`` or a ``task``, or of all of them. A workspace without such rows is not looked at.
    """

    __tablename__ = "workspace_alert_rules"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    metric: Mapped[str] = mapped_column(Text)
    queue: Mapped[str | None] = mapped_column(Text)
    task: Mapped[str | None] = mapped_column(Text)
    above: Mapped[float] = mapped_column(Double)
    enabled: Mapped[bool] = mapped_column(server_default="true")

    __table_args__ = (
        CheckConstraint("name <> '' and metric <> ''", name="named"),
        CheckConstraint("above >= 0", name="threshold_not_negative"),
    )


class WorkspaceAlert(Base):
    """An alert about one workspace, as :class:`AlertRow` is one about all of them: one row a code, the last time."""

    __tablename__ = "workspace_alerts"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(Text, primary_key=True)
    message: Mapped[str] = mapped_column(Text)
    raised_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    resolved_at: Mapped[datetime.datetime | None]

    __table_args__ = (Index("workspace_alerts_raised", "workspace_id", postgresql_where=text("resolved_at is null")),)
