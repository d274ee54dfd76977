"""A duration is a timedelta: a number might be of seconds or of milliseconds, and is refused with what to write. So is
what is no moment where one is meant."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jobplatform.errors import (
    InvalidHookError,
    InvalidJobError,
    InvalidLimitError,
    InvalidScheduleError,
    SettingsError,
    TaskDefinitionError,
)
from jobplatform.models import Hook
from jobplatform.queue import (
    Every,
    Items,
    JobChange,
    Keep,
    Matching,
    NewJob,
    Once,
    RetryPolicy,
    RunningJob,
    Tasks,
    pause,
    prune_jobs,
    queue_health,
    queue_stats,
    rotate_hook_secret,
)
from jobplatform.queue.schedules.plan import Plan
from jobplatform.worker import WorkerOptions

A_WORKSPACE = uuid.UUID(int=7)
A_KEY: Mapping[str, Any] = {"unique_key": "k"}
NOWHERE: Any = None


def tasks_of(**options: Any) -> Tasks:
    tasks = Tasks()

    @tasks.task("sync", **options)
    def sync(_job: RunningJob, _payload: dict[str, Any]) -> None: ...

    return tasks


def declare_schedule(**options: Any) -> None:
    tasks = tasks_of()
    tasks.every(options.pop("interval", datetime.timedelta(hours=1)), **options)(tasks["sync"])


@pytest.mark.parametrize("given", [60, 1.5, float("nan"), "1h", True])
@pytest.mark.parametrize(
    ("name", "use", "error"),
    [
        ("timeout", lambda **said: NewJob(workspace_id=A_WORKSPACE, task="sync", **said), InvalidJobError),
        ("delay", lambda **said: NewJob(workspace_id=A_WORKSPACE, task="sync", **said), InvalidJobError),
        ("start_within", lambda **said: NewJob(workspace_id=A_WORKSPACE, task="sync", **said), InvalidJobError),
        ("unique_for", lambda **said: NewJob(workspace_id=A_WORKSPACE, task="sync", **A_KEY, **said), InvalidJobError),
        (
            "longest_delay",
            lambda **said: NewJob(
                workspace_id=A_WORKSPACE,
                task="sync",
                delay=datetime.timedelta(seconds=1),
                if_active="replace",
                **A_KEY,
                **said,
            ),
            InvalidJobError,
        ),
        ("delay", lambda **said: tasks_of()["sync"].new_job(workspace_id=A_WORKSPACE, **said), InvalidJobError),
        ("timeout", tasks_of, TaskDefinitionError),
        ("start_within", tasks_of, TaskDefinitionError),
        ("unique_for", lambda **said: tasks_of(unique="workspace", **said), TaskDefinitionError),
        ("interval", Every, InvalidScheduleError),
        ("interval", declare_schedule, TaskDefinitionError),
        ("spread", declare_schedule, TaskDefinitionError),
        ("timeout", declare_schedule, TaskDefinitionError),
        (
            "spread",
            lambda **said: Plan(rule=Every(datetime.timedelta(hours=1)), **said).columns(
                tasks_of()["sync"], A_WORKSPACE
            ),
            InvalidScheduleError,
        ),
        ("completed", Keep, InvalidLimitError),
        ("since", Matching, InvalidLimitError),
        ("within", lambda **said: queue_stats(NOWHERE, **said), InvalidJobError),
        ("stuck_after", lambda **said: queue_health(NOWHERE, **said), InvalidJobError),
        (
            "completed_after",
            lambda **said: prune_jobs(NOWHERE, failed_after=datetime.timedelta(days=1), **said),
            InvalidLimitError,
        ),
        ("keep_old", lambda **said: rotate_hook_secret(NOWHERE, Hook(scheme="none"), **said), InvalidHookError),
        (
            "tick_retention",
            lambda **said: WorkerOptions(database_url="postgresql://", tasks="a:b", **said),
            SettingsError,
        ),
    ],
)
def test_what_is_no_duration_is_refused_by_its_name_and_with_what_to_write(
    name: str, use: Callable[..., Any], error: type[Exception], given: object
) -> None:
    with pytest.raises(error) as refused:
        use(**{name: given})

    said = f"{given}" if isinstance(given, int | float) and given == given and given is not True else "60"
    assert f"{name}={given!r}" in str(refused.value)
    assert f"timedelta(seconds={said})" in str(refused.value)


def test_all_that_is_wrong_with_a_job_is_said_beside_what_is_no_duration() -> None:
    with pytest.raises(InvalidJobError) as refused:
        NewJob(workspace_id=A_WORKSPACE, task="Not A Task", timeout=60, delay=5)  # type: ignore[arg-type]  # on purpose

    assert {problem.path for problem in refused.value.problems} == {"/task", "/timeoutMs", "/delayMs"}


@pytest.mark.parametrize("name", ["base", "cap"])
def test_where_seconds_are_asked_for_a_timedelta_is_refused_with_what_to_write(name: str) -> None:
    with pytest.raises(TaskDefinitionError, match=rf"{name} is a number of seconds: write {name}=900\.0"):
        RetryPolicy(**{name: datetime.timedelta(minutes=15)})
    with pytest.raises(SettingsError, match=r"drain_timeout is a number of seconds: write drain_timeout=900\.0"):
        WorkerOptions(database_url="x", tasks="a:b", drain_timeout=datetime.timedelta(minutes=15))  # type: ignore[arg-type]  # on purpose


def test_how_long_a_batch_waits_is_a_duration_or_seconds_and_nothing_else() -> None:
    with pytest.raises(TaskDefinitionError, match="wait='1s'"):
        Tasks().batch_task("many", size=5, wait="1s")  # type: ignore[arg-type]  # on purpose
    tasks = Tasks()

    @tasks.batch_task("many", size=5, wait=datetime.timedelta(seconds=2))
    def many(_items: Items[dict[str, Any]]) -> None: ...

    assert many.batch is not None
    assert many.batch.wait == 2


@pytest.mark.parametrize("given", [60, "2031-01-01", datetime.date(2031, 1, 1), datetime.timedelta(hours=1)])
@pytest.mark.parametrize(
    ("name", "use", "error"),
    [
        ("run_after", lambda **said: NewJob(workspace_id=A_WORKSPACE, task="sync", **said), InvalidJobError),
        ("run_after", JobChange, InvalidJobError),
        ("at", Once, InvalidScheduleError),
        ("anchor", lambda **said: Every(datetime.timedelta(hours=1), **said), InvalidScheduleError),
        ("until", lambda **said: pause(NOWHERE, "queue", "sync", reason="r", actor="a", **said), InvalidLimitError),
    ],
)
def test_what_is_no_moment_is_refused_by_its_name_and_with_what_to_write(
    name: str, use: Callable[..., Any], error: type[Exception], given: object
) -> None:
    with pytest.raises(error) as refused:
        use(**{name: given})

    assert f"{name}={given!r}" in str(refused.value)
    assert "tzinfo=UTC" in str(refused.value)
