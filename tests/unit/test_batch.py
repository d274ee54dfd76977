"""Batch handlers: what they may say of their jobs, and from when on it counts."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from jobplatform.errors import TaskDefinitionError
from jobplatform.queue import (
    Cancelled,
    Discard,
    Ended,
    Item,
    Items,
    Lease,
    RunningJob,
    Skip,
    Task,
    Tasks,
    TimedOut,
    execute,
    execute_batch,
)

WORKSPACE = uuid.UUID(int=1)


class SilentChannel:
    """Hears nothing and says nothing."""

    def progress(self, report: str) -> None: ...

    def log(self, level: str, message: str) -> None: ...

    def completing(self) -> None: ...

    def interruption(self) -> type[BaseException] | None:
        return None


@dataclass(frozen=True)
class Check:
    n: int


def running(number: int, open_session: Callable[[], Session] = Session) -> RunningJob:
    return RunningJob(
        lease=Lease(str(WORKSPACE), str(uuid.UUID(int=number)), 1),
        task="check",
        attempt=1,
        max_attempts=3,
        channel=SilentChannel(),
        open_session=open_session,
    )


class Call:
    """Calls a handler for some payloads and keeps what is reported, in order."""

    def __init__(self, told: tuple[int, ...] = ()) -> None:
        self.told = told
        self.ends: dict[int, Ended] = {}
        self.reports: list[list[int]] = []
        # Only for the order of begin and commit. Without a pool, what is closed is closed.
        self.engine = create_engine("sqlite://", poolclass=NullPool)
        self.sessions: list[Session] = []

    def open(self) -> Session:
        self.sessions.append(Session(self.engine))
        return self.sessions[-1]

    def of(self, handler: Callable[[Items[Check]], Any], payloads: int | list[Any] = 3) -> dict[int, Ended]:
        task = Tasks().batch_task("check", size=5)(handler)
        values = [{"n": n} for n in range(payloads)] if isinstance(payloads, int) else payloads
        execute_batch(
            task,
            [running(number) for number in range(len(values))],
            values,
            told=lambda job: job.id.int in self.told,
            open_session=self.open,
            report=self.report,
        )
        return self.ends

    def report(self, ends: Sequence[tuple[RunningJob, Ended]]) -> None:
        self.reports.append([job.id.int for job, _ in ends])
        for job, ended in ends:
            assert job.id.int not in self.ends, "heard of twice"
            self.ends[job.id.int] = ended

    @property
    def results(self) -> dict[int, Any]:
        return {n: json.loads(ended.result) for n, ended in self.ends.items() if ended.kind == "completed"}


def test_a_list_has_a_result_for_each_in_their_order() -> None:
    def handler(batch: Items[Check]) -> list[int]:
        return [item.payload.n * 10 for item in batch]

    call = Call()
    call.of(handler)

    assert call.results == {0: 0, 1: 10, 2: 20}


def test_a_mapping_has_them_by_item_or_by_job_and_what_is_missing_has_failed() -> None:
    def handler(batch: Items[Check]) -> Mapping[Any, str]:
        return {batch[0]: "by item", batch[1].job.id: "by job"}

    call = Call()
    ends = call.of(handler)

    assert call.results == {0: "by item", 1: "by job"}
    assert (ends[2].kind, ends[2].retry, ends[2].message) == (
        "failed",
        True,
        "the handler returned no result for this item",
    )


def test_nothing_returned_is_nothing_to_say_of_each() -> None:
    def handler(batch: Items[Check]) -> None: ...

    assert set(Call().of(handler).values()) == {Ended("completed")}


def test_each_may_end_in_a_way_of_its_own() -> None:
    def handler(batch: Items[Check]) -> list[Any]:
        return [Skip("nothing"), Discard("never"), ValueError("this one")]

    ends = Call().of(handler)

    assert [(ends[n].kind, ends[n].outcome) for n in range(3)] == [
        ("completed", "skipped"),
        ("failed", "discarded"),
        ("failed", "error"),
    ]
    assert ends[2].error_type == "ValueError"


@pytest.mark.parametrize("answer", [[1, 2], [1, 2, 3, 4], 7, "abc"])
def test_another_number_of_results_fails_all_and_nobody_does_the_work_again(answer: Any) -> None:
    def handler(batch: Items[Check]) -> Any:
        return answer

    ends = Call().of(handler)

    assert {(end.kind, end.retry, end.error_type) for end in ends.values()} == {("failed", False, "BatchResultError")}


def test_an_exception_fails_all_that_are_not_over() -> None:
    def handler(batch: Items[Check]) -> None:
        batch[1].done("mine")
        raise RuntimeError("the upstream is gone")

    call = Call()
    ends = call.of(handler)

    assert call.results == {1: "mine"}
    assert {ends[n].message for n in (0, 2)} == {"the upstream is gone"}


def test_an_outcome_that_is_raised_is_that_of_all_that_are_not_over() -> None:
    def handler(batch: Items[Check]) -> None:
        batch[0].failed("not this one")
        raise Skip("nothing to check today")

    ends = Call().of(handler)

    assert [(ends[n].kind, ends[n].outcome) for n in range(3)] == [
        ("failed", "error"),
        ("completed", "skipped"),
        ("completed", "skipped"),
    ]


def test_an_interruption_ends_what_is_not_over() -> None:
    def handler(batch: Items[Check]) -> None:
        batch[0].done()
        raise Cancelled("stop")

    ends = Call().of(handler)

    assert [ends[n].kind for n in range(3)] == ["completed", "interrupted", "interrupted"]


def test_a_result_counts_at_once_when_nothing_is_uncommitted_but_the_last_one_when_the_handler_returns() -> None:
    seen: list[int] = []
    call = Call()

    def handler(batch: Items[Check]) -> None:
        for item in batch:
            item.done(item.payload.n)
            seen.append(len(call.ends))

    call.of(handler)

    assert seen == [1, 2, 2]
    assert call.results == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("error", [RuntimeError("after all that"), TimedOut("too long")])
def test_what_happens_after_all_are_over_takes_nothing_back(error: BaseException) -> None:
    def handler(batch: Items[Check]) -> None:
        for item in batch:
            item.done(item.payload.n)
        raise error

    call = Call()
    call.of(handler)

    assert call.results == {0: 0, 1: 1, 2: 2}
    assert call.reports == [[0], [1], [2]]


def test_a_result_waits_for_the_commit_of_what_was_written_before() -> None:
    seen: list[set[int]] = []
    call = Call()

    def handler(batch: Items[Check]) -> None:
        batch.session.execute(text("select 1"))
        batch[0].done("a")
        seen.append(set(call.ends))
        batch.session.commit()
        seen.append(set(call.ends))
        batch[2].job.session.execute(text("select 1"))
        batch[1].done("b")
        raise RuntimeError("before the second commit")

    ends = call.of(handler)

    assert seen == [set(), {0}]
    assert [ends[n].kind for n in range(3)] == ["completed", "failed", "failed"]
    assert len(call.sessions) == 1


def test_the_rows_of_a_call_are_committed_before_anybody_hears_of_its_results() -> None:
    """And when that fails nobody does."""

    def handler(batch: Items[Check]) -> list[int]:
        def refuse() -> None:
            raise ConnectionError("gone")

        batch.session.commit = refuse  # type: ignore[method-assign]
        batch.session.execute(text("select 1"))
        return [1, 2, 3]

    ends = Call().of(handler)

    assert {(end.kind, end.error_type) for end in ends.values()} == {("failed", "ConnectionError")}


def test_one_that_should_stop_is_told_and_ends_as_stopped_if_nothing_is_said_of_it() -> None:
    heard: list[bool] = []

    def handler(batch: Items[Check]) -> None:
        heard.extend(item.cancelled for item in batch)

    ends = Call(told=(1,)).of(handler)

    assert heard == [False, True, False]
    assert [ends[n].kind for n in range(3)] == ["completed", "interrupted", "completed"]


def test_a_payload_that_does_not_fit_is_not_handed_to_the_handler() -> None:
    came: list[int] = []

    def handler(batch: Items[Check]) -> None:
        came.extend(item.payload.n for item in batch)

    ends = Call().of(handler, [{"n": 0}, {"m": 1}, {"n": 2}])

    assert came == [0, 2]
    assert (ends[1].kind, ends[1].error_type, ends[1].retry) == ("failed", "InvalidPayloadError", False)


def test_an_async_handler_takes_batches_too() -> None:
    async def handler(batch: Items[Check]) -> list[int]:
        async def check(n: int) -> int:
            await asyncio.sleep(0)
            return n

        return list(await asyncio.gather(*(check(item.payload.n) for item in batch)))

    call = Call()
    call.of(handler)

    assert call.results == {0: 0, 1: 1, 2: 2}


def test_it_is_said_once_how_an_item_ended() -> None:
    def handler(batch: Items[Check]) -> None:
        batch[0].done()
        with pytest.raises(RuntimeError, match="was said before"):
            batch[0].done()

    Call().of(handler)


# By itself


def single(handler: Callable[[Items[Check]], Any], n: int = 7) -> Ended:
    task: Task[Check, Any] = Tasks().batch_task("check", size=5)(handler)
    return execute(task, running(1), {"n": n})


def test_a_single_job_is_a_batch_of_one() -> None:
    def returns(batch: Items[Check]) -> list[int]:
        return [item.payload.n for item in batch]

    def says(batch: Items[Check]) -> None:
        batch[0].done(batch[0].payload.n)

    def fails(batch: Items[Check]) -> None:
        batch[0].failed(ValueError("no"))

    async def waits(batch: Items[Check]) -> list[int]:
        await asyncio.sleep(0)
        return [item.payload.n for item in batch]

    assert (single(returns).result, single(says).result, single(waits).result) == ("7", "7", "7")
    assert single(fails).error_type == "ValueError"


@pytest.mark.parametrize("error", [RuntimeError("too late"), TimedOut("too long")])
def test_a_single_job_that_is_over_stays_so_when_its_handler_is_ended_after_that(error: BaseException) -> None:
    def handler(batch: Items[Check]) -> None:
        batch[0].done("kept")
        raise error

    async def async_handler(batch: Items[Check]) -> None:
        handler(batch)

    assert single(handler).result == '"kept"'
    assert single(async_handler).result == '"kept"'


# Declaring


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 201}, {"size": 5, "wait": -1}, {"size": 5, "wait": 61}])
def test_a_batch_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    def handler(batch: Items[Check]) -> None: ...

    with pytest.raises(TaskDefinitionError):
        Tasks().batch_task("check", **options)(handler)


def test_a_batch_handler_takes_one_argument() -> None:
    with pytest.raises(TaskDefinitionError, match="one argument"):
        Tasks().batch_task("check", size=5)(lambda _job, _payload: None)  # type: ignore[arg-type, misc]


def test_the_payload_of_a_batch_task_is_checked_when_it_is_enqueued() -> None:
    def handler(batch: Items[Check]) -> None: ...

    task = Tasks().batch_task("check", size=5, unique=("n",))(handler)

    assert task.new_job(Check(3), workspace_id=WORKSPACE).unique_key == "check:[3]"


def test_what_counts_at_once_is_reported_at_once_and_the_rest_together_at_the_end() -> None:
    def handler(batch: Items[Check]) -> None:
        batch[1].done("early")

    call = Call()
    call.of(handler, 4)

    assert call.reports == [[1], [0, 2, 3]]


def test_to_say_how_one_ended_does_not_look_at_all_the_others() -> None:
    """A call of two hundred would look forty thousand times."""
    looks = 0

    class Watched(RunningJob):
        @property
        def is_in_transaction(self) -> bool:
            nonlocal looks
            looks += 1
            return False

    jobs = [running(number) for number in range(20)]
    for job in jobs:
        job.__class__ = Watched
    batch = Items([Item(job, None) for job in jobs], Session, lambda _item: None)

    for item in batch:
        item.done()

    assert looks == len(jobs)
