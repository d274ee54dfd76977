"""Rows of CSV files, good and bad."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.connectors.csv_text import LONGEST_LINE, LONGEST_ROW, Dialect, Row, is_text_encoding, read_rows
from jobplatform.errors import SourceError


def rows(content: bytes | str, **how: str | None) -> list[Row]:
    given = content.encode() if isinstance(content, str) else content
    return list(read_rows(io.BytesIO(given), Dialect(**how)))  # type: ignore[arg-type]


def test_rows_know_the_line_where_they_begin() -> None:
    found = rows('id,note\r\n1,"two\nlines"\r\n\r\n2,x\n')

    assert [(row.line, *row.values) for row in found] == [
        (1, "id", "note"),
        (2, "1", "two\nlines"),
        (5, "2", "x"),
    ]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16", b""), ("windows-1252", b""), ("latin-1", b"")],
)
def test_a_file_is_read_in_its_encoding_with_or_without_a_mark(encoding: str, mark: bytes) -> None:
    content = mark + "naïve,café\n".encode(encoding)

    assert rows(content, encoding=encoding) == [Row(1, ["naïve", "café"])]


def test_a_row_that_cannot_be_read_does_not_keep_the_others_from_it() -> None:
    found = rows(b'1,good\n2,\xff\xfe\n3,"un"quoted\n4,' + b"x" * 200_000 + b"\n5,good\n")

    assert [(row.line, row.problem is None) for row in found] == [
        (1, True), (2, False), (3, False), (4, True), (5, True)
    ]  # fmt: skip
    assert found[1].problem == "has bytes that are no characters in utf-8"


def test_a_quote_that_never_ends_is_one_bad_row_and_takes_no_memory() -> None:
    """Whatever is within it may be a part of its value, and is no record that somebody would make of it."""
    (found,) = rows('1,"never ends\n' + "2,x\n" * 100_000)

    assert (found.line, found.values, found.problem) == (1, (), "unexpected end of data")
    with pytest.raises(SourceError, match=r"the row that begins in line 1 has more than .* is a quote missing"):
        rows('1,"never ends\n' + "2,x\n" * (LONGEST_ROW // 4))


def test_what_has_no_lines_is_no_csv_file() -> None:
    with pytest.raises(SourceError, match="line of more than"):
        rows(b"x" * (LONGEST_LINE + 1))


def test_a_file_in_another_encoding_is_told_as_such() -> None:
    with pytest.raises(SourceError, match="not written in utf-16"):
        rows(b"abc", encoding="utf-16")


def test_only_encodings_of_text_are_encodings() -> None:
    assert is_text_encoding("utf-8")
    assert is_text_encoding("windows-1252")
    assert not any(map(is_text_encoding, ("base64", "rot13", "zip", "nonsense", "", "\0")))


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(st.lists(_texts, min_size=2, max_size=4), min_size=1, max_size=6), st.sampled_from(",;\t|"))
def test_whatever_a_csv_writer_writes_is_read_back(table: list[list[str]], delimiter: str) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows(table)

    found = rows(written.getvalue(), delimiter=delimiter)

    assert [list(row.values) for row in found] == table
