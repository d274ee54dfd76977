"""Connections over HTTP: credentials come in, and never out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any, Self

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from examples.crm_sync.fake_hubspot import FakeHubSpot
from jobplatform.connectors import CONNECTORS, AnyConfig, ConnectorType, Page
from jobplatform.key_ring import generate_key
from jobplatform.models import AuditEntry, Connection, ConnectionCredentials
from tests.api.conftest import PROBLEM, Client, MintToken

SECRET = "canary-of-a-secret-7f3a"
CONFIG = {"baseUrl": "https://crm.example.com", "streams": {"contacts": {"path": "/contacts"}}}
BODY = {
    "connectorType": "http_json",
    "name": "CRM",
    "config": CONFIG,
    "credentials": {"scheme": "bearer", "token": SECRET},
}


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


@pytest.fixture
def url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/connections"


@pytest.fixture
def connecting(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    return Client(app.test_client(), mint(workspace_id, ("connections",)))


@pytest.fixture
def hubspot(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHubSpot]:
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")
    with FakeHubSpot() as server:
        yield server


def test_a_connection_is_made_shown_changed_and_deleted(connecting: Client, url: str) -> None:
    made = connecting.post(url, json=BODY)
    assert made.status_code == 201, made.text
    one = made.headers["Location"]
    shown = made.get_json()
    assert (shown["hasCredentials"], shown["credentialsScheme"], shown["status"]) == (True, "bearer", "ready")
    assert shown["credentialsSetAt"] is not None
    assert connecting.get(one).get_json() == shown
    assert connecting.get(url).get_json() == {"items": [shown], "nextCursor": None}

    changed = connecting.request("PATCH", one, json={"name": "Our CRM", "credentials": None}).get_json()
    assert (changed["name"], changed["hasCredentials"], changed["config"]) == ("Our CRM", False, CONFIG)

    assert connecting.request("DELETE", one).status_code == 204
    assert connecting.get(one).status_code == 404


def test_credentials_are_never_answered_or_written_in_the_clear(
    connecting: Client, url: str, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    made = connecting.post(url, json=BODY, headers={"Idempotency-Key": "k"})
    one = made.headers["Location"]

    answers = [
        made,
        connecting.post(url, json=BODY, headers={"Idempotency-Key": "k"}),
        connecting.get(one),
        connecting.get(url),
        connecting.request("PATCH", one, json={"credentials": {"scheme": "query", "name": "key", "value": SECRET}}),
        connecting.request("PATCH", one, json={"credentials": {"scheme": "bearer", "value": SECRET}}),
        connecting.request("PATCH", one, json={"credentials": {"scheme": SECRET}}),
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 200, 200, 200, 422, 422]
    assert all(SECRET not in answer.text for answer in answers)
    assert SECRET not in caplog.text
    assert SECRET not in str([row.details for row in session.scalars(select(AuditEntry))])
    assert SECRET not in session.scalars(select(ConnectionCredentials.sealed)).one()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"connectorType": "hubspto"}, "/connectorType"),
        ({"name": "  "}, "/name"),
        ({"config": {**CONFIG, "baseUrl": "http://crm.example.com"}}, "/config/baseUrl"),
        ({"config": {**CONFIG, "baseUrl": "https://user:pw@crm.example.com"}}, "/config/baseUrl"),
        ({"config": {**CONFIG, "streams": {"a": {"path": "a"}}}}, "/config/streams/a/path"),
        ({"config": {**CONFIG, "streams": {"a": {"path": "/a", "x": 1}}}}, "/config/streams/a/x"),
        ({"config": {**CONFIG, "incremental": {"field": "f"}}}, "/config/incremental/parameter"),
        ({"config": {**CONFIG, "headers": {"Authorization": "x"}}}, "/config/headers/Authorization"),
        ({"credentials": {"token": "x"}}, "/credentials/scheme"),
        ({"credentials": {"scheme": "bearer"}}, "/credentials/token"),
        ({"credentials": {"scheme": "bearer", "token": "a\r\nHost: b"}}, "/credentials/token"),
        ({"credentials": {"scheme": "header", "name": "Host", "value": "b"}}, "/credentials/name"),
    ],
)
def test_a_mistake_is_answered_with_its_place(connecting: Client, url: str, changes: Any, path: str) -> None:
    answer = connecting.post(url, json={**BODY, **changes})

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == [path]
    assert connecting.get(url).get_json()["items"] == []


def test_without_a_key_ring_credentials_are_refused_with_what_to_do(
    connecting: Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")

    refused = connecting.post(url, json=BODY)

    assert refused.status_code == 503
    assert refused.get_json()["type"].endswith(":no-key-ring")
    assert "JOBPLATFORM_ENCRYPTION_KEYS" in refused.get_json()["detail"]
    assert connecting.get(url).get_json()["items"] == []
    without = {name: value for name, value in BODY.items() if name != "credentials"}
    assert connecting.post(url, json=without).status_code == 201


def test_credentials_are_not_sent_to_another_address(connecting: Client, url: str) -> None:
    one = connecting.post(url, json=BODY).headers["Location"]
    elsewhere = {**CONFIG, "baseUrl": "https://evil.example.com"}

    refused = connecting.request("PATCH", one, json={"config": elsewhere})

    assert refused.status_code == 422
    assert [error["path"] for error in refused.get_json()["errors"]] == ["/credentials"]
    other = {"scheme": "bearer", "token": "of the other"}
    assert connecting.request("PATCH", one, json={"config": elsewhere, "credentials": other}).status_code == 200
    same_place = {**elsewhere, "pageSize": 10}
    assert connecting.request("PATCH", one, json={"config": same_place}).status_code == 200


def test_a_secret_in_an_older_configuration_is_not_answered(
    connecting: Client, url: str, session: Session, workspace_id: uuid.UUID
) -> None:
    streams = {"tokens": {"path": "/tokens"}}
    config = {**CONFIG, "streams": streams, "headers": {"Authorization": f"Bearer {SECRET}"}}
    session.add(
        Connection(workspace_id=workspace_id, id=uuid.uuid4(), connector_type="http_json", name="Old", config=config)
    )
    session.commit()

    answer = connecting.get(url)

    assert SECRET not in answer.text
    shown = answer.get_json()["items"][0]["config"]
    assert shown["headers"] == {"Authorization": "[redacted]"}
    assert shown["streams"] == streams, "a stream may be called anything"


class Faulty:
    """A connector that breaks where it is said to."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> Self:
        self.break_at("enter")
        return self

    def __exit__(self, *_: object) -> None: ...

    def streams(self) -> list[str]:
        self.break_at("streams")
        return ["things"]

    def fetch(self, stream: str, cursor: str | None) -> Page:
        self.break_at("fetch")
        return Page([])

    def break_at(self, place: str) -> None:
        if self.place == place:
            raise ZeroDivisionError(place)


