"""When a job is tried again: properties of the arithmetic."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.errors import TaskDefinitionError
from jobplatform.queue import RetryPolicy

SECONDS = st.floats(min_value=0, max_value=100_000, allow_nan=False)
ATTEMPTS = st.integers(min_value=1, max_value=1000)
WAITS = st.sampled_from(["expo", "fibo", "constant"])
JITTERS = st.sampled_from(["equal", "full", "none"])


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    base = draw(SECONDS)
    return RetryPolicy(
        max_attempts=draw(ATTEMPTS),
        wait=draw(WAITS),
        base=base,
        cap=base + draw(SECONDS),
        jitter=draw(JITTERS),
    )


def exact(policy: RetryPolicy) -> RetryPolicy:
    return RetryPolicy.from_dict({**policy.as_dict(), "jitter": "none"})


@given(policies(), ATTEMPTS)
def test_no_delay_is_negative_or_longer_than_the_cap(policy: RetryPolicy, attempt: int) -> None:
    delay = policy.delay(attempt)

    assert 0 <= delay <= policy.cap


@given(policies(), ATTEMPTS)
def test_without_jitter_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int) -> None:
    policy = exact(policy)

    assert policy.delay(attempt) <= policy.delay(attempt + 1)


@given(policies(), ATTEMPTS, st.randoms(use_true_random=False))
def test_equal_jitter_keeps_at_least_half_of_the_delay(policy: RetryPolicy, attempt: int, draw: random.Random) -> None:
    policy = RetryPolicy.from_dict({**policy.as_dict(), "jitter": "equal"})
    full = exact(policy).delay(attempt)

    assert full / 2 <= policy.delay(attempt, draw) <= full


@given(policies(), ATTEMPTS, st.randoms(use_true_random=False))
def test_full_jitter_draws_from_the_whole_delay(policy: RetryPolicy, attempt: int, draw: random.Random) -> None:
    policy = RetryPolicy.from_dict({**policy.as_dict(), "jitter": "full"})

    assert 0 <= policy.delay(attempt, draw) <= exact(policy).delay(attempt)


@given(policies())
def test_a_policy_survives_the_trip_through_its_dictionary(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_dict(policy.as_dict()) == policy


@given(policies())
def test_the_first_delay_is_the_base(policy: RetryPolicy) -> None:
    assert math.isclose(exact(policy).delay(1), policy.base)


def test_the_default_waits_two_four_eight_seconds_before_its_jitter() -> None:
    policy = exact(RetryPolicy())

    assert [policy.delay(attempt) for attempt in (1, 2, 3)] == [2, 4, 8]


def test_expo_doubles_until_the_cap() -> None:
    policy = RetryPolicy(jitter="none", cap=20)

    assert [policy.delay(attempt) for attempt in range(1, 7)] == [2, 4, 8, 16, 20, 20]


def test_fibo_adds_the_last_two_delays() -> None:
    policy = RetryPolicy(wait="fibo", base=2, jitter="none")

    assert [policy.delay(attempt) for attempt in range(1, 7)] == [2, 2, 4, 6, 10, 16]


def test_constant_stays() -> None:
    policy = RetryPolicy(wait="constant", base=7, jitter="none")

    assert {policy.delay(attempt) for attempt in range(1, 50)} == {7}


def test_an_attempt_number_below_one_counts_as_the_first() -> None:
    assert RetryPolicy(jitter="none").delay(0) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base": "x"}, "base='x' is no number of seconds: write base=60"),
        ({"base": None}, "base=None is no number"),
        ({"base": math.nan}, "base=nan is no number"),
        ({"base": math.inf, "cap": math.inf}, "base must not be negative, nor without end"),
        ({"cap": math.nan}, "cap=nan is no number"),
        ({"cap": [600]}, "cap=[600] is no number"),
        ({"base": -1}, "base must not be negative"),
        ({"max_attempts": "3"}, "max_attempts must be a whole number from 1 to 1000"),
        ({"max_attempts": 2.5}, "max_attempts must be a whole number"),
        ({"max_attempts": True}, "max_attempts must be a whole number"),
        ({"wait": ["expo"]}, "wait must be"),
        ({"jitter": None}, "jitter must be"),
    ],
)
def test_a_policy_of_something_else_than_numbers_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskDefinitionError) as refused:
        RetryPolicy(**options)

    assert str(refused.value).startswith(said)


def test_a_policy_may_have_no_cap() -> None:
    assert RetryPolicy(cap=math.inf, jitter="none").delay(3) == 8


def test_a_policy_that_cannot_work_names_everything_that_is_wrong() -> None:
    with pytest.raises(TaskDefinitionError) as refused:
        RetryPolicy(max_attempts=0, wait="never", base=-1, cap=-2, jitter="some")  # type: ignore[arg-type]

    message = str(refused.value)
    assert all(word in message for word in ("max_attempts", "wait", "base", "cap", "jitter"))
