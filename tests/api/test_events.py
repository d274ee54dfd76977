"""Streams of what happens to a job, and to the jobs of a workspace."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.event import listen, remove
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import StreamLimits, create_app, end_streams, revoke_token
from jobplatform.api.streams import carrying, streaming
from jobplatform.api.streams.events import JobEventSchema
from jobplatform.api.streams.following import WorkspaceFollower
from jobplatform.api.streams.places import WorkspacePlace
from jobplatform.models import Role
from jobplatform.queue import Lease, LogLine, ProgressReport, append_log_lines, report_progress
from jobplatform.settings import Settings
from jobplatform.testing import wait_until
from tests.api.conftest import PROBLEM, Client, Hand, hub_of
from tests.api.routes import UNKNOWN
from tests.api.streams import Event, Stream, parse, told
from tests.scarcity import without_new_threads


@pytest.fixture
def events_url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/events"


@pytest.fixture
def opened() -> Iterator[Callable[..., Stream]]:
    """Opens a stream, which is closed at the end of the test."""
    streams: list[Stream] = []

    def open_stream(client: Client, url: str, last_id: str = "") -> Stream:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        streams.append(Stream(client.get(url, headers=headers)))
        return streams[-1]

    yield open_stream
    for stream in streams:
        stream.close()


@pytest.fixture
def say(sessions: sessionmaker[Session]) -> Callable[..., None]:
    def say(lease: Lease, *lines: int) -> None:
        with sessions.begin() as session:
            append_log_lines(session, [LogLine(lease, line, "info", f"line {line}") for line in lines])

    return say


def test_a_job_is_followed_from_its_beginning_to_its_end(
    client: Client,
    jobs_url: str,
    echo: Callable[..., str],
    hand: Hand,
    workspace_id: uuid.UUID,
    sessions: sessionmaker[Session],
    say: Callable[..., None],
    opened: Callable[..., Stream],
) -> None:
    job = echo()
    stream = opened(client, f"{jobs_url}/{job}/events")
    begin = stream.next(1)

    lease = hand.claim(workspace_id, job)
    begin += stream.next(1)
    say(lease, 1, 2)
    with sessions.begin() as session:
        report_progress(session, [ProgressReport(lease, '{"current": 1, "total": 2, "message": "half"}')])
    middle = stream.until("job.progress")
    hand.end(lease, '{"rows": 3}')
    end = list(stream)

    assert told([*begin, *middle, *end]) == [
        ("job.pending", 0),
        ("job.running", 1),
        ("job.log", 1, 1),
        ("job.log", 1, 2),
        ("job.completed", 1),
    ]
    assert middle[-1].data["progress"] == {"current": 1, "total": 2, "message": "half"}
    assert end[-1].data["result"] == {"rows": 3}
    assert JobEventSchema().validate(end[-1].data) == {}


def test_who_follows_a_job_or_its_workspace_is_told_when_it_is_to_run_at_another_moment(
    client: Client, jobs_url: str, events_url: str, echo: Callable[..., str], opened: Callable[..., Stream]
) -> None:
    job, moment = echo(delayMs=3_600_000), "2031-01-01T00:00:00.000000Z"
    workspace = opened(client, events_url)
    wait_until(lambda: stream_has_begun(workspace, client), what="the stream to know its place")
    stream = opened(client, f"{jobs_url}/{job}/events")
    begin = stream.next(1)

    client.request("PATCH", f"{jobs_url}/{job}", json={"runAfter": moment, "priority": 5})
    changed, of_workspace = stream.next(1), workspace.next(1)
    later = opened(client, f"{jobs_url}/{job}/events", changed[0].id)
    client.post(f"{jobs_url}/{job}/cancel")

    assert told([*begin, *changed]) == [("job.pending", 0)] * 2
    assert begin[0].data["runAfter"] < moment
    assert [event.data["runAfter"] for event in (*changed, *of_workspace)] == [moment] * 2
    assert told(list(later)) == told(list(stream)) == [("job.cancelled", 0)]


def test_a_client_that_comes_back_gets_what_it_has_not_and_nothing_twice(
    client: Client,
    jobs_url: str,
    echo: Callable[..., str],
    hand: Hand,
    workspace_id: uuid.UUID,
    say: Callable[..., None],
) -> None:
    job = echo()
    lease = hand.claim(workspace_id, job)
    say(lease, 1, 2, 3)
    hand.give_up(lease)
    whole = list(Stream(client.get(f"{jobs_url}/{job}/events")))

    for place, event in enumerate(whole):
        by_header = client.get(f"{jobs_url}/{job}/events", headers={"Last-Event-ID": event.id})
        by_query = client.get(f"{jobs_url}/{job}/events?lastEventId={event.id}")
        assert list(Stream(by_header)) == list(Stream(by_query)) == whole[place + 1 :]
    assert told(whole)[-1] == ("job.failed", 1)


def test_a_workspace_s_stream_carries_all_its_jobs_and_can_be_resumed(
    client: Client,
    events_url: str,
    echo: Callable[..., str],
    hand: Hand,
    workspace_id: uuid.UUID,
    other_workspace: uuid.UUID,
    stranger: Client,
    say: Callable[..., None],
    opened: Callable[..., Stream],
) -> None:
    old, doomed = echo(), echo()
    hand.complete(workspace_id, doomed)
    stream = opened(client, events_url)
    wait_until(lambda: stream_has_begun(stream, client), what="the stream to know its place")
    lease = hand.claim(workspace_id, old)
    first = stream.next(1)
    stream.close()

    # While nobody looks: one goes on, one comes and goes, one comes, and somebody else's too.
    say(lease, 1)
    hand.end(lease)
    quick, new = echo(), echo()
    hand.complete(workspace_id, quick)
    stranger.post(f"/workspaces/{other_workspace}/jobs", json={"jobType": "echo"})
    resumed = opened(client, events_url, stream.last_id)
    rest = resumed.next(6)

    assert [(event.name, event.data["jobId"]) for event in first] == [("job.running", old)]
    assert sorted((event.data["jobId"], *told([event])[0]) for event in rest) == sorted(
        [
            (old, "job.log", 1, 1),
            (old, "job.completed", 1),
            (quick, "job.pending", 0),
            (quick, "job.running", 1),
            (quick, "job.completed", 1),
            (new, "job.pending", 0),
        ]
    )
    again = opened(client, events_url, resumed.last_id)
    hand.complete(workspace_id, new)
    assert [(event.name, event.data["jobId"]) for event in again.next(2)] == [
        ("job.running", new),
        ("job.completed", new),
    ]


def stream_has_begun(stream: Stream, client: Client) -> bool:
    """The hub has looked at the workspace once: what comes from now on is news."""
    (follower,) = hub_of(client.http.application)._followers
    return isinstance(follower, WorkspaceFollower) and follower.knows_its_place


def test_a_workspace_with_more_jobs_than_can_be_followed_says_so(
    client: Client,
    events_url: str,
    echo: Callable[..., str],
    hand: Hand,
    workspace_id: uuid.UUID,
    opened: Callable[..., Stream],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobplatform.api.streams.following.MOST_LIVE", 2)
    stream = opened(client, events_url)
    wait_until(lambda: stream_has_begun(stream, client), what="the stream to know its place")

    jobs = [echo() for _ in range(3)]
    crowded = stream.until("stream.reset")[-1]
    for job in jobs[:2]:
        hand.complete(workspace_id, job)
    calm = stream.until("stream.reset")[-1]
    # Where the jobs are at a reset is looked up and not told; this one is not to move before that.
    wait_until(lambda: stream_has_begun(stream, client), what="the stream to know its place again")
    hand.complete(workspace_id, jobs[2])

    assert (crowded.data, calm.data) == ({"exact": False}, {"exact": True})
    assert [event.name for event in stream.next(2)] == ["job.running", "job.completed"]


def test_a_place_that_is_too_old_is_answered_with_a_reset(
    client: Client, events_url: str, opened: Callable[..., Stream]
) -> None:
    stream = opened(client, events_url, str(WorkspacePlace(at=1)))

    assert [(event.name, event.data) for event in stream.next(1)] == [("stream.reset", {"exact": True})]


#: Of jobs that were made after the last moment that an id can have.
NEVER = "w1-AQEC________PwAAAAAAAAAAAAAA________PwAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("bad", ["nonsense", "1-0.0.1..0.0x", "w1-", "w1-AA", "w1-____", NEVER])
def test_what_is_no_position_is_refused_with_a_reason(
    bad: str, client: Client, jobs_url: str, events_url: str, echo: Callable[..., str]
) -> None:
    for url in (f"{jobs_url}/{echo()}/events", events_url):
        answer = client.get(url, headers={"Last-Event-ID": bad})
        assert (answer.status_code, answer.content_type) == (422, PROBLEM)
        assert answer.get_json()["errors"][0]["path"] == "?lastEventId"


def test_a_silent_stream_says_something_now_and_then(
    client: Client, jobs_url: str, echo: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "HEARTBEAT", 0.01)
    answer = client.get(f"{jobs_url}/{echo()}/events")

    texts = b"".join(next(iter(answer.response)) for _ in range(5)).decode()  # type: ignore[misc]
    answer.close()

    assert texts.startswith("retry: 1000\n: \n\n")
    assert texts.count(": \n\n") >= 3


def test_a_head_request_opens_no_stream(
    app: Flask, client: Client, jobs_url: str, events_url: str, echo: Callable[..., str]
) -> None:
    for url in (events_url, f"{jobs_url}/{echo()}/events"):
        assert client.request("HEAD", url).content_type.startswith("text/event-stream")
    assert hub_of(app).following_now == 0


def test_a_stream_holds_no_session_and_its_place_is_free_when_it_is_closed(
    app: Flask, client: Client, events_url: str
) -> None:
    answers = [client.get(events_url) for _ in range(3)]
    hub = hub_of(app)
    wait_until(lambda: hub.rounds > 2, what="the hub to look a few times")

    assert hub.following_now == 3
    wait_until(lambda: app.extensions["jobplatform.engine"].pool.checkedout() == 0, what="every connection to be back")
    for answer in answers:
        answer.close()
    assert hub.following_now == 0


def test_all_streams_of_a_process_use_one_connection_to_the_database(
    app: Flask,
    client: Client,
    jobs_url: str,
    echo: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobplatform.api.streams.hub.PORTION", 1)
    used: list[tuple[str, int, int]] = []
    pool = app.extensions["jobplatform.engine"].pool

    def note(connection: Any, *_: object) -> None:
        used.append((threading.current_thread().name, connection.info.backend_pid, pool.checkedout()))

    answers = [client.get(f"{jobs_url}/{echo()}/events") for _ in range(3)]
    hub = hub_of(app)
    listen(pool, "checkout", note)
    seen = hub.rounds
    wait_until(lambda: hub.rounds > seen + 2, what="the hub to look a few times")
    remove(pool, "checkout", note)
    for answer in answers:
        answer.close()

    assert len(used) >= 2 * 3
    assert len(set(used)) == 1
    # One at a time, also when it is handed out.
    assert (used[0][0], used[0][2]) == ("jobplatform-hub", 1)


@pytest.mark.parametrize(
    ("limits", "who"),
    [
        (StreamLimits(process=2), "the workspace"),
        (StreamLimits(process=100, workspace=1), "the workspace"),
        (StreamLimits(process=100, token=1), "the token"),
    ],
)
def test_there_are_only_so_many_streams(
    limits: StreamLimits, who: str, app: Flask, client: Client, events_url: str, opened: Callable[..., Stream]
) -> None:
    hub_of(app).limits = limits
    opened(client, events_url)

    refused = client.get(events_url)

    assert (refused.status_code, refused.content_type) == (503, PROBLEM)
    assert int(refused.headers["Retry-After"]) > 0
    assert who in refused.get_json()["detail"]


def test_where_no_thread_can_be_started_a_stream_is_refused_and_the_next_one_works(
    app: Flask, client: Client, events_url: str, opened: Callable[..., Stream]
) -> None:
    hub_of(app).limits = StreamLimits(process=2, workspace=1)

    with without_new_threads():
        refused = client.get(events_url)

    assert (refused.status_code, refused.content_type) == (503, PROBLEM)
    assert int(refused.headers["Retry-After"]) > 0
    assert "thread" in refused.get_json()["detail"]
    opened(client, events_url)
    wait_until(lambda: hub_of(app).rounds, what="the hub to look")


def test_the_settings_say_how_many_and_api_and_pages_count_together(login_url: Callable[..., str]) -> None:
    settings = Settings(
        database_url=login_url(Role.API), max_streams=7, max_streams_per_workspace=5, max_streams_per_token=3
    )

    app = create_app(settings)

    hub = hub_of(app)
    assert hub.limits == StreamLimits(process=7, workspace=5, token=3)
    assert {app.blueprints[name].mounted.hub for name in ("console", "portal")} == {hub}  # type: ignore[attr-defined]
    app.extensions["jobplatform.engine"].dispose()


def test_a_revoked_token_ends_its_streams(
    client: Client, events_url: str, sessions: sessionmaker[Session], opened: Callable[..., Stream]
) -> None:
    stream = opened(client, events_url)
    assert client.token is not None

    with sessions.begin() as session:
        revoke_token(session, client.token.split("_")[1])

    assert list(stream) == []


def test_streams_end_when_the_process_is_to_stop(
    app: Flask, client: Client, events_url: str, opened: Callable[..., Stream]
) -> None:
    open_now = opened(client, events_url)

    end_streams(app)

    assert list(open_now) == []
    assert list(opened(client, events_url)) == []


def test_a_job_of_nobody_has_no_stream(client: Client, jobs_url: str) -> None:
    assert client.get(f"{jobs_url}/{UNKNOWN}/events").status_code == 404


def test_an_answer_waits_until_the_job_changes(
    client: Client, jobs_url: str, echo: Callable[..., str], hand: Hand, workspace_id: uuid.UUID, app: Flask
) -> None:
    job = echo()
    tag = client.get(f"{jobs_url}/{job}").headers["ETag"]
    answers: list[Any] = []
    ask = threading.Thread(
        target=lambda: answers.append(client.get(f"{jobs_url}/{job}?wait=30", headers={"If-None-Match": tag}))
    )
    ask.start()
    wait_until(lambda: hub_of(app).following_now == 1 and hub_of(app).rounds > 1, what="the request to wait")

    hand.claim(workspace_id, job)
    ask.join(30)

    assert [(answer.status_code, answer.get_json()["status"]) for answer in answers] == [(200, "running")]
    assert hub_of(app).following_now == 0


def test_an_answer_that_waits_in_vain_says_that_nothing_has_changed(
    client: Client, jobs_url: str, echo: Callable[..., str]
) -> None:
    job = echo()
    tag = client.get(f"{jobs_url}/{job}").headers["ETag"]

    assert client.get(f"{jobs_url}/{job}?wait=1", headers={"If-None-Match": tag}).status_code == 304
    assert client.get(f"{jobs_url}/{job}?wait=1").status_code == 200


@pytest.mark.parametrize("why", ["ended", "news", "crowded", "no thread"])
def test_an_answer_does_not_wait_where_there_is_nothing_to_wait_for(
    why: str, app: Flask, client: Client, jobs_url: str, echo: Callable[..., str], hand: Hand, workspace_id: uuid.UUID
) -> None:
    job = echo()
    if why == "ended":
        hand.complete(workspace_id, job)
    if why == "crowded":
        hub_of(app).limits = StreamLimits(process=1, workspace=0)
    headers = {"If-None-Match": '"another"'} if why == "news" else {}

    with without_new_threads() if why == "no thread" else contextlib.nullcontext():
        answer = client.get(f"{jobs_url}/{job}?wait=50", headers=headers)

    assert answer.status_code == 200
    assert hub_of(app).rounds == 0, "it has waited"


@pytest.mark.parametrize("wait", ["-1", "51", "soon", "1e9"])
def test_an_answer_waits_only_for_so_long(wait: str, client: Client, jobs_url: str, echo: Callable[..., str]) -> None:
    answer = client.get(f"{jobs_url}/{echo()}?wait={wait}")

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["path"] == "?wait"


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    text = streaming.write_event("job.log", "1-0.0.1..0.0", {"message": "a\r\nb\u2028 c\ndata: d"})

    assert text.count("\n") == 4
    assert list(parse([text])) == [Event("job.log", "1-0.0.1..0.0", {"message": "a\r\nb\u2028 c\ndata: d"})]
