"""Somebody consents at a provider, over real HTTP, and the connection has its credentials."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from examples.activity_sync.fake_strava import FakeStrava
from examples.crm_sync.fake_hubspot import FakeHubSpot
from examples.stand_in import Answer, StandIn
from jobplatform.connectors import get_connection, open_connector
from jobplatform.key_ring import generate_key
from jobplatform.models import AuditEntry, Role, confine
from jobplatform.testing import Clock
from tests.api.conftest import PROBLEM, Client, MintToken

PUBLIC = "https://jobs.example.com/api"


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


@pytest.fixture
def strava() -> Iterator[FakeStrava]:
    with FakeStrava() as server:
        yield server


@pytest.fixture(autouse=True)
def settings(hubspot: FakeHubSpot, monkeypatch: pytest.MonkeyPatch) -> None:
    client = f"{hubspot.client_id}:{hubspot.client_secret}"
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("JOBPLATFORM_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", f"hubspot:{client},strava:{client}")


class Browser:
    """Somebody in front of a browser, with a token of the workspace, and the connection they want."""

    def __init__(self, app: Flask, token: str, workspace_id: uuid.UUID, provider: StandIn, kind: str) -> None:
        self.client = Client(app.test_client(), token)
        config = {"baseUrl": provider.url}
        body = {"connectorType": kind, "name": "Ada & Sons", "config": config}
        made = self.client.post(f"/api/workspaces/{workspace_id}/connections", json=body)
        assert made.status_code == 201, made.text
        self.id = uuid.UUID(made.get_json()["id"])
        self.at = f"/api/workspaces/{workspace_id}/connections/{self.id}"

    def begin(self) -> str:
        answer = self.client.post(f"{self.at}/authorize")
        assert answer.status_code == 201, answer.text
        return str(answer.get_json()["authorizeUrl"])

    def consent(self, url: str) -> str:
        """Where the provider sends them back to."""
        answer = httpx.get(url)
        assert answer.status_code == 302, answer.text
        location = answer.headers["Location"]
        assert location.startswith(f"{PUBLIC}/oauth/callback?")
        return str(location.removeprefix("https://jobs.example.com"))

    def come_back(self, location: str) -> TestResponse:
        """The cookie is for https; the test's own requests are as if a proxy had unwrapped them."""
        return self.client.http.get(location, base_url="https://localhost")

    def connect(self) -> TestResponse:
        return self.come_back(self.consent(self.begin()))

    def shown(self) -> dict[str, object]:
        found: dict[str, object] = self.client.get(self.at).get_json()
        return found


@pytest.fixture
def open_browser(app: Flask, mint: MintToken, workspace_id: uuid.UUID, hubspot: FakeHubSpot) -> Callable[..., Browser]:
    def open_browser(provider: StandIn = hubspot, kind: str = "hubspot") -> Browser:
        return Browser(app, mint(workspace_id, ("connections",)), workspace_id, provider, kind)

    return open_browser


def words(answer: TestResponse) -> str:
    assert answer.mimetype == "text/html"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    return answer.text


def stored(session: Session) -> str:
    session.rollback()
    tables = ("connection_authorizations", "connection_credentials", "connections", "audit_log")
    rows = [session.scalar(text(f"select json_agg(t)::text from jobplatform.{name} t")) for name in tables]
    return " ".join(map(str, rows))


def test_who_consents_has_a_connection_that_can_be_used(
    open_browser: Callable[..., Browser], hubspot: FakeHubSpot, sessions: sessionmaker[Session], session: Session,
    workspace_id: uuid.UUID,
) -> None:  # fmt: skip
    hubspot.put("contacts", email="ada@example.com")
    browser = open_browser()
    url = browser.begin()
    asked = parse_qs(urlsplit(url).query)
    assert asked["redirect_uri"] == [f"{PUBLIC}/oauth/callback"]
    assert asked["code_challenge_method"] == ["S256"]
    assert "crm.objects.contacts.read" in asked["scope"][0]
    assert asked["state"][0] not in stored(session)

    answer = browser.come_back(browser.consent(url))

    assert (answer.status_code, "Ada &amp; Sons is connected" in words(answer)) == (200, True)
    shown = browser.shown()
    assert (shown["credentialsScheme"], shown["status"]) == ("oauth2", "ready")
    assert "token-1" not in stored(session)
    with sessions() as of_a_job:
        confine(of_a_job, Role.API, workspace_id)
        connection = get_connection(of_a_job, workspace_id, browser.id)
        assert connection is not None
        of_a_job.expunge_all()
        of_a_job.commit()
        with open_connector(of_a_job, connection, allow_private=True) as source:
            assert [record.external_id for record in source.fetch("contacts", None).records]
    actions = session.query(AuditEntry).order_by(AuditEntry.id.desc()).limit(2).all()
    assert [line.action for line in actions] == ["connection.authorize", "connection.begin_authorization"]
    assert actions[0].actor.startswith("a test (")
    assert actions[0].workspace_id == workspace_id


def test_strava_s_way_of_naming_scopes_is_understood(open_browser: Callable[..., Browser], strava: FakeStrava) -> None:
    browser = open_browser(strava, "strava")

    assert browser.connect().status_code == 200
    assert browser.shown()["hasCredentials"] is True


def test_a_state_is_good_once_and_for_the_browser_that_began(
    open_browser: Callable[..., Browser], app: Flask, session: Session
) -> None:
    browser = open_browser()
    location = browser.consent(browser.begin())

    elsewhere = app.test_client().get(location)
    again = browser.come_back(location)

    assert (elsewhere.status_code, "in another browser" in words(elsewhere)) == (403, True)
    assert (again.status_code, "has been used already" in words(again)) == (403, True)
    assert browser.shown()["hasCredentials"] is False
    assert browser.connect().status_code == 200
    assert session.scalar(text("select count(*) from jobplatform.connection_authorizations")) == 0


