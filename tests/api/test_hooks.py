"""Hooks over HTTP: what providers deliver, as they deliver it, and what a workspace does with its hooks."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.api import create_blueprint
from jobplatform.connectors import delete_connection
from jobplatform.key_ring import generate_key
from jobplatform.models import Connection, HookDelivery, Job
from jobplatform.queue import Tasks, set_workspace_limits
from jobplatform.testing import Clock
from tests import providers
from tests.api.conftest import PROBLEM, Client, MintToken

SECRET = "s3cret-canary"
PUBLIC = "https://jobs.example.com/api"


@pytest.fixture(autouse=True)
def key_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


@pytest.fixture
def owner(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    """A token for connections and for looking at jobs."""
    return Client(app.test_client(), mint(workspace_id, ("connections", "jobs:read")))


@pytest.fixture
def url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/hooks"


@pytest.fixture
def now(engine: Engine) -> Iterator[Callable[[], float]]:
    """The database's moment, which a test can move."""
    clock = Clock(engine)
    clock.freeze()
    yield lambda: clock.now().timestamp()
    clock.reset()


@pytest.fixture
def clock(engine: Engine) -> Clock:
    return Clock(engine)


class Hook:
    """A hook that was made over HTTP, and its provider."""

    def __init__(self, owner: Client, nobody: Client, url: str, **body: Any) -> None:
        wanted = {"name": "a hook", "scheme": "github", "jobType": "echo", "secret": SECRET, **body}
        answer = owner.post(url, json={name: value for name, value in wanted.items() if value is not None})
        assert answer.status_code == 201, answer.text
        self.made = answer.get_json()
        self.owner = owner
        self.nobody = nobody
        self.at = f"{url}/{self.made['id']}"
        self.path = "/hooks/" + self.made["url"].rpartition("/")[2]

    def deliver(self, body: bytes | Any, headers: dict[str, str]) -> TestResponse:
        data = body if isinstance(body, bytes) else providers.as_json(body)
        return self.nobody.request("POST", self.path, headers=headers, data=data)

    def deliveries(self) -> Any:
        return self.owner.get(f"{self.at}/deliveries").get_json()["items"]


@pytest.fixture
def make(owner: Client, nobody: Client, url: str) -> Callable[..., Hook]:
    return lambda **body: Hook(owner, nobody, url, **body)


