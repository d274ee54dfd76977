"""Whatever a handler does, its attempt ends in one value."""

from __future__ import annotations

import asyncio
import datetime
import json
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pytest
from marshmallow import Schema, fields

from jobplatform.errors import InvalidResultError, JobError, LeaseLostError
from jobplatform.queue import (
    Cancel,
    Cancelled,
    Discard,
    Ended,
    JobInterrupted,
    Lease,
    RateLimited,
    Retry,
    RetryPolicy,
    RunningJob,
    Skip,
    Snooze,
    Task,
    Tasks,
    TimedOut,
    execute,
)
from jobplatform.queue.safe_json import ERROR_LIMIT, PROGRESS_LIMIT, RESULT_LIMIT, TRACEBACK_LIMIT

WORKSPACE, JOB = uuid.UUID(int=1), uuid.UUID(int=2)


class RecordingChannel:
    """Keeps what a job says, and interrupts it when told to."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.lines: list[tuple[str, str]] = []
        self.reason: type[BaseException] | None = None

    def progress(self, report: str) -> None:
        self.reports.append(json.loads(report))

    def log(self, level: str, message: str) -> None:
        self.lines.append((level, message))

    def completing(self) -> None:
        raise AssertionError("these handlers complete nothing themselves")

    def interruption(self) -> type[BaseException] | None:
        return self.reason


@pytest.fixture
def channel() -> RecordingChannel:
    return RecordingChannel()


@pytest.fixture
def job(channel: RecordingChannel) -> RunningJob:
    def refuse() -> Any:
        raise AssertionError("this handler needs no Session")

    return RunningJob(
        lease=Lease(str(WORKSPACE), str(JOB), 4),
        task="work",
        attempt=2,
        max_attempts=3,
        request_id="r-1",
        channel=channel,
        open_session=refuse,
    )


Run = Callable[..., Ended]


@pytest.fixture
def run(job: RunningJob) -> Run:
    """Run a function of the job as a handler."""

    def run(handler: Callable[[RunningJob], Any], *, retry: RetryPolicy | None = None, payload: Any = None) -> Ended:
        def work(job: RunningJob, payload: dict[str, Any]) -> Any:
            return handler(job)

        task = Tasks().task("work", retry=retry)(work)
        return execute(task, job, {} if payload is None else payload)

    return run


def raising(error: BaseException) -> Callable[[RunningJob], Any]:
    def handler(_job: RunningJob) -> None:
        raise error

    return handler


def test_what_a_handler_returns_is_the_result(run: Run) -> None:
    ended = run(lambda _job: {"n": 1})

    assert (ended.kind, ended.outcome, json.loads(ended.result)) == ("completed", "ok", {"n": 1})


def test_a_handler_that_returns_nothing_completed(run: Run) -> None:
    assert run(lambda _job: None) == Ended("completed", result="null")


def test_an_async_handler_runs_to_its_end(job: RunningJob) -> None:
    async def work(job: RunningJob, payload: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return "done"

    assert execute(Tasks().task("work")(work), job, {}).result == '"done"'


def test_async_handlers_can_share_an_event_loop(job: RunningJob) -> None:
    loops = []

    async def work(job: RunningJob, payload: dict[str, Any]) -> None:
        loops.append(asyncio.get_running_loop())

    task = Tasks().task("work")(work)
    with asyncio.Runner() as runner:
        execute(task, job, {}, runner=runner)
        execute(task, job, {}, runner=runner)

    assert loops[0] is loops[1]


@pytest.mark.parametrize("say", [lambda answer: lambda _job: answer, raising], ids=["returned", "raised"])
def test_skip_completes_with_the_reason(run: Run, say: Any) -> None:
    ended = run(say(Skip("nothing to do")))

    assert (ended.kind, ended.outcome) == ("completed", "skipped")
    assert json.loads(ended.result) == {"reason": "nothing to do"}


@pytest.mark.parametrize("say", [lambda answer: lambda _job: answer, raising], ids=["returned", "raised"])
def test_discard_fails_for_good(run: Run, say: Any) -> None:
    ended = run(say(Discard("no such customer")))

    assert (ended.kind, ended.outcome, ended.retry, ended.message) == (
        "failed",
        "discarded",
        False,
        "no such customer",
    )


@pytest.mark.parametrize("say", [lambda answer: lambda _job: answer, raising], ids=["returned", "raised"])
@pytest.mark.parametrize("outcome", [Discard, Cancel, Skip, lambda reason: Retry(reason=reason)])
def test_a_reason_may_be_the_exception_that_there_was(run: Run, say: Any, outcome: Any) -> None:
    ended = run(say(outcome(ValueError("no such customer"))))

    assert "no such customer" in (ended.message or ended.result)
    assert ended.error_type in ("Discard", "Cancel", "", "Retry")


@pytest.mark.parametrize("say", [lambda answer: lambda _job: answer, raising], ids=["returned", "raised"])
def test_snooze_asks_for_another_time(run: Run, say: Any) -> None:
    assert run(say(Snooze(90))) == Ended("snoozed", delay=90)


@pytest.mark.parametrize("outcome", [Snooze, Retry, RateLimited])
@pytest.mark.parametrize("delay", ["soon", math.nan, True, [60], 10**400])
def test_a_delay_that_is_none_fails_the_attempt_with_what_to_write(run: Run, outcome: Any, delay: Any) -> None:
    ended = run(lambda _job: outcome(delay))

    assert (ended.kind, ended.error_type) == ("failed", "TypeError")
    assert f"neither a duration nor a number of seconds, as in {outcome.__name__}(60)" in ended.message


@pytest.mark.parametrize("delay", [-5, datetime.timedelta(seconds=-5)])
def test_a_snooze_of_less_than_nothing_fails_the_attempt(run: Run, delay: Any) -> None:
    ended = run(lambda _job: Snooze(delay))

    assert (ended.kind, ended.error_type) == ("failed", "ValueError")
    assert "would be over before it begins" in ended.message


def test_a_delay_may_be_what_a_service_has_said(run: Run) -> None:
    assert run(lambda _job: RateLimited("30", "crm:2")).delay == 30  # type: ignore[arg-type]  # a header's text
    assert run(lambda _job: RateLimited(-5, "crm:2")).kind == "snoozed"


def test_a_resource_is_closed_by_its_name_and_what_is_none_fails_the_attempt(run: Run) -> None:
    def say(resource: Any) -> Ended:
        return run(lambda _job: RateLimited(30, resource))

    assert say("crm:2") == Ended("snoozed", delay=30, closes="crm:2", closed_for=30)
    assert (say(4711).kind, say(4711).error_type) == ("failed", "TypeError")


def test_a_resource_that_said_too_often_and_not_for_how_long_is_not_closed(run: Run) -> None:
    """The job comes back after its task's own delay, and the attempt does not count."""
    ended = run(lambda _job: RateLimited(resource="crm:2"), retry=RetryPolicy(base=7, jitter="none"))

    assert ended == Ended("snoozed", delay=14, closes="crm:2", too_often=True)


