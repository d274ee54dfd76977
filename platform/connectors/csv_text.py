"""Rows of a CSV file: told one from the other, numbered, and each either values or what is wrong with it.

Does no input or output but reading the file that it is given. No file can make it take much memory: a row and a line
have a longest.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

from jobplatform.errors import SourceError

LONGEST_LINE = 1024 * 1024
#: A row goes on in the next line as often as a quote is open at the end of one.
LONGEST_ROW = 4 * 1024 * 1024
MOST_COLUMNS = 1000
#: Rows. They are remembered until it is known whether others follow.
LONGEST_FOOTER = 100
#: What is left in a text of bytes that are no characters, and what some encodings take for one.
_NO_CHARACTER = re.compile("[\ud800-\udfff]")
#: By what a file of this encoding may begin with, which is no part of its first cell.
_WITH_MARK = {"utf-8": "utf-8-sig"}


# A longer value is no row for Python, and each further line of it would be taken for one.
csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))


class Row(NamedTuple):
    """A row: the line of the file where it begins, and its values or what is wrong with it."""

    line: int
    values: Sequence[str] = ()
    problem: str | None = None


class Dialect(NamedTuple):
    """How a file is written."""

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str | None = '"'


def is_text_encoding(name: str) -> bool:
    """Whether files can be written in it."""
    try:
        return bool(codecs.lookup(name)._is_text_encoding)  # as the open() of Python asks
    except (LookupError, ValueError):
        return False


def read_rows(file: BinaryIO, dialect: Dialect) -> Iterator[Row]:
    """The rows of a file from its beginning, without empty ones."""
    file.seek(0)
    lines = _Lines(_lines(file, dialect.encoding))
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        # What is quoted wrongly would be read as something that nobody has written.
        strict=True,
    )
    while True:
        line = reader.line_num + 1
        lines.begin_row(line)
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, problem=str(error))
            continue
        if values:
            yield _checked(line, values, dialect.encoding)


def _checked(line: int, values: Sequence[str], encoding: str) -> Row:
    if all(map(str.isascii, values)) or not any(map(_NO_CHARACTER.search, values)):
        return Row(line, values)
    return Row(line, values, f"has bytes that are no characters in {encoding}")


class BeforeFooter:
    """The rows before the footer, which are all that come before a row that begins with its text, if nothing that is a
    record follows. ``problem_of`` says what keeps a row from being one. ``is_missing`` once they have all been read and
    there was no footer.
    """

    def __init__(self, rows: Iterator[Row], text: str, problem_of: Callable[[Row], str | None]) -> None:
        self.is_missing = False
        self._rows = rows
        self._text = text
        self._problem_of = problem_of

    def __iter__(self) -> Iterator[Row]:
        footer: list[Row] = []
        for row in self._rows:
            problem = self._of_footer(row, has_begun=bool(footer))
            if problem is not None and len(footer) < LONGEST_FOOTER:
                footer.append(Row(row.line, problem=problem))
                continue
            yield from footer
            footer.clear()
            yield row if problem is None else Row(row.line, problem=problem)
        self.is_missing = not footer

    def _of_footer(self, row: Row, *, has_begun: bool) -> str | None:
        """What is wrong with the row, if it may be one of the footer and turns out to be none."""
        first = next(filter(None, map(str.strip, row.values)), "")
        if first.startswith(self._text):
            return "begins as the footer does, and rows follow"
        return self._problem_of(row) if has_begun else None


class _Lines:
    """The lines of a file for a reader of rows, and how much of the row it is at it has been given."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._begin = self._given = 0

    def begin_row(self, line: int) -> None:
        self._begin, self._given = line, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._given += len(line)
        if self._given > LONGEST_ROW:
            raise SourceError(
                f"the row that begins in line {self._begin} has more than {LONGEST_ROW} characters; is a quote missing?"
            )
        return line


def _lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    name = codecs.lookup(encoding).name
    text = io.TextIOWrapper(
        cast(BinaryIO, _Unclosed(file)), _WITH_MARK.get(name, name), errors="surrogateescape", newline=""
    )
    try:
        while line := text.readline(LONGEST_LINE):
            if len(line) >= LONGEST_LINE:
                raise SourceError(f"the file has a line of more than {LONGEST_LINE} characters; is it a CSV file?")
            yield line
    except UnicodeError as error:
        raise SourceError(f"the file is not written in {encoding}: {error}") from error


class _Unclosed(io.BufferedIOBase):
    """The file for a reader of text, which would close it when it is thrown away."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._file.read(-1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._file.read(size)
