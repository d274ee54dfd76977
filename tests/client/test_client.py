"""The Python client: against the API itself, and against a server that misbehaves on purpose."""

from __future__ import annotations

import datetime
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from flask import Flask

from jobplatform.client import Client, Event
from jobplatform.client import calls as calls_module
from jobplatform.client import following as following_module
from jobplatform.client import http as http_module
from jobplatform.client.bar import progress_bar_for
from jobplatform.client.following import parse
from jobplatform.errors import (
    AccessError,
    AnswerError,
    BusyError,
    ConflictError,
    NoSuchJobError,
    RefusedError,
    StaleJobError,
    UnreachableError,
    WaitTimeoutError,
)
from tests.api.conftest import Hand, MintToken, app, hand, mint, tasks

__all__ = ["app", "hand", "mint", "tasks"]


@pytest.fixture
def jobs(app: Flask, mint: MintToken, workspace_id: uuid.UUID) -> Iterator[Client]:
    """A client of the API itself, without a socket in between."""
    transport = httpx.WSGITransport(app=app)
    with Client("http://localhost/api", mint(workspace_id), workspace_id, transport=transport) as client:
        yield client


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, which nobody waits for."""
    pauses: list[float] = []

    class Clock:
        sleep = staticmethod(pauses.append)
        monotonic = staticmethod(http_module.time.monotonic)

    for module in (http_module, following_module, calls_module):
        monkeypatch.setattr(module, "time", Clock)
    return pauses


class Script:
    """A server that answers what it was told to, one after the other, and notes what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def scripted(script: Script, **options: Any) -> Client:
    return Client("http://api", "jp_x", uuid.UUID(int=1), transport=httpx.MockTransport(script), **options)


JOB = {
    "id": "j",
    "workspaceId": "w",
    "jobType": "echo",
    "queue": "default",
    "status": "completed",
    "outcome": "ok",
    "payload": {},
    "progress": None,
    "result": {"rows": 3},
    "error": None,
    "attempts": 1,
    "maxAttempts": 3,
    "createdAt": "2026-01-05T09:00:00.000000Z",
    "runAfter": "2026-01-05T09:00:00.000000Z",
    "startedAt": None,
    "completedAt": None,
}
BUSY = httpx.Response(503, headers={"Retry-After": "7"}, json={"type": "urn:jobplatform:problem:unavailable"})
#: What a proxy says while the server behind it is started again.
NOBODY_BEHIND = [httpx.Response(502, text="<h1>Bad Gateway</h1>"), httpx.Response(504)]


def test_a_request_that_has_taken_the_place_of_another_is_said_to_have(jobs: Client) -> None:
    quiet = {"unique_key": "k", "if_active": "replace", "delay_ms": 60_000, "longest_delay_ms": 60_000}
    first, second = jobs.enqueue("echo", **quiet), jobs.enqueue("echo", {"a": 1}, **quiet)

    assert (first.replaced, second.replaced, second.deduplicated) == (False, True, False)
    assert (second.id, second.payload, second.run_after) == (first.id, {"a": 1}, first.run_after)


def test_what_a_job_is_to_wait_for_is_said_with_the_names_of_python_too(jobs: Client) -> None:
    first = jobs.enqueue("echo", delay_ms=60_000)

    second = jobs.enqueue("echo", after=[{"job_id": uuid.UUID(first.id), "run_if": "ended"}])

    assert second.raw["after"] == [{"jobId": first.id, "runIf": "ended", "status": "pending"}]


def test_a_job_is_enqueued_looked_at_cancelled_and_retried(jobs: Client) -> None:
    job = jobs.enqueue("echo", {"a": 1}, priority=5, delay_ms=60_000, unique_key="k")

    assert (job.status, job.payload, job.raw["priority"], job.deduplicated) == ("pending", {"a": 1}, 5, False)
    assert jobs.enqueue("echo", unique_key="k", if_active="return").deduplicated
    assert jobs.get(job.id) == job
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.retry(job.id).status == "pending"


def test_a_job_is_retried_from_a_step(jobs: Client, hand: Hand, workspace_id: uuid.UUID) -> None:
    job = jobs.enqueue("echo")
    hand.fail(workspace_id, job.id, steps={"one": 1, "two": 2})

    with pytest.raises(RefusedError):
        jobs.retry(job.id, from_step="three")
    assert jobs.retry(job.id, from_step="two").status == "pending"
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.retry(job.id, from_start=True).status == "pending"
    jobs.cancel(job.id)
    with pytest.raises(RefusedError):
        jobs.retry(job.id, from_step="one")