class RefusedError(Exception):
    """As HTTP libraries have it: an exception with the answer."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


@pytest.mark.parametrize(
    ("error", "too_often"),
    [
        (RefusedError(429), True),
        (RefusedError(429, {"Retry-After": "nonsense"}), True),
        (RefusedError(429, {"Retry-After": "30"}), False),
        (RefusedError(503), False),
        (RefusedError(400), False),
        (ValueError(), False),
    ],
)
def test_an_exception_with_a_429_says_too_often_where_it_says_no_time(
    run: Run, error: Exception, too_often: bool
) -> None:
    def wrapped(_job: Any) -> None:
        raise RuntimeError("the page could not be read") from error

    assert (run(raising(error)).too_often, run(wrapped).too_often) == (too_often, too_often)


def test_whoever_was_told_to_wait_says_so_with_the_job_and_how_far_it_had_come(
    run: Run, channel: RecordingChannel
) -> None:
    def told(job: RunningJob) -> None:
        job.progress(40, 100, "contacts")
        raise RateLimited(30, reason="the CRM is busy")

    run(told)
    run(raising(RateLimited(30)))
    run(raising(by_urllib(503, "30")))

    assert channel.reports[1:] == [
        {"current": 40, "total": 100, "message": "the CRM is busy", "waitsFor": "source"},
        {"current": 40, "total": 100, "message": "rate limited for 30 s", "waitsFor": "source"},
        {"current": 40, "total": 100, "message": "HTTP Error 503: no", "waitsFor": "source"},
    ]


def test_whoever_will_not_be_tried_again_or_comes_back_by_its_own_policy_was_not_told_to_wait(
    run: Run, job: RunningJob, channel: RecordingChannel
) -> None:
    run(raising(by_urllib(503)))
    run(raising(ValueError("no")))
    run(lambda _job: Snooze(30))
    job.attempt = job.max_attempts
    run(raising(by_urllib(503, "30")))

    assert channel.reports == []


class StatusError(Exception):
    """As aiohttp has it: the exception is the answer."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers


