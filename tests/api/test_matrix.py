"""Every route with every wrong token, made from the routes: a new one is covered on the day it is written.

401 for who is nobody, 404 for what is somebody else's, 403 for what this token is not for, in this order.
"""

from __future__ import annotations

import datetime
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.api import Scope, mint_job_token, revoke_token
from jobplatform.models import JobLog, Workspace
from jobplatform.queue import pause, set_plan, set_workspace_limits
from jobplatform.queue.hooks.key import new_hook_key
from tests.api.conftest import PROBLEM, Client, Hand, MintToken, hub_of
from tests.api.routes import UNKNOWN, Route, by_key, guarded, routes, tenants

TENANT_SCOPES = tuple(scope.value for scope in Scope if scope is not Scope.OPERATOR)
#: What is different in every answer.
CHANGING = ("X-Request-Id", "Content-Length", "Date")


@pytest.fixture(autouse=True)
def no_stream_lasts(app: Flask) -> None:
    """Streams are answered, and end at once: what is asked here is who gets one."""
    hub_of(app).end_all()


@pytest.fixture
def bearer(app: Flask) -> Callable[[str | None], Client]:
    return lambda token: Client(app.test_client(), token)


def nobodys_headers(
    mint: MintToken, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> Iterator[tuple[str, dict[str, str]]]:
    """Every way to be nobody."""
    good, revoked = mint(workspace_id), mint(workspace_id)
    revoked_operator = mint(None, ("operator",))
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    with sessions.begin() as session:
        for token in (revoked, revoked_operator):
            revoke_token(session, token.split("_")[1])
    yield "no header", {}
    yield "an empty header", {"Authorization": ""}
    yield "no token", {"Authorization": "Bearer"}
    yield "malformed", {"Authorization": "Bearer nonsense"}
    yield "another scheme", {"Authorization": f"Basic {good}"}
    yield "no scheme", {"Authorization": good}
    yield "a letter too much", {"Authorization": f"Bearer {good}x"}
    yield "a wrong secret", {"Authorization": f"Bearer {good[:-1]}{'0' if good[-1] != '0' else '1'}"}
    yield "unknown", {"Authorization": f"Bearer jp_{'0' * 18}_{'0' * 64}"}
    yield "expired", {"Authorization": f"Bearer {mint(workspace_id, expires_at=long_ago)}"}
    yield "an expired operator's", {"Authorization": f"Bearer {mint(None, ('operator',), expires_at=long_ago)}"}
    yield "a job's token, of a revoked one", {"Authorization": f"Bearer {job_token(sessions, workspace_id, revoked)}"}
    yield "an expired job's token", {"Authorization": f"Bearer {job_token(sessions, workspace_id, good, seconds=-1)}"}
    forged = job_token(sessions, workspace_id, good)
    yield "a forged job's token", {"Authorization": f"Bearer {forged[:-1]}{'A' if forged[-1] != 'A' else 'B'}"}
    yield "revoked", {"Authorization": f"Bearer {revoked}"}
    yield "a revoked operator's", {"Authorization": f"Bearer {revoked_operator}"}


def job_token(sessions: sessionmaker[Session], workspace_id: uuid.UUID, token: str, seconds: int = 60) -> str:
    with sessions() as session:
        valid_for = datetime.timedelta(seconds=seconds)
        made = mint_job_token(session, token.split("_")[1], workspace_id, UNKNOWN, valid_for)
    assert made is not None
    return made[0]


def test_every_route_says_401_to_whoever_is_nobody_and_always_the_same(
    app: Flask, nobody: Client, mint: MintToken, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    ways = list(nobodys_headers(mint, sessions, workspace_id))

    for route in guarded(app):
        answers = set()
        for way, headers in ways:
            answer = nobody.request(route.method, route.url(workspaceId=workspace_id), headers=headers)
            assert (answer.status_code, answer.content_type) == (401, PROBLEM), (route, way)
            assert answer.headers["WWW-Authenticate"].split()[0] == "Bearer"
            answers.add(without_what_changes(answer))
        assert len(answers) == 1, route


def test_every_route_says_403_to_a_token_without_its_scope_and_names_it(
    app: Flask, bearer: Callable[[str], Client], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    lacking = {
        scope: bearer(mint(workspace_id, tuple(other for other in TENANT_SCOPES if other != scope))) for scope in Scope
    }

    for route in guarded(app):
        answer = lacking[route.scope].request(route.method, route.url(workspaceId=workspace_id))
        assert (answer.status_code, answer.content_type) == (403, PROBLEM), route
        assert answer.get_json()["requiredScope"] == route.scope, route


def test_every_route_hides_what_belongs_to_another_workspace_byte_for_byte(
    app: Flask,
    client: Client,
    bearer: Callable[[str], Client],
    mint: MintToken,
    workspace_id: uuid.UUID,
    hand: Hand,
) -> None:
    """The same bytes as for an id that nobody has, whatever the status of the job and whatever is sent."""
    stranger = bearer(mint(uuid.uuid4(), TENANT_SCOPES))

    for failed in (False, True):
        job = client.post(f"/workspaces/{workspace_id}/sync", json={"ifActive": "return"}).get_json()["jobId"]
        if failed:
            hand.fail(workspace_id, job)
        for route in guarded(app):
            # What does not name the job is the same whatever has become of it.
            if not route.has("workspaceId") or (failed and not route.has("jobId")):
                continue
            for sent in (None, {}, {"jobType": "echo"}, {"nonsense": 1}):
                theirs = stranger.request(route.method, route.url(workspaceId=workspace_id, jobId=job), json=sent)
                unknown = stranger.request(route.method, route.url(), json=sent)
                assert (theirs.status_code, unknown.status_code) == (404, 404), (route, sent)
                assert without_what_changes(theirs, workspace_id, job) == without_what_changes(unknown), (route, sent)


def test_every_route_about_a_job_hides_those_of_another_workspace_below_one_s_own(
    app: Flask,
    client: Client,
    bearer: Callable[[str], Client],
    mint: MintToken,
    jobs_url: str,
    other_workspace: uuid.UUID,
) -> None:
    stranger = bearer(mint(other_workspace, TENANT_SCOPES))
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"]

    for route in tenants(app):
        if not route.has("jobId"):
            continue
        sent = {"priority": 3} if route.method == "PATCH" else None
        theirs = stranger.request(route.method, route.url(workspaceId=other_workspace, jobId=job), json=sent)
        unknown = stranger.request(route.method, route.url(workspaceId=other_workspace), json=sent)
        assert (theirs.status_code, unknown.status_code) == (404, 404), route
        assert without_what_changes(theirs, job) == without_what_changes(unknown), route
    assert client.get(f"{jobs_url}/{job}").get_json()["status"] == "pending"


def test_a_workspace_s_token_learns_nothing_from_the_operators_routes(
    app: Flask, bearer: Callable[[str], Client], mint: MintToken, operator: Client, workspace_id: uuid.UUID
) -> None:
    """What is there and what is not is refused with the same bytes, at every one of them."""
    tenant = bearer(mint(workspace_id, TENANT_SCOPES))
    assert operator.request("PUT", "/operator/plans/gold", json={}).status_code == 200
    assert operator.request("PUT", "/operator/pauses/queue/default", json={"reason": "x"}).status_code == 200

    for route in guarded(app):
        if route.scope is not Scope.OPERATOR:
            continue
        there = tenant.request(route.method, route.url(workspaceId=workspace_id), json={})
        nothing = route.url(workspaceId=workspace_id, name="none", key="none", queue="none")
        missing = tenant.request(route.method, nothing, json={})
        assert (there.status_code, missing.status_code) == (403, 403), route
        assert without_what_changes(there, "gold", "default") == without_what_changes(missing, "none"), route


def test_every_route_by_key_hides_what_it_has_no_key_of_from_whoever_asks(
    app: Flask, bearer: Callable[[str | None], Client], mint: MintToken, workspace_id: uuid.UUID, canary: Canary
) -> None:
    """A key is all there is to it: no token opens anything there, nor closes it. Every wrong key is answered alike."""
    wrong = [
        new_hook_key(UNKNOWN, UNKNOWN),
        new_hook_key(canary.workspace_id, UNKNOWN),
        new_hook_key(canary.workspace_id, canary.hook_id),
        canary.hook_key[:-1] + ("A" if canary.hook_key[-1] != "A" else "B"),
        "jph_" + "A" * 75,
        "nonsense",
    ]
    clients = [bearer(None), bearer(mint(canary.workspace_id, TENANT_SCOPES)), bearer(mint(None, ("operator",)))]

    assert by_key(app) != []
    for route in by_key(app):
        answers = {
            without_what_changes(client.request(route.method, url, json=body), key)
            for key in wrong
            for url in (route.url(connectionKey=key), route.url(connectionKey=key) + "?hub.mode=subscribe")
            for client in clients
            for body in (None, {"a": 1})
        }
        assert len(answers) == 1, route
        assert answers.pop()[0] == "404 NOT FOUND"
        for client in clients:
            assert client.request(route.method, route.url(connectionKey=canary.hook_key)).status_code != 401


def test_every_route_lets_an_operator_in(app: Flask, operator: Client, workspace_id: uuid.UUID) -> None:
    for route in guarded(app):
        answer = operator.request(route.method, route.url(workspaceId=workspace_id))
        assert answer.status_code not in (401, 403, 405), route
        assert answer.status_code < 500 or route.path == "/jobs/health", route


def test_no_route_knows_a_name_with_a_nul_in_it(app: Flask, operator: Client, workspace_id: uuid.UUID) -> None:
    for route in guarded(app):
        url = route.url(workspaceId=workspace_id, name="%00", queue="%00", task="%00", resource="%00", key="%00")
        if "%00" in url:
            assert operator.request(route.method, url, json={}).status_code == 404, route


def test_a_token_for_one_job_opens_what_is_about_that_job_and_nothing_else(
    app: Flask,
    client: Client,
    bearer: Callable[[str], Client],
    mint: MintToken,
    jobs_url: str,
    workspace_id: uuid.UUID,
) -> None:
    """403 at every other route, 404 for every other job, and in the query at the streams alone."""
    job, other = (client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"] for _ in range(2))
    token = client.post(f"{jobs_url}/{job}/token").get_json()["token"]
    browser, nobody = bearer(token), bearer(None)

    for route in guarded(app):
        mine = route.url(workspaceId=workspace_id, jobId=job)
        answer = browser.request(route.method, mine)
        in_query = nobody.request(route.method, mine + f"?token={token}")
        if (route.method, route.path) in OF_ONE_JOB:
            expected = 200 if "/sync/" not in route.path else 404
            assert answer.status_code == expected, route
            assert browser.request(route.method, route.url(workspaceId=workspace_id, jobId=other)).status_code == 404
            assert in_query.status_code == (200 if route.path in STREAMS_OF_ONE_JOB else 401), route
        else:
            assert (answer.status_code, in_query.status_code) == (403, 401), route
    foreign = bearer(token).get(f"/workspaces/{uuid.uuid4()}/jobs/{job}")
    assert foreign.status_code == 404


STREAMS_OF_ONE_JOB = {"/workspaces/{workspaceId}/jobs/{jobId}/events", "/jobs/stream/{jobId}"}
OF_ONE_JOB = {
    ("GET", "/workspaces/{workspaceId}/jobs/{jobId}"),
    ("GET", "/workspaces/{workspaceId}/sync/jobs/{jobId}"),
    ("GET", "/trigger/runs/{jobId}"),
    *(("GET", path) for path in STREAMS_OF_ONE_JOB),
}


#: A key that both use: the guard of one must not be felt by the other.
GUARD = "nightly"


class Canary:
    """A workspace that has the same word in everything it can say."""

    WORD = "canary7f3a"

    def __init__(self, workspace_id: uuid.UUID, job_ids: list[str], schedule_id: str, hook: Any) -> None:
        self.workspace_id = workspace_id
        self.job_ids = job_ids
        self.schedule_id = schedule_id
        self.hook_id = uuid.UUID(hook["id"])
        self.hook_key: str = hook["url"].rpartition("/")[2]

    @property
    def traces(self) -> list[str]:
        return [self.WORD, str(self.workspace_id), *self.job_ids, self.schedule_id, str(self.hook_id), self.hook_key]


@pytest.fixture
def canary(app: Flask, mint: MintToken, sessions: sessionmaker[Session], hand: Hand) -> Canary:
    word, workspace_id = Canary.WORD, uuid.uuid4()
    with sessions.begin() as session:
        session.add(Workspace(id=workspace_id, name=word))
        set_plan(session, word, {"max_pending": 1000})
        session.flush()
        set_workspace_limits(session, workspace_id, {"plan": word})
        pause(session, "workspace", str(workspace_id), reason=word, actor=word)
    client = Client(app.test_client(), mint(workspace_id, TENANT_SCOPES))
    job_ids = []
    for number in range(4):
        answer = client.post(
            f"/workspaces/{workspace_id}/jobs",
            json={
                "jobType": "echo",
                "payload": {word: word},
                "tags": [word],
                "uniqueKey": f"{GUARD}-{number}",
                "queue": word,
            },
            headers={"X-Request-Id": f"{word}-{number}"},
        )
        assert answer.status_code == 202, answer.text
        job_ids.append(answer.get_json()["jobId"])
    hand.complete(workspace_id, job_ids[0], f'"{word}"')
    hand.fail(workspace_id, job_ids[1])
    hand.claim(workspace_id, job_ids[2])
    with sessions.begin() as session:
        job_id = uuid.UUID(job_ids[1])
        session.add(JobLog(workspace_id=workspace_id, job_id=job_id, epoch=1, line=1, level="info", message=word))
    scheduled = client.post(
        f"/workspaces/{workspace_id}/schedules",
        json={"jobType": "echo", "name": word, "payload": {word: word}, "cron": "@daily", "tags": [word]},
    )
    assert scheduled.status_code == 201, scheduled.text
    hooked = client.post(f"/workspaces/{workspace_id}/hooks", json={"name": word, "scheme": "none", "jobType": "echo"})
    assert hooked.status_code == 201, hooked.text
    return Canary(workspace_id, job_ids, scheduled.get_json()["id"], hooked.get_json())


#: What a curious client sends to every route.
BODIES: tuple[Any, ...] = (
    None,
    {"jobType": "echo", "uniqueKey": f"{GUARD}-3"},
    # And once more, which is refused for the first.
    {"jobType": "echo", "uniqueKey": f"{GUARD}-3"},
    {"jobType": "ecko"},
    {"jobType": "echo", "cron": "@daily", "name": "canary"},
    {"jobType": "echo", "scheme": "none", "name": "canary"},
    {"url": "https://crm.example.com", "name": "canary"},
    {"nonsense": 1},
)


def test_nothing_of_another_workspace_is_ever_answered_or_logged(
    app: Flask,
    canary: Canary,
    bearer: Callable[[str | None], Client],
    mint: MintToken,
    workspace_id: uuid.UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every route, by every token that is not the canary's, for things of its own and for made-up ones."""
    own = bearer(mint(workspace_id, TENANT_SCOPES))
    job = own.post(f"/workspaces/{workspace_id}/jobs", json={"jobType": "echo"}).get_json()["jobId"]
    clients = [own, bearer(mint(uuid.uuid4(), TENANT_SCOPES)), bearer(None)]
    caplog.set_level(logging.DEBUG)

    for route, client, body in asked(app, clients):
        for job_id in (job, UNKNOWN) if route.has("jobId") else (UNKNOWN,):
            caplog.clear()
            answer = client.request(route.method, route.url(workspaceId=workspace_id, jobId=job_id), json=body)
            assert_no_trace(canary.traces, answer, caplog, sent=str(body), about=route)


@pytest.mark.thorough
def test_who_names_another_workspace_s_ids_gets_back_no_more_than_those_ids(
    app: Flask,
    canary: Canary,
    bearer: Callable[[str | None], Client],
    mint: MintToken,
    workspace_id: uuid.UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clients = [bearer(mint(workspace_id, TENANT_SCOPES)), bearer(None)]
    caplog.set_level(logging.DEBUG)

    for route, client, body in asked(app, clients):
        # Once each: where nothing of it is in the path, the next request would be the same.
        for url in dict.fromkeys(
            route.url(workspaceId=asked_in, jobId=job_id, scheduleId=canary.schedule_id, hookId=canary.hook_id)
            for asked_in in (canary.workspace_id, workspace_id)
            for job_id in canary.job_ids
        ):
            caplog.clear()
            answer = client.request(route.method, url, json=body)
            assert_no_trace(canary.traces, answer, caplog, sent=f"{body} {url}", about=route)


def asked(app: Flask, clients: list[Client]) -> Iterator[tuple[Route, Client, Any]]:
    for route in routes(app):
        for client in clients:
            for body in BODIES if route.writes else (None,):
                yield route, client, body


def assert_no_trace(
    traces: list[str], answer: TestResponse, caplog: pytest.LogCaptureFixture, *, sent: str, about: object
) -> None:
    """What somebody sent may come back; nothing else of the canary may."""
    said = f"{answer.headers}\n{answer.text}\n" + "\n".join(str(vars(record)) for record in caplog.records)
    found = [trace for trace in traces if trace in said and trace not in sent]
    assert found == [], (about, said)


def without_what_changes(answer: TestResponse, *names: object) -> tuple[str, ...]:
    """An answer as bytes, with ids that the asker named replaced by nobody's."""
    text = answer.text
    for name in names:
        text = text.replace(str(name), str(UNKNOWN if len(str(name)) == 36 else "none"))
    headers = [f"{name}: {value}" for name, value in answer.headers if name not in CHANGING]
    return (answer.status, text, *headers)
