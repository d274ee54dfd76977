"""Records as lines of a file: JSON Lines, or CSV that a spreadsheet can open. Does no input or output of its own."""

from __future__ import annotations

import csv
import datetime
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jobplatform.connectors.records import RecordSeen

#: Columns of a CSV file; what a record has beyond that is in its last one, as JSON.
MOST_COLUMNS = 500
#: Columns that every record has. A field of the source's that is called so too is called ``data.<name>``.
OURS = ("_connection", "_stream", "_id", "_synced_at", "_deleted_at")
OTHER = "_other"

# With one of these in front a spreadsheet takes a text for a formula, and runs it. The wide ones are made narrow first.
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}([.,][0-9]{1,15})?\Z")


def as_line(record: RecordSeen) -> str:
    """A record as one line of JSON."""
    return json.dumps(
        {
            "connectionId": str(record.connection_id),
            "stream": record.stream,
            "externalId": record.external_id,
            "syncedAt": _moment(record.synced_at),
            "deletedAt": _moment(record.deleted_at),
            "data": record.data,
        },
        ensure_ascii=False,
    )


class Columns:
    """The fields that records have, as they are met. The same few for most sources."""

    def __init__(self, chosen: Sequence[str] | None = None) -> None:
        self._names: dict[str, None] = dict.fromkeys(chosen or ())
        self._is_chosen = chosen is not None
        self.overflows = False

    def meet(self, record: RecordSeen) -> None:
        if self._is_chosen or not isinstance(record.data, dict) or record.data.keys() <= self._names.keys():
            return
        for name in record.data:
            if len(self._names) < MOST_COLUMNS:
                self._names.setdefault(name)
            elif name not in self._names:
                self.overflows = True

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._names)


def as_csv(lines: Iterable[str], columns: Columns, write: Any, *, neutralize: bool) -> None:
    """Write lines of :func:`as_line` as CSV, with a header. ``write`` is the ``write`` of a text file."""
    rows = csv.writer(_Writes(write), lineterminator="\r\n")
    names = columns.names
    clean = neutral if neutralize else str
    header = [*OURS, *(_column(name) for name in names), *([OTHER] if columns.overflows else [])]
    rows.writerow([clean(name) for name in header])
    for line in lines:
        rows.writerow([clean(cell) for cell in _cells(json.loads(line), names, overflows=columns.overflows)])


def _column(name: str) -> str:
    return f"data.{name}" if name in (*OURS, OTHER) else name


def _cells(record: Mapping[str, Any], names: Sequence[str], *, overflows: bool) -> Iterator[str]:
    for name in ("connectionId", "stream", "externalId", "syncedAt", "deletedAt"):
        yield record[name] or ""
    data = record["data"] if isinstance(record["data"], dict) else {}
    for name in names:
        yield _cell(data.get(name))
    if overflows:
        known = set(names)
        others = {name: value for name, value in data.items() if name not in known}
        yield _cell(others) if others else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def neutral(text: str) -> str:
    """A text that no spreadsheet runs: with an apostrophe in front if it begins like a formula. Numbers stay."""
    return f"'{text}" if text and _FORMULA.match(text) and not _NUMBER.match(text) else text


def _moment(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


class _Writes:
    """What the csv module calls a file."""

    def __init__(self, write: Any) -> None:
        self.write = write
