"""Schedules in code of a workspace that has not connected what one of them names."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from jobplatform.connectors import SyncPayload
from jobplatform.queue import RunningJob, Skip, Tasks

WORKSPACE, NOWHERE = uuid.UUID(int=7), uuid.UUID(int=8)

tasks = Tasks()


@tasks.every(timedelta(seconds=1), name="pull", workspace_id=WORKSPACE, payload=SyncPayload(connection_id=NOWHERE))
@tasks.task("pull")
def pull(job: RunningJob, payload: SyncPayload) -> Skip:
    return Skip("this workspace has no such connection to sync")


@tasks.every(timedelta(seconds=1), workspace_id=WORKSPACE)
@tasks.task("tick")
def tick(job: RunningJob, payload: dict[str, Any]) -> None: ...