def by_urllib(status: int, after: str | None = None) -> HTTPError:
    headers = HTTPMessage()
    if after is not None:
        headers["Retry-After"] = after
    return HTTPError("http://crm.example", status, "no", headers, None)


@pytest.mark.parametrize(
    ("error", "closed_for", "too_often", "infrastructure"),
    [
        (by_urllib(429), 0, True, False),
        (by_urllib(429, "30"), 30, False, False),
        (by_urllib(503), 0, False, True),
        (by_urllib(404), 0, False, False),
        (StatusError(429), 0, True, False),
        (StatusError(429, {"Retry-After": "30"}), 30, False, False),
        (StatusError(503), 0, False, True),
        (SystemExit(429), 0, False, False),
    ],
)
def test_an_exception_that_is_the_answer_says_what_one_says_that_carries_it(
    run: Run, error: BaseException, closed_for: float, too_often: bool, infrastructure: bool
) -> None:
    ended = run(raising(error))

    assert (ended.closed_for, ended.too_often, ended.infrastructure) == (closed_for, too_often, infrastructure)


@pytest.mark.parametrize("error", [RefusedError(429), RefusedError(429, {"Retry-After": "30"})])
def test_an_exception_with_a_429_spends_its_attempt(run: Run, error: Exception) -> None:
    """It may mean that a quota is used up for good, and whoever says RateLimited may say it without end."""
    ended = run(raising(error))

    assert (ended.kind, ended.retry) == ("failed", True)


@pytest.mark.parametrize("resource", ["a\0b", "a\ud800b", "a\x1fb", "", "a" * 201])
def test_a_resource_with_a_name_that_no_job_could_use_fails_the_attempt_and_closes_nothing(
    run: Run, resource: str
) -> None:
    ended = run(lambda _job: RateLimited(30, resource))

    assert (ended.kind, ended.error_type, ended.closed_for) == ("failed", "ValueError", 0)
    assert "is not the name of a resource such as 'hubspot:4711': it must" in ended.message


def test_an_exception_fails_the_attempt_and_asks_for_another(run: Run) -> None:
    ended = run(raising(ValueError("no")), retry=RetryPolicy(jitter="none"))

    assert (ended.kind, ended.outcome, ended.error_type, ended.message) == ("failed", "error", "ValueError", "no")
    assert ended.retry
    assert ended.delay == 4  # this is the second attempt


def test_the_traceback_begins_in_the_handler(run: Run) -> None:
    ended = run(raising(ValueError("no")))

    assert ended.traceback is not None
    assert "platform/queue" not in ended.traceback
    assert "ValueError: no" in ended.traceback


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_program_only_ends_the_attempt(run: Run, error: BaseException) -> None:
    assert run(raising(error)).error_type == type(error).__name__


def test_an_error_may_say_that_trying_again_is_no_use(run: Run) -> None:
    class ForeverError(Exception):
        should_retry = False

    assert run(raising(ForeverError())).retry is False


def test_a_payload_that_does_not_load_is_not_tried_again(run: Run) -> None:
    ended = run(lambda _job: None, payload=[1])

    assert (ended.kind, ended.error_type, ended.retry) == ("failed", "InvalidPayloadError", False)


def test_a_result_that_is_no_json_fails_and_is_not_worked_for_again(run: Run) -> None:
    ended = run(lambda _job: object())

    assert (ended.kind, ended.error_type, ended.retry) == ("failed", "ResultNotSerializable", False)


def test_a_result_that_is_too_large_fails_and_is_not_worked_for_again(run: Run) -> None:
    ended = run(lambda _job: "x" * (RESULT_LIMIT + 1))

    assert (ended.kind, ended.error_type, ended.retry) == ("failed", "ResultTooLarge", False)


