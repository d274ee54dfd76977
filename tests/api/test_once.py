"""The same request sent twice, under one Idempotency-Key."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.key_ring import generate_key
from jobplatform.models import JobRecord, KeptAnswer, Workspace
from jobplatform.queue import (
    RequestKey,
    list_audit,
    lock_request,
    prune_jobs,
    set_encrypting,
)
from tests.api.conftest import PROBLEM, Client, MintToken
from tests.queue.actors import Time

Sessions = sessionmaker[Session]
Send = Callable[..., TestResponse]

KEY = {"Idempotency-Key": "order 4711"}
ECHO = {"jobType": "echo", "payload": {"text": "once"}}


@pytest.fixture
def send(client: Client, jobs_url: str) -> Send:
    def send(json: Any = ECHO, path: str = jobs_url, headers: dict[str, str] = KEY) -> TestResponse:
        return client.post(path, json=json, headers=headers)

    return send


@pytest.fixture
def time(engine: Engine) -> Time:
    return Time(engine)


def jobs(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(JobRecord)) or 0


def test_a_repeated_request_is_answered_alike_and_done_once(send: Send, session: Session) -> None:
    first, second = send(), send()

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.get_data() == first.get_data()
    assert second.headers["Location"] == first.headers["Location"]
    assert second.content_type == first.content_type
    assert ("Idempotency-Replayed" in first.headers, second.headers["Idempotency-Replayed"]) == (False, "true")
    assert jobs(session) == 1
    assert len(list_audit(session, action="job.enqueue")) == 1


def test_without_a_key_and_under_another_it_is_done_again(send: Send, session: Session) -> None:
    for headers in ({}, {}, KEY, {"Idempotency-Key": "another"}):
        assert send(headers=headers).status_code == 202

    assert jobs(session) == 4


@pytest.mark.parametrize("change", ["body", "path", "query"])
def test_a_key_that_was_used_for_something_else_is_refused(
    send: Send, jobs_url: str, sync_url: str, session: Session, change: str
) -> None:
    send()

    other: dict[str, Any] = {
        "body": {"json": {**ECHO, "priority": 1}},
        "path": {"path": sync_url},
        "query": {"path": jobs_url + "?x=1"},
    }
    refused = send(**other[change])

    assert (refused.status_code, refused.content_type) == (422, PROBLEM)
    assert refused.get_json()["type"].endswith(":idempotency-key-reused")
    assert jobs(session) == 1


def test_below_the_prefix_it_is_the_same_request(send: Send, jobs_url: str, session: Session) -> None:
    send()

    assert send(path="/api" + jobs_url).headers["Idempotency-Replayed"] == "true"
    assert jobs(session) == 1


def test_what_is_answered_again_below_another_prefix_has_links_that_stay_below_it(
    send: Send, jobs_url: str, workspace_id: uuid.UUID
) -> None:
    said = {**ECHO, "payload": {"text": "x", "statusUrl": "/workspaces/of/mine"}}
    first = send(json=said)
    job_id = first.get_json()["jobId"]

    again = send(path="/api" + jobs_url, json=said)
    back = send(json=said)

    below = f"/api/workspaces/{workspace_id}/jobs/{job_id}"
    body = again.get_json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == body["statusUrl"] == body["job"]["statusUrl"] == below
    assert body["eventsUrl"] == f"{below}/events"
    assert body["job"]["payload"] == said["payload"]
    assert (back.get_json(), back.headers["Location"]) == (first.get_json(), first.headers["Location"])


def test_a_refused_request_may_be_corrected_under_its_key(send: Send, session: Session) -> None:
    assert send(json={**ECHO, "priority": 10_000}).status_code == 422
    assert send(json={"jobType": "no such task"}).status_code == 422

    assert send().status_code == 202
    assert jobs(session) == 1


def test_a_conflict_leaves_nothing_behind(send: Send, sync_url: str, session: Session, client: Client) -> None:
    job = client.post(sync_url).get_json()
    assert send(path=sync_url, json={}).status_code == 409

    client.post(f"{sync_url.removesuffix('/sync')}/jobs/{job['jobId']}/cancel")

    assert send(path=sync_url, json={}).status_code == 202
    assert jobs(session) == 2


def test_while_the_first_is_under_way_the_second_is_told_so(
    send: Send, client: Client, sessions: Sessions, workspace_id: uuid.UUID
) -> None:
    caller = (client.token or "").split("_")[1]
    with sessions.begin() as first:
        assert lock_request(first, RequestKey(workspace_id, caller, KEY["Idempotency-Key"]))

        refused = send()
        assert send(headers={"Idempotency-Key": "another"}).status_code == 202

    assert (refused.status_code, refused.headers["Retry-After"]) == (409, "1")
    assert refused.get_json()["type"].endswith(":request-under-way")
    assert send().status_code == 202


def test_of_many_at_once_one_is_done(app: Flask, client: Client, jobs_url: str, session: Session) -> None:
    answers: list[TestResponse] = []
    barrier = threading.Barrier(6, timeout=60)

    def post() -> None:
        own = Client(app.test_client(), client.token)
        barrier.wait()
        answers.append(own.post(jobs_url, json=ECHO, headers=KEY))

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.get_json()["jobId"] for answer in answers if answer.status_code == 202}) == 1
    assert jobs(session) == 1


def test_a_key_belongs_to_its_token_and_its_workspace(
    app: Flask, send: Send, jobs_url: str, mint: MintToken, workspace_id: uuid.UUID, stranger: Client, session: Session
) -> None:
    send()

    colleague = Client(app.test_client(), mint(workspace_id))
    assert "Idempotency-Replayed" not in colleague.post(jobs_url, json=ECHO, headers=KEY).headers
    assert stranger.post(jobs_url, json=ECHO, headers=KEY).status_code == 404
    assert jobs(session) == 2


def test_verbs_are_done_once_too(client: Client, jobs_url: str, session: Session) -> None:
    job = client.post(jobs_url, json=ECHO).get_json()["jobId"]

    first, second = (client.post(f"{jobs_url}/{job}/cancel", headers=KEY) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.get_data() == first.get_data()
    assert len(list_audit(session, action="job.cancel")) == 1


def test_what_an_operator_makes_is_made_once(operator: Client, session: Session) -> None:
    first, second = (operator.post("/operator/workspaces", json={"name": "Acme"}, headers=KEY) for _ in range(2))

    assert (first.status_code, second.get_data()) == (201, first.get_data())
    assert session.scalar(select(func.count()).select_from(Workspace).where(Workspace.name == "Acme")) == 1


def test_a_secret_is_not_kept_and_its_token_not_made_twice(operator: Client, sessions: Sessions) -> None:
    wish = {"name": "x", "scopes": ["operator"]}
    first, second = (operator.post("/operator/tokens", json=wish, headers=KEY) for _ in range(2))

    assert (first.status_code, second.status_code) == (201, 409)
    assert second.get_json()["type"].endswith(":already-done")
    with sessions() as session:
        assert session.scalars(select(KeptAnswer.answer)).all() == [None]


def test_after_a_day_a_key_is_as_good_as_new(send: Send, time: Time, session: Session) -> None:
    send()

    time.passes(23 * 3600)
    assert send().headers["Idempotency-Replayed"] == "true"
    time.passes(2 * 3600)
    assert "Idempotency-Replayed" not in send(json={**ECHO, "priority": 1}).headers

    for hours, left in ((0, 1), (25, 0)):
        time.passes(hours * 3600)
        prune_jobs(session, completed_after=timedelta(days=7), failed_after=timedelta(days=30))
        assert session.scalar(select(func.count()).select_from(KeptAnswer)) == left


def test_where_payloads_are_sealed_kept_answers_are_too(
    send: Send, sessions: Sessions, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    with sessions.begin() as session:
        set_encrypting(session, workspace_id, True)

    first, second = send(), send()

    with sessions() as session:
        kept = session.execute(text("select answer::text from jobplatform.kept_answers")).scalar_one()

    assert second.get_data() == first.get_data()
    assert second.get_json()["job"]["payload"] == ECHO["payload"]
    assert "once" not in kept


@pytest.mark.parametrize("key", ["", " padded ", "x" * 256, "kölsch"])
def test_a_key_that_cannot_be_one_is_refused(send: Send, key: str, session: Session) -> None:
    refused = send(headers={"Idempotency-Key": key})

    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "Idempotency-Key")
    assert jobs(session) == 0
