"""``jobplatform jobs why``."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import click

from jobplatform.cli.database import find_workspace_of, of_a_job_option, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table
from jobplatform.queue import Why, why_waiting
from jobplatform.wording import plural


@click.command()
@click.argument("job_id", type=click.UUID)
@of_a_job_option
@as_json_option
def why(job_id: UUID, workspace: str | None, as_json: bool) -> None:
    """Say why a job is not running: what is in its way, who is before it, and when it will probably start."""
    with open_session() as session:
        found = why_waiting(session, find_workspace_of(session, job_id, workspace), job_id)
    if found is None:
        raise click.ClickException(f"{job_id} is not a job of this workspace")
    if as_json:
        print_json(plain(found))
        return
    click.echo(f"{job_id} is {found.status}")
    print_table(["", "because", "until"], [(block.code, block.message, block.until or "") for block in found.blockers])
    for line in _prospects(found):
        click.echo(line)


def _prospects(found: Why) -> Iterator[str]:
    if found.ahead is not None:
        ahead = found.ahead
        yield (
            f"before it: {ahead.own_jobs} of its workspace and queue, about {ahead.other_jobs} of "
            f"{plural(ahead.other_workspaces, 'other workspace')}; {ahead.slots_in_use} of {ahead.slots} slots in use"
        )
    if found.estimated_start_at is not None:
        seconds = (found.estimated_start_at - found.asked_at).total_seconds()
        yield f"it will probably start in {_words(seconds)}"
    elif found.status == "pending":
        yield "when it will start is not known"


def _words(seconds: float) -> str:
    if seconds < 1:
        return "a moment"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    if seconds < 7_200:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3_600:.0f} hours"
