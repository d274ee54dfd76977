"""Tasks that use an account one job at a time, and notice when they do not."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from jobplatform.queue import RunningJob, Tasks
from tests.worker.handlers import append, wait_for_file

tasks = Tasks()


@dataclass(frozen=True)
class Charge:
    account: int
    folder: str
    go: str = ""


@tasks.task("charge", resource="account:{account}", limit_per_resource=1)
def charge(job: RunningJob, payload: Charge) -> None:
    use(job, payload)


@tasks.task("refund", resource="account:{account}")
def refund(job: RunningJob, payload: Charge) -> None:
    use(job, payload)


def use(job: RunningJob, payload: Charge) -> None:
    """Hold the account's file for a moment: who cannot have it has met another job there."""
    folder = Path(payload.folder)
    held = os.open(folder / f"account-{payload.account}", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        append(str(folder / "met"), payload.account)
    append(str(folder / "begun"), f"{payload.account} {job.lease.workspace_id}")
    if payload.go:
        wait_for_file(payload.go)
    sleep(0.002)
    os.close(held)
