"""Perform runs one handler as a worker would, and says what became of it."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidPayloadError
from jobplatform.queue import Cancelled, Discard, Retry, RunningJob, Skip, Snooze, Tasks
from jobplatform.testing import perform

tasks = Tasks()


@dataclass(frozen=True)
class Order:
    what: str
    number: int = 1


@tasks.task("serve", retry=Retry(base=10, jitter="none"))
def serve(job: RunningJob, payload: Order) -> Any:
    if payload.what == "error":
        raise ValueError("spilt")
    if payload.what == "discard":
        raise Discard("sold out")
    if payload.what == "snooze":
        return Snooze(60)
    if payload.what == "set":
        return {1, 2}
    job.progress(1, payload.number, "carried")
    job.log("served")
    return {"attempt": job.attempt, "of": job.max_attempts, "who": str(job.workspace_id), "request": job.request_id}


@tasks.task("count")
def count(job: RunningJob, payload: dict[str, str]) -> Any:
    return job.session.scalar(text("select current_setting('jobplatform.workspace_id')"))


@tasks.task("own")
def own(job: RunningJob, payload: dict[str, str]) -> None:
    job.session.execute(text("insert into eaten values ('cake')"))
    job.complete_in(job.session, {"what": "cake"})


@tasks.task("courses")
def courses(job: RunningJob, payload: dict[str, Any]) -> None:
    for course in job.step("menu", lambda: ("soup", "fish")):
        with job.step(course) as step:
            if step:
                if course == payload.get("spilt"):
                    raise ValueError("spilt")
                job.session.execute(text("insert into eaten values (:course)"), {"course": course})
                job.session.flush()
    job.checkpoint({"eaten": job.session.scalar(text("select count(*) from eaten"))}, parts={"soup": "warm"})
    assert (job.checkpoint_state, job.checkpoint_parts) == ({"eaten": 2}, {"soup": "warm"})


@tasks.task("later")
async def later(job: RunningJob, payload: dict[str, str]) -> Skip:
    return Skip("asynchronously")


@pytest.fixture
def eaten(session: Session) -> Session:
    session.execute(text("create table eaten (course text)"))
    session.execute(text("grant select, insert on eaten to jobplatform_handler"))
    session.commit()
    return session


def test_a_handler_gets_a_real_job_and_its_result_makes_the_trip_through_json() -> None:
    workspace_id = uuid.uuid4()

    performed = perform(serve, Order("tea"), workspace_id=workspace_id, attempt=2, max_attempts=7, request_id="r")

    assert performed.result == {"attempt": 2, "of": 7, "who": str(workspace_id), "request": "r"}
    assert performed.progress == [{"current": 1, "total": 1, "message": "carried"}]
    assert performed.lines == [("info", "served")]
    assert performed.unwrap() is performed.value


def test_what_a_handler_says_instead_of_a_result_is_the_value() -> None:
    discarded, snoozed, skipped = perform(serve, Order("discard")), perform(serve, Order("snooze")), perform(later)

    assert isinstance(discarded.value, Discard)
    assert (discarded.error, discarded.retries_in, discarded.ended.kind) == (None, None, "failed")
    assert isinstance(snoozed.unwrap(), Snooze)
    assert isinstance(skipped.value, Skip)


def test_an_error_is_kept_with_what_follows_from_it() -> None:
    performed = perform(serve, Order("error"), attempt=2)

    assert isinstance(performed.error, ValueError)
    assert performed.retries_in == datetime.timedelta(seconds=20)
    with pytest.raises(ValueError, match="spilt"):
        performed.unwrap()


def test_a_result_that_cannot_be_kept_is_a_failure() -> None:
    performed = perform(serve, Order("set"))

    assert (performed.error, performed.ended.error_type) == (None, "ResultNotSerializable")
    with pytest.raises(RuntimeError, match="not JSON"):
        performed.unwrap()


def test_a_payload_is_checked_as_at_enqueue() -> None:
    with pytest.raises(InvalidPayloadError, match="/number"):
        perform(serve, {"what": "tea", "number": "many"})


def test_the_session_is_that_of_a_worker(session: Session, workspace_id: uuid.UUID) -> None:
    assert perform(count, where=session, workspace_id=workspace_id).value == str(workspace_id)


def test_a_handler_that_wants_a_session_and_has_none_is_told_how_to_get_one() -> None:
    with pytest.raises(RuntimeError, match="where="):
        perform(count).unwrap()


def test_a_handler_that_completes_in_its_session_has_its_rows_and_its_result(eaten: Session) -> None:
    performed = perform(own, where=eaten)

    assert performed.unwrap() is None
    assert performed.result == {"what": "cake"}
    assert eaten.scalars(text("select course from eaten")).all() == ["cake"]


def test_steps_and_a_checkpoint_are_done_without_a_job_that_keeps_them(eaten: Session) -> None:
    performed = perform(courses, where=eaten)

    performed.unwrap()
    assert performed.steps == {"menu": ["soup", "fish"], "soup": None, "fish": None}
    assert performed.checkpoint == {"eaten": 2}
    assert eaten.scalar(text("select count(*) from eaten")) == 2


def test_steps_before_the_one_that_fails_have_left_their_rows(eaten: Session) -> None:
    performed = perform(courses, {"spilt": "fish"}, where=eaten)

    assert isinstance(performed.error, ValueError)
    assert [*performed.steps] == ["menu", "soup"]
    assert eaten.scalars(text("select course from eaten")).all() == ["soup"]


def test_a_handler_can_be_told_to_stop() -> None:
    performed = perform(serve, Order("tea"), interrupt=Cancelled)

    assert isinstance(performed.error, Cancelled)
    assert (performed.ended.kind, performed.ended.outcome) == ("interrupted", "cancelled")
