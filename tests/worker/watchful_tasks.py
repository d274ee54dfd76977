"""An application that says how long its jobs are kept, what it calls too much, and who wants to know."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobplatform.queue import AlertEvent, Keep, RunningJob, Tasks
from tests.worker.handlers import append, wait_for_file

tasks = Tasks()

tasks.alert("anything_waits", "pending", above=0, task="never")


@tasks.on_alert
def tell(job: RunningJob, event: AlertEvent) -> None:
    append(os.environ["TOLD"], f"{event.event} {event.code}")


@tasks.task("noop", keep=Keep(completed=timedelta(hours=1)))
def noop(job: RunningJob, payload: dict[str, Any]) -> None: ...


@tasks.task("wait")
def wait(job: RunningJob, payload: dict[str, Any]) -> None:
    append(payload["file"], Path(payload["until"]).name)
    wait_for_file(payload["until"])
