"""How long jobs are kept, where that is not the installation's default.

The most specific row that says something about a status counts: for the workspace and the task, for the workspace,
for the task (an operator's word before the code's), and last the settings. Null says nothing; a cancelled job is kept
like a failed one where only that is said.
"""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import CheckConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock

_NOT_NEGATIVE = "completed >= '0 s'::interval and failed >= '0 s'::interval and cancelled >= '0 s'::interval"


class TaskRetention(Base):
    """How long jobs of a task are kept, in every workspace. ``declared_...`` is what the task's code asks for."""

    __tablename__ = "task_retention"

    task: Mapped[str] = mapped_column(Text, primary_key=True)
    completed: Mapped[datetime.timedelta | None]
    failed: Mapped[datetime.timedelta | None]
    cancelled: Mapped[datetime.timedelta | None]
    declared_completed: Mapped[datetime.timedelta | None]
    declared_failed: Mapped[datetime.timedelta | None]
    declared_cancelled: Mapped[datetime.timedelta | None]

    __table_args__ = (CheckConstraint(_NOT_NEGATIVE, name="not_negative"),)


class WorkspaceRetention(Base):
    """How long jobs of a workspace are kept; with a ``task``, those of that task. Without one it is ``''``."""

    __tablename__ = "workspace_retention"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    task: Mapped[str] = mapped_column(Text, primary_key=True, server_default="")
    completed: Mapped[datetime.timedelta | None]
    failed: Mapped[datetime.timedelta | None]
    cancelled: Mapped[datetime.timedelta | None]
    updated_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (CheckConstraint(_NOT_NEGATIVE, name="not_negative"),)
