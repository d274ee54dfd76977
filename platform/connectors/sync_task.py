"""The task ``sync``, as the API enqueues it and a worker runs it; and beside it the one that delivers webhooks."""

from __future__ import annotations

from datetime import timedelta

from jobplatform.connectors.choosing import SyncPayload
from jobplatform.connectors.summing_up import SyncResult
from jobplatform.connectors.syncing import run_sync
from jobplatform.connectors.webhook_task import add_webhooks
from jobplatform.queue import RunningJob, Skip, Tasks

tasks = Tasks()
add_webhooks(tasks)


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
    )