def test_a_result_that_postgresql_would_refuse_is_made_fit(run: Run) -> None:
    assert json.loads(run(lambda _job: ["a\0", float("nan")]).result) == ["a\ufffd", None]


def test_an_error_message_that_postgresql_would_refuse_is_made_fit(run: Run) -> None:
    ended = run(raising(ValueError("a\0b\ud800")))

    assert ended.message == "a\ufffdb\ufffd"


def test_an_endless_error_message_is_cut(run: Run) -> None:
    ended = run(raising(ValueError("x" * 1_000_000)))

    assert len(ended.message) <= ERROR_LIMIT
    assert len(ended.traceback or "") <= TRACEBACK_LIMIT


def test_an_error_without_a_message_is_named_by_its_type(run: Run) -> None:
    assert run(raising(ValueError())).message == "ValueError"


def test_an_error_that_cannot_be_shown_is_recorded_all_the_same(run: Run) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    ended = run(raising(SilentError()))

    assert ended.error_type == "SilentError"
    assert "cannot be shown" in ended.message


def test_endless_recursion_is_the_attempts_failure(run: Run) -> None:
    def dig(job: RunningJob) -> Any:
        return dig(job)

    assert run(dig).error_type == "RecursionError"


@pytest.mark.parametrize(("interruption", "reason"), [(TimedOut, "timeout"), (Cancelled, "cancelled")])
def test_an_interruption_passes_through_except_exception(
    run: Run, channel: RecordingChannel, interruption: type[BaseException], reason: str
) -> None:
    def handler(job: RunningJob) -> str:
        channel.reason = interruption
        try:
            job.progress(1)
        except Exception:  # noqa: BLE001 - what handlers do
            return "swallowed"
        return "not told"

    ended = run(handler)

    assert (ended.kind, ended.outcome) == ("interrupted", reason)


def test_a_lost_lease_ends_the_attempt_as_lost(run: Run) -> None:
    ended = run(raising(LeaseLostError(JOB, 4)))

    assert (ended.kind, ended.outcome) == ("interrupted", "lost")


def test_a_job_tells_where_it_is(run: Run, channel: RecordingChannel) -> None:
    run(lambda job: job.progress(3, 10, "pages"))

    assert channel.reports == [{"current": 3, "total": 10, "message": "pages"}]


def test_tracking_reports_the_beginning_and_the_end(run: Run, channel: RecordingChannel) -> None:
    run(lambda job: list(job.track("abc")))

    assert [(report["current"], report["total"]) for report in channel.reports] == [(0, 3), (3, 3)]


def test_a_logged_line_goes_to_the_job_and_to_the_logger(
    run: Run, channel: RecordingChannel, caplog: pytest.LogCaptureFixture
) -> None:
    run(lambda job: job.log("careful", level="warning"))

    assert channel.lines == [("warning", "careful")]
    (record,) = caplog.records
    assert (record.message, record.levelname, record.job_id) == ("careful", "WARNING", str(JOB))  # type: ignore[attr-defined]


def test_the_fence_changes_with_the_attempt_and_the_idempotency_key_does_not(job: RunningJob) -> None:
    assert job.fence == f"{JOB}:4"
    assert job.idempotency_key == str(JOB)


# Spending the attempt, and ending the job


def test_a_handler_that_asks_to_be_tried_again_spends_its_attempt(run: Run) -> None:
    ended = run(lambda _job: Retry(after=30, reason="the export is not there yet"))

    assert (ended.kind, ended.retry, ended.delay) == ("failed", True, 30.0)
    assert (ended.error_type, ended.message) == ("Retry", "the export is not there yet")


def test_asking_without_a_delay_means_the_tasks_own(run: Run) -> None:
    ended = run(raising(Retry()), retry=RetryPolicy(wait="constant", base=9, jitter="none"))

    assert (ended.retry, ended.delay) == (True, 9.0)


def test_a_handler_can_end_its_own_job_as_cancelled(run: Run) -> None:
    ended = run(lambda _job: Cancel("the campaign was stopped"))

    assert (ended.kind, ended.outcome, ended.retry) == ("failed", "cancelled", False)
    assert ended.message == "the campaign was stopped"


