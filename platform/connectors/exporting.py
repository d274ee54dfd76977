"""An export: a workspace's records as a file, with a link by which it can be fetched for a while.

1. Its row is written, with the moment when the file goes: whatever happens from here on, it does.
2. The records are read in the order of their key, a page in each short transaction, into a file on this machine.
   Not as of one moment: that would take a snapshot as long as the export, and a long one slows every queue.
3. The file goes to the store, and the row is completed: how much it is, and the hash of the link's secret.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from uuid_utils.compat import uuid7

from jobplatform.connectors.export_text import Columns, as_csv, as_line
from jobplatform.connectors.links import link_token
from jobplatform.connectors.records import RecordPlace, RecordSeen, list_records
from jobplatform.connectors.stores import Store
from jobplatform.models import Connection, ExportFile, Record, clock
from jobplatform.queue import Cancel, RunningJob, Skip

Format = Literal["csv", "jsonl"]

DELETED = "the export was deleted while it was written; ask for another one"

MEDIA_TYPES: dict[str, str] = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
PAGE = 500


class ExportResult(TypedDict):
    """The result of an export."""

    exportId: str
    name: str
    rows: int
    bytes: int
    sha256: str
    url: str
    urlExpiresAt: str
    expiresAt: str


class Lifetimes(NamedTuple):
    """For how long a link to an export is good, and the export kept."""

    link: datetime.timedelta
    export: datetime.timedelta


def run_export(
    job: RunningJob,
    store: Store,
    lifetimes: Lifetimes,
    *,
    format: Format = "csv",
    connection_id: uuid.UUID | None = None,
    stream: str | None = None,
    columns: Sequence[str] | None = None,
    include_deleted: bool = False,
    neutralize_formulas: bool = True,
    public_url: str = "",
) -> ExportResult | Skip:
    """Write the workspace's records, or those of a connection or a stream, and answer with where they are.

    ``csv`` has a column for each field of the records, or those that are named; a text that a spreadsheet would run as
    a formula gets an apostrophe in front. ``jsonl`` has a record in each line. Each attempt begins anew: only a whole
    file is ever found under a link. Raises :class:`Cancel` when somebody deletes the export meanwhile: nobody waits for
    it any more, and nothing of it is left.
    """
    connections = _connections(job, connection_id)
    if connection_id is not None and not connections:
        return Skip("this workspace has no such connection")
    export = _begin(job, format, lifetimes)
    with tempfile.TemporaryDirectory(prefix="jobplatform-export-") as folder:
        lines, path = Path(folder, "lines"), Path(folder, "file")
        found = Columns(columns)
        rows = _write_lines(lines, found, _records(job, export, connections, stream, include_deleted=include_deleted))
        if format == "csv":
            _write_csv(lines, path, found, neutralize=neutralize_formulas)
        else:
            path = lines
        store.put(export.key, path, export.name, MEDIA_TYPES[format])
        return _finish(job, store, export, path, rows, lifetimes, public_url)


def delete_expired(job: RunningJob, store: Store) -> int:
    """Delete the workspace's exports whose time is over: the file first, then its row. Says how many."""
    session = job.session
    mine = ExportFile.workspace_id == job.workspace_id
    due = select(ExportFile.id, ExportFile.key).where(mine, ExportFile.expires_at < clock())
    found = session.execute(due.order_by(ExportFile.expires_at)).all()
    session.commit()
    for export_id, key in found:
        store.delete(key)
        session.execute(delete(ExportFile).where(mine, ExportFile.id == export_id))
        session.commit()
    return len(found)


def _connections(job: RunningJob, connection_id: uuid.UUID | None) -> Sequence[uuid.UUID]:
    statement = select(Connection.id).where(Connection.workspace_id == job.workspace_id).order_by(Connection.id)
    if connection_id is not None:
        statement = statement.where(Connection.id == connection_id)
    found = job.session.scalars(statement).all()
    job.session.commit()
    return found


