"""What is sealed opens in its own place, with its own key, and nowhere else."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.errors import SealBrokenError
from jobplatform.queue.safe_json import ERROR_LIMIT, LOG_LINE_LIMIT, TRACEBACK_LIMIT, safe_text
from jobplatform.queue.seal import CLOSED, CLOSED_TEXT, DataKey, Seal, close, key_id_of, sealed_form

KEY = DataKey(1, b"k" * 32)
WORKSPACE, JOB = uuid.UUID(int=1), uuid.UUID(int=2)


def form_of(text: str) -> str:
    form = sealed_form(json.loads(text))
    assert form is not None
    return form


@given(st.text())
def test_what_was_sealed_opens(text: str) -> None:
    seal = Seal(KEY, WORKSPACE, JOB)

    opened = seal.open("payload", form_of(seal.seal("payload", text)))

    assert opened == text.encode(errors="replace").decode()


@pytest.mark.parametrize(
    ("key", "workspace_id", "job_id", "field"),
    [
        (KEY, uuid.UUID(int=9), JOB, "payload"),
        (KEY, WORKSPACE, uuid.UUID(int=9), "payload"),
        (KEY, WORKSPACE, JOB, "result"),
        (DataKey(1, b"x" * 32), WORKSPACE, JOB, "payload"),
    ],
    ids=["another workspace", "another job", "another field", "another key"],
)
def test_nothing_opens_elsewhere(key: DataKey, workspace_id: uuid.UUID, job_id: uuid.UUID, field: str) -> None:
    form = form_of(Seal(KEY, WORKSPACE, JOB).seal("payload", "text"))

    with pytest.raises(SealBrokenError, match=f"the {field} cannot be opened"):
        Seal(key, workspace_id, job_id).open(field, form)


def test_a_changed_byte_is_noticed() -> None:
    seal = Seal(KEY, WORKSPACE, JOB)
    form = form_of(seal.seal("payload", "a longer text than that"))
    changed = form[:20] + ("A" if form[20] != "A" else "B") + form[21:]

    with pytest.raises(SealBrokenError):
        seal.open("payload", changed)


@pytest.mark.parametrize("form", ["", "v1", "v1:1:", "v2:1:" + "A" * 60, "v1:0:" + "A" * 60, "v1:1:" + "ä" * 60])
def test_a_form_that_nobody_knows_is_refused(form: str) -> None:
    with pytest.raises(SealBrokenError):
        Seal(KEY, WORKSPACE, JOB).open("payload", form)
    with pytest.raises(SealBrokenError):
        key_id_of(form)


def test_the_same_text_looks_different_each_time() -> None:
    seal = Seal(KEY, WORKSPACE, JOB)

    assert seal.seal("payload", "text") != seal.seal("payload", "text")


def test_the_form_says_which_key_and_nothing_else() -> None:
    form = form_of(Seal(DataKey(7, b"k" * 32), WORKSPACE, JOB).seal("payload", "canary"))

    assert key_id_of(form) == 7
    assert "canary" not in form


@pytest.mark.parametrize("limit", [LOG_LINE_LIMIT, ERROR_LIMIT, TRACEBACK_LIMIT])
@pytest.mark.parametrize("text", ["x", "x" * 100_000, "ä€😀" * 30_000, "\x00\ud800" * 50_000])
def test_a_sealed_text_fits_where_texts_are_cut(limit: int, text: str) -> None:
    sealed = Seal(KEY, WORKSPACE, JOB).seal_text("error", text, limit)

    assert safe_text(sealed, limit) == sealed
    assert sealed_form(sealed) is not None


def test_of_a_text_that_is_too_long_beginning_and_end_are_kept() -> None:
    seal = Seal(KEY, WORKSPACE, JOB)
    sealed = seal.seal_text("error", "first" + "x" * 100_000 + "last", 1_000)

    opened = seal.open("error", sealed_form(sealed) or "")

    assert opened.startswith("first")
    assert opened.endswith("last")
    assert "cut" in opened


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "",
        "text",
        [],
        {},
        {"$sealed": 1},
        {"$sealed": "v1:1:AA", "more": 1},
        '{"$sealed"',
        '{"$sealed": "a", "b": 1}',
    ],
)
def test_an_ordinary_value_is_not_taken_for_a_sealed_one(value: object) -> None:
    assert sealed_form(value) is None
    assert close(value) == value


def test_the_database_s_spelling_of_the_form_is_known() -> None:
    assert sealed_form('{"$sealed": "v1:1:AA"}') == sealed_form('{"$sealed":"v1:1:AA"}') == "v1:1:AA"


def test_who_may_not_read_learns_that_there_is_something() -> None:
    sealed = Seal(KEY, WORKSPACE, JOB).seal("payload", "text")

    assert close(json.loads(sealed)) == CLOSED
    assert close(sealed) == CLOSED_TEXT


def test_no_key_is_shown() -> None:
    assert repr(DataKey(3, b"canary")) == "<DataKey 3>"