def test_a_job_error_says_that_trying_again_is_no_use(run: Run) -> None:
    ended = run(raising(JobError("the account is gone", should_retry=False)))

    assert (ended.kind, ended.outcome, ended.retry, ended.error_type) == ("failed", "error", False, "JobError")


# Results


@dataclass(frozen=True)
class Report:
    rows: int
    url: str | None = field(default=None, metadata={"data_key": "downloadUrl"})


class ReportSchema(Schema):
    rows = fields.Integer(required=True, strict=True)


def ended_of(job: RunningJob, handler: Callable[..., Any], **options: Any) -> Ended:
    task: Task[Any, Any] = Tasks().task("work", payload=dict, **options)(handler)
    return execute(task, job, {})


def test_a_result_of_a_declared_kind_is_written_as_json(job: RunningJob) -> None:
    def work(job: RunningJob, payload: Any) -> Report:
        return Report(3, "https://files.example.com/1")

    assert json.loads(ended_of(job, work).result) == {"rows": 3, "downloadUrl": "https://files.example.com/1"}


@pytest.mark.parametrize(
    ("value", "problem"),
    [({"rows": "three"}, "/rows:"), ({}, "/rows:"), ({"rows": 1, "more": 2}, "/more:"), (None, "/:"), (7, "/:")],
)
def test_a_result_of_another_kind_fails_the_job_and_nobody_does_the_work_again(
    job: RunningJob, value: Any, problem: str
) -> None:
    def work(job: RunningJob, payload: Any) -> Report:
        return value  # type: ignore[no-any-return]

    ended = ended_of(job, work)

    assert (ended.kind, ended.retry, ended.error_type) == ("failed", False, "InvalidResultError")
    assert problem in ended.message


def test_a_marshmallow_schema_can_say_what_the_result_is(job: RunningJob) -> None:
    def good(job: RunningJob, payload: Any) -> dict[str, Any]:
        return {"rows": 3}

    def bad(job: RunningJob, payload: Any) -> dict[str, Any]:
        return {"rows": None}

    assert json.loads(ended_of(job, good, result=ReportSchema).result) == {"rows": 3}
    assert ended_of(job, bad, result=ReportSchema).error_type == "InvalidResultError"


def test_an_outcome_is_no_result_and_nothing_is_one_where_the_annotation_says_so(job: RunningJob) -> None:
    def skips(job: RunningJob, payload: Any) -> Report | Skip | None:
        return Skip("nothing new")

    def nothing(job: RunningJob, payload: Any) -> Report | Skip | None:
        return None

    assert ended_of(job, skips).outcome == "skipped"
    assert ended_of(job, nothing) == Ended("completed")


def test_a_result_is_read_back_as_what_it_was(job: RunningJob) -> None:
    def work(job: RunningJob, payload: dict[str, Any]) -> Report:
        return Report(3)

    task = Tasks().task("work")(work)

    assert task.load_result(json.loads(execute(task, job, {}).result)) == Report(3)
    with pytest.raises(InvalidResultError):
        task.load_result({"rows": "x"})


# Versions of payloads


@dataclass(frozen=True)
class Move:
    target: str


def moved(job: RunningJob, payload: Move) -> str:
    return payload.target


def of_version(job: RunningJob, version: int) -> RunningJob:
    job.payload_version = version
    return job


def test_yesterdays_payload_runs_under_todays_code(job: RunningJob) -> None:
    def upgrade(payload: dict[str, Any], version: int) -> dict[str, Any]:
        return {"target": f"{payload['to']} since {version}"}

    task = Tasks().task("move", payload_version=3, upgrade=upgrade)(moved)

    assert execute(task, of_version(job, 2), {"to": "there"}).result == '"there since 2"'
    assert execute(task, of_version(job, 3), {"target": "here"}).result == '"here"'


def test_an_old_payload_that_no_upgrade_makes_readable_fails_at_once_and_says_its_version(job: RunningJob) -> None:
    task = Tasks().task("move", payload_version=2)(moved)

    ended = execute(task, of_version(job, 1), {"to": "there"})

    assert (ended.kind, ended.retry, ended.error_type) == ("failed", False, "InvalidPayloadError")
    assert "a payload of version 1, read by code for version 2" in ended.message


