"""Errors carry facts, and messages for whoever reads them at night."""

from __future__ import annotations

import inspect
import uuid

import pytest

from jobplatform import errors
from jobplatform.errors import (
    EnqueueConflictError,
    InvalidJobError,
    InvalidPayloadError,
    JobPlatformError,
    LeaseLostError,
    Problem,
    QuotaExceededError,
    SettingsError,
    SourceBusyError,
    SyncFailedError,
    UnknownTaskError,
)

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_of_ours_can_be_caught_as_one(error: type[Exception]) -> None:
    assert issubclass(error, JobPlatformError)
    assert error.__name__.endswith("Error")


@pytest.mark.parametrize("error", CLASSES)
def test_the_tree_at_the_top_of_the_file_names_every_error(error: type[Exception]) -> None:
    assert error.__name__ in (errors.__doc__ or "")


def test_settings_that_are_wrong_are_listed_one_a_line() -> None:
    error = SettingsError(["A is not a setting", "B must be positive"])

    assert error.problems == ("A is not a setting", "B must be positive")
    assert str(error).count("\n  - ") == 2


def test_an_unknown_task_suggests_the_nearest_name() -> None:
    assert str(UnknownTaskError("snyc", "sync")) == "no task is named 'snyc'; did you mean 'sync'?"
    assert str(UnknownTaskError("snyc")) == "no task is named 'snyc'"


def test_where_an_unknown_task_was_looked_for_is_in_its_traceback_and_not_in_its_message() -> None:
    error = UnknownTaskError("snyc", "sync", looked_in="app.tasks:tasks", known=["greet", "sync"])

    assert "app.tasks" not in str(error)
    assert error.__notes__ == ["Known to app.tasks:tasks: greet, sync"]


def test_of_many_names_that_are_known_some_are_listed_and_the_others_counted() -> None:
    known = [f"task-{number:03}" for number in range(100)]

    assert UnknownTaskError("x", known=known).where.endswith("task-019 and 80 more")


def test_an_invalid_job_names_each_place() -> None:
    error = InvalidJobError([Problem("/priority", "is too high"), Problem("", "is empty")])

    assert str(error) == "/priority: is too high; /: is empty"


def test_a_payload_error_can_be_handled_as_a_job_error() -> None:
    assert issubclass(InvalidPayloadError, InvalidJobError)


def test_a_lost_lease_says_which_attempt_of_which_job_to_stop() -> None:
    job_id = uuid.uuid4()
    error = LeaseLostError(job_id, 3)

    assert (error.job_id, error.epoch) == (job_id, 3)
    assert str(job_id) in str(error)
    assert "epoch 3" in str(error)


def test_an_enqueue_conflict_says_which_guard_of_which_workspace() -> None:
    error = EnqueueConflictError("sync", "acme")

    assert (error.unique_key, error.workspace_id, error.others) == ("sync", "acme", 0)
    assert "other" not in str(error)
    assert "new transaction" in str(error)


def test_an_enqueue_conflict_of_a_bulk_says_that_it_may_be_about_another_guard() -> None:
    error = EnqueueConflictError("sync", "acme", others=2)

    assert "'sync' of workspace acme, or one of 2 others" in str(error)


def test_a_full_quota_says_whose_it_is_and_when_to_try_again() -> None:
    error = QuotaExceededError("acme", 500, 10)

    assert (error.workspace_id, error.limit, error.retry_after_seconds) == ("acme", 500, 10)
    assert str(error) == (
        "workspace acme may have 500 waiting jobs and has no room for more; try again in 10 s, or raise its quota"
    )


def test_a_busy_source_says_when_to_come_back() -> None:
    assert SourceBusyError("too many requests", 2.5).retry_after == 2.5


def test_a_failed_sync_gives_the_reason_of_each_connection() -> None:
    error = SyncFailedError(["crm: 401", "erp: no answer"])

    assert str(error) == "no connection could be synced: crm: 401; erp: no answer"
