"""Who goes together into one call of a batch handler, and who waits for whom."""

from __future__ import annotations

import math
import uuid
from collections import deque

from jobplatform.queue import ClaimedJob, Lease
from jobplatform.worker.attempt import Attempt
from jobplatform.worker.gathering import CallSize, Gathering

A, B = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def attempt(workspace: str = A, task: str = "check", tried: int = 1, crashes: int = 0, timeout: int = 1000) -> Attempt:
    lease = Lease(workspace, str(uuid.uuid4()), 1)
    return Attempt(ClaimedJob(lease, "default", task, tried, 3, crashes, timeout, "{}", 1, None, None))


def gathering(size: int = 3, wait: float = 0.0) -> Gathering:
    found = Gathering()
    found.learn({"check": CallSize(size, wait)})
    return found


def test_those_of_one_workspace_go_together_and_the_others_keep_their_order() -> None:
    first, other, second, third, fourth = attempt(), attempt(B), attempt(), attempt(), attempt()
    ready = deque([first, other, second, third, fourth])

    assert gathering().together(ready) == [first, second, third]
    assert list(ready) == [other, fourth]


def test_one_that_finds_nobody_runs_like_any_other_job() -> None:
    for alone in (attempt(B), attempt(task="other"), attempt(tried=2), attempt(crashes=1), attempt(timeout=5)):
        ready = deque([attempt(), alone])
        assert gathering().together(ready) == []
        assert len(ready) == 2


def test_one_that_was_tried_before_takes_nobody_along() -> None:
    ready = deque([attempt(tried=2), attempt(), attempt()])

    assert gathering().together(ready) == []


def test_those_that_may_wait_do_so_until_they_are_enough() -> None:
    found = gathering(size=2, wait=5.0)
    first, second, elsewhere = attempt(), attempt(), attempt(B)

    assert found.add(first, now=10.0)
    assert found.add(elsewhere, now=11.0)
    assert found.take_due(12.0) == []
    assert found.due_at == 15.0
    found.add(second, now=12.0)

    assert found.take_due(12.0) == [first, second]
    assert (len(found), found.due_at) == (1, 16.0)


def test_nobody_waits_longer_than_the_task_says() -> None:
    found = gathering(size=5, wait=5.0)
    first = attempt()
    found.add(first, now=10.0)

    assert found.take_due(15.0) == [first]
    assert (len(found), found.due_at) == (0, math.inf)


def test_those_that_run_alone_wait_for_nobody() -> None:
    found = gathering(wait=5.0)

    assert not found.add(attempt(tried=2), now=0.0)
    assert not found.add(attempt(task="other"), now=0.0)
    assert not gathering(wait=0.0).add(attempt(), now=0.0)


def test_one_that_waits_can_be_taken_out() -> None:
    found = gathering(wait=5.0)
    first, second = attempt(), attempt()
    found.add(first, now=0.0)
    found.add(second, now=0.0)

    assert found.remove(first)
    assert not found.remove(first)
    assert found.take_all() == [second]
    assert (len(found), found.due_at) == (0, math.inf)


def test_as_many_more_are_held_as_run_together() -> None:
    found = gathering(size=5)

    found.saw([attempt().job, attempt().job])
    assert found.stretch == 5.0
    found.saw([attempt().job, attempt(task="other").job])
    assert found.stretch == 3.0
    found.saw([])
    assert found.stretch == 3.0
