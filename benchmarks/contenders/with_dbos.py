"""DBOS: one process with a partitioned queue, two running jobs for each partition, polled every 50 ms.

Only what the noisy neighbours need: its workflows are durable step by step, which is another trade than a queue's,
so its speed beside the others' would say little.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from protocol import (
    BEFORE_THE_QUIET,
    DATABASE_URL,
    Crowd,
    answer,
    ready,
    run,
    wait_for_the_end,
)

QUEUE = "bench"
#: What one partition (a workspace, or one of its keys) may run at a time.
CAP = 2
POLLING_SECONDS = 0.05
#: Or it makes one up from the source files, which differ between the enqueuing program and this one.
VERSION = "bench"

started: dict[str, float] = {}
ended = 0
expected = 0
expects_quiet_only = False
lock = threading.Lock()


@DBOS.workflow(name="stamp")
def run_stamp(key: str, ms: int) -> None:
    global ended  # noqa: PLW0603 - a workflow is a plain function here, and has nowhere else to count
    started[key] = time.monotonic()
    time.sleep(ms / 1000)
    if key.startswith("quiet") or not expects_quiet_only:
        with lock:
            ended += 1
            if ended == expected:
                answer(started=dict(started))


def install() -> None:
    _launch()
    answer()
    DBOS.destroy()


def serve(jobs: int, slots: int, only_quiet: int = 0) -> None:
    global expected, expects_quiet_only
    expected, expects_quiet_only = jobs, bool(only_quiet)
    _launch()
    DBOS.register_queue(
        QUEUE, worker_concurrency=slots, partition_concurrency=CAP, polling_interval_sec=POLLING_SECONDS
    )
    ready()
    wait_for_the_end()


def crowd(*numbers: int) -> None:
    client = DBOSClient(system_database_url=_url())
    crowd, committed = Crowd(*numbers), {}
    for owner, key, arguments in crowd.noisy:
        _enqueue(client, f"{owner} {key}", arguments)
    time.sleep(BEFORE_THE_QUIET)
    for owner, jobs in crowd.quiet.items():
        for arguments in jobs:
            _enqueue(client, owner, arguments)
            committed.setdefault(owner, time.monotonic())
    answer(committed=committed)
    wait_for_the_end()


def _launch() -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": _url(),
        "application_version": VERSION,
        "console_log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()


def _enqueue(client: DBOSClient, partition: str, arguments: dict[str, Any]) -> None:
    options: EnqueueOptions = {
        "workflow_name": "stamp",
        "queue_name": QUEUE,
        "queue_partition_key": partition,
        "app_version": VERSION,
    }
    client.enqueue(options, **arguments)


def _url() -> str:
    return DATABASE_URL.replace("postgresql://", "postgresql+psycopg://", 1)


if __name__ == "__main__":
    run({action.__name__: action for action in (install, serve, crowd)})
