"""A request for a job is checked when it is made, with every problem at once."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
import uuid_utils

from jobplatform.errors import InvalidJobError
from jobplatform.queue import NewJob

SECOND = datetime.timedelta(seconds=1)
NAIVE = datetime.datetime(2030, 1, 1)  # noqa: DTZ001 - the point of the case
AWARE = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
EAST = datetime.timezone(datetime.timedelta(hours=14))


def a_job(**options: Any) -> NewJob:
    return NewJob(**{"workspace_id": uuid.UUID(int=1), "task": "work", **options})


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"task": "Not A Name"}, "/task"),
        ({"task": ""}, "/task"),
        ({"task": "work\n"}, "/task"),
        ({"queue": "x" * 101}, "/queue"),
        ({"priority": 1001}, "/priority"),
        ({"priority": -1001}, "/priority"),
        ({"priority": 1.5}, "/priority"),
        ({"max_attempts": 0}, "/maxAttempts"),
        ({"max_attempts": 1001}, "/maxAttempts"),
        ({"timeout": 0 * SECOND}, "/timeoutMs"),
        ({"timeout": 8 * 24 * 3600 * SECOND}, "/timeoutMs"),
        ({"start_within": 0 * SECOND}, "/startWithinMs"),
        ({"start_within": datetime.timedelta(days=366)}, "/startWithinMs"),
        ({"delay": -SECOND}, "/delayMs"),
        ({"delay": datetime.timedelta(days=36_501)}, "/delayMs"),
        ({"delay": SECOND, "run_after": AWARE}, "/delayMs"),
        ({"longest_delay": SECOND, "if_active": "replace"}, "/longestDelayMs"),
        ({"longest_delay": SECOND, "delay": SECOND}, "/longestDelayMs"),
        ({"longest_delay": SECOND, "delay": 2 * SECOND, "if_active": "replace"}, "/longestDelayMs"),
        (
            {"longest_delay": datetime.timedelta(days=36_501), "delay": SECOND, "if_active": "replace"},
            "/longestDelayMs",
        ),
        ({"run_after": datetime.datetime.max.replace(tzinfo=datetime.UTC)}, "/runAfter"),
        ({"run_after": datetime.datetime.min.replace(tzinfo=datetime.UTC)}, "/runAfter"),
        ({"run_after": NAIVE}, "/runAfter"),
        ({"run_after": datetime.datetime.min.replace(tzinfo=EAST)}, "/runAfter"),
        ({"workspace_id": "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10"}, "/workspaceId"),
        ({"workspace_id": 4711}, "/workspaceId"),
        ({"workspace_id": uuid_utils.uuid7()}, "/workspaceId"),
        ({"unique_key": "x" * 501}, "/uniqueKey"),
        ({"unique_for": SECOND}, "/uniqueForMs"),
        ({"unique_for": 0 * SECOND, "unique_key": "k"}, "/uniqueForMs"),
        ({"unique_for": datetime.timedelta(days=366), "unique_key": "k"}, "/uniqueForMs"),
        ({"unique_for": SECOND, "unique_key": "k", "if_active": "replace"}, "/ifActive"),
        ({"unique_key": "a\0"}, "/uniqueKey"),
        ({"tags": ("fine", "a\ud800")}, "/tags/1"),
        ({"tags": ("x",) * 21}, "/tags"),
        ({"tags": "nightly"}, "/tags"),
        ({"request_id": "x" * 201}, "/requestId"),
        ({"resource": ""}, "/resource"),
        ({"resource": "x" * 201}, "/resource"),
        ({"resource": "hubspot:4711\n"}, "/resource"),
        ({"resource": "hubspot\x1f4711"}, "/resource"),
        ({"resource": "a\0"}, "/resource"),
        ({"units": 0}, "/units"),
        ({"units": 10_001}, "/units"),
        ({"units": 1.5}, "/units"),
        ({"units": 2.0}, "/units"),
        ({"units": "2"}, "/units"),
        ({"priority": True}, "/priority"),
        ({"priority": None}, "/priority"),
        ({"max_attempts": 3.0}, "/maxAttempts"),
        ({"payload_version": 0}, "/payloadVersion"),
        ({"payload_version": 1.0}, "/payloadVersion"),
        ({"task": None}, "/task"),
        ({"task": ["work"]}, "/task"),
        ({"queue": 5}, "/queue"),
        ({"unique_key": 4711}, "/uniqueKey"),
        ({"resource": 4711}, "/resource"),
        ({"request_id": 4711}, "/requestId"),
        ({"trace_parent": b"00-1"}, "/traceParent"),
        ({"tags": None}, "/tags"),
        ({"tags": 5}, "/tags"),
        ({"tags": ("fine", 5)}, "/tags/1"),
        ({"if_active": "replaced"}, "/ifActive"),
        ({"id": "abc"}, "/id"),
        ({"batch_id": "abc"}, "/batchId"),
        ({"parent_id": 5}, "/parentId"),
        ({"after": "abc"}, "/after"),
        ({"after": uuid.UUID(int=1)}, "/after"),
        ({"after": ["abc"]}, "/after/0"),
        ({"after": [None]}, "/after/0"),
    ],
)
def test_an_option_that_no_job_can_have_is_named_by_its_place(options: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidJobError) as refused:
        a_job(**options)

    assert [problem.path for problem in refused.value.problems] == [path]


def test_every_problem_of_a_job_is_named_at_once() -> None:
    with pytest.raises(InvalidJobError) as refused:
        a_job(task="", priority=5000, max_attempts=0)

    assert [problem.path for problem in refused.value.problems] == ["/task", "/priority", "/maxAttempts"]


@pytest.mark.parametrize(
    "options",
    [
        {"task": "null"},
        {"resource": "hubspot:4711", "units": 10_000},
        {"resource": "Ein Konto: Zürich"},
        {"timeout": 7 * 24 * 3600 * SECOND, "delay": 0 * SECOND},
        {"tags": ("x" * 100,) * 20, "unique_key": "x" * 500, "priority": -1000, "max_attempts": 1000},
    ],
)
def test_what_is_at_the_limit_is_fine(options: dict[str, Any]) -> None:
    job = a_job(**options)

    assert {name: getattr(job, name) for name in options} == options


def test_ids_are_made_here_and_rise() -> None:
    ids = [a_job().id for _ in range(1000)]

    assert sorted(ids) == ids
    assert len(set(ids)) == 1000


def test_ids_are_uuids_of_version_seven() -> None:
    assert a_job().id.version == 7
