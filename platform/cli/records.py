"""``jobplatform records``."""

from __future__ import annotations

import datetime
import json
from typing import Any

import click

from jobplatform.cli.amounts import Moment
from jobplatform.cli.connections import find_connection_id
from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table
from jobplatform.connectors import RecordPlace, RecordSeen, get_record, list_records

workspace_option = click.option("-w", "--workspace", required=True, help="By id or name.")
PAGE = 200
LONGEST_CELL = 200


@click.group()
def records() -> None:
    """List and show what syncs have copied. A connection is given by its id or name."""


@records.command()
@click.argument("connection")
@workspace_option
@click.option("--stream", help="Only this stream.")
@click.option("--since", type=Moment(), help="Written or deleted since, in that order.")
@click.option("--deleted", is_flag=True, help="Those that are marked as deleted too.")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="At most so many.")
@as_json_option
def ls(
    connection: str,
    workspace: str,
    stream: str | None,
    since: datetime.datetime | None,
    deleted: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List records of a connection, by stream and id."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        connection_id = find_connection_id(session, workspace_id, connection)
        found: list[RecordSeen] = []
        after: RecordPlace | None = None
        while len(found) < limit:
            page = list_records(
                session,
                workspace_id,
                connection_id,
                stream=stream,
                updated_since=since,
                include_deleted=deleted,
                limit=min(PAGE, limit - len(found)),
                after=after,
            )
            found += page.items
            after = page.next
            if after is None:
                break
    if as_json:
        print_json([_as_dict(record) for record in found])
        return
    print_table(
        ["stream", "id", "synced", "deleted", "data"],
        [(one.stream, one.external_id, one.synced_at, one.deleted_at, _short(one.data)) for one in found],
    )


@records.command()
@click.argument("connection")
@click.argument("stream")
@click.argument("external_id")
@workspace_option
@as_json_option
def show(connection: str, stream: str, external_id: str, workspace: str, as_json: bool) -> None:
    """Show a record, deleted or not."""
    with open_session() as session:
        workspace_id = find_workspace(session, workspace)
        connection_id = find_connection_id(session, workspace_id, connection)
        found = get_record(session, workspace_id, connection_id, stream, external_id)
    if found is None:
        raise click.ClickException(f"the connection has no record {external_id!r} in {stream!r}")
    if as_json:
        print_json(_as_dict(found))
        return
    facts = [(name, value) for name, value in found._asdict().items() if name != "data" and value is not None]
    print_table(["", ""], facts)
    rows = found.data.items() if isinstance(found.data, dict) else [("", found.data)]
    print_table(["field", "value"], [(name, _text(value)) for name, value in rows], title="\ndata")


def _as_dict(record: RecordSeen) -> dict[str, Any]:
    # What the source calls its fields stays as it is.
    return {**plain(record._replace(data={})), "data": record.data}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + "…"
