"""Which connections a sync is asked for, looked at before it is enqueued: what is not there would be skipped later,
when whoever asked has gone."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobplatform.connectors.registry import CONNECTORS, unknown_type
from jobplatform.connectors.syncing import Mode
from jobplatform.errors import Problem
from jobplatform.models import Connection, reaching
from jobplatform.queue import NewJob, Task

NO_CONNECTION = Problem("/connectionId", "this workspace has no such connection")

#: A connection or a type that is asked for, and in which workspace it would be.
Place = tuple[uuid.UUID, Any]


@dataclass(frozen=True)
class SyncPayload:
    """Which connections to sync (all of the workspace's, unless narrowed) and how."""

    connector_type: str | None = field(default=None, metadata={"data_key": "connectorType"})
    connection_id: uuid.UUID | None = field(default=None, metadata={"data_key": "connectionId"})
    mode: Mode = "incremental"
    sync_log_id: str | None = field(default=None, metadata={"data_key": "syncLogId"})
    """What the host application calls this sync; kept in its entry in ``sync_logs`` as ``reference``."""

    @property
    def target(self) -> str:
        """What it is about, for ``unique``: a connection, else a type, else "", which is the whole workspace."""
        return str(self.connection_id or self.connector_type or "")

    @staticmethod
    def __refuse_jobs__(session: Session, jobs: Sequence[NewJob]) -> dict[uuid.UUID, Problem]:
        """The syncs that name a connection which their workspace does not have, or a type that there is not."""
        types = {job.id: (job.workspace_id, name) for job in jobs if (name := _unknown_type_in(job.payload))}
        unknown = _missing(session, Connection.connector_type, set(types.values()))
        named = {job.id: (job.workspace_id, found) for job in jobs if (found := _connection_in(job.payload))}
        missing = _missing(session, Connection.id, set(named.values()))
        return {
            **{
                id: Problem("/connectorType", unknown_type(place[1])) for id, place in types.items() if place in unknown
            },
            **{id: NO_CONNECTION for id, place in named.items() if place in missing},
        }


def connection_named_by(task: Task[Any, Any], payload: Any) -> uuid.UUID | None:
    """The connection that a payload narrows a sync to; None of another task, and where there is no id."""
    return _connection_in(payload) if task.payload.python_type is SyncPayload else None


def _connection_in(payload: Any) -> uuid.UUID | None:
    if not isinstance(payload, Mapping):
        return None
    try:
        return uuid.UUID(payload["connectionId"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # What is no id the task itself refuses.


def _unknown_type_in(payload: Any) -> str | None:
    """One that this process does not know. Others may, and there are connections of it then."""
    name = payload.get("connectorType") if isinstance(payload, Mapping) else None
    return name if isinstance(name, str) and name not in CONNECTORS else None


def _missing(session: Session, column: InstrumentedAttribute[Any], places: set[Place]) -> set[Place]:
    """Those of which no connection has this in its ``column``."""
    if not places:
        return set()
    place = tuple_(Connection.workspace_id, column)
    with reaching(session, {workspace_id for workspace_id, _ in places}):
        there = session.execute(select(Connection.workspace_id, column).where(place.in_(places)).distinct())
        return places - {(workspace_id, value) for workspace_id, value in there}
