"""``jobplatform stats``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table
from jobplatform.queue import Part, Stats, Times, queue_stats

COLUMNS = (
    "ready", "later", "blocked", "running", "oldest ready", "completed", "failed", "cancelled", "failing", "per minute",
    "wait p50/p95/p99", "run p50/p95/p99",
)  # fmt: skip


@click.command()
@click.option("-w", "--workspace", help="Only this workspace, by id or name.")
@as_json_option
def stats(workspace: str | None, as_json: bool) -> None:
    """How much there is to do, how quickly it is done, and how it ends: in all, by queue and by task."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        found = queue_stats(session, workspace_id)
    if as_json:
        print_json({"byStatus": found.by_status, **plain(found)})
        return
    print_table(["", *COLUMNS], [("all", *_cells(found.total))])
    for kind, parts in _kinds(found):
        print_table([f"\n{kind}", *COLUMNS], [(part.name, *_cells(part)) for part in parts])
    click.echo("\nWhat ended, ended within the last hour.")


def _kinds(found: Stats) -> Sequence[tuple[str, Sequence[Part]]]:
    return [(kind, parts) for kind, parts in (("queue", found.queues), ("task", found.tasks)) if parts]


def _cells(part: Part) -> tuple[Any, ...]:
    oldest = None if part.oldest_ready_seconds is None else f"{part.oldest_ready_seconds:.0f} s"
    failing = None if part.failure_rate is None else f"{part.failure_rate:.0%}"
    return (
        part.ready, part.scheduled, part.blocked, part.running, oldest, part.completed, part.failed, part.cancelled,
        failing, f"{part.per_minute:.1f}", _times(part.wait), _times(part.run),
    )  # fmt: skip


def _times(times: Times | None) -> str | None:
    return None if times is None else "/".join(f"{value:.3g}" for value in (times.p50, times.p95, times.p99)) + " s"
