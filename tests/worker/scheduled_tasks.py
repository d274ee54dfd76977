"""Tasks with schedules beside them, for a worker that is to do what is due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()


@tasks.every(timedelta(seconds=1), catch_up="all", payload={"of": "every second"})
@tasks.task("tick")
def tick(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@tasks.cron("30 2 * * *", timezone="Europe/Berlin", name="nightly")
@tasks.task("night")
def night(job: RunningJob, payload: dict[str, Any]) -> None: ...