def jobs_of(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> list[Job]:
    with sessions() as session:
        return list(session.scalars(select(Job).where(Job.workspace_id == workspace_id).order_by(Job.id)))


# -- deliveries --------------------------------------------------------------------------------------


def test_a_signed_delivery_is_a_job_and_a_repeat_is_answered_alike(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    hook = make()
    body = providers.as_json({"ref": "refs/heads/main"})
    headers = providers.github(SECRET, body)

    first, second = hook.deliver(body, headers), hook.deliver(body, headers)

    assert (first.status_code, first.get_json()) == (200, {"accepted": 1, "repeated": 0})
    assert (second.status_code, second.get_json()) == (200, {"accepted": 0, "repeated": 1})
    (job,) = jobs_of(sessions, workspace_id)
    assert job.job_type == "echo"
    assert job.payload["event"] == {"ref": "refs/heads/main"}
    assert job.payload["headers"]["x-github-event"] == "push"
    assert "signature" not in str(job.payload)
    assert job.request_id == first.headers["X-Request-Id"]
    (delivery,) = hook.deliveries()
    assert (delivery["jobId"], delivery["answer"], delivery["repeats"]) == (str(job.id), 200, 1)
    assert hook.owner.get(delivery["statusUrl"]).status_code == 200


@pytest.mark.parametrize(
    ("scheme", "body"),
    [
        ("github", {"inputs": {"target": "staging"}, "ref": "refs/heads/main", "workflow": "deploy.yml"}),
        ("shopify", {"shop_id": 954889, "shop_domain": "a-shop.myshopify.com"}),
    ],
)
def test_two_events_that_say_the_same_are_both_done_where_the_provider_tells_them_apart_by_id(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID, scheme: str, body: Any
) -> None:
    """A deployment that is started again, a shop that is to be forgotten again."""
    hook, sent = make(scheme=scheme), providers.as_json(body)
    sign = getattr(providers, scheme)

    answers = [hook.deliver(sent, sign(SECRET, sent, delivery=delivery)).get_json() for delivery in "112"]

    assert [answer["accepted"] for answer in answers] == [1, 0, 1]
    assert [job.payload["deliveryId"] for job in jobs_of(sessions, workspace_id)] == ["1", "2"]


def test_each_provider_delivers_as_it_says_it_does(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID, now: Callable[[], float]
) -> None:
    body = providers.as_json({"id": "evt_1", "event_id": "Ev1"})
    standard = make(scheme="standard", secret=None)
    hubspot = make(scheme="hubspot", publicUrl=PUBLIC)
    events = providers.as_json([providers.hubspot_event(), providers.hubspot_event(objectId=7)])

    answers = [
        make(scheme="stripe").deliver(body, providers.stripe(SECRET, body, now())),
        make(scheme="slack").deliver(body, providers.slack(SECRET, body, now())),
        make(scheme="shopify").deliver(body, providers.shopify(SECRET, body)),
        standard.deliver(body, providers.standard(standard.made["secret"], body, now())),
        make(scheme="none", secret=None).deliver(body, providers.CONTENT),
        hubspot.deliver(events, providers.hubspot(SECRET, PUBLIC + hubspot.path, events, now())),
    ]

    assert [(answer.status_code, answer.get_json()["accepted"]) for answer in answers] == [(200, 1)] * 5 + [(200, 2)]
    ids = [job.payload["deliveryId"] for job in jobs_of(sessions, workspace_id)]
    assert ids[:4] == ["evt_1", "Ev1", "b54557e4-bdd9", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"]


def test_without_a_public_url_hubspot_s_signature_is_about_the_url_as_it_was_asked_for(
    make: Callable[..., Hook], now: Callable[[], float]
) -> None:
    hook = make(scheme="hubspot", split="delivery")
    events = providers.as_json([providers.hubspot_event(), providers.hubspot_event(objectId=7)])

    answer = hook.deliver(events, providers.hubspot(SECRET, f"http://localhost{hook.path}", events, now()))

    assert (answer.status_code, answer.get_json()) == (200, {"accepted": 1, "repeated": 0})
    assert hook.deliver(events, providers.hubspot(SECRET, PUBLIC + hook.path, events, now())).status_code == 403


def test_what_is_not_believed_changes_nothing_and_leaves_a_line_that_says_why(
    app: Flask,
    make: Callable[..., Hook],
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
    now: Callable[[], float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = providers.as_json({"id": "evt_1"})
    stripe, strava = make(scheme="stripe"), make(scheme="strava", subscriptionId="120475")
    refused = [
        (stripe.deliver(body, providers.CONTENT), "unsigned"),
        (stripe.deliver(body, providers.stripe("another", body, now())), "bad-signature"),
        (stripe.deliver(b"[]", providers.stripe(SECRET, body, now())), "bad-signature"),
        (stripe.deliver(body, providers.stripe(SECRET, body, now() - 301)), "too-old"),
        (stripe.deliver(body, providers.stripe(SECRET, body, now() + 301)), "too-old"),
        (strava.deliver(providers.strava_event(subscription_id=7), providers.CONTENT), "wrong-subscription"),
        (strava.deliver([], providers.CONTENT), "wrong-subscription"),
    ]
    written: list[str] = []
    engine = app.extensions["jobplatform.engine"]
    event.listen(engine, "before_cursor_execute", lambda *given: written.append(given[2]))
    answer = stripe.deliver(body, providers.stripe("another", body, now()))

    for refusal, reason in refused:
        assert (refusal.status_code, refusal.content_type) == (403, PROBLEM), reason
        assert refusal.get_json()["reason"] == reason
    assert answer.status_code == 403
    assert [sql for sql in written if re.search(r"\b(insert|update|delete)\b", sql)] == []
    assert jobs_of(sessions, workspace_id) == []
    with sessions() as session:
        assert session.scalars(select(HookDelivery)).all() == []
    lines = [record for record in caplog.records if record.getMessage() == "hook.refused"]
    assert [record.reason for record in lines] == [reason for _, reason in refused] + ["bad-signature"]  # type: ignore[attr-defined]
    assert {record.levelno for record in lines} == {logging.WARNING}
    assert "canary" not in str([vars(record) for record in lines])


def test_a_replay_window_of_its_own_is_kept_to(make: Callable[..., Hook], now: Callable[[], float]) -> None:
    hook = make(scheme="stripe", replaySeconds=3600)
    body = providers.as_json({"id": "evt_1"})

    assert hook.deliver(body, providers.stripe(SECRET, body, now() - 3599)).status_code == 200
    assert hook.deliver(body, providers.stripe(SECRET, body, now() - 3601)).status_code == 403


def test_two_secrets_are_good_while_one_takes_the_place_of_the_other(make: Callable[..., Hook], clock: Clock) -> None:
    hook = make()
    answer = hook.owner.post(f"{hook.at}/rotate-secret", json={"secret": "the new one", "keepOldMs": 60_000})
    assert answer.get_json()["rotatingUntil"] is not None

    def deliver(secret: str, delivery: str) -> int:
        body = providers.as_json({})
        return hook.deliver(body, providers.github(secret, body, delivery=delivery)).status_code

    assert (deliver(SECRET, "1"), deliver("the new one", "2")) == (200, 200)
    clock.travel(seconds=61)
    assert (deliver(SECRET, "3"), deliver("the new one", "4")) == (403, 200)
    clock.reset()


def test_strava_s_subscription_from_handshake_to_event(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    """The challenge is asked for before anybody knows the subscription's id, and events may come right after it."""
    hook = make(scheme="strava")
    query = {"hub.mode": "subscribe", "hub.verify_token": SECRET, "hub.challenge": "15f7d1a91c1f40f8"}

    shaken = hook.nobody.get(hook.path, query_string=query)
    wrong = hook.nobody.get(hook.path, query_string={**query, "hub.verify_token": "x"})
    early = hook.deliver(providers.strava_event(), providers.CONTENT)
    hook.owner.request("PATCH", hook.at, json={"subscriptionId": "120475"})
    answers = [hook.deliver(providers.strava_event(), providers.CONTENT) for _ in range(2)]

    assert (shaken.status_code, shaken.get_json()) == (200, {"hub.challenge": "15f7d1a91c1f40f8"})
    assert (wrong.status_code, wrong.get_json()["reason"]) == (403, "bad-signature")
    assert (early.status_code, early.get_json()["reason"]) == (503, "not-subscribed")
    assert early.headers["Retry-After"].isdigit()
    assert [answer.get_json() for answer in answers] == [
        {"accepted": 1, "repeated": 0},
        {"accepted": 0, "repeated": 1},
    ]
    (job,) = jobs_of(sessions, workspace_id)
    assert job.payload["deliveryId"] == "activity:1360128428:create:1516126040"


def test_a_hook_that_shakes_no_hands_has_nothing_to_get(make: Callable[..., Hook]) -> None:
    assert make().nobody.get(make().path + "?hub.mode=subscribe").status_code == 404


def test_slack_s_challenge_is_answered_and_is_no_job(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID, now: Callable[[], float]
) -> None:
    body = providers.as_json({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7"})
    hook = make(scheme="slack")

    assert hook.deliver(body, providers.slack("x", body, now())).status_code == 403
    answer = hook.deliver(body, providers.slack(SECRET, body, now()))

    assert answer.get_json() == {"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7"}
    assert jobs_of(sessions, workspace_id) == []


def test_a_form_is_read_as_one(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    hook = make()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for number, body in enumerate((b"payload=%7B%22a%22%3A1%7D", b"command=%2Fweather&text=94070")):
        assert hook.deliver(body, providers.github(SECRET, body, delivery=str(number)) | form).status_code == 200

    assert [job.payload["event"] for job in jobs_of(sessions, workspace_id)] == [
        {"a": 1},
        {"command": "/weather", "text": "94070"},
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"a": "\\u0000"}', 422),
        (b'"' + b"x" * 300_000 + b'"', 422),
        (b"x" * 2_000_000, 413),
    ],
    ids=["empty", "broken", "no text", "deep", "a NUL", "more than a payload", "more than a body"],
)
def test_what_cannot_be_a_payload_is_refused_and_noted(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID, body: bytes, status: int
) -> None:
    hook = make()

    answer = hook.deliver(body, providers.github(SECRET, body))

    assert (answer.status_code, answer.content_type) == (status, PROBLEM)
    assert jobs_of(sessions, workspace_id) == []


def test_a_full_workspace_and_a_disabled_hook_ask_to_come_again(
    make: Callable[..., Hook], sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    hook = make()
    body = providers.as_json({})
    headers = providers.github(SECRET, body)
    with sessions.begin() as session:
        set_workspace_limits(session, workspace_id, {"max_pending": 0})
    full = hook.deliver(body, headers)
    noted = hook.deliveries()
    with sessions.begin() as session:
        set_workspace_limits(session, workspace_id, {"max_pending": 1})
    hook.owner.post(f"{hook.at}/disable")
    disabled = hook.deliver(body, headers)
    hook.owner.post(f"{hook.at}/enable")
    accepted = hook.deliver(body, headers)

    assert (full.status_code, full.get_json()["type"]) == (429, "urn:jobplatform:problem:quota-exceeded")
    assert (disabled.status_code, disabled.get_json()["reason"]) == (503, "disabled")
    assert full.headers["Retry-After"].isdigit()
    assert disabled.headers["Retry-After"].isdigit()
    assert [(one["answer"], one["jobId"]) for one in noted] == [(429, None)]
    assert accepted.get_json() == {"accepted": 1, "repeated": 0}
    assert [one["answer"] for one in hook.deliveries()] == [200]


def test_a_task_that_is_gone_and_a_payload_that_it_does_not_take_are_told(
    make: Callable[..., Hook], sessions: sessionmaker[Session]
) -> None:
    body = providers.as_json({})
    gone, picky = make(), make(jobType="add")
    with sessions.begin() as session:
        session.execute(text("update jobplatform.hooks set task = 'left' where id = :id"), {"id": gone.made["id"]})

    unknown = gone.deliver(body, providers.github(SECRET, body))
    refused = picky.deliver(body, providers.github(SECRET, body))

    assert (unknown.status_code, unknown.get_json()["reason"]) == (503, "unknown-task")
    assert refused.status_code == 422
    assert [one["answer"] for one in gone.deliveries() + picky.deliveries()] == [503, 422]


def test_the_key_of_a_url_is_not_in_the_log(make: Callable[..., Hook], caplog: pytest.LogCaptureFixture) -> None:
    from jobplatform.logs import make_formatter

    caplog.set_level(logging.DEBUG)
    hook = make()
    hook.deliver({}, {})
    key = hook.path.rpartition("/")[2]

    lines = [make_formatter(as_text=False).format(record) for record in caplog.records]

    assert any("/hooks/" in line for line in lines)
    assert [line for line in lines if key in line] == []


# -- rubbish -----------------------------------------------------------------------------------------


class Statements:
    """Counts what the database is asked."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, *_: Any) -> None:
        self.count += 1


@pytest.fixture
def flooded(sessions: sessionmaker[Session], tasks: Tasks) -> Flask:
    """An API that looks into three deliveries a minute which are not believed, on a clock that stands still."""
    host = Flask(__name__)
    blueprint = create_blueprint(sessions, tasks, trust_login=True, refused_deliveries_per_minute=3)
    host.register_blueprint(blueprint)
    host.config["moment"] = 0.0
    refused = blueprint.mounted.refused  # type: ignore[attr-defined]  # as it is found by views
    refused.clock = refused._rates._clock = lambda: host.config["moment"]
    return host


def test_rubbish_costs_nothing_when_there_is_much_of_it_and_the_provider_goes_on(
    flooded: Flask, owner: Client, url: str, sessions: sessionmaker[Session], workspace_id: uuid.UUID, engine: Engine
) -> None:
    hook = Hook(owner, Client(flooded.test_client(), None), url)
    other = Hook(owner, Client(flooded.test_client(), None), url)
    body = providers.as_json({})
    bad, good = providers.github("x", body), providers.github(SECRET, body)
    assert [hook.deliver(body, bad).status_code for _ in range(3)] == [403] * 3

    asked = Statements(engine)
    refused = [hook.deliver(body, bad) for _ in range(20)]

    assert {answer.status_code for answer in refused} == {429}
    assert (refused[0].content_type, refused[0].get_json()["limit"]) == (PROBLEM, 3)
    assert refused[0].headers["Retry-After"].isdigit()
    assert asked.count == 0
    assert [hook.deliver(body, good).status_code for _ in range(20)] == [200] * 20
    assert hook.deliver(body, bad).status_code == 429
    assert len(jobs_of(sessions, workspace_id)) == 1
    assert other.deliver(body, bad).status_code == 403


def test_after_a_while_rubbish_is_looked_into_again_and_a_new_secret_is_known(
    flooded: Flask, owner: Client, url: str
) -> None:
    hook = Hook(owner, Client(flooded.test_client(), None), url)
    body = providers.as_json({})
    for _ in range(3):
        hook.deliver(body, providers.github("x", body))
    hook.owner.post(f"{hook.at}/rotate-secret", json={"secret": "the new one", "keepOldMs": 0})
    good = providers.github("the new one", body)

    assert hook.deliver(body, good).status_code == 429
    flooded.config["moment"] = 6.0
    assert hook.deliver(body, good).status_code == 200
    assert hook.deliver(body, providers.github(SECRET, body)).status_code == 403
    flooded.config["moment"] = 70.0
    assert [hook.deliver(body, providers.github("x", body)).status_code for _ in range(4)] == [403] * 3 + [429]


def test_handshakes_and_events_without_a_signature_are_rubbish_too(flooded: Flask, owner: Client, url: str) -> None:
    hook = Hook(owner, Client(flooded.test_client(), None), url, scheme="strava", subscriptionId="120475")
    wrong = {"hub.mode": "subscribe", "hub.verify_token": "x", "hub.challenge": "1"}
    event = providers.strava_event()
    stranger = {**event, "subscription_id": 1}

    answers = [hook.nobody.get(hook.path, query_string=wrong).status_code for _ in range(4)]
    answers.append(hook.deliver(stranger, providers.CONTENT).status_code)

    assert answers == [403, 403, 403, 429, 429]
    assert hook.deliver(event, providers.CONTENT).status_code == 200
    right = {**wrong, "hub.verify_token": SECRET}
    assert hook.nobody.get(hook.path, query_string=right).get_json() == {"hub.challenge": "1"}


def test_keys_of_nobody_are_remembered_nowhere(flooded: Flask, owner: Client, url: str) -> None:
    nobody = Client(flooded.test_client(), None)
    hook = Hook(owner, nobody, url)
    # The hook's own id, and another secret.
    hook.path = hook.path[:-4] + "AAAA"

    assert {hook.deliver({}, {}).status_code for _ in range(9)} == {404}
    mounted = flooded.blueprints["jobplatform"].mounted  # type: ignore[attr-defined]  # as it is found by views
    assert len(mounted.refused) == 0


# -- hooks -------------------------------------------------------------------------------------------


def test_a_hook_shows_its_url_once_and_its_secret_never(
    make: Callable[..., Hook], url: str, workspace_id: uuid.UUID
) -> None:
    hook = make(publicUrl=f"{PUBLIC}/")
    shown = hook.owner.get(hook.at).get_json()

    assert hook.made["url"].startswith(f"{PUBLIC}/hooks/jph_")
    assert (hook.made["secret"], hook.made["workspaceId"]) == (None, str(workspace_id))
    assert shown == {name: value for name, value in hook.made.items() if name not in ("url", "secret")}
    assert hook.owner.get(url).get_json() == {"items": [shown], "nextCursor": None}
    assert (shown["publicUrl"], shown["jobType"], shown["replaySeconds"]) == (PUBLIC, "echo", 300)


def test_below_a_prefix_the_url_has_it(nobody: Client, owner: Client, url: str) -> None:
    hook = Hook(owner, nobody, f"/api{url}")
    body = providers.as_json({})

    assert hook.made["url"].startswith("http://localhost/api/hooks/jph_")
    assert nobody.request("POST", "/api" + hook.path, headers=providers.github(SECRET, body), data=body).get_json() == {
        "accepted": 1,
        "repeated": 0,
    }


def test_a_new_key_is_another_url_and_the_old_one_leads_nowhere(make: Callable[..., Hook]) -> None:
    hook = make()
    body = providers.as_json({})
    again = hook.owner.post(f"{hook.at}/rotate-key").get_json()

    gone = hook.deliver(body, providers.github(SECRET, body))
    hook.path = "/hooks/" + again["url"].rpartition("/")[2]

    assert gone.status_code == 404
    assert hook.deliver(body, providers.github(SECRET, body)).status_code == 200
    assert hook.owner.request("DELETE", hook.at).status_code == 204
    assert hook.deliver(body, providers.github(SECRET, body)).status_code == 404


def test_a_hook_belongs_to_a_connection_of_its_workspace(
    make: Callable[..., Hook], owner: Client, url: str, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    mine, theirs = uuid.uuid4(), uuid.uuid4()
    with sessions.begin() as session:
        for workspace, connection in ((workspace_id, mine), (uuid.uuid4(), theirs)):
            options = {"connector_type": "x", "name": "n", "config": {}}
            session.add(Connection(workspace_id=workspace, id=connection, **options))

    hook = make(connectionId=str(mine))
    assert hook.made["connectionId"] == str(mine)
    body = {"name": "a", "scheme": "none", "jobType": "echo", "connectionId": str(theirs)}
    assert [error["path"] for error in owner.post(url, json=body).get_json()["errors"]] == ["/connectionId"]
    with sessions.begin() as session:
        delete_connection(session, session.get_one(Connection, (workspace_id, mine)))
    assert owner.get(hook.at).status_code == 404


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"jobType": "ecko"}, "/jobType"),
        ({"scheme": "githob"}, "/scheme"),
        ({"secret": None}, "/secret"),
        ({"publicUrl": "jobs.example.com"}, "/publicUrl"),
        ({"replaySeconds": 0}, "/replaySeconds"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(owner: Client, url: str, body: dict[str, Any], path: str) -> None:
    wanted = {"name": "a", "scheme": "github", "jobType": "echo", "secret": SECRET, **body}

    answer = owner.post(url, json={name: value for name, value in wanted.items() if value is not None})

    assert (answer.status_code, [error["path"] for error in answer.get_json()["errors"]]) == (422, [path])


def test_without_a_master_key_no_secret_is_taken(
    owner: Client, url: str, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Hook]
) -> None:
    hook = make()
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")

    body = {"name": "a", "scheme": "github", "jobType": "echo", "secret": SECRET}
    for refused in (owner.post(url, json=body), owner.post(f"{hook.at}/rotate-secret", json={"secret": SECRET})):
        assert refused.status_code == 503
        assert refused.get_json()["type"].endswith(":no-key-ring")
        assert "jobplatform keys generate" in refused.get_json()["detail"]
    answer = hook.deliver({}, providers.github(SECRET, b"{}"))
    assert answer.headers["Retry-After"].isdigit()
