"""The example of the CRM as somebody runs it: their application, a stand-in for HubSpot, and a worker process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from examples.crm_sync.fake_hubspot import FakeHubSpot
from jobplatform.api import mint_token
from jobplatform.key_ring import generate_key
from jobplatform.testing import wait_until
from tests.examples.conftest import ClientOf, Load, WorkIn


@pytest.fixture
def hubspot(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        for number in range(130):
            server.put("contacts", at=server.milliseconds() - 600_000, email=f"ada{number}@example.com")
        server.put("companies", at=server.milliseconds() - 600_000, name="Acme")
        environment = {
            "HUBSPOT_URL": server.url,
            "JOBPLATFORM_OAUTH_CLIENTS": f"hubspot:{server.client_id}:{server.client_secret}",
            "JOBPLATFORM_OAUTH_REDIRECT_URL": "http://crm.example.com/crm/connected",
            "JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES": "true",
            "JOBPLATFORM_TRUST_LOGIN": "true",
            "JOBPLATFORM_ENCRYPTION_KEYS": generate_key("a"),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def client(load: Load, client_of: ClientOf, hubspot: FakeHubSpot) -> FlaskClient:
    return client_of(load("crm_sync"))


@pytest.fixture
def worker(client: FlaskClient, work_in: WorkIn) -> None:
    work_in("crm_sync", JOBPLATFORM_CONCURRENCY="1")


@pytest.fixture
def ended(
    client: FlaskClient, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> Callable[[str], dict[str, Any]]:
    with sessions.begin() as session:
        token = mint_token(session, workspace_id, ["jobs:read", "jobs:write", "connections"], "test")
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"

    def ended(job_id: str) -> dict[str, Any]:
        def shown() -> dict[str, Any]:
            found: dict[str, Any] = client.get(f"/api/workspaces/{workspace_id}/sync/jobs/{job_id}").get_json()
            return found

        wait_until(lambda: shown()["status"] in ("completed", "failed"), what="the end of the sync", seconds=60)
        return shown()

    return ended


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
def test_a_workspace_connects_hubspot_and_sees_what_is_there_and_what_changes(
    client: FlaskClient,
    hubspot: FakeHubSpot,
    ended: Callable[[str], dict[str, Any]],
    session: Session,
    workspace_id: uuid.UUID,
) -> None:
    def sync(**body: Any) -> dict[str, Any]:
        answer = client.post(f"/api/workspaces/{workspace_id}/sync", json=body)
        assert answer.status_code == 202, answer.text
        return ended(answer.get_json()["jobId"])

    def of_records(what: str) -> Any:
        session.rollback()
        return session.scalar(text(f"select {what} from jobplatform.records"))

    # Connected, and copied.
    begun = client.post(f"/crm/{workspace_id}/connect", json={"portal": "4711"})
    assert begun.status_code == 201, begun.text
    back = httpx.get(begun.get_json()["authorizeUrl"], timeout=60).headers["Location"]
    made = client.get(back.removeprefix("http://crm.example.com"))
    assert made.status_code == 202, made.text
    first = ended(made.get_json()["jobId"])
    assert first["status"] == "completed", first
    assert (first["result"]["totalRecords"], first["result"]["errors"]) == (131, [])
    assert of_records("count(*)") == 131
    assert len(client.get(f"/crm/{workspace_id}/contacts").get_json()["contacts"]) == 100
    assert hubspot.refreshed == 1

    # The next sync reads what has changed; the token that has run out meanwhile is renewed on the way.
    changed = next(iter(hubspot.objects["contacts"]))
    hubspot.change("contacts", changed, at=hubspot.milliseconds() + 1000, email="grace@example.com")
    hubspot.expire()
    second = sync(mode="incremental")
    assert second["result"]["results"][0]["written"] == 1
    assert of_records("count(*) filter (where data::text like '%grace@example.com%')") == 1
    assert hubspot.refreshed == 2

    # A second source that fails does so alone.
    broken = {
        "connectorType": "http_json",
        "name": "Broken",
        "config": {"baseUrl": hubspot.url, "streams": {"tickets": {"path": "/crm/v3/objects/tickets"}}},
    }
    assert client.post(f"/api/workspaces/{workspace_id}/connections", json=broken).status_code == 201
    third = sync()
    assert third["status"] == "completed"
    assert {one["name"]: one["status"] for one in third["result"]["results"]} == {
        "HubSpot": "completed",
        "Broken": "failed",
    }
    assert len(third["result"]["errors"]) == 1

    # What HubSpot does not have any more is marked when everything is read again.
    del hubspot.objects["contacts"][changed]
    assert sync(mode="initial", connectorType="hubspot")["result"]["results"][0]["deleted"] == 1
    assert of_records("count(*) filter (where deleted_at is not null)") == 1

    # The customer takes the access back: said once, and nobody asks any more.
    hubspot.revoke()
    gone = sync(connectorType="hubspot")
    assert (gone["status"], gone["attempts"]) == ("failed", 1)
    shown = client.get(f"/api/workspaces/{workspace_id}/connections").get_json()["items"][0]
    assert (shown["status"], shown["hasCredentials"]) == ("needs_attention", True)
    asked = len(hubspot.requests)
    skipped = sync(connectorType="hubspot")
    assert (skipped["status"], skipped["outcome"]) == ("completed", "skipped")
    assert len(hubspot.requests) == asked


def test_who_says_no_or_is_somebody_else_connects_nothing_and_is_told_why(
    client: FlaskClient, hubspot: FakeHubSpot, workspace_id: uuid.UUID, session: Session
) -> None:
    def back(**options: Any) -> Any:
        url = client.post(f"/crm/{workspace_id}/connect", json={"portal": "4711"}).get_json()["authorizeUrl"]
        location = httpx.get(url, timeout=60).headers["Location"].removeprefix("http://crm.example.com")
        return client.get(location, **options)

    hubspot.denies = True
    denied = back()
    hubspot.denies = False
    stranger = back(headers={"X-User": "eve"})

    assert (denied.status_code, denied.get_json()["reason"]) == (400, "refused")
    assert "access was not granted" in denied.get_json()["error"]
    assert (stranger.status_code, stranger.get_json()["reason"]) == (400, "not-yours")
    assert session.scalar(text("select count(*) from jobplatform.connection_credentials")) == 0
    assert session.scalar(text("select count(*) from jobplatform.jobs")) == 0