def test_a_connection_is_tried_and_says_what_was_found(connecting: Client, url: str, hubspot: FakeHubSpot) -> None:
    hubspot.put("contacts", firstname="Ada")
    body = {"connectorType": "hubspot", "name": "CRM", "config": {"baseUrl": hubspot.url}}
    credentials = {"scheme": "bearer", "token": "access-token-0"}
    one = connecting.post(url, json={**body, "credentials": credentials}).headers["Location"]

    found = connecting.post(one + "/test").get_json()
    deals = connecting.post(one + "/test", json={"stream": "deals"}).get_json()
    unknown = connecting.post(one + "/test", json={"stream": "tickets"}).get_json()

    assert (found["ok"], found["stream"], found["records"]) == (True, "contacts", 1)
    assert found["streams"] == ["contacts", "companies", "deals"]
    assert {"id", "properties"} <= set(found["fields"])
    assert found["message"] == "1 record on the first page of contacts"
    assert (deals["ok"], deals["records"]) == (True, 0)
    assert deals["message"] == "0 records on the first page of deals"
    assert (unknown["ok"], unknown["message"]) == (
        False, "it has no stream 'tickets'; there are contacts, companies, deals"
    )  # fmt: skip


def test_a_connection_without_the_credentials_that_it_needs_says_so_wherever_it_is_shown(
    connecting: Client, url: str
) -> None:
    made = connecting.post(url, json={"connectorType": "hubspot", "name": "CRM", "config": {}})
    one = made.headers["Location"]
    listed = connecting.get(url).get_json()["items"]

    why = "the connection has no credentials; give it some (bearer, oauth2)"
    for shown in (made.get_json(), connecting.get(one).get_json(), *listed):
        assert (shown["status"], shown["attention"], shown["attentionAt"]) == ("needs_attention", why, None)
    assert connecting.post(one + "/test").get_json()["message"] == why

    given = {"credentials": {"scheme": "bearer", "token": "one"}}
    assert connecting.request("PATCH", one, json=given).get_json()["status"] == "ready"
    assert connecting.request("PATCH", one, json={"credentials": None}).get_json()["status"] == "needs_attention"


