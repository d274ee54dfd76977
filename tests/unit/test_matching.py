"""A partial pattern, and the places where a value is not like it."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest

from jobplatform.testing.matching import differences


def found(value: Any, pattern: Any) -> list[str]:
    return [str(difference) for difference in differences(value, pattern, "payload")]


@pytest.mark.parametrize(
    ("value", "pattern", "said"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, []),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3}}}, ["payload.a.b.c: 1, expected 3"]),
        ({"a": 1}, {"b": None}, ["payload.b: missing, expected None"]),
        ({"a": [{"b": 1, "c": 1}, 2]}, {"a": [{"b": 2}, 2]}, ["payload.a[0].b: 1, expected 2"]),
        ({"a": [1, 2]}, {"a": [1]}, ["payload.a: [1, 2], expected [1]"]),
        ({"a": "text"}, {"a": ["t"]}, ["payload.a: 'text', expected ['t']"]),
        ({"a": {"b": 1}}, {"a": ANY, "c": ANY}, ["payload.c: missing, expected <ANY>"]),
        ({"a": 0.1 + 0.2}, {"a": pytest.approx(0.3)}, []),
        ({"a": {}}, {"a": None}, ["payload.a: {}, expected None"]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, ["payload.a: 1, expected 2", "payload.b: 2, expected 1"]),
    ],
)
def test_differences_name_their_place(value: Any, pattern: Any, said: list[str]) -> None:
    assert found(value, pattern) == said


@pytest.mark.parametrize("value", [None, {}, [], [{"a": [1, {"b": None}]}], {"a": {"b": [{}, "c"]}}], ids=repr)
def test_everything_is_like_itself(value: Any) -> None:
    assert found(value, value) == []


def test_long_values_are_cut() -> None:
    (said,) = found({"a": "x" * 10_000}, {"a": "y"})

    assert len(said) < 300
