"""What the parent reads in a child's frames, whoever may have written it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.queue import Ended, Happening
from jobplatform.worker.bodies import BodyError, decode_end, decode_happenings, decode_line, decode_record

DECODERS: list[Callable[[bytes], object]] = [decode_end, decode_line, decode_record, decode_happenings]
RECORD = {"name": "a", "levelno": 20, "levelname": "INFO", "msg": "b", "created": 1.5, "extra": {"c": 1}}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("decode", DECODERS)
@given(body=st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_what_is_not_right_is_refused_in_one_way(decode: Callable[[bytes], object], body: bytes) -> None:
    with suppress(BodyError):
        decode(body)


@pytest.mark.parametrize("decode", DECODERS)
def test_what_is_nested_too_deep_to_be_read_is_refused(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(BodyError):
        decode(b"[" * 1_000_000)


def test_what_children_send_is_read() -> None:
    ended = Ended("snoozed", delay=float("inf"))

    assert decode_end(json.dumps(ended._asdict()).encode()) == ended._asdict()
    assert decode_line(b'["info", "a line"]') == ("info", "a line")
    assert decode_record(json.dumps(RECORD).encode()) == RECORD
    assert decode_happenings(b'[["conflict", "default", "task", 2]]') == {Happening("conflict", "default", "task"): 2}


@pytest.mark.parametrize("member", list(Ended("failed")._asdict()))
@pytest.mark.parametrize("value", [[], "missing"])
def test_an_end_with_one_member_that_is_wrong_is_refused(member: str, value: Any) -> None:
    end = Ended("failed", outcome="error")._asdict() | {member: value}
    if value == "missing":
        del end[member]

    with pytest.raises(BodyError):
        decode_end(json.dumps(end).encode())


@pytest.mark.parametrize("member", list(RECORD))
def test_a_record_with_one_member_that_is_wrong_is_refused(member: str) -> None:
    with pytest.raises(BodyError):
        decode_record(json.dumps(RECORD | {member: None}).encode())


@pytest.mark.parametrize("body", [b'["nosuch", "a line"]', b'["info", 1]', b'["info"]'])
def test_a_line_of_no_level_or_without_a_text_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError):
        decode_line(body)


@pytest.mark.parametrize("what", ['"lost", "q", "t", 1', '"enqueued", "q", ["t"], 1', '"enqueued", "q", "t", -1'])
def test_counts_of_what_cannot_happen_are_refused(what: str) -> None:
    with pytest.raises(BodyError):
        decode_happenings(f"[[{what}]]".encode())
