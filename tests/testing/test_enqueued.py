"""What was enqueued: found when it is there, and a message that helps when it is not."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from jobplatform.queue import RunningJob, Tasks
from jobplatform.testing import all_enqueued, assert_enqueued, drain, refute_enqueued

tasks = Tasks()


@dataclass(frozen=True)
class Letter:
    to: str
    lines: int = 1


@tasks.task("send")
def send(job: RunningJob, payload: Letter) -> None: ...


@tasks.task("sort", queue="post", priority=3, max_attempts=5)
def sort(job: RunningJob, payload: dict[str, Any]) -> None: ...


def test_a_job_is_found_before_its_transaction_is_committed(
    session: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    send.enqueue(session, Letter("Ada"), workspace_id=workspace_id)

    assert [job.payload for job in assert_enqueued(session, send)] == [{"to": "Ada", "lines": 1}]
    refute_enqueued(engine, send)


def test_a_registry_of_sessions_sees_what_its_session_does(engine: Engine, workspace_id: uuid.UUID) -> None:
    registry = scoped_session(sessionmaker(engine))
    send.enqueue(registry(), Letter("Ada"), workspace_id=workspace_id)

    assert_enqueued(registry, send, count=1)
    refute_enqueued(engine, send)
    registry.remove()


def test_a_part_of_the_payload_is_enough_and_a_whole_value_must_be_equal(
    session: Session, workspace_id: uuid.UUID
) -> None:
    send.enqueue(session, Letter("Ada", 2), workspace_id=workspace_id)

    assert_enqueued(session, send, {"to": "Ada"})
    assert_enqueued(session, "send", {"lines": 2}, workspace_id=workspace_id)
    assert_enqueued(session, send, Letter("Ada", 2))
    refute_enqueued(session, send, Letter("Ada"))
    refute_enqueued(session, send, workspace_id=uuid.uuid4())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"queue": "post"}, {"queue": "default"}),
        ({"priority": 3}, {"priority": 4}),
        ({"delay": datetime.timedelta(hours=1)}, {"delay": datetime.timedelta(hours=2)}),
        ({"tags": ("b",)}, {"tags": ("b", "c")}),
        ({"tags": "a"}, {"tags": "c"}),
        ({"unique_key": "k"}, {"unique_key": None}),
        ({"resource": "crm:1", "units": 2}, {"resource": "crm:1", "units": 1}),
        ({"max_attempts": 5}, {"max_attempts": 3}),
        ({"timeout": datetime.timedelta(seconds=7)}, {"timeout": datetime.timedelta(minutes=10)}),
        ({"start_within": datetime.timedelta(seconds=9)}, {"start_within": None}),
        ({"request_id": "r"}, {"request_id": "other"}),
    ],
    ids=str,
)
def test_the_facts_of_a_job_are_compared(
    session: Session, workspace_id: uuid.UUID, right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    sort.enqueue(
        session,
        workspace_id=workspace_id,
        delay=datetime.timedelta(hours=1),
        tags=("a", "b"),
        unique_key="k",
        resource="crm:1",
        units=2,
        timeout=datetime.timedelta(seconds=7),
        start_within=datetime.timedelta(seconds=9),
        request_id="r",
    )

    assert_enqueued(session, sort, **right)
    refute_enqueued(session, sort, **wrong)
    with pytest.raises(AssertionError, match=next(reversed(wrong))):
        assert_enqueued(session, sort, **wrong)


def test_the_moment_it_is_scheduled_for_is_a_fact_too(session: Session, workspace_id: uuid.UUID) -> None:
    moment = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    sort.enqueue(session, workspace_id=workspace_id, run_after=moment)

    assert_enqueued(session, sort, run_after=moment)
    refute_enqueued(session, sort, run_after=moment + datetime.timedelta(seconds=1))


def test_a_count_is_exact(session: Session, workspace_id: uuid.UUID) -> None:
    for _ in range(2):
        sort.enqueue(session, workspace_id=workspace_id)

    assert len(assert_enqueued(session, sort, count=2)) == 2
    assert assert_enqueued(session, send, count=0) == []
    with pytest.raises(AssertionError, match=r"2 pending job of 'sort', expected 1\nthese are:\n  - sort "):
        assert_enqueued(session, sort, count=1)


def test_what_has_run_does_not_wait_any_more(session: Session, workspace_id: uuid.UUID) -> None:
    send.enqueue(session, Letter("Ada"), workspace_id=workspace_id)
    drain(session, tasks)

    refute_enqueued(session)
    assert_enqueued(session, send, {"to": "Ada"}, status="completed")
    assert len(all_enqueued(session, status=None)) == 1


def test_a_failure_shows_what_is_there_the_nearest_first(session: Session, workspace_id: uuid.UUID) -> None:
    sort.enqueue(session, {"to": "Ada"}, workspace_id=workspace_id)
    far = send.enqueue(session, Letter("Bob", 9), workspace_id=workspace_id).job_id
    near = send.enqueue(session, Letter("Ada", 9), workspace_id=workspace_id).job_id

    with pytest.raises(AssertionError) as caught:
        assert_enqueued(session, send, {"to": "Ada", "lines": 1}, queue="default")

    lines = str(caught.value).splitlines()
    assert lines[0] == "no pending job of 'send' with payload {'to': 'Ada', 'lines': 1}, queue 'default'"
    assert lines[1] == "there are 3 pending jobs, the nearest first:"
    assert str(near) in lines[2]
    assert lines[3].strip() == "payload.lines: 9, expected 1"
    assert str(far) in lines[4]
    assert [line.strip() for line in lines[5:7]] == [
        "payload.to: 'Bob', expected 'Ada'",
        "payload.lines: 9, expected 1",
    ]
    assert lines[8].strip() == "task: 'sort', expected 'send'"


def test_a_failure_says_when_there_is_nothing(session: Session) -> None:
    with pytest.raises(AssertionError, match="there is no pending job at all"):
        assert_enqueued(session, send)


def test_a_refutation_shows_what_should_not_be_there(session: Session, workspace_id: uuid.UUID) -> None:
    job_id = send.enqueue(session, Letter("Ada"), workspace_id=workspace_id).job_id

    with pytest.raises(AssertionError, match=rf"no pending job of 'send', and there is 1:\n  - send {job_id}"):
        refute_enqueued(session, send)


def test_a_fact_that_jobs_do_not_have_is_refused_with_the_nearest(session: Session) -> None:
    with pytest.raises(TypeError, match="no fact 'prio'; did you mean 'priority'"):
        refute_enqueued(session, send, prio=3)