def test_a_state_is_good_for_ten_minutes(open_browser: Callable[..., Browser], engine: Engine) -> None:
    browser, clock = open_browser(), Clock(engine)
    location = browser.consent(browser.begin())
    clock.travel(minutes=11)

    answer = browser.come_back(location)
    clock.reset()

    assert (answer.status_code, "too long ago" in words(answer)) == (403, True)
    assert browser.shown()["hasCredentials"] is False


def test_whoever_began_again_cannot_go_on_with_what_they_left(open_browser: Callable[..., Browser]) -> None:
    browser = open_browser()
    first, second = browser.begin(), browser.begin()

    assert browser.come_back(browser.consent(first)).status_code == 403
    assert browser.come_back(browser.consent(second)).status_code == 200


@pytest.mark.parametrize("state", ["", "jpo_", "jpo_" + "A" * 54, "'; drop table"])
def test_a_state_of_nobody_is_told_like_one_that_is_used_up(app: Flask, state: str) -> None:
    answer = app.test_client().get("/oauth/callback", query_string={"state": state, "code": "x"})

    assert (answer.status_code, "begin again" in words(answer)) == (403, True)


def test_what_the_provider_says_is_shown_in_clear_words_and_harms_nobody(
    open_browser: Callable[..., Browser], hubspot: FakeHubSpot
) -> None:
    browser = open_browser()
    hubspot.denies = True
    denied = words(browser.connect())
    hubspot.denies = False
    hubspot.granted = {"oauth"}
    too_little = words(browser.connect())
    hubspot.granted = None
    location = browser.consent(browser.begin())
    parts = urlsplit(location)
    query = {"state": dict(parse_qsl(parts.query))["state"], "error": "<script>alert(1)</script>"}
    hostile = words(browser.come_back(f"{parts.path}?{urlencode(query)}"))

    assert "access was not granted (The user said no)" in denied
    assert "crm.objects.contacts.read" in too_little
    assert "<script>" not in hostile
    assert browser.shown()["hasCredentials"] is False


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(500, {}), "failed (HTTP 500)"),
        (Answer(200, {"access_token": "a"}), "no refresh token"),
        (Answer(200, {"refresh_token": "a"}), "no access token"),
        (Answer(200, ["nonsense"]), "no access token"),
        (Answer(400, {"error": "invalid_grant", "error_description": "code-0 is used"}), "invalid_grant"),
    ],
)
def test_a_provider_that_fails_when_the_code_is_changed_is_told(
    open_browser: Callable[..., Browser], hubspot: FakeHubSpot, answer: Answer, said: str
) -> None:
    browser = open_browser()
    location = browser.consent(browser.begin())
    hubspot.next_answers.append(answer)

    page = browser.come_back(location)

    assert (page.status_code, said in words(page)) == (403, True)
    assert "code-0" not in page.text


def test_a_code_that_was_intercepted_is_of_no_use_without_our_secret(
    open_browser: Callable[..., Browser], hubspot: FakeHubSpot
) -> None:
    """Eve's own flow, with the code of Ada's consent."""
    ada, eve = open_browser(), open_browser()
    stolen = dict(parse_qsl(urlsplit(ada.consent(ada.begin())).query))["code"]
    hers = urlsplit(eve.consent(eve.begin()))
    query = {**dict(parse_qsl(hers.query)), "code": stolen}

    answer = eve.come_back(f"{hers.path}?{urlencode(query)}")

    assert answer.status_code == 403
    assert eve.shown()["hasCredentials"] is False


def test_a_connection_that_asks_elsewhere_by_now_gets_no_tokens(
    open_browser: Callable[..., Browser], strava: FakeStrava
) -> None:
    browser = open_browser()
    location = browser.consent(browser.begin())
    config = json.dumps({"config": {"baseUrl": strava.url}})
    changed = browser.client.request("PATCH", browser.at, data=config, content_type="application/json")
    assert changed.status_code == 200, changed.text

    assert browser.come_back(location).status_code == 403
    assert browser.shown()["hasCredentials"] is False


def test_what_cannot_be_begun_is_refused_with_what_to_do(
    open_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch, workspace_id: uuid.UUID
) -> None:
    browser = open_browser()
    config = {"baseUrl": "https://crm.example.com", "streams": {"contacts": {"path": "/contacts"}}}
    body = {"connectorType": "http_json", "name": "CRM", "config": config}
    other = browser.client.post(f"/workspaces/{workspace_id}/connections", json=body).headers["Location"]

    reasons = [browser.client.post(f"{other}/authorize")]
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", "")
    reasons.append(browser.client.post(f"{browser.at}/authorize"))
    monkeypatch.delenv("JOBPLATFORM_PUBLIC_URL")
    reasons.append(browser.client.post(f"{browser.at}/authorize"))

    assert [(answer.status_code, answer.content_type, answer.get_json()["reason"]) for answer in reasons] == [
        (422, PROBLEM, "no-oauth"), (422, PROBLEM, "no-client"), (422, PROBLEM, "no-callback"),
    ]  # fmt: skip
    assert "JOBPLATFORM_OAUTH_CLIENTS" in reasons[1].get_json()["detail"]


def test_without_a_master_key_nobody_is_sent_anywhere(
    open_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = open_browser()
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")

    assert browser.client.post(f"{browser.at}/authorize").status_code == 503