def test_a_new_job_is_made_from_one_that_has_ended(jobs: Client, hand: Hand, workspace_id: uuid.UUID) -> None:
    old = jobs.enqueue("echo", {"n": 1})
    with pytest.raises(ConflictError) as live:
        jobs.fork(old.id)
    hand.fail(workspace_id, old.id, steps={"one": 1, "two": 2})

    new = jobs.fork(old.id, from_step="two", payload={"n": 2})
    anew = jobs.fork(old.id, from_start=True)

    assert live.value.job_status == "pending"
    assert (new.status, jobs.get(old.id).status) == ("pending", "failed")
    assert [job.id for job in jobs.list_jobs(parent_id=old.id)] == [anew.id, new.id]


def test_a_job_says_by_when_it_has_to_begin(jobs: Client) -> None:
    job = jobs.enqueue("echo", delay_ms=3_600_000, start_within_ms=60_000)

    assert job.start_by == job.run_after + datetime.timedelta(minutes=1)
    assert jobs.enqueue("echo").start_by is None


def test_a_job_that_comes_too_soon_says_when_there_may_be_another(
    jobs: Client, hand: Hand, workspace_id: uuid.UUID
) -> None:
    first = jobs.enqueue("echo", unique_key="k", unique_for_ms=60_000)
    hand.complete(workspace_id, first.id)

    with pytest.raises(ConflictError) as conflict:
        jobs.enqueue("echo", unique_key="k", unique_for_ms=60_000)

    assert (conflict.value.job_id, conflict.value.job_status) == (first.id, "completed")
    assert conflict.value.retry_after is not None
    assert 50 < conflict.value.retry_after <= 60


def test_a_job_that_was_to_run_later_is_run_now(jobs: Client, hand: Hand, workspace_id: uuid.UUID) -> None:
    job = jobs.enqueue("echo", delay_ms=3_600_000)

    advanced = jobs.run_now(job.id)

    assert advanced.run_after < job.run_after
    assert advanced.status == "pending"
    hand.fail(workspace_id, job.id)
    with pytest.raises(ConflictError) as ended:
        jobs.run_now(job.id)
    assert ended.value.job_status == "failed"
    with pytest.raises(NoSuchJobError):
        jobs.run_now(uuid.uuid4())


def test_a_job_that_waits_is_changed(jobs: Client, hand: Hand, workspace_id: uuid.UUID) -> None:
    job = jobs.enqueue("echo", priority=1)
    tomorrow = job.run_after + datetime.timedelta(days=1)

    changed = jobs.change(job.id, queue="slow", run_after=tomorrow)
    advanced = jobs.change(job.id, run_after=None)

    assert (changed.run_after, changed.raw["queue"], changed.raw["priority"]) == (tomorrow, "slow", 1)
    assert advanced.run_after < tomorrow
    with pytest.raises(RefusedError):
        jobs.change(job.id)
    hand.fail(workspace_id, job.id)
    with pytest.raises(ConflictError) as ended:
        jobs.change(job.id, priority=5)
    assert ended.value.job_status == "failed"


def test_a_job_is_changed_only_if_it_is_still_what_was_read(jobs: Client) -> None:
    enqueued = jobs.enqueue("echo")
    seen = jobs.get(enqueued.id)

    changed = jobs.change(seen.id, if_still=seen, priority=5)
    with pytest.raises(StaleJobError) as changed_meanwhile:
        jobs.change(seen.id, if_still=seen, priority=7)
    again = jobs.change(seen.id, if_still=changed, priority=7)

    assert (changed.raw["priority"], again.raw["priority"]) == (5, 7)
    assert changed_meanwhile.value.status == 412


def test_a_job_that_came_without_an_entity_tag_guards_nothing_and_says_so(jobs: Client) -> None:
    enqueued = jobs.enqueue("echo", priority=1)
    (listed,) = jobs.list_jobs()

    for job in (enqueued, listed):
        with pytest.raises(ValueError, match=r"get\(\) it first"):
            jobs.change(job.id, if_still=job, priority=5)

    assert jobs.get(enqueued.id).raw["priority"] == 1


def test_a_list_is_read_page_by_page_as_it_is_asked_for(jobs: Client) -> None:
    ids = [jobs.enqueue("echo").id for _ in range(5)]

    assert [job.id for job in jobs.list_jobs(limit=2)] == ids[::-1]
    assert [job.id for job in jobs.list_jobs(status="running")] == []


def test_a_job_is_waited_for_with_its_progress(jobs: Client, hand: Hand, workspace_id: uuid.UUID) -> None:
    job = jobs.enqueue("echo")
    hand.fail(workspace_id, job.id)
    seen: list[str] = []

    ended = jobs.wait(job.id, on_change=lambda event: seen.append(event.name), progress_bar=True, timeout=60)

    assert (ended.status, ended.is_final) == ("failed", True)
    assert ended.error is not None
    assert ended.error.message == "the far side said no"
    assert seen == ["job.pending", "job.running", "job.failed"]


