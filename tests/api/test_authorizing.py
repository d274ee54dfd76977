"""Somebody consents at a provider, over real HTTP, and the connection has its credentials."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import httpx
import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from examples.activity_sync.fake_strava import FakeStrava
from examples.crm_sync.fake_hubspot import FakeHubSpot
from examples.stand_in import Answer, Asked, StandIn
from jobplatform.connectors import create_connection, get_connection, open_connector, try_connection
from jobplatform.connectors.trying import Tried
from jobplatform.errors import InvalidConnectionError
from jobplatform.key_ring import generate_key
from jobplatform.models import AuditEntry, Role, confine
from jobplatform.testing import Clock
from tests.api.conftest import PROBLEM, Client, MintToken
from tests.api.servers import serving

PUBLIC = "https://jobs.example.com/api"


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


@pytest.fixture
def strava() -> Iterator[FakeStrava]:
    with FakeStrava() as server:
        yield server


class Ledger(StandIn):
    """A source that nobody has heard of, with OAuth2 as its standards have it."""

    client_id, client_secret = "a tenant's client", "its secret: 100%"
    rotates = True

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/authorize":
            return self.consent(asked)
        if asked.path == "/token":
            form = asked.form() | self.named_in_header(asked)
            by_code = form.get("grant_type") == "authorization_code"
            if not self.knows_client(form):
                return Answer(401, {"error": "invalid_client"})
            found = self.tokens_for_code(form) if by_code else self.new_tokens(form, rotates=self.rotates)
            return Answer(400, {"error": "invalid_grant"}) if found is None else Answer(200, found)
        if not self.is_known(asked):
            return Answer(401, {"error": "invalid_token"})
        return Answer(200, {"results": [{"id": "1", "text": "hello"}]})

    @staticmethod
    def named_in_header(asked: Asked) -> dict[str, str]:
        scheme, _, pair = asked.headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return {}
        client_id, _, client_secret = base64.b64decode(pair).decode().partition(":")
        return {"client_id": unquote(client_id), "client_secret": unquote(client_secret)}

    def client(self, **more: Any) -> dict[str, Any]:
        """As a workspace writes it down."""
        return {
            "scheme": "oauth2",
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
            "authorizeUrl": f"{self.url}/authorize?audience=notes",
            "tokenUrl": f"{self.url}/token",
            "scopes": ["notes.read", "offline_access"],
            **more,
        }


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger() as server:
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

    def __init__(
        self, app: Flask, token: str, workspace_id: uuid.UUID, provider: StandIn, kind: str, **credentials: Any
    ) -> None:
        self.client = Client(app.test_client(), token)
        config: dict[str, Any] = {"baseUrl": provider.url}
        if kind == "http_json":
            config["streams"] = {"notes": {"path": "/notes"}}
        body: dict[str, Any] = {"connectorType": kind, "name": "Ada & Sons", "config": config}
        if credentials:
            body["credentials"] = credentials
        made = self.client.post(f"/api/workspaces/{workspace_id}/connections", json=body)
        assert made.status_code == 201, made.text
        self.id = uuid.UUID(made.get_json()["id"])
        self.at = f"/api/workspaces/{workspace_id}/connections/{self.id}"
        self.own_path = f"/{self.id}" if "authorizeUrl" in credentials else ""

    def begin(self) -> str:
        answer = self.client.post(f"{self.at}/authorize")
        assert answer.status_code == 201, answer.text
        return str(answer.get_json()["authorizeUrl"])

    def consent(self, url: str) -> str:
        """Where the provider sends them back to."""
        answer = httpx.get(url, timeout=60)
        assert answer.status_code == 302, answer.text
        location = answer.headers["Location"]
        assert location.startswith(f"{PUBLIC}/oauth/callback{self.own_path}?")
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
    def open_browser(provider: StandIn = hubspot, kind: str = "hubspot", **credentials: Any) -> Browser:
        return Browser(app, mint(workspace_id, ("connections",)), workspace_id, provider, kind, **credentials)

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


# A client of the connection's own


def notes_of(sessions: sessionmaker[Session], workspace_id: uuid.UUID, connection_id: uuid.UUID) -> Tried:
    """What a job would find, with the credentials as they are kept."""
    with sessions() as of_a_job:
        confine(of_a_job, Role.HANDLER, workspace_id)
        connection = get_connection(of_a_job, workspace_id, connection_id)
        assert connection is not None
        of_a_job.expunge_all()
        of_a_job.commit()
        return try_connection(of_a_job, connection, allow_private=True)


@pytest.mark.parametrize("authentication", ["body", "header"])
def test_a_workspace_s_own_client_is_consented_to_and_its_tokens_are_renewed(
    open_browser: Callable[..., Browser], ledger: Ledger, sessions: sessionmaker[Session], session: Session,
    workspace_id: uuid.UUID, authentication: str,
) -> None:  # fmt: skip
    more = {"clientAuthentication": authentication, "authorizeParameters": {"prompt": "consent"}}
    browser = open_browser(ledger, "http_json", **ledger.client(**more))
    before = notes_of(sessions, workspace_id, browser.id)
    url = browser.begin()
    asked = parse_qs(urlsplit(url).query)

    answer = browser.come_back(browser.consent(url))

    assert (before.ok, before.needs_attention, "nobody has consented" in before.message) == (False, True, True)
    assert (asked["audience"], asked["prompt"]) == (["notes"], ["consent"])
    assert (asked["scope"], asked["client_id"]) == (["notes.read offline_access"], [ledger.client_id])
    assert asked["redirect_uri"] == [f"{PUBLIC}/oauth/callback/{browser.id}"]
    assert (answer.status_code, browser.shown()["status"]) == (200, "ready"), answer.text
    (exchanged,) = [asked for asked in ledger.requests if asked.path == "/token"]
    assert ("client_secret" in exchanged.form()) == (authentication == "body")
    for secret in (ledger.client_secret, "access-token-1", "refresh-token-1"):
        assert secret not in stored(session)
    assert notes_of(sessions, workspace_id, browser.id).ok
    ledger.expire()
    assert notes_of(sessions, workspace_id, browser.id).ok
    assert ledger.refreshed == 2


def test_who_has_consented_may_be_asked_again_when_the_access_is_gone(
    open_browser: Callable[..., Browser], ledger: Ledger, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    browser = open_browser(ledger, "http_json", **ledger.client())
    assert browser.connect().status_code == 200
    ledger.revoke()
    assert notes_of(sessions, workspace_id, browser.id).needs_attention
    assert browser.shown()["status"] == "needs_attention"

    assert browser.connect().status_code == 200

    assert browser.shown()["status"] == "ready"
    assert notes_of(sessions, workspace_id, browser.id).ok


def test_a_provider_that_gives_no_refresh_token_is_asked_until_it_refuses_and_then_somebody_is(
    open_browser: Callable[..., Browser], ledger: Ledger, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    browser = open_browser(ledger, "http_json", **ledger.client())
    location = browser.consent(browser.begin())
    ledger.next_answers.append(Answer(200, {"access_token": "access-token-0", "token_type": "Bearer"}))

    assert browser.come_back(location).status_code == 200
    assert notes_of(sessions, workspace_id, browser.id).ok
    ledger.expire()
    refused = notes_of(sessions, workspace_id, browser.id)

    assert refused.needs_attention
    assert "gave none to renew it" in refused.message


def test_a_provider_may_call_scopes_otherwise_than_it_wants_them_called(
    open_browser: Callable[..., Browser], ledger: Ledger
) -> None:
    ledger.granted = {"notes.read"}

    assert open_browser(ledger, "http_json", **ledger.client()).connect().status_code == 200


def test_a_state_is_used_up_also_where_the_client_cannot_be_opened(
    open_browser: Callable[..., Browser], ledger: Ledger, session: Session
) -> None:
    browser = open_browser(ledger, "http_json", **ledger.client())
    location = browser.consent(browser.begin())
    broken = "left(sealed, length(sealed) - 8) || 'AAAAAA\"}'"
    session.execute(text(f"update jobplatform.connection_credentials set sealed = {broken}"))
    session.commit()

    page = browser.come_back(location)

    assert (page.status_code, "cannot be opened" in words(page)) == (403, True)
    assert session.scalar(text("select count(*) from jobplatform.connection_authorizations")) == 0


def test_a_token_that_is_renewed_while_somebody_consents_does_not_end_what_they_began(
    open_browser: Callable[..., Browser], ledger: Ledger, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    browser = open_browser(ledger, "http_json", **ledger.client())
    assert browser.connect().status_code == 200
    location = browser.consent(browser.begin())
    ledger.expire()
    assert notes_of(sessions, workspace_id, browser.id).ok

    assert browser.come_back(location).status_code == 200
    assert notes_of(sessions, workspace_id, browser.id).ok


@pytest.mark.parametrize("change", ["tokenUrl", "clientId"])
@pytest.mark.parametrize("when", ["before the code is sent", "while it is changed"])
def test_a_code_of_one_client_is_not_given_to_another(
    open_browser: Callable[..., Browser], ledger: Ledger, hubspot: FakeHubSpot, change: str, when: str
) -> None:
    """Whoever may change connections could otherwise have somebody else's code sent to an address of their own."""
    browser = open_browser(ledger, "http_json", **ledger.client())
    location = browser.consent(browser.begin())
    other = {"tokenUrl": f"{hubspot.url}/token", "clientId": "another"}[change]
    changed = json.dumps({"credentials": ledger.client(**{change: other})})

    def patch() -> None:
        answer = browser.client.request("PATCH", browser.at, data=changed, content_type="application/json")
        assert answer.status_code == 200, answer.text

    if when == "before the code is sent":
        patch()
        asked = len(ledger.requests)
    else:
        answer, asked = ledger.answer, 0
        ledger.answer = lambda request: (patch(), answer(request))[1]  # type: ignore[method-assign]  # a double

    page = browser.come_back(location)

    assert (page.status_code, "another client" in words(page)) == (403, True)
    assert hubspot.requests == []
    assert [request.path for request in ledger.requests[asked:] if request.path == "/token"] == ["/token"][: not asked]


