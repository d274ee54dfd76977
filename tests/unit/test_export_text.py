"""Records as lines and as CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import datetime
import io
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.connectors.export_text import MOST_COLUMNS, Columns, as_csv, as_line, neutral
from jobplatform.connectors.records import RecordSeen

AT = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)


def record(data: Any, external_id: str = "1") -> RecordSeen:
    return RecordSeen(uuid.UUID(int=1), "people", external_id, data, AT, None)


def written(records: list[RecordSeen], columns: Columns | None = None, *, neutralize: bool = True) -> list[list[str]]:
    found = columns or Columns()
    for one in records:
        found.meet(one)
    text = io.StringIO(newline="")
    as_csv(map(as_line, records), found, text.write, neutralize=neutralize)
    return list(csv.reader(io.StringIO(text.getvalue(), newline="")))


def test_a_csv_file_has_a_column_for_each_field_there_is() -> None:
    header, first, second = written([record({"name": "Ada", "age": 36}), record({"name": "Alan", "tags": ["x"]}, "2")])

    assert header == ["_connection", "_stream", "_id", "_synced_at", "_deleted_at", "name", "age", "tags"]
    assert first == [str(uuid.UUID(int=1)), "people", "1", "2026-01-05T09:00:00Z", "", "Ada", "36", ""]
    assert second[5:] == ["Alan", "", '["x"]']


def test_fields_that_are_called_as_ours_keep_apart_and_too_many_share_a_column() -> None:
    wide = {"_id": "theirs", **{f"f{number}": number for number in range(MOST_COLUMNS + 1)}}

    header, row = written([record(wide)])

    assert (header[2], header[5], row[5]) == ("_id", "data._id", "theirs")
    assert header[-1] == "_other"
    assert json.loads(row[-1]) == {f"f{MOST_COLUMNS - 1}": MOST_COLUMNS - 1, f"f{MOST_COLUMNS}": MOST_COLUMNS}


def test_chosen_columns_are_the_columns() -> None:
    header, row = written([record({"a": 1, "b": 2})], Columns(["b", "c"]))

    assert (header[5:], row[5:]) == (["b", "c"], ["2", ""])


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "-",
        "+49 30 1",
    ],
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert neutral(text) == f"'{text}"
    assert written([record({text: text})])[1][5] == f"'{text}"
    assert written([record({text: text})])[0][5] == f"'{text}"
    assert written([record({text: text})], neutralize=False)[1][5] == text


@pytest.mark.parametrize("text", ["", "Ada", "1", "-5", "+3.14", "-0,5", "a=b", "2026-01-05", "'quoted"])
def test_texts_and_numbers_stay_as_they_are(text: str) -> None:
    assert neutral(text) == text


@given(st.text())
def test_no_text_begins_like_a_formula_afterwards_unless_it_is_a_number(text: str) -> None:
    found = neutral(text)

    assert found[:1] not in ("=", "@", "\t", "\r", "\n")
    if found[:1] in ("+", "-"):
        assert found.lstrip("+-").replace(",", "").replace(".", "").isdigit()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), _json, max_size=4))
def test_a_line_is_one_line_and_reads_back(data: dict[str, Any]) -> None:
    line = as_line(record(data))

    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["data"] == data
