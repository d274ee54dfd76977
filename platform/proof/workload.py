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
from sqlalchemy.orm import Session

from jobplatform.proof.diary import noted
from jobplatform.queue import RateLimited, RetryPolicy, RunningJob, Tasks

Payload = dict[str, Any]
Proof = dict[str, str]

#: Quick retries: the run should be busy with jobs, not with waiting for them.
SOON = RetryPolicy(max_attempts=3, base=0.2, cap=1.0)

#: The task that ends with its cap of crashes, and those that may fail by themselves.
POISON = "poison"
HOPELESS = "hopeless"
MAY_FAIL = {"flaky": "error", HOPELESS: "error", "overdue": "timeout", "deaf": "timeout"}

#: Pages of the pager, once as steps and once with a checkpoint.
PAGES = 6
PAGE = "insert into chaos.pages (workspace_id, job_id, epoch, page) values (:workspace_id, :job_id, :epoch, :page)"
EFFECT = "insert into chaos.effects (workspace_id, job_id, epoch) values (:workspace_id, :job_id, :epoch)"

tasks = Tasks()


class HiccupError(Exception):
    """What the flaky task raises; its message is the fence."""


@tasks.task("noop", retry=SOON)
def noop(job: RunningJob, _payload: Payload) -> Proof:
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


@tasks.task("pager", retry=RetryPolicy(max_attempts=20, base=0.2, cap=1.0))
def pager(job: RunningJob, payload: Payload) -> Proof:
    """Applies pages, each in a transaction of its own with the note that it is done: each must be there once."""
    with noted(job):
        go_through_pages(job, payload["seconds"])
        return proof(job)


def go_through_pages(job: RunningJob, seconds: float) -> None:
    for page in range(PAGES):
        with job.step(f"page-{page}") as step:
            if step:
                apply_page(job, f"step {page}")
                time.sleep(seconds / PAGES / 2)
    for page in range(job.checkpoint_state or 0, PAGES):
        apply_page(job, f"checkpoint {page}")
        time.sleep(seconds / PAGES / 2)
        job.checkpoint(page + 1)


def apply_page(job: RunningJob, page: str, session: Session | None = None) -> None:
    values = {"workspace_id": job.workspace_id, "job_id": str(job.id), "epoch": job.epoch, "page": page}
    (session or job.session).execute(text(PAGE), values)


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
def flaky(job: RunningJob, _payload: Payload) -> Proof:
    """Fails every third time, by its own seed."""
    with noted(job):
        if random.Random(job.fence).random() < 1 / 3:
            raise HiccupError(job.fence)
        return proof(job)


@tasks.task("tidal", retry=SOON)
def tidal(job: RunningJob, payload: Payload) -> Proof:
    """Is told "too often" every fourth time, by its own seed."""
    with noted(job):
        time.sleep(payload["seconds"])
        if random.Random(job.fence).random() < 1 / 4:
            # What is written with the job says from which attempt it came.
            raise RateLimited(reason=job.fence)
        return proof(job)


@tasks.task(HOPELESS, max_attempts=1)
def hopeless(job: RunningJob, _payload: Payload) -> Proof:
    """Fails, until somebody retries it by hand often enough."""
    with noted(job):
        if job.epoch < 2:
            raise HiccupError(job.fence)
        return proof(job)


@tasks.task("overdue", timeout=timedelta(milliseconds=300), retry=RetryPolicy(max_attempts=2, base=0.2))
def overdue(job: RunningJob, _payload: Payload) -> None:
    """Never ends by itself."""
    with noted(job):
        time.sleep(3600)


@tasks.task("deaf", timeout=timedelta(milliseconds=300), max_attempts=1)
def deaf(job: RunningJob, _payload: Payload) -> None:
    """Never ends by itself and does not listen either."""
    with noted(job):
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(3600)


@tasks.task(POISON, retry=SOON)
def poison(job: RunningJob, _payload: Payload) -> None:
    """Takes its process along."""
    with noted(job):
        os.kill(os.getpid(), signal.SIGKILL)


def proof(job: RunningJob) -> Proof:
    return {"fence": job.fence}
