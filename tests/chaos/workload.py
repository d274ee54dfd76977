"""The tasks of the chaos run. Whatever they write carries the fence of the attempt that wrote it, so that a write
which was accepted from the wrong attempt gives itself away.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from jobplatform.queue import RetryPolicy, RunningJob, Tasks
from tests.chaos.diary import noted

Payload = dict[str, Any]
Proof = dict[str, str]

#: Quick retries: the run should be busy with jobs, not with waiting for them.
SOON = RetryPolicy(max_attempts=3, base=0.2, cap=1.0)

#: The task that ends with its cap of crashes, and those that may fail by themselves.
POISON = "poison"
MAY_FAIL = {"flaky": "error", "overdue": "timeout", "deaf": "timeout"}

EFFECT = "insert into chaos.effects (workspace_id, job_id, epoch) values (:workspace_id, :job_id, :epoch)"

tasks = Tasks()


class HiccupError(Exception):
    """What the flaky task raises; its message is the fence."""


@tasks.task("noop", retry=SOON)
def noop(job: RunningJob, payload: Payload) -> Proof:
    """Nothing."""
    with noted(job):
        return proof(job)


@tasks.task("nap", retry=SOON)
def nap(job: RunningJob, payload: Payload) -> Proof:
    """Takes a while; some naps are longer than a lease."""
    with noted(job):
        time.sleep(payload["seconds"])
        return proof(job)


@tasks.task("scarce", retry=SOON)
def scarce(job: RunningJob, payload: Payload) -> Proof:
    """A nap of which not many may run at a time."""
    with noted(job):
        time.sleep(payload["seconds"])
        return proof(job)


# The database may be restarted under it, and its own queries then fail like anybody's: more attempts than the others.
@tasks.task("ledger", retry=RetryPolicy(max_attempts=10, base=0.2, cap=1.0))
def ledger(job: RunningJob, payload: Payload) -> None:
    """Writes a row of its own and completes in the same transaction: the row must be there exactly once."""
    with noted(job):
        time.sleep(payload["seconds"])
        job.session.execute(text(EFFECT), {"workspace_id": job.workspace_id, "job_id": str(job.id), "epoch": job.epoch})
        job.complete_in(job.session, proof(job))


@tasks.task("chatty", retry=SOON)
def chatty(job: RunningJob, payload: Payload) -> Proof:
    """Reports progress and writes log lines."""
    with noted(job):
        for step in range(4):
            job.progress(step, 4, job.fence)
            job.log(job.fence)
            time.sleep(payload["seconds"] / 4)
        return proof(job)


@tasks.task("flaky", retry=SOON)
def flaky(job: RunningJob, payload: Payload) -> Proof:
    """Fails every third time, by its own seed."""
    with noted(job):
        if random.Random(job.fence).random() < 1 / 3:
            raise HiccupError(job.fence)
        return proof(job)


@tasks.task("overdue", timeout=timedelta(milliseconds=300), retry=RetryPolicy(max_attempts=2, base=0.2))
def overdue(job: RunningJob, payload: Payload) -> None:
    """Never ends by itself."""
    with noted(job):
        time.sleep(3600)


@tasks.task("deaf", timeout=timedelta(milliseconds=300), max_attempts=1)
def deaf(job: RunningJob, payload: Payload) -> None:
    """Never ends by itself and does not listen either."""
    with noted(job):
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(3600)


@tasks.task(POISON, retry=SOON)
def poison(job: RunningJob, payload: Payload) -> None:
    """Takes its process along."""
    with noted(job):
        os.kill(os.getpid(), signal.SIGKILL)


def proof(job: RunningJob) -> Proof:
    return {"fence": job.fence}
