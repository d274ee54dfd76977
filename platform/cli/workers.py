"""``jobplatform workers``."""

from __future__ import annotations

import datetime

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.queue import SILENT_AFTER, WorkerSeen, drain_worker, list_workers, time_now


@click.group()
def workers() -> None:
    """List workers, and have one finish and stop."""


@workers.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the workers that nobody has declared dead, oldest first."""
    with open_session() as session:
        found, now = list_workers(session), time_now(session)
    if as_json:
        print_json(plain(found))
        return
    columns = ["id", "name", "host", "pid", "version", "queues", "slots", "running", "heartbeat", "state"]
    rows = [
        (
            one.id, one.name, one.host, one.pid, one.version, " ".join(one.queues), one.slots, one.running,
            one.heartbeat_at, _state(one, now),
        )
        for one in found
    ]  # fmt: skip
    print_table(columns, rows)


@workers.command()
@click.argument("worker_id", type=click.IntRange(1, 2**31 - 1))
@as_json_option
def drain(worker_id: int, as_json: bool) -> None:
    """Have the worker of this id take nothing new, finish what it runs within its drain timeout, and stop.

    As SIGTERM does, from anywhere. Whatever supervises its process may start another one.
    """
    with open_session() as session:
        if not drain_worker(session, worker_id):
            raise click.ClickException(f"no worker {worker_id} is alive; see `jobplatform workers ls`")
        audit(session, "worker.drain", f"worker:{worker_id}")
    tell(as_json, f"worker {worker_id} is told at its next heartbeat", worker_id=worker_id, drain_requested=True)


def _state(worker: WorkerSeen, now: datetime.datetime) -> str:
    """One that was killed stays here until another worker has looked for it, or for ever where there is no other."""
    states = ["draining"] if worker.draining else ["asked to drain"] if worker.drain_requested else []
    if (silent := now - worker.heartbeat_at) > SILENT_AFTER:
        states.append(f"silent for {round(silent.total_seconds())} s")
    return ", ".join(states)
