"""Export: everything there is of one workspace, as files that people and programs can read.

One file of JSON lines for each table, and a page that says what they are. All of it is from one moment, however long
it takes: the transaction must be a REPEATABLE READ one. A row at a time is in memory, never a table.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, MetaData, RowMapping, select
from sqlalchemy.orm import Session

from jobplatform.errors import EncryptionError
from jobplatform.models import Base, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.keep.belongings import Belonging, belongings
from jobplatform.queue.keep.export_files import Files, Write
from jobplatform.queue.seal import close, sealed_form
from jobplatform.queue.vault import seal_of
from jobplatform.redaction import redact_configuration
from jobplatform.wording import agreeing, plural

#: Rows the server sends at a time.
PORTION = 500
#: By these somebody could be somebody else: hashes of secrets, wrapped keys, what a source knows us by, what is signed
#: with.
LEFT_OUT = frozenset(
    {
        ("api_tokens", "secret_hash"),
        ("api_tokens", "signing_key"),
        ("workspace_keys", "wrapped_key"),
        ("connection_credentials", "sealed"),
        ("connection_authorizations", "state_hash"),
        ("connection_authorizations", "binding_hash"),
        ("connection_authorizations", "client_hash"),
        ("connection_authorizations", "sealed"),
        ("exports", "link_hash"),
        ("hooks", "key_hash"),
        ("hooks", "secret"),
        ("hooks", "previous_secret"),
        ("webhook_subscriptions", "secret"),
        ("webhook_subscriptions", "previous_secret"),
    }
)
#: Copies of answers to requests, gone after a day. What they tell of is in the other tables.
PASSING = frozenset({"kept_answers"})
#: Which field a column holds, by the names that :mod:`jobplatform.queue.seal` is told; and where the job's id is.
SEALED = {
    "job_records": ("id", {"payload": "payload", "result": "result", "error": "error", "progress": "progress"}),
    "job_queue": ("id", {"progress": "progress"}),
    "job_attempts": ("job_id", {"error": "error", "traceback": "traceback"}),
    "job_logs": ("job_id", {"message": "log"}),
    "job_steps": ("job_id", {"value": "step"}),
    "schedules": ("id", {"payload": "payload"}),
}
WHAT = {
    "job_records": "Jobs: what was asked for, with what came of it.",
    "job_queue": "Jobs that have not ended: where they are now.",
    "job_edges": "What a job waits for.",
    "unique_periods": "Keys that have no other job yet, and their last one.",
    "batches": "Sets of jobs that are counted together.",
    "notices": "What has happened and is not counted yet.",
    "endings": "Jobs that have ended and are not counted yet.",
    "workspace_cells": "How many jobs ended when and how.",
    "workspace_totals": "The same, all together.",
    "error_groups": "Failures that have something in common.",
    "job_attempts": "Attempts that did not simply succeed.",
    "job_logs": "Lines that jobs logged.",
    "job_steps": "What jobs have done, and their checkpoints.",
    "connections": "Connections to sources, with their configuration.",
    "connection_credentials": "Which connections have credentials, of which scheme, since when; not they themselves.",
    "connection_authorizations": "Consent to its connections that was asked for and has not come yet.",
    "source_limits": "How soon the sources of the connections may be asked again.",
    "sync_streams": "Where syncs of the connections go on.",
    "sync_logs": "Syncs, and what came of them.",
    "records": "The copy of the sources' records.",
    "uploads": "Files that were uploaded for connections.",
    "upload_chunks": "What is in these files.",
    "exports": "Files that records were exported to.",
    "hooks": "Where providers deliver to, without keys and secrets.",
    "hook_deliveries": "What they delivered, and which job it became.",
    "webhook_subscriptions": "Where the endings of its jobs are told, without the secrets.",
    "workspace_alert_rules": "When an alert about it is raised.",
    "workspace_alerts": "Alerts about it.",
    "schedules": "Schedules: rules that enqueue jobs.",
    "schedule_ticks": "What came of each tick of a schedule.",
    "workspaces": "The workspace itself.",
    "workspace_limits": "Limits of its own.",
    "workspace_retention": "How long its jobs are kept.",
    "workspace_keys": "Which keys there are for sealed values, without the keys.",
    "api_tokens": "Tokens of the API, without their secrets.",
    "audit_log": "Who did what.",
    "pauses": "Why nothing of it is started, if so.",
    "buckets": "What is left of its rate.",
}


@checks_arguments()
def export_workspace(
    session: Session, workspace_id: uuid.UUID, files: Files, metadata: MetaData = Base.metadata
) -> dict[str, int]:
    """Write everything of a workspace and answer with the number of rows of each table.

    Sealed values are opened where this process has the key; where it has not they stay ``{"sealed": true}``, and the
    page says how many. Raises RuntimeError outside of a REPEATABLE READ (or SERIALIZABLE) transaction.
    """
    visit(session, workspace_id)
    _require_one_moment(session)
    moment = session.scalar(select(clock()))
    opener = _Opener(session, workspace_id)
    counts: dict[str, int] = {}
    for belonging in belongings(workspace_id, metadata):
        if belonging.table.name in PASSING:
            continue
        with files.open(f"{belonging.table.name}.jsonl") as write:
            counts[belonging.table.name] = _write_rows(write, _rows(session, belonging), opener)
    with files.open("README.md") as write:
        write(_page(workspace_id, moment, counts, opener.closed))
    return counts


def _require_one_moment(session: Session) -> None:
    level = session.connection().exec_driver_sql("show transaction_isolation").scalar_one()
    if level == "read committed":
        raise RuntimeError("an export needs a REPEATABLE READ transaction, or its tables are from different moments")


def _rows(session: Session, belonging: Belonging) -> Iterator[tuple[str, RowMapping]]:
    table, mine = belonging
    columns: list[Column[Any]] = [column for column in table.c if (table.name, column.name) not in LEFT_OUT]
    statement = select(*columns).where(mine).order_by(*table.primary_key.columns)
    options = {"stream_results": True, "yield_per": PORTION}
    for row in session.connection().execute(statement, execution_options=options).mappings():
        yield table.name, row


def _write_rows(write: Write, rows: Iterable[tuple[str, RowMapping]], opener: _Opener) -> int:
    count = 0
    for table, row in rows:
        values = opener.opened(table, row)
        write(json.dumps(values, ensure_ascii=False, default=_as_text) + "\n")
        count += 1
    return count


class _Opener:
    """Opens what is sealed in rows, and counts what it cannot."""

    def __init__(self, session: Session, workspace_id: uuid.UUID) -> None:
        self.closed = 0
        self._session = session
        self._workspace_id = workspace_id

    def opened(self, table: str, row: RowMapping) -> dict[str, Any]:
        values: dict[str, Any] = {str(name): value for name, value in row.items()}
        if table == "connections":
            # One of before there were credentials may hold some.
            values["config"] = redact_configuration(values["config"])
        id_column, fields = SEALED.get(table, ("", {}))
        for column, field in fields.items():
            value = values[column]
            if field == "progress" and isinstance(value, dict) and sealed_form(value.get("message")):
                values[column] = {**value, "message": self._open(row[id_column], field, value["message"])}
            elif sealed_form(value):
                values[column] = self._open(row[id_column], field, value)
        return values

    def _open(self, job_id: uuid.UUID, field: str, value: Any) -> Any:
        form = sealed_form(value) or ""
        try:
            text = seal_of(self._session, self._workspace_id, job_id, form).open(field, form)
        except EncryptionError:
            self.closed += 1
            return close(value)
        return json.loads(text) if isinstance(value, dict) else text


def _page(workspace_id: uuid.UUID, moment: datetime.datetime | None, counts: Mapping[str, int], closed: int) -> str:
    lines = [
        f"# Workspace {workspace_id}",
        "",
        f"Everything that the job platform held of this workspace at {moment}.",
        "",
        "Each file has one JSON object a line, one line a row. Moments are ISO 8601, durations seconds, bytes base64.",
        "",
        "| file | rows | what |",
        "|---|---|---|",
        *(f"| `{table}.jsonl` | {count} | {WHAT.get(table, '')} |" for table, count in counts.items()),
        "",
        "Left out, because they would let their reader act as somebody else: "
        + ", ".join(f"`{table}.{column}`" for table, column in sorted(LEFT_OUT))
        + ".",
        "Left out too: the answers to requests that are kept for a day. What they say is in the files above.",
    ]
    if closed:
        told, are = plural(closed, "sealed value"), agreeing(closed, "is", "are")
        lines += ["", f'{told} could not be opened here and {are} written as `{{"sealed": true}}`.']
    return "\n".join(lines) + "\n"


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, uuid.UUID | decimal.Decimal | datetime.date):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no form in an export")
