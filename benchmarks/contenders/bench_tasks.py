"""The tasks our worker runs here: one that does nothing, one that says when it was started."""

from __future__ import annotations

import time
from typing import Any

from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()


@tasks.task("noop")
def noop(_job: RunningJob, _payload: Any) -> None:
    """The arguments have been decoded by now; there is nothing else to do."""


@tasks.task("stamp")
def stamp(_job: RunningJob, payload: dict[str, Any]) -> dict[str, float]:
    started = time.monotonic()
    time.sleep(payload["ms"] / 1000)
    return {"started": started}
