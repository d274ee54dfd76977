"""Webhooks over HTTP: made, tested, rotated, disabled, and what was delivered to them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.key_ring import generate_key
from jobplatform.models import Job
from jobplatform.queue import WorkerInfo, register_worker, settle_endings
from tests.api.conftest import Client, Hand, MintToken

WEBHOOK = {"name": "the CRM", "url": "https://crm.example.com/hooks"}


@pytest.fixture(autouse=True)
def key_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


@pytest.fixture
def owner(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    return Client(app.test_client(), mint(workspace_id, ("connections", "jobs:read", "jobs:write")))


@pytest.fixture
def url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/webhooks"


def make(owner: Client, url: str, **body: Any) -> Any:
    answer = owner.post(url, json={**WEBHOOK, **body})
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def test_a_webhook_shows_its_secret_once(owner: Client, url: str, workspace_id: uuid.UUID) -> None:
    answer = owner.post(url, json={**WEBHOOK, "events": ["job.failed"], "jobTypes": ["sync"]})
    made = answer.get_json()

    assert made["secret"].startswith("whsec_")
    shown = owner.get(answer.headers["Location"]).get_json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert owner.get(url).get_json() == {"items": [shown], "nextCursor": None}
    assert (shown["events"], shown["jobTypes"], shown["workspaceId"]) == (["job.failed"], ["sync"], str(workspace_id))
    assert shown["problem"] == "no live worker delivers webhooks: add_webhooks(tasks) has it do so"


def test_it_is_changed_rotated_disabled_enabled_and_deleted(owner: Client, url: str) -> None:
    made = make(owner, url)
    at = f"{url}/{made['id']}"

    changed = owner.request("PATCH", at, json={"jobTypes": ["sync"], "events": ["job.failed"]}).get_json()
    assert (changed["jobTypes"], changed["events"], changed["name"]) == (["sync"], ["job.failed"], "the CRM")
    assert owner.request("PATCH", at, json={"jobTypes": None}).get_json()["jobTypes"] is None
    rotated = owner.post(f"{at}/rotate-secret", json={"keepOldMs": 1000}).get_json()
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["rotatingUntil"] is not None
    assert owner.post(f"{at}/rotate-secret", json={"keepOldMs": 0}).get_json()["rotatingUntil"] is None
    assert owner.post(f"{at}/disable").get_json()["disabledWhy"] == "by hand"
    assert owner.post(f"{at}/enable").get_json()["disabledAt"] is None
    assert owner.request("DELETE", at).status_code == 204
    assert owner.get(at).status_code == 404


def test_deliveries_are_jobs(
    owner: Client,
    url: str,
    hand: Hand,
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
) -> None:
    made = make(owner, url)
    at = f"{url}/{made['id']}"
    job_id = owner.post(f"/workspaces/{workspace_id}/jobs", json={"jobType": "echo"}).get_json()["jobId"]
    hand.complete(workspace_id, job_id)
    with sessions.begin() as session:
        settle_endings(session)
    sent = owner.post(f"{at}/test")

    test, ending = owner.get(f"{at}/deliveries").get_json()["items"]

    assert (sent.status_code, sent.headers["Location"]) == (202, sent.get_json()["statusUrl"])
    assert (test["type"], test["aboutJobId"], test["jobId"]) == ("webhook.test", None, sent.get_json()["jobId"])
    assert (ending["type"], ending["aboutJobId"], ending["status"]) == ("job.completed", job_id, "pending")
    assert ending["deliveryId"] == f"msg_{ending['jobId'].replace('-', '')}"
    assert owner.get(ending["statusUrl"]).get_json()["parentId"] == job_id
    with sessions.begin() as session:
        session.execute(text("update jobplatform.job_records set result = '{\"status\": 204}' where parent_id = :id"),
                        {"id": job_id})  # fmt: skip
        assert session.scalar(select(Job.result).where(Job.id == uuid.UUID(ending["jobId"]))) == {"status": 204}
    assert owner.get(f"{at}/deliveries").get_json()["items"][1]["answer"] == 204


def test_a_delivery_that_has_ended_is_sent_again(owner: Client, url: str, hand: Hand, workspace_id: uuid.UUID) -> None:
    at, other = (f"{url}/{make(owner, url)['id']}" for _ in range(2))
    job_id = owner.post(f"{at}/test").get_json()["jobId"]
    again = f"deliveries/{job_id}/redeliver"

    waits = owner.post(f"{at}/{again}")
    hand.complete(workspace_id, job_id, '{"status": 204}')
    sent = owner.post(f"{at}/{again}")

    assert (waits.status_code, waits.get_json()["jobStatus"]) == (409, "pending")
    assert (sent.status_code, sent.headers["Location"]) == (202, sent.get_json()["statusUrl"])
    repeat, first = owner.get(f"{at}/deliveries").get_json()["items"]
    assert (repeat["jobId"], repeat["deliveryId"]) == (sent.get_json()["jobId"], first["deliveryId"])
    assert owner.post(f"{other}/{again}").status_code == 404
    owner.post(f"{at}/disable")
    assert owner.post(f"{at}/{again}").status_code == 409


def test_without_a_master_key_no_webhook_is_made_and_it_is_said_what_to_do(
    owner: Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"{url}/{make(owner, url)['id']}"
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")

    for refused in (owner.post(url, json=WEBHOOK), owner.post(f"{at}/rotate-secret")):
        assert refused.status_code == 503
        assert refused.get_json()["type"].endswith(":no-key-ring")
        assert refused.get_json()["errors"][0]["path"] == "/secret"


def test_a_webhook_that_is_disabled_is_not_tested(owner: Client, url: str) -> None:
    at = f"{url}/{make(owner, url)['id']}"
    owner.post(f"{at}/disable")

    refused = owner.post(f"{at}/test")

    assert refused.status_code == 409
    assert refused.get_json()["detail"] == "The webhook is disabled, and would be sent nothing. Enable it first."
    assert owner.get(f"{at}/deliveries").get_json()["items"] == []


def test_a_webhook_of_a_task_that_no_worker_knows_says_so(
    owner: Client, url: str, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        register_worker(session, WorkerInfo("one", "localhost", 1, "test", (), ("jobplatform.webhook", "sync"), 1))

    made = make(owner, url, jobTypes=["sync", "snyc", "invoice.send"])

    assert made["problem"] == "no live worker knows the tasks invoice.send, snyc: nothing is told of that"
    assert make(owner, url, jobTypes=["sync"])["problem"] is None


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"url": "http://crm.example.com"}, "/url"),
        ({"url": "https://user:secret@crm.example.com"}, "/url"),
        ({"url": "nonsense"}, "/url"),
        ({"url": "https://a[b]/"}, "/url"),
        ({"events": []}, "/events"),
        ({"events": ["job.lost"]}, "/events/0"),
        ({"jobTypes": []}, "/jobTypes"),
        ({"jobTypes": ["Sync!"]}, "/jobTypes/0"),
        ({"secret": "x"}, "/secret"),
        ({"name": ""}, "/name"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(owner: Client, url: str, body: dict[str, Any], path: str) -> None:
    answer = owner.post(url, json={**WEBHOOK, **body})

    assert (answer.status_code, [error["path"] for error in answer.get_json()["errors"]]) == (422, [path])
    assert "secret@" not in answer.text
