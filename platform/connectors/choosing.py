"""Which connection a sync is asked for, looked at before it is enqueued: one that is not there would be skipped later,
when whoever asked has gone."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.connectors.sync_task import SyncPayload
from jobplatform.errors import InvalidPayloadError, Problem
from jobplatform.models import Connection, visit
from jobplatform.queue import Task

NO_CONNECTION = Problem("/connectionId", "this workspace has no such connection")


def connection_named_by(task: Task[Any, Any], payload: Any) -> uuid.UUID | None:
    """The connection that a payload narrows a sync to; None of another task, and where there is no id."""
    if task.payload.python_type is not SyncPayload or not isinstance(payload, Mapping):
        return None
    try:
        return uuid.UUID(payload["connectionId"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # What is no id the task itself refuses.


def missing_connections(
    session: Session, workspace_id: uuid.UUID, connection_ids: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """Those of the connections that the workspace does not have."""
    if not connection_ids:
        return set()
    visit(session, workspace_id)
    there = select(Connection.id).where(Connection.workspace_id == workspace_id, Connection.id.in_(connection_ids))
    return set(connection_ids) - set(session.scalars(there))


def require_connection(session: Session, task: Task[Any, Any], workspace_id: uuid.UUID, payload: Any) -> None:
    """Raise :class:`InvalidPayloadError` for a sync of a connection that the workspace does not have."""
    named = connection_named_by(task, payload)
    if named is not None and missing_connections(session, workspace_id, [named]):
        raise InvalidPayloadError([NO_CONNECTION])
