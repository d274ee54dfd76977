"""``jobplatform bulk``: what workers do to all jobs that a search finds."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import actor, audit
from jobplatform.cli.asking import agrees
from jobplatform.cli.changing import change_options, read_change, says_change, words_of
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.queue import (
    BULK_STATUSES,
    BulkAction,
    BulkDeed,
    BulkPreview,
    Capped,
    JobChange,
    begin_bulk,
    find_bulk,
    list_bulk,
    parse_search,
    preview_bulk,
    stop_bulk,
)
from jobplatform.wording import agreeing


@click.group()
def bulk() -> None:
    """Have workers retry, cancel, delete or change all jobs that a search finds; list and stop that."""


@bulk.command()
@click.argument("deed", type=click.Choice(list(BULK_STATUSES)))
@click.argument("search")
@change_options
@click.option("--dry-run", is_flag=True, help="Only say how many jobs it would be.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@as_json_option
def begin(deed: BulkDeed, search: str, dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Retry, cancel, delete or change: say what, and a search such as "task:sync status:failed".

    To change is for jobs that have not begun; say what is to be different with --priority, --queue, --run-after or
    --delay.
    """
    wanted = parse_search(search)
    with open_session() as session:
        change = _change_of(session, deed, options)
        preview = preview_bulk(session, deed, wanted)
        finds_nothing = not (preview.matching.count or preview.matching.more)
        if dry_run or finds_nothing:
            _tell_preview(deed, preview, as_json=as_json)
            return
        if not (yes or agrees(session, f"{deed} {_words(preview)}?", as_json=as_json, instead="--yes, or --dry-run")):
            raise click.Abort
        expected = None if preview.matching.more else preview.matching.count
        action = begin_bulk(session, deed, wanted, actor=actor(), expected=expected, change=change)
        told: dict[str, Any] = {"arguments": action.arguments} if change else {}
        audit(session, "bulk.begin", f"bulk:{action.id}", deed=deed, search=action.search, **told)
    if as_json:
        print_json(plain(action))
    else:
        click.echo(f"{action.id}: workers {deed} what {action.search or 'there is'} finds")


@bulk.command()
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@as_json_option
def ls(limit: int, as_json: bool) -> None:
    """List what was asked for, newest first."""
    with open_session() as session:
        found = list_bulk(session, limit=limit)
    if as_json:
        print_json(plain(found))
    else:
        columns = ["id", "deed", "search", "by", "state", "done", "left alone", "asked for"]
        print_table(columns, [_row(action) for action in found])


@bulk.command()
@click.argument("action_id", type=click.UUID)
@as_json_option
def show(action_id: UUID, as_json: bool) -> None:
    """Show how far it is."""
    with open_session() as session:
        found = find_bulk(session, action_id)
    if found is None:
        raise click.ClickException(f"{action_id} is no bulk action")
    if as_json:
        print_json(plain(found))
    else:
        print_table(["", ""], [(name, value) for name, value in plain(found).items() if value is not None])


@bulk.command()
@click.argument("action_id", type=click.UUID)
@as_json_option
def stop(action_id: UUID, as_json: bool) -> None:
    """End it; what is done stays done."""
    with open_session() as session:
        stopped = stop_bulk(session, action_id)
        if stopped:
            audit(session, "bulk.stop", f"bulk:{action_id}")
    if not stopped:
        raise click.ClickException(f"{action_id} is no bulk action that is still to be done")
    tell(as_json, f"{action_id} is stopped", id=action_id, stopped=True)


def _change_of(session: Session, deed: BulkDeed, options: dict[str, Any]) -> JobChange | None:
    if deed == "change":
        return read_change(session, **options)
    if says_change(**options):
        raise click.UsageError(f"what is to be different is for change, and not for {deed}")
    return None


def _row(action: BulkAction) -> tuple[object, ...]:
    left = ", ".join(f"{count} {reason}" for reason, count in action.left_alone.items())
    deed = " ".join([action.deed, *words_of(action.arguments)])
    return (action.id, deed, action.search, action.actor, action.state, action.done, left, action.created_at)


def _tell_preview(deed: str, preview: BulkPreview, *, as_json: bool) -> None:
    if as_json:
        print_json({"found": str(preview.matching), "byStatus": _by_status(preview)})
    else:
        is_there = preview.matching.count or preview.matching.more
        click.echo(f"would {deed} {_words(preview)}" if is_there else f"there is nothing to {deed}")


def _words(preview: BulkPreview) -> str:
    if not preview.matching.count:
        return "what there is beyond the jobs that were looked at, of which it is none"
    return " and ".join(f"{count} {status} {_job(count)}" for status, count in preview.by_status.items())


def _job(count: Capped) -> str:
    return agreeing(2 if count.more else count.count, "job")


def _by_status(preview: BulkPreview) -> dict[str, str]:
    return {str(status): str(count) for status, count in preview.by_status.items()}
