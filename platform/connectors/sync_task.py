"""The task ``sync``, as the API enqueues it and a worker runs it; and beside it the one that delivers webhooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from jobplatform.connectors.syncing import Mode, SyncResult, run_sync
from jobplatform.connectors.webhook_task import add_webhooks
from jobplatform.queue import RunningJob, Skip, Tasks
from jobplatform.settings import Settings

tasks = Tasks()
add_webhooks(tasks)


@dataclass(frozen=True)
class SyncPayload:
    """Which connections to sync (all of the workspace's, unless narrowed) and how."""

    connector_type: str | None = field(default=None, metadata={"data_key": "connectorType"})
    connection_id: UUID | None = field(default=None, metadata={"data_key": "connectionId"})
    mode: Mode = "incremental"
    sync_log_id: str | None = field(default=None, metadata={"data_key": "syncLogId"})
    """What the host application calls this sync; kept in its entry in ``sync_logs`` as ``reference``."""

    @property
    def target(self) -> str:
        """What it is about, for ``unique``: a connection, else a type, else "", which is the whole workspace."""
        return str(self.connection_id or self.connector_type or "")


@tasks.task(
    "sync",
    queue="sync",
    max_attempts=3,
    timeout=timedelta(minutes=10),
    unique=lambda payload: payload.target,
    # Targets overlap. Those of a workspace wait for their turn, and none is lost.
    limit_per_workspace=1,
)
def sync(job: RunningJob, payload: SyncPayload) -> SyncResult | Skip:
    """Pull the workspace's records from its sources."""
    return run_sync(
        job,
        connector_type=payload.connector_type,
        connection_id=payload.connection_id,
        mode=payload.mode,
        reference=payload.sync_log_id,
        allow_private=Settings.from_env().allow_private_addresses,
    )
