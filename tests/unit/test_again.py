"""Whether and when a failed attempt is tried again: what was raised, what a service asked for, what the task says."""

from __future__ import annotations

import datetime
import logging
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.errors import InvalidPayloadError, JobError
from jobplatform.queue import RetryPolicy
from jobplatform.queue.run.again import LONGEST_SPREAD, Again, again
from jobplatform.queue.run.retry_after import LONGEST, Wait, asked_to_wait

POLICY = RetryPolicy(wait="constant", base=7, jitter="none")
URL = "https://crm.example.com/contacts"


def answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    """What httpx raises for an answer that is an error."""
    answer = httpx.Response(status, headers=headers, request=httpx.Request("GET", URL))
    with pytest.raises(httpx.HTTPStatusError) as raised:
        answer.raise_for_status()
    return raised.value


def test_the_policy_decides_where_nobody_else_says_anything() -> None:
    assert again(POLICY, None, 2, ValueError()) == Again(retry=True, delay=7.0)


@pytest.mark.parametrize("error", [JobError("no", should_retry=False), InvalidPayloadError([])])
def test_what_is_final_is_not_tried_again_whatever_the_task_says(error: Exception) -> None:
    assert again(POLICY, lambda _attempt, _error: 5, 1, error) == Again(retry=False)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (30, Again(retry=True, delay=30.0)),
        (datetime.timedelta(minutes=2), Again(retry=True, delay=120.0)),
        (False, Again(retry=False)),
        (None, Again(retry=True, delay=7.0)),
        (True, Again(retry=True, delay=7.0)),
        (-4, Again(retry=True, delay=0.0)),
        (float("nan"), Again(retry=True, delay=7.0)),
        ("soon", Again(retry=True, delay=7.0)),
    ],
)
def test_a_tasks_function_decides_if_it_says_something(said: Any, expected: Again) -> None:
    assert again(POLICY, lambda _attempt, _error: said, 1, ValueError()) == expected


def test_a_tasks_function_hears_the_attempt_and_what_it_raised() -> None:
    heard: list[tuple[int, BaseException]] = []
    error = ValueError("broken")

    again(POLICY, lambda attempt, raised: heard.append((attempt, raised)), 4, error)

    assert heard == [(4, error)]


def test_a_tasks_function_that_fails_leaves_it_to_the_policy_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "jobplatform.queue"):
        assert again(POLICY, lambda attempt, _error: 1 / (attempt - 1), 1, ValueError()) == Again(True, 7.0)

    assert "retry function failed" in caplog.text


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_says_when_to_come_back_is_not_asked_before(status: int) -> None:
    found = again(POLICY, None, 1, answered(status, **{"Retry-After": "40"}))

    assert found.retry
    assert 40 <= found.delay <= 40 + LONGEST_SPREAD
    assert found.closed_for == 40


def test_a_tasks_function_wins_over_what_a_service_says() -> None:
    found = again(POLICY, lambda _attempt, _error: 3, 1, answered(429, **{"Retry-After": "40"}))

    assert found == Again(retry=True, delay=3.0, closed_for=40.0)


def test_a_date_is_read_by_the_clock_of_the_service() -> None:
    headers = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:30:00 GMT"}

    assert asked_to_wait(answered(503, **headers)) == Wait(120.0, everybody=True)


def test_a_date_in_the_past_asks_for_nothing() -> None:
    assert asked_to_wait(answered(503, **{"Retry-After": "Wed, 21 Oct 2015 07:30:00 GMT"})) is None


@pytest.mark.parametrize(
    "error",
    [
        answered(429),
        answered(429, **{"Retry-After": "tomorrow"}),
        answered(429, **{"Retry-After": "0"}),
        answered(404, **{"Retry-After": "40"}),
        ValueError(),
        JobError("no", retry_after=0),
    ],
    ids=str,
)
def test_what_asks_for_nothing_sensible_is_left_to_the_policy(error: Exception) -> None:
    assert asked_to_wait(error) is None


def test_any_exception_may_say_when_it_wants_the_next_attempt() -> None:
    error = ValueError()
    error.retry_after = datetime.timedelta(minutes=1)  # type: ignore[attr-defined]

    assert asked_to_wait(error) == Wait(60.0, everybody=False)
    assert asked_to_wait(JobError("busy", retry_after=5)) == Wait(5.0, everybody=False)


def test_the_cause_of_an_exception_is_asked_too() -> None:
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError("no contacts") from answered(429, **{"Retry-After": "40"})

    assert asked_to_wait(raised.value) == Wait(40.0, everybody=True)


def test_an_answer_of_any_library_is_read_alike() -> None:
    error = ValueError()
    error.response = SimpleNamespace(status_code=503, headers={"Retry-After": "9"})  # type: ignore[attr-defined]

    assert asked_to_wait(error) == Wait(9.0, everybody=True)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.binary(), st.booleans()))
def test_whatever_an_exception_says_the_wait_is_a_sensible_one(said: Any) -> None:
    error = ValueError()
    error.retry_after = said  # type: ignore[attr-defined]

    wait = asked_to_wait(error)

    assert wait is None or 0 < wait.seconds <= LONGEST
