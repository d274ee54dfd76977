"""A connector for CSV files: at a URL, or uploaded for the connection.

    1. The whole file is fetched first, onto this machine's disk, so that a slow database does not keep the source
       waiting, and that there is one file to speak of: its digest.
    2. Its rows are read from there, a page at a time. A page's cursor names the file by its digest and the row.
    3. A sync that was interrupted fetches the file again. If it is another one by then, it is read from its beginning.

A file that has not changed since the last sync (304, or the same digest) is not read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

from marshmallow import ValidationError, fields, validate, validates_schema

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.csv_text import MOST_COLUMNS, BeforeFooter, Dialect, Row, is_text_encoding, read_rows
from jobplatform.connectors.following import UNCHANGED, get_file, judge_file, read_state, said_of
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.patience import Asker
from jobplatform.connectors.renewing import alone
from jobplatform.connectors.schemas import ConfigSchema
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.connectors.spool import Spool
from jobplatform.connectors.storing import LONGEST_ID
from jobplatform.connectors.uploads import find_upload, read_upload
from jobplatform.errors import CursorLostError, SourceError
from jobplatform.wording import agreeing, plural

LARGEST_FILE = 256 * 1024 * 1024
#: Seconds for all of a download.
LONGEST_DOWNLOAD = 300.0
NOT_ALL = (
    "rows that cannot be read are left out, and while there are any an initial sync takes no record for deleted; "
    "if the file just ends with sums or notes, say with footer how they begin"
)
NO_FOOTER = (
    "the file does not end with its footer ({footer!r}), so it may have been cut off: "
    "an initial sync takes no record for deleted"
)
#: Characters of values after which a page ends.
LARGEST_PAGE = 4 * 1024 * 1024


def _encoding(name: str) -> None:
    if not is_text_encoding(name):
        raise ValidationError("Must be the name of an encoding, such as utf-8, utf-16 or windows-1252.")


def _one_character(value: str) -> None:
    if len(value) != 1 or value in "\r\n\0" or not value.isascii():
        raise ValidationError("Must be one ASCII character, and no line break.")


def _some_text(value: str) -> None:
    if value != value.strip() or not value:
        raise ValidationError("Must be a text that neither begins nor ends with a space.")


class CsvConfig(ConfigSchema):
    """The configuration of a connection of this type. Without a ``url`` the file is what was uploaded for it."""

    url = fields.Url(schemes={"http", "https"}, require_tld=False)
    id_column = fields.String(required=True, validate=validate.Length(1, 1000))
    stream = fields.String(load_default="rows", validate=validate.Length(1, 100))
    encoding = fields.String(load_default="utf-8", validate=_encoding)
    delimiter = fields.String(load_default=",", validate=_one_character)
    quote = fields.String(load_default='"', validate=_one_character, allow_none=True)
    header = fields.Boolean(load_default=True)
    columns = fields.List(fields.String(validate=validate.Length(1, 1000)), validate=validate.Length(1, MOST_COLUMNS))
    on_bad_row = fields.String(load_default="skip", validate=validate.OneOf(["skip", "fail"]))
    footer = fields.String(validate=[validate.Length(1, 1000), _some_text])
    page_size = fields.Integer(load_default=500, validate=validate.Range(1, 5000))

    @validates_schema
    def names_its_columns(self, data: Mapping[str, Any], **_: Any) -> None:
        columns = data.get("columns")
        if not data.get("header", True) and columns is None:
            raise ValidationError("Needed for a file without a header.", "columns")
        if columns is not None and data["id_column"] not in columns:
            raise ValidationError("Must be one of the columns.", "idColumn")
        if columns is not None and len(set(columns)) < len(columns):
            raise ValidationError("Must not name a column twice.", "columns")


class CsvFile:
    """An open connection to such a file: one stream."""

    def __init__(self, opening: Opening) -> None:
        self.config = opening.config
        self._opening = opening
        self._asker = None
        if url := self.config.get("url"):
            check_url(url, allow_private=opening.allow_private)
            client = opening.client(largest=LARGEST_FILE, seconds=LONGEST_DOWNLOAD)
            self._asker = Asker(client, judge=judge_file, patient=opening.patient)
        self._spool = Spool()
        self._is_here = False
        self._said: dict[str, str] = {}
        self._rows: Iterator[Row] = iter(())
        self._columns: Sequence[str] = ()
        self._before_footer: BeforeFooter | None = None
        self._at = 0
        self._is_told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()
        if self._asker is not None:
            self._asker.client.close()

    def streams(self) -> Sequence[str]:
        return (self.config["stream"],)

    def fetch(self, stream: str, cursor: str | None) -> Page:
        place = read_state(cursor)
        if not self._is_here and not self._bring(place):
            return Page([], state=cursor)
        digest = self._spool.digest.hex()
        if place.get("digest") == digest and "row" not in place:
            return Page([], state=self._state(digest))
        if place.get("digest", digest) != digest and "row" in place:
            raise CursorLostError("the file has changed since its first rows were read")
        self._go_to(place.get("row", 0))
        return self._page(digest)

    # -- the file --------------------------------------------------------------------------------

    def _bring(self, place: Mapping[str, Any]) -> bool:
        """Have the file here. False: it is the one that was read before, to its end."""
        self._is_here = self._read_upload(place) if self._asker is None else self._download(self._asker, place)
        return self._is_here

    def _download(self, asker: Asker, place: Mapping[str, Any]) -> bool:
        # Where to go on in a file can only be said of that file, so it has to be here.
        answer = get_file(asker, self.config["url"], {} if "row" in place else place, into=self._spool).answer
        self._said = said_of(answer)
        return answer.status != UNCHANGED

    def _read_upload(self, place: Mapping[str, Any]) -> bool:
        session, ids = self._opening.session, (self._opening.workspace_id, self._opening.connection_id)
        if session is None:
            raise SourceError("a connection without a URL needs a file that was uploaded for it")
        with alone(session):
            upload = find_upload(session, *ids)
            if upload is None:
                raise SourceError("no file has been uploaded for this connection yet")
            if place.get("digest") == upload.digest.hex() and "row" not in place:
                return False
            self._spool.clear()
            self._spool.write_all(read_upload(session, *ids, upload.id))
            if self._spool.digest != upload.digest:
                raise SourceError("another file was uploaded while this one was read; sync again")
            return True

    # -- its rows --------------------------------------------------------------------------------

    def _go_to(self, row: int) -> None:
        """Make the row the next one. They are read in order, so mostly it is."""
        if row == self._at and row > 0:
            return
        self._rows = read_rows(self._spool.file, self._dialect())
        self._columns = self._read_header() if self.config["header"] else self.config["columns"]
        if text := self.config.get("footer"):
            self._before_footer = BeforeFooter(self._rows, text, self._problem_of)
            self._rows = iter(self._before_footer)
        self._at = row
        for _ in islice(self._rows, row):
            pass

    def _dialect(self) -> Dialect:
        return Dialect(self.config["encoding"], self.config["delimiter"], self.config["quote"])

    def _read_header(self) -> Sequence[str]:
        row = next(self._rows, None)
        if row is None:
            raise SourceError("the file is empty; it should begin with the names of its columns")
        if row.problem:
            raise SourceError(f"line {row.line}, the names of the columns, cannot be read: {row.problem}")
        if columns := self.config.get("columns"):
            return list(columns)
        names = [name.strip() or f"column{place}" for place, name in enumerate(row.values, start=1)]
        _require_names(names, self.config["id_column"])
        return names

    def _page(self, digest: str) -> Page:
        records: list[SourceRecord] = []
        warnings: list[str] = []
        # Of each record, too, because it has them all.
        names = sum(map(len, self._columns))
        read = size = 0
        for row in islice(self._rows, self.config["page_size"]):
            read += 1
            if self._is_empty(row):
                continue
            found = self._record(row)
            if isinstance(found, str):
                warnings.append(self._bad(row, found))
            else:
                records.append(found)
                size += names + sum(map(len, row.values))
            if size > LARGEST_PAGE:
                break
        self._at += read
        ended = read < self.config["page_size"] and size <= LARGEST_PAGE
        skipped = len(warnings)
        if skipped:
            warnings[:0] = self._not_all()
        if ended and self._before_footer is not None and self._before_footer.is_missing:
            warnings.append(self._cut_off())
        following = None if ended else json.dumps({"row": self._at, "digest": digest})
        return Page(
            records,
            following,
            state=self._state(digest),
            # What is missing may be in one of those rows, or behind the place where the file was cut off.
            complete=not warnings,
            skipped=skipped,
            warnings=warnings,
        )

    def _not_all(self) -> Sequence[str]:
        """Said once, before what is said of each row: many of those leave no room."""
        is_told, self._is_told = self._is_told, True
        return [] if is_told else [NOT_ALL]

    def _record(self, row: Row) -> SourceRecord | str:
        """The record that a row is, or what is wrong with it."""
        if row.problem:
            return row.problem
        if len(row.values) != len(self._columns):
            columns = len(self._columns)
            there = f"there {agreeing(columns, 'is', 'are')} {plural(columns, 'column')}"
            return f"has {plural(len(row.values), 'value')} where {there}"
        data = dict(zip(self._columns, row.values, strict=True))
        name = data[self.config["id_column"]].strip()
        if not 1 <= len(name.encode()) <= LONGEST_ID:
            return f"has no id of 1 to {LONGEST_ID} bytes in the column {self.config['id_column']!r}"
        return SourceRecord(name, data)

    def _problem_of(self, row: Row) -> str | None:
        found = self._record(row)
        return found if isinstance(found, str) else None

    def _is_empty(self, row: Row) -> bool:
        """A whole row, in which nothing can be missing."""
        return row.problem is None and len(row.values) == len(self._columns) and not any(map(str.strip, row.values))

    def _cut_off(self) -> str:
        problem = NO_FOOTER.format(footer=self.config["footer"])
        if self.config["on_bad_row"] == "fail":
            raise SourceError(problem)
        return problem

    def _bad(self, row: Row, problem: str) -> str:
        warning = f"line {row.line} {problem}"
        if self.config["on_bad_row"] == "fail":
            raise SourceError(f"{warning}; correct it, or have such rows skipped with onBadRow")
        return f"{warning}; it is left out"

    def _state(self, digest: str) -> str:
        return json.dumps({"digest": digest, **self._said})


def _require_names(names: Sequence[str], id_column: str) -> None:
    if len(names) > MOST_COLUMNS:
        raise SourceError(f"the file has {len(names)} columns; {MOST_COLUMNS} can be read")
    if doubles := _doubles(names):
        raise SourceError(f"the file has more than one column named {', '.join(map(repr, doubles))}")
    if id_column not in names:
        raise SourceError(f"the file has no column {id_column!r}; it has {', '.join(map(repr, names[:20]))}")


def _doubles(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