def test_a_payload_of_newer_code_goes_back_with_all_its_attempts(job: RunningJob, channel: RecordingChannel) -> None:
    task = Tasks().task("move", payload_version=1)(moved)

    ended = execute(task, of_version(job, 2), {"where": "there"})

    assert ended.kind == "snoozed"
    assert ended.delay >= 20
    assert channel.reports[-1]["waitsFor"] == "version"


class Refusing:
    """Raises whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __bool__(self) -> bool:
        raise self.error


@pytest.mark.parametrize("name", ["should_retry", "retry_after", "infrastructure", "response"])
@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(5), KeyboardInterrupt()])
@pytest.mark.parametrize("way", ["property", "truth"])
def test_an_exception_that_cannot_be_asked_is_one_like_any_other(
    run: Run, name: str, error: BaseException, way: str
) -> None:
    def refuse(_self: object) -> object:
        raise error

    hostile = type("OddError", (Exception,), {name: property(refuse) if way == "property" else Refusing(error)})

    ended = run(raising(hostile("the message")), retry=RetryPolicy(wait="constant", base=7, jitter="none"))

    assert (ended.kind, ended.error_type, ended.message) == ("failed", "OddError", "the message")
    assert (ended.retry, ended.delay, ended.infrastructure) == (True, 7.0, False)
    assert ended.traceback is not None
    assert "the message" in ended.traceback


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(5), KeyboardInterrupt()])
def test_an_exception_that_cannot_be_shown_is_told_by_its_type_and_where_it_was_raised(
    run: Run, error: BaseException
) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise error

        __repr__ = __str__

    ended = run(raising(OddError()))

    assert (ended.kind, ended.error_type) == ("failed", "OddError")
    assert ended.message == "OddError (its message cannot be shown)"
    assert ended.traceback is not None
    assert "in handler" in ended.traceback


def test_groups_nested_too_deep_to_be_shown_are_told_by_the_outermost(run: Run) -> None:
    error: Exception = ValueError("innermost")
    for _ in range(3_000):
        error = ExceptionGroup("a group", [error])

    ended = run(raising(error))

    assert (ended.kind, ended.error_type) == ("failed", "ExceptionGroup")
    assert ended.message == "a group (1 sub-exception)"
    assert ended.traceback is not None
    assert "in handler" in ended.traceback
    assert "a group" in ended.traceback


@pytest.mark.parametrize("outcome", [Discard(None), Skip(object()), Cancel(5)])  # type: ignore[arg-type]
def test_an_outcome_whose_reason_is_no_text_is_one_all_the_same_raised_or_returned(
    run: Run, outcome: Exception
) -> None:
    returned, raised = run(lambda _job: outcome), run(raising(outcome))

    assert (returned.kind, returned.outcome) == (raised.kind, raised.outcome)
    assert returned.outcome in ("discarded", "skipped", "cancelled")


def test_an_interruption_of_the_handlers_own_that_cannot_be_shown_ends_the_attempt(run: Run) -> None:
    class OddInterruption(JobInterrupted):
        reason = 5  # type: ignore[assignment]

        def __str__(self) -> str:
            raise SystemExit

    ended = run(raising(OddInterruption()))

    assert (ended.kind, ended.outcome) == ("interrupted", "interrupted")
    assert ended.message == "OddInterruption (its message cannot be shown)"


def test_of_a_message_of_megabytes_both_ends_are_kept_and_its_secrets_are_not(run: Run) -> None:
    message = "the beginning, password=hunter2 " * 300_000 + "the end"

    ended = run(raising(ValueError(message)))

    assert ended.message.startswith("the beginning, password=[redacted] the beginning")
    assert ended.message.endswith("the end")
    assert len(ended.message) <= ERROR_LIMIT
    assert "hunter2" not in ended.message
    assert ended.traceback is not None
    assert "hunter2" not in ended.traceback
    assert len(ended.traceback) <= TRACEBACK_LIMIT


def test_what_is_no_number_is_cut_in_a_report_of_progress(run: Run, channel: RecordingChannel) -> None:
    run(lambda job: job.progress("x" * 3_000_000, 10**3_000, "m" * 10_000))  # type: ignore[arg-type]

    (report,) = channel.reports
    assert len(json.dumps(report)) <= PROGRESS_LIMIT
    assert report["current"].startswith("xxx")
