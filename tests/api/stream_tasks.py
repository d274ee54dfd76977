"""Tasks of the worker that tests of streams watch."""

from __future__ import annotations

import time
from typing import Any

from jobplatform.queue import Retry, RunningJob, Tasks

tasks = Tasks()


@tasks.task("talk", retry=Retry(max_attempts=2, base=0.1))
def talk(job: RunningJob, payload: dict[str, Any]) -> dict[str, int]:
    """Says so many lines, slowly enough to be interrupted, and succeeds at the second attempt."""
    for number in range(payload["lines"]):
        job.log(f"line {number}")
        job.progress(number + 1, payload["lines"])
        time.sleep(payload["pause"])
    if job.attempt == 1:
        raise RuntimeError("once more")
    return {"lines": payload["lines"]}
