"""What an enqueuer gives is taken as it is, or refused with the place that is wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.errors import InvalidPayloadError
from jobplatform.queue.safe_json import DEEPEST, PAYLOAD_LIMIT, strict_json

CLEAN_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
CLEAN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CLEAN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CLEAN_TEXT, inner, max_size=4),
    max_leaves=20,
)


def problems_of(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPayloadError) as refused:
        strict_json(value)
    return [(problem.path, problem.message) for problem in refused.value.problems]


@given(CLEAN)
def test_json_is_kept_as_it_is(value: Any) -> None:
    assert json.loads(strict_json(value)) == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, {"b": "x\0"}]}, "/a/1/b"),
        ({"a": "\ud800"}, "/a"),
        ({"n": math.nan}, "/n"),
        ({"n": [math.inf]}, "/n/0"),
        ({"n": 10**5000}, "/n"),
        ({"when": {1, 2}}, "/when"),
        ({"bytes": b"x"}, "/bytes"),
        ({"a/b": {"c~d": b"x"}}, "/a~1b/c~0d"),
        ({"outer": {7: "a key that is no text"}}, "/outer"),
        ("\0", ""),
    ],
)
def test_a_value_that_cannot_be_stored_is_named_by_its_place(value: Any, path: str) -> None:
    assert [where for where, _ in problems_of(value)] == [path]


def test_every_problem_is_named_and_not_only_the_first() -> None:
    paths = [path for path, _ in problems_of({"a": "\0", "b": math.nan, "c": [object()]})]

    assert paths == ["/a", "/b", "/c/0"]


def test_the_deepest_allowed_value_is_taken() -> None:
    value: Any = 1
    for _ in range(DEEPEST - 1):
        value = [value]

    assert json.loads(strict_json(value)) == value


def test_a_value_nested_too_deep_is_refused_without_walking_down_to_its_end() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]

    ((path, message),) = problems_of(value)

    assert path == "/0" * DEEPEST
    assert "nested deeper" in message


def test_a_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["again"] = [value, value]

    assert problems_of(value) == [("/again/0", "contains itself"), ("/again/1", "contains itself")]


def test_a_payload_larger_than_the_limit_is_refused_with_its_size() -> None:
    ((path, message),) = problems_of({"text": "ü" * PAYLOAD_LIMIT})

    assert path == ""
    assert str(2 * PAYLOAD_LIMIT + len('{"text":""}')) in message
