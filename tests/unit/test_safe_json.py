"""What a handler says can always be stored; what it cannot mean in JSON is a TypeError and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.queue.safe_json import DEEPEST, safe_json, safe_text

#: Text as Python can hold it: NUL and lone surrogates too.
ANY_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, categories=None))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
KEYS = SCALARS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
NO_JSON = st.sampled_from([object(), {1, 2}, b"bytes", 1j, range(3), int, (item for item in ())])


def refuse_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 1


@given(VALUES)
def test_what_json_can_mean_becomes_text_without_anything_postgresql_refuses(value: Any) -> None:
    text = safe_json(value)

    text.encode("utf-8")
    assert "\0" not in text
    assert "\\u0000" not in text
    assert "\\ud8" not in text.lower()
    json.loads(text, parse_constant=refuse_constant)


@given(VALUES | NO_JSON | st.lists(NO_JSON, min_size=1) | st.dictionaries(ANY_TEXT, NO_JSON, min_size=1))
def test_whatever_is_given_the_answer_is_json_or_a_type_error(value: Any) -> None:
    try:
        text = safe_json(value)
    except TypeError:
        return
    json.loads(text, parse_constant=refuse_constant)


@given(VALUES)
def test_storing_what_was_stored_changes_nothing(value: Any) -> None:
    once = safe_json(value)

    assert safe_json(json.loads(once)) == once


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_becomes_null(value: float) -> None:
    assert safe_json([value]) == "[null]"


def test_nul_and_lone_surrogates_become_the_replacement_character() -> None:
    assert json.loads(safe_json({"a\0": "b\ud800c"})) == {"a\ufffd": "b\ufffdc"}


def test_what_is_nested_too_deep_becomes_a_note_of_it() -> None:
    value: Any = "bottom"
    for _ in range(20_000):
        value = [value]

    stored = json.loads(safe_json(value))

    assert depth_of(stored) == DEEPEST + 1


def test_a_number_too_long_to_write_becomes_a_note_of_it() -> None:
    assert "too large" in safe_json(10**5000)


def test_a_key_too_long_to_write_does_not_make_the_value_unusable() -> None:
    assert "too large" in safe_json({10**5000: 1})


def test_a_value_that_contains_itself_is_a_type_error_and_not_an_endless_one() -> None:
    parent: dict[str, Any] = {"children": []}
    parent["children"] += [{"parent": parent}, {"parent": parent}]

    with pytest.raises(TypeError, match="itself"):
        safe_json(parent)


def test_the_same_list_twice_is_not_a_value_that_contains_itself() -> None:
    shared = [1]

    assert safe_json([shared, shared]) == "[[1],[1]]"


@given(ANY_TEXT, st.integers(min_value=0, max_value=200))
def test_a_text_is_never_longer_than_its_limit_and_always_storable(text: str, limit: int) -> None:
    kept = safe_text(text, limit)

    assert len(kept) <= limit
    assert "\0" not in kept
    kept.encode("utf-8")


@given(st.text(max_size=100))
def test_a_short_clean_text_is_kept_as_it_is(text: str) -> None:
    clean = text.replace("\0", "")

    assert safe_text(clean, 100) == clean


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    kept = safe_text("begin" + "x" * 10_000 + "end", 200)

    assert kept.startswith("begin")
    assert kept.endswith("end")
    assert "left out" in kept