def test_a_connection_that_needs_no_credentials_is_ready_without(connecting: Client, url: str) -> None:
    body = {"connectorType": "rss", "name": "News", "config": {"url": "https://example.com/feed"}}

    assert connecting.post(url, json=body).get_json()["status"] == "ready"


def test_a_try_with_credentials_that_are_refused_says_so_and_new_ones_help(
    connecting: Client, url: str, hubspot: FakeHubSpot
) -> None:
    body = {"connectorType": "hubspot", "name": "CRM", "config": {"baseUrl": hubspot.url}}
    one = connecting.post(url, json={**body, "credentials": {"scheme": "bearer", "token": "wrong"}}).headers["Location"]

    tried = connecting.post(one + "/test").get_json()
    assert (tried["ok"], tried["needsAttention"]) == (False, True)
    shown = connecting.get(one).get_json()
    assert shown["status"] == "needs_attention"
    assert "does not accept" in shown["attention"]
    assert "wrong" not in shown["attention"]

    good = {"credentials": {"scheme": "bearer", "token": "access-token-0"}}
    assert connecting.request("PATCH", one, json=good).get_json()["status"] == "ready"
    assert connecting.post(one + "/test").get_json()["ok"] is True


@pytest.mark.parametrize(
    ("place", "said"), [("enter", "opening the connection"), ("streams", "asking for the streams"), ("fetch", "things")]
)
def test_a_try_of_a_connector_that_breaks_says_how(
    connecting: Client, url: str, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    monkeypatch.setitem(CONNECTORS, "faulty", ConnectorType(lambda _opening: Faulty(place), AnyConfig))
    one = connecting.post(url, json={"connectorType": "faulty", "name": "Ours", "config": {}}).headers["Location"]

    tried = connecting.post(one + "/test")

    assert (tried.status_code, tried.get_json()["ok"]) == (200, False), tried.text
    assert tried.get_json()["message"] == f"{said}: ZeroDivisionError: {place}"


def test_a_source_that_fails_is_asked_once_while_somebody_waits(
    connecting: Client, url: str, hubspot: FakeHubSpot
) -> None:
    from examples.stand_in import Answer

    body = {"connectorType": "hubspot", "name": "CRM", "config": {"baseUrl": hubspot.url}}
    good = {"scheme": "bearer", "token": "access-token-0"}
    one = connecting.post(url, json={**body, "credentials": good}).headers["Location"]
    hubspot.next_answers.append(Answer(500, {"message": "oh"}))

    tried = connecting.post(one + "/test").get_json()

    assert (tried["ok"], tried["message"]) == (False, "HubSpot answered HTTP 500: oh")
    assert len(hubspot.requests) == 1


def test_who_tries_a_source_that_is_left_alone_is_told_for_how_long(
    connecting: Client, url: str, hubspot: FakeHubSpot
) -> None:
    from examples.stand_in import Answer

    body = {"connectorType": "hubspot", "name": "CRM", "config": {"baseUrl": hubspot.url}}
    good = {"scheme": "bearer", "token": "access-token-0"}
    one = connecting.post(url, json={**body, "credentials": good}).headers["Location"]
    hubspot.next_answers.append(Answer(429, {"message": "slow down"}, {"Retry-After": "90"}))

    tried = connecting.post(one + "/test").get_json()
    again = connecting.post(one + "/test").get_json()

    assert tried["message"].endswith("; try again in 90 seconds")
    assert re.search(r"as often as it may be for now; try again in \d\d seconds$", again["message"])


def test_a_private_address_is_not_asked_and_nothing_of_it_is_told(
    connecting: Client, url: str, session: Session
) -> None:
    made = connecting.post(url, json={**BODY, "config": CONFIG})
    session.execute(update(Connection).values(config={**CONFIG, "baseUrl": "https://127.0.0.1:9"}))
    session.commit()

    tried = connecting.post(made.headers["Location"] + "/test").get_json()

    assert tried["ok"] is False
    assert "127.0.0.1 is not a public address" in tried["message"]
