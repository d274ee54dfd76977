"""``jobplatform workers``."""

from __future__ import annotations

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.queue import drain_worker, list_workers


@click.group()
def workers() -> None:
    """List workers, and have one finish and stop."""


@workers.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the workers that are alive, oldest first."""
    with open_session() as session:
        found = list_workers(session)
    if as_json:
        print_json(plain(found))
        return
    columns = ["id", "name", "host", "pid", "version", "queues", "slots", "running", "heartbeat", "state"]
    rows = [
        (
            one.id, one.name, one.host, one.pid, one.version, " ".join(one.queues), one.slots, one.running,
            one.heartbeat_at, _state(one.draining, one.drain_requested),
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


def _state(draining: bool, requested: bool) -> str:
    return "draining" if draining else "asked to drain" if requested else ""