@pytest.mark.parametrize("whose", ["the platform's", "the connection's own"])
def test_what_comes_back_to_another_provider_s_address_is_sent_nowhere(
    open_browser: Callable[..., Browser], hubspot: FakeHubSpot, ledger: Ledger, whose: str
) -> None:
    """A provider that somebody has chosen sends a browser on to another one, with its own state, and would be given
    that one's code."""
    own = whose == "the connection's own"
    browser = open_browser(ledger, "http_json", **ledger.client()) if own else open_browser()
    location = urlsplit(browser.consent(browser.begin()))
    path = "/api/oauth/callback" + ("" if own else f"/{browser.id}")
    asked = len(ledger.requests) + len(hubspot.requests)

    page = browser.come_back(f"{path}?{location.query}")

    assert (page.status_code, "another provider" in words(page)) == (403, True)
    assert len(ledger.requests) + len(hubspot.requests) == asked


def test_a_client_that_the_provider_does_not_know_is_told(
    open_browser: Callable[..., Browser], ledger: Ledger, hubspot: FakeHubSpot
) -> None:
    theirs = open_browser(ledger, "http_json", **ledger.client(clientSecret="old"))
    page = words(theirs.connect())
    ours = open_browser()
    location = ours.consent(ours.begin())
    hubspot.client_secret = "rotated"

    assert "does not accept the client of the connection: invalid_client" in page
    assert "that is registered here (JOBPLATFORM_OAUTH_CLIENTS): BAD_CLIENT_SECRET" in words(ours.come_back(location))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"authorizeUrl": None}, "/credentials/refreshToken"),
        ({"authorizeUrl": "javascript:alert(1)"}, "/credentials/authorizeUrl"),
        ({"authorizeUrl": "https://ada:secret@login.example.com/"}, "/credentials/authorizeUrl"),
        ({"tokenUrl": "ftp://login.example.com/"}, "/credentials/tokenUrl"),
        ({"scopes": ["two scopes"]}, "/credentials/scopes/0"),
        ({"authorizeParameters": {"redirect_uri": "https://x"}}, "/credentials/authorizeParameters/redirect_uri"),
    ],
)  # fmt: skip
def test_a_client_that_cannot_be_is_refused_with_its_place(
    app: Flask, mint: MintToken, workspace_id: uuid.UUID, ledger: Ledger, change: dict[str, Any], path: str
) -> None:
    client = Client(app.test_client(), mint(workspace_id, ("connections",)))
    credentials = {name: value for name, value in ledger.client(**change).items() if value is not None}
    config = {"baseUrl": ledger.url, "streams": {"notes": {"path": "/notes"}}}
    body = {"connectorType": "http_json", "name": "Notes", "config": config, "credentials": credentials}

    answer = client.post(f"/api/workspaces/{workspace_id}/connections", json=body)

    assert (answer.status_code, [one["path"] for one in answer.get_json()["errors"]]) == (422, [path])