def _begin(job: RunningJob, format: str, lifetimes: Lifetimes) -> ExportFile:
    export_id = uuid7()
    export = ExportFile(
        workspace_id=job.workspace_id,
        id=export_id,
        job_id=job.id,
        name=f"records-{export_id}.{format}",
        key=f"{job.workspace_id}/{export_id}.{format}",
        expires_at=clock() + lifetimes.export,
    )
    job.session.add(export)
    job.session.commit()
    job.session.refresh(export)
    job.session.expunge(export)
    job.session.commit()
    return export


def _records(
    job: RunningJob,
    export: ExportFile,
    connections: Sequence[uuid.UUID],
    stream: str | None,
    *,
    include_deleted: bool,
) -> Iterator[RecordSeen]:
    total = _count(job, connections, stream, include_deleted=include_deleted)
    done = 0
    for connection_id in connections:
        after: RecordPlace | None = None
        while True:
            page = list_records(
                job.session,
                job.workspace_id,
                connection_id,
                stream=stream,
                include_deleted=include_deleted,
                limit=PAGE,
                after=after,
            )
            is_wanted = job.session.scalar(select(exists().where(*_wanted(export))))
            job.session.commit()
            if not is_wanted:
                raise Cancel(DELETED)
            yield from page.items
            done += len(page.items)
            job.progress(done, max(total, done), "writing records")
            if page.next is None:
                break
            after = page.next


def _wanted(export: ExportFile) -> tuple[ColumnElement[bool], ...]:
    """Neither deleted nor to be: one whose time is over is as good as gone, and its links lead nowhere."""
    mine = ExportFile.workspace_id == export.workspace_id
    return mine, ExportFile.id == export.id, ExportFile.expires_at > clock()


def _count(job: RunningJob, connections: Sequence[uuid.UUID], stream: str | None, *, include_deleted: bool) -> int:
    statement = select(func.count()).where(
        Record.workspace_id == job.workspace_id, Record.connection_id.in_(connections)
    )
    statement = statement if stream is None else statement.where(Record.stream == stream)
    statement = statement if include_deleted else statement.where(Record.deleted_at.is_(None))
    count = job.session.scalar(statement) or 0
    job.session.commit()
    return count


def _write_lines(path: Path, columns: Columns, records: Iterator[RecordSeen]) -> int:
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            columns.meet(record)
            file.write(as_line(record) + "\n")
            rows += 1
    return rows


def _write_csv(lines: Path, path: Path, columns: Columns, *, neutralize: bool) -> None:
    # With a mark in front, by which spreadsheets know it for UTF-8.
    with lines.open(encoding="utf-8", newline="\n") as given, path.open("w", encoding="utf-8-sig", newline="") as file:
        as_csv(given, columns, file.write, neutralize=neutralize)


def _finish(
    job: RunningJob,
    store: Store,
    export: ExportFile,
    path: Path,
    rows: int,
    lifetimes: Lifetimes,
    public_url: str,
) -> ExportResult:
    digest, size = _digest(path)
    secret = secrets.token_bytes(32)
    link = store.link(export.key, export.name, int(lifetimes.link.total_seconds()))
    values = {"rows": rows, "size": size, "digest": digest.digest(), "link_expires_at": clock() + lifetimes.link}
    statement = (
        update(ExportFile)
        .where(*_wanted(export))
        .values(**values, link_hash=hashlib.sha256(secret).digest())
        .returning(ExportFile.link_expires_at, ExportFile.expires_at)
    )
    row = job.session.execute(statement).one_or_none()
    if row is None or row[0] is None:
        # The one who deleted it found no file yet, and nobody would look for it any more.
        store.delete(export.key)
        raise Cancel(DELETED)
    return ExportResult(
        exportId=str(export.id),
        name=export.name,
        rows=rows,
        bytes=size,
        sha256=digest.hexdigest(),
        url=link or f"{public_url}/exports/{link_token(export.workspace_id, export.id, secret)}",
        urlExpiresAt=_as_text(row[0]),
        expiresAt=_as_text(row[1]),
    )


def _digest(path: Path) -> tuple[hashlib._Hash, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256"), path.stat().st_size


def _as_text(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