def test_what_the_api_refuses_is_an_exception_that_says_why(jobs: Client, app: Flask, workspace_id: uuid.UUID) -> None:
    job = jobs.enqueue("echo", unique_key="k")

    with pytest.raises(ConflictError) as conflict:
        jobs.enqueue("echo", unique_key="k")
    with pytest.raises(RefusedError) as refused:
        jobs.enqueue("echo", priority=10_000)
    with pytest.raises(NoSuchJobError):
        jobs.get(uuid.uuid4())
    stranger = Client("http://localhost", "jp_nobody", workspace_id, transport=httpx.WSGITransport(app=app))
    with stranger, pytest.raises(AccessError) as denied:
        stranger.get(job.id)

    assert (conflict.value.job_id, conflict.value.job_status) == (job.id, "pending")
    assert [error.path for error in refused.value.errors] == ["/priority"]
    assert denied.value.status == 401
    assert denied.value.request_id


def test_a_token_for_a_browser_is_made(jobs: Client, app: Flask, workspace_id: uuid.UUID) -> None:
    job = jobs.enqueue("echo")
    token = jobs.token_for(job.id)

    with Client("http://localhost", token, workspace_id, transport=httpx.WSGITransport(app=app)) as browser:
        assert browser.get(job.id).id == job.id
        with pytest.raises(AccessError):
            browser.cancel(job.id)


def test_reading_is_tried_again_and_the_server_says_when(slept: list[float]) -> None:
    script = Script(BUSY, httpx.ReadError("gone"), NOBODY_BEHIND[0], httpx.Response(200, json=JOB))

    assert scripted(script).get("j").status == "completed"
    assert slept[0] == 7.0
    assert 0 < slept[1] < 1


def test_reading_is_given_up_after_so_many_tries(slept: list[float]) -> None:
    script = Script(*[BUSY] * 3)

    with pytest.raises(BusyError) as busy:
        scripted(script, tries=3).get("j")

    assert busy.value.retry_after == 7.0
    assert len(script.asked) == 3


UNDER_WAY = httpx.Response(409, json={"type": f"urn:jobplatform:problem:{http_module.UNDER_WAY}"})
ACCEPTED = httpx.Response(202, json={"job": JOB, "deduplicated": False, "jobId": "j"})


@pytest.mark.parametrize(
    "trouble", [BUSY, httpx.ReadError("gone"), httpx.WriteError("gone"), UNDER_WAY, *NOBODY_BEHIND]
)
def test_what_may_have_been_done_is_sent_again_under_the_same_key(trouble: Any) -> None:
    script = Script(trouble, ACCEPTED)

    assert scripted(script).enqueue("echo").id == "j"
    assert len({request.headers["Idempotency-Key"] for request in script.asked}) == 1


def test_two_calls_have_two_keys() -> None:
    script = Script(ACCEPTED, ACCEPTED)
    jobs = scripted(script)

    jobs.enqueue("echo")
    jobs.enqueue("echo")

    assert len({request.headers["Idempotency-Key"] for request in script.asked}) == 2


def test_a_full_quota_is_not_waited_out() -> None:
    script = Script(httpx.Response(429, headers={"Retry-After": "5"}, json={"type": "x:quota-exceeded"}))

    with pytest.raises(BusyError) as busy:
        scripted(script).enqueue("echo")

    assert (busy.value.kind, busy.value.retry_after, len(script.asked)) == ("quota-exceeded", 5.0, 1)


@pytest.mark.parametrize("trouble", [BUSY, httpx.ReadError("gone"), *NOBODY_BEHIND])
def test_what_goes_without_a_key_is_not_sent_again(trouble: Any) -> None:
    script = Script(trouble)

    with pytest.raises((BusyError, UnreachableError)):
        scripted(script).token_for("j")

    assert len(script.asked) == 1


def test_what_never_reached_the_server_is_sent_again() -> None:
    script = Script(httpx.ConnectError("refused"), ACCEPTED)

    assert scripted(script).enqueue("echo").id == "j"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<!doctype html>\n<h1>Please sign in</h1>" + "x" * 10_000),
        httpx.Response(302, html="<!doctype html>\n<h1>Please sign in</h1>", headers={"Location": "/login"}),
        httpx.Response(
            200, content=b"\xff<!doctype html> <h1>Please sign in</h1>", headers={"Content-Type": "text/html"}
        ),
    ],
)
def test_what_a_proxy_says_in_the_place_of_the_api_is_told(answer: httpx.Response) -> None:
    script = Script(answer)

    with pytest.raises(AnswerError, match=r"text/html.*<!doctype html> <h1>Please sign in</h1>") as raised:
        scripted(script).get("j")

    assert (raised.value.status, raised.value.kind) == (answer.status_code, "not-json")
    assert len(str(raised.value)) < 500
    assert script.answers == []