def test_outside_of_development_only_public_addresses_over_https_are_a_provider_s(
    session: Session, workspace_id: uuid.UUID, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "false")
    config = {"baseUrl": "https://notes.example.com", "streams": {"notes": {"path": "/notes"}}}
    about = {"connector_type": "http_json", "name": "Notes", "config": config}

    with pytest.raises(InvalidConnectionError) as refused:
        create_connection(session, workspace_id, credentials=ledger.client(), **about)

    assert [problem.path for problem in refused.value.problems] == [
        "/credentials/tokenUrl",
        "/credentials/authorizeUrl",
    ]


def test_a_code_is_not_sent_to_an_address_that_is_not_public(
    open_browser: Callable[..., Browser], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = ledger.url.replace("http:", "https:")
    browser = open_browser(ledger, "http_json", **ledger.client(tokenUrl=f"{secure}/token"))
    location = browser.consent(browser.begin())
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "false")
    asked = len(ledger.requests)

    page = browser.come_back(location)

    assert (page.status_code, "is not a public address" in words(page)) == (403, True)
    assert len(ledger.requests) == asked


# Over HTTP


def test_a_browser_goes_all_the_way_over_http_and_only_it_can(
    app: Flask, mint: MintToken, workspace_id: uuid.UUID, hubspot: FakeHubSpot, ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server that listens, two providers that do, and clients that follow redirects and keep cookies."""
    token = mint(workspace_id, ("connections",))
    bodies = (
        {"connectorType": "hubspot", "name": "CRM", "config": {"baseUrl": hubspot.url}},
        {
            "connectorType": "http_json",
            "name": "Notes",
            "config": {"baseUrl": ledger.url, "streams": {"notes": {"path": "/notes"}}},
            "credentials": ledger.client(),
        },
    )
    with serving(app) as url:
        monkeypatch.setenv("JOBPLATFORM_PUBLIC_URL", f"{url}/api")
        at = f"{url}/api/workspaces/{workspace_id}/connections"
        for body in bodies:
            with (
                httpx.Client(headers={"Authorization": f"Bearer {token}"}, follow_redirects=True) as ada,
                httpx.Client(follow_redirects=True) as eve,
            ):
                made = ada.post(at, json=body).raise_for_status().json()
                link = ada.post(f"{at}/{made['id']}/authorize").raise_for_status().json()["authorizeUrl"]
                stranger = eve.get(link)
                again = ada.post(f"{at}/{made['id']}/authorize").raise_for_status().json()["authorizeUrl"]
                connected = ada.get(again)
                shown = ada.get(f"{at}/{made['id']}").json()
                tried = ada.post(f"{at}/{made['id']}/test").json()

            assert (stranger.status_code, "in another browser" in stranger.text) == (403, True)
            assert (connected.status_code, "is connected" in connected.text) == (200, True), connected.text
            assert [answer.status_code for answer in connected.history] == [302]
            assert (shown["credentialsScheme"], shown["status"], tried["ok"]) == ("oauth2", "ready", True), tried


#: What a page of the host's does when somebody clicks "connect".
CONNECT = """async ([at, token]) => {
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(`${at}/authorize`, { method: "POST", headers });
  location.assign((await answer.json()).authorizeUrl);
}"""


def test_a_real_browser_keeps_the_cookie_and_shows_that_it_is_connected(
    chromium: Any, app: Flask, open_browser: Callable[..., Browser], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is another site to it, on another address of this machine."""
    ada = open_browser(ledger, "http_json", **ledger.client())
    with serving(app) as url:
        url = url.replace("127.0.0.1", "localhost")
        monkeypatch.setenv("JOBPLATFORM_PUBLIC_URL", f"{url}/api")
        page = chromium.new_context().new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{url}/api/healthz")

        page.evaluate(CONNECT, [f"{url}{ada.at}", ada.client.token])
        page.wait_for_url("**/oauth/callback/**")

        heading, cookies = page.text_content("h1"), page.context.cookies()
        page.context.close()

    assert heading == "Connected"
    assert cookies == []
    assert ada.shown()["status"] == "ready"
