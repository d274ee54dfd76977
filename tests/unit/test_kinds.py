"""What an argument may be is read from the annotation of its parameter."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from jobplatform.errors import InvalidJobError, InvalidLimitError, InvalidScheduleError
from jobplatform.queue import Every, JobChange, Matching, preview_rule
from jobplatform.queue.allowed import is_name
from jobplatform.queue.callers import checks_arguments

ID = uuid.UUID(int=7)
NO_ZONE = datetime.datetime(2026, 1, 5, 9)  # noqa: DTZ001  # that is what is tried


@checks_arguments()
def look(job_ids: Iterable[uuid.UUID], *, made_by: str = "code", largest: int | None = None) -> list[uuid.UUID]:
    assert made_by
    return list(job_ids)[:largest]


def problems(call: Any, *args: Any, **kwargs: Any) -> dict[str, str]:
    with pytest.raises((InvalidJobError, InvalidLimitError, InvalidScheduleError)) as refused:
        call(*args, **kwargs)
    return dict(refused.value.problems)


def test_ids_that_can_be_walked_through_once_arrive_and_their_texts_are_read() -> None:
    said: Any = (one for one in (ID, str(ID)))

    assert look(said) == [ID, ID]


def test_all_that_is_wrong_is_told_at_once_and_by_its_place() -> None:
    told = problems(look, [ID, "abc"], made_by="", largest=-1)

    assert told == {
        "/jobIds/1": "is not the text of a UUID: 'abc'",
        "/madeBy": "must not be empty",
        "/largest": "must be a whole number from 0 to 2147483647",
    }


def test_none_is_taken_where_it_means_that_nothing_is_said() -> None:
    assert look([ID], largest=None) == [ID]
    assert problems(look, [ID], made_by=None) == {"/madeBy": "must be a text, and is a NoneType"}


def test_what_is_no_call_of_it_at_all_python_refuses_as_ever() -> None:
    call: Any = look

    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        call([ID], colour="red")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'job_ids'"):
        call()
    with pytest.raises(TypeError, match="multiple values for argument 'job_ids'"):
        call([ID], job_ids=[ID])
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        call([ID], "ada")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"queue": []}, "/queue"),
        ({"queue": "two words"}, "/queue"),
        ({"at_once": "no"}, "/atOnce"),
        ({"priority": 5.0}, "/priority"),
        ({"priority": 1001}, "/priority"),
        ({"run_after": NO_ZONE}, "/runAfter"),
        ({"run_after": "noon"}, "/runAfter"),
    ],
)
def test_a_change_that_cannot_be_is_refused_when_it_is_made(said: dict[str, Any], path: str) -> None:
    assert list(problems(JobChange, **said)) == [path]


@pytest.mark.parametrize(
    ("said", "path"),
    [({"workspace_id": 5}, "/workspaceId"), ({"status": "tired"}, "/status"), ({"task": "a\0b"}, "/task")],
)
def test_jobs_are_not_described_by_what_is_none(said: dict[str, Any], path: str) -> None:
    assert list(problems(Matching, **said)) == [path]


def test_ticks_are_not_looked_for_after_a_moment_without_a_time_zone() -> None:
    told = problems(preview_rule, Every(datetime.timedelta(hours=1)), after=NO_ZONE)

    assert told == {"/after": "must have a time zone"}


@pytest.mark.parametrize("said", [[], {}, None, 5, b"work", "two words", ""], ids=repr)
def test_what_is_no_text_is_no_name(said: object) -> None:
    assert not is_name(said)