def event(name: str, id: str, **data: Any) -> str:
    return f"event: {name}\nid: {id}\ndata: {httpx.Response(200, json=data).text}\n\n"


def streamed(*texts: str) -> httpx.Response:
    return httpx.Response(200, content="".join(texts).encode(), headers={"Content-Type": "text/event-stream"})


def test_a_stream_goes_on_where_it_was_lost(slept: list[float]) -> None:
    script = Script(
        streamed("retry: 1000\n: \n\n", event("job.pending", "p1", status="pending"), "event: job.run"),
        httpx.ConnectError("down"),
        *NOBODY_BEHIND,
        BUSY,
        streamed(event("job.running", "p2", status="running")),
        streamed(event("job.completed", "p3", status="completed")),
    )

    names = [found.name for found in scripted(script).stream("j")]

    assert names == ["job.pending", "job.running", "job.completed"]
    assert [request.headers.get("Last-Event-ID") for request in script.asked] == [None, *["p1"] * 5, "p2"]
    assert 7.0 in slept


def test_a_stream_of_a_job_that_is_not_there_is_an_exception() -> None:
    with pytest.raises(NoSuchJobError):
        list(scripted(Script(httpx.Response(404))).stream("j"))


def test_without_a_place_for_a_stream_waiting_polls() -> None:
    script = Script(BUSY, httpx.Response(200, json=JOB))

    assert scripted(script).wait("j").result == {"rows": 3}
    assert [request.url.path.rpartition("/")[2] for request in script.asked] == ["events", "j"]
    assert script.asked[1].url.params["wait"] == "20"


def test_who_waits_outlasts_a_server_that_answers_nobody() -> None:
    """Without a time that it may take. That no stream can be had is no reason to be less patient than one."""
    down = [*[BUSY] * 4, httpx.ConnectError("down"), *NOBODY_BEHIND]
    script = Script(BUSY, *down, *down, httpx.Response(200, json=JOB))

    assert scripted(script).wait("j").status == "completed"
    assert script.answers == []


def test_waiting_ends_when_the_time_is_over() -> None:
    script = Script(streamed(event("job.pending", "p1", status="pending")))

    with pytest.raises(WaitTimeoutError, match="it goes on"):
        scripted(script).wait("j", timeout=0.0)


def test_a_bar_shows_what_a_handler_says_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which it takes what captures for a terminal
    progress = {"current": 1, "total": 2, "message": "[/in.csv] [red]\x1b[2J"}

    with progress_bar_for("export", shown=True) as show:
        show(Event("job.progress", "1", {"progress": progress}))

    shown = capsys.readouterr()
    assert "[/in.csv] [red]\N{REPLACEMENT CHARACTER}[2J" in shown.err
    assert "50%" in shown.err
    assert shown.out == ""


def test_where_nobody_looks_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar_for("export", shown=True) as show:
        show(Event("job.progress", "1", {"progress": {"current": 1, "total": 2, "message": "half"}}))

    assert tuple(capsys.readouterr()) == ("", "")


def test_a_result_can_be_had_as_what_it_is() -> None:
    @dataclass(frozen=True)
    class Rows:
        rows: int

    job = scripted(Script(httpx.Response(200, json=JOB))).get("j")

    assert job.result_as(Rows) == Rows(3)
    assert job.result_as(dict) == {"rows": 3}
    with pytest.raises(TypeError, match="no str"):
        job.result_as(str)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_read_however_their_text_is_cut(size: int) -> None:
    text = (
        ": hello\n\n" + event("job.log", "1", message="a\u2028b\x85c") + "id: 2\n\n" + event("x", "3") + "event: half"
    )

    found = list(parse(text[start : start + size] for start in range(0, len(text), size)))

    assert [(one.name, one.id) for one in found if one.name or one.id] == [("job.log", "1"), ("", "2"), ("x", "3")]
    assert Event("job.log", "1", {"message": "a\u2028b\x85c"}) in found


def test_the_client_needs_nothing_of_what_serves_it() -> None:
    ask: Callable[..., Any] = subprocess.run
    script = (
        "import sys, jobplatform.client;"
        "print(sorted({'flask', 'sqlalchemy', 'psycopg', 'marshmallow'} & set(sys.modules)))"
    )

    done = ask([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
