"""The example of the running club as somebody runs it: their application, a stand-in for Strava, a worker process."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from examples.activity_sync.fake_strava import FakeStrava
from jobplatform.api import mint_token
from jobplatform.key_ring import generate_key
from jobplatform.testing import wait_until
from tests.examples.conftest import ClientOf, Load, WorkIn

ATHLETE = 4711
ASKED = "hub.mode=subscribe&hub.challenge=abc&hub.verify_token="
MOMENTS = itertools.count(1_700_000_000)


@pytest.fixture
def strava(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStrava]:
    with FakeStrava() as server:
        environment = {
            "STRAVA_URL": server.url,
            "JOBPLATFORM_OAUTH_CLIENTS": f"strava:{server.client_id}:{server.client_secret}",
            "JOBPLATFORM_OAUTH_REDIRECT_URL": "http://club.example.com/clubs/connected",
            "CLUB_URL": "http://club.example.com/api",
            "STRAVA_VERIFY_TOKEN": "tell-me-this",
            "JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES": "true",
            "JOBPLATFORM_TRUST_LOGIN": "true",
            "JOBPLATFORM_ENCRYPTION_KEYS": generate_key("a"),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def client(
    load: Load, client_of: ClientOf, strava: FakeStrava, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> FlaskClient:
    client = client_of(load("activity_sync"))
    with sessions.begin() as session:
        token = mint_token(session, workspace_id, ["jobs:read", "connections"], "test")
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


@pytest.fixture
def worker(client: FlaskClient, work_in: WorkIn) -> None:
    work_in("activity_sync")


@pytest.fixture
def callback(client: FlaskClient, workspace_id: uuid.UUID) -> str:
    """Where Strava delivers, once it has shaken hands and told its subscription's number."""
    made = client.post(f"/clubs/{workspace_id}/webhook").get_json()
    path = str(made["callbackUrl"]).removeprefix("http://club.example.com")
    assert client.get(f"{path}?{ASKED}tell-me-this").get_json() == {"hub.challenge": "abc"}
    taken = client.put(f"/clubs/{workspace_id}/webhook/{made['hookId']}", json={"subscription": 99})
    assert taken.status_code == 204
    return path


def event(kind: str, identifier: int, at: int | None = None, **more: Any) -> dict[str, Any]:
    """Each at another moment, unless Strava tells one again."""
    told = {"object_type": "activity", "object_id": identifier, "aspect_type": kind, "owner_id": ATHLETE}
    moment = next(MOMENTS) if at is None else at
    return {**told, "subscription_id": 99, "event_time": moment, "updates": {}, **more}


@pytest.fixture
def done(client: FlaskClient, callback: str, workspace_id: uuid.UUID) -> Callable[..., dict[str, Any]]:
    """Has Strava deliver an event, and answers with the job at its end."""

    def done(told: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(callback, json=told)
        assert (answer.status_code, answer.get_json()) == (200, {"accepted": 1, "repeated": 0}), answer.text
        (newest,) = client.get(f"/api/workspaces/{workspace_id}/jobs?limit=1").get_json()["items"]
        url = f"/api/workspaces/{workspace_id}/jobs/{newest['id']}"
        wait_until(lambda: client.get(url).get_json()["completedAt"] is not None, what="the end of a job", seconds=60)
        found: dict[str, Any] = client.get(url).get_json()
        return found

    return done


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
def test_an_activity_counts_towards_its_member_s_progress_as_soon_as_it_is_there(
    client: FlaskClient,
    strava: FakeStrava,
    done: Callable[..., dict[str, Any]],
    session: Session,
    workspace_id: uuid.UUID,
) -> None:
    def progress() -> list[Any]:
        session.rollback()
        return [tuple(row) for row in session.execute(text("select activities, distance from progress order by month"))]

    begun = client.post(f"/clubs/{workspace_id}/members")
    assert begun.status_code == 201, begun.text
    back = httpx.get(begun.get_json()["authorizeUrl"]).headers["Location"]
    joined = client.get(back.removeprefix("http://club.example.com"))
    assert (joined.status_code, joined.get_json()["athleteId"]) == (201, ATHLETE), joined.text
    strava.expire()
    strava.add(1, "2026-05-01T06:00:00Z", points=100)
    strava.add(2, "2026-05-09T06:00:00Z")
    strava.add(3, "2026-06-01T06:00:00Z", points=10)
    strava.private.add(3)

    # Recorded: its points are read, and it counts. A token is got with the refresh token on the way.
    first = done(event("create", 1))
    assert (first["status"], first["result"]) == ("completed", {"activity": 1, "month": "2026-05", "points": 100})
    assert progress() == [(1, 1000.0)]
    assert strava.refreshed == 2, "with the code, and with the refresh token that came of it"

    # Entered by hand: there are no streams, and it counts too. The token has run out, and its refresh token rotates.
    strava.expire()
    assert done(event("create", 2))["result"]["points"] == 0
    assert progress() == [(2, 1000.0)]
    assert strava.refreshed == 3

    # Told again, private, deleted at once: completed, and skipped. No try is made again.
    for told, reason in (
        (event("create", 1), "processed before"),
        (event("create", 3), "not to be had"),
        (event("create", 99), "not to be had"),
        (event("create", 1, owner_id=1), "no member"),
    ):
        job = done(told)
        assert (job["status"], job["outcome"], job["attempts"]) == ("completed", "skipped", 1), job
        assert reason in job["result"]["reason"]

    # Changed, and deleted.
    strava.add(1, "2026-05-01T06:00:00Z", points=300)
    done(event("update", 1, updates={"title": "Long run"}))
    assert progress() == [(2, 3000.0)]
    assert done(event("delete", 1))["result"] == {"forgotten": 1}
    assert progress() == [(1, 0.0)]

    # The member takes the access back: a job fails once, for good, and the connection says why. Strava tells it, too.
    strava.revoke()
    gone = done(event("update", 2))
    assert (gone["status"], gone["attempts"]) == ("failed", 1)
    assert gone["error"]["type"] == "NeedsAttentionError"
    shown = client.get(f"/api/workspaces/{workspace_id}/connections").get_json()["items"][0]
    assert shown["status"] == "needs_attention"
    athlete = {"object_type": "athlete", "object_id": ATHLETE, "updates": {"authorized": "false"}}
    assert done(event("update", 0, **athlete))["result"] == {"left": ATHLETE}
    assert "has left" in done(event("create", 5))["result"]["reason"]


def test_the_webhook_is_answered_before_anything_is_asked(
    client: FlaskClient, strava: FakeStrava, callback: str, session: Session
) -> None:
    """There is no worker: the job waits, and Strava has its answer. It tells everything up to three times."""
    first, again = (client.post(callback, json=event("create", 1, at=1)) for _ in range(2))

    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.get_json()["accepted"], again.get_json()["repeated"]) == (1, 1)
    assert strava.requests == []
    assert session.scalar(text("select count(*) from jobplatform.jobs")) == 1


def test_who_does_not_know_the_address_or_the_token_is_turned_away(
    client: FlaskClient, callback: str, session: Session
) -> None:
    assert client.get(f"{callback}?{ASKED}guessed").status_code == 403
    assert client.post(f"{callback[:-4]}AAAA", json=event("create", 1)).status_code == 404
    assert client.post(callback, json=event("create", 1, subscription_id=1)).status_code == 403
    assert session.scalar(text("select count(*) from jobplatform.jobs")) == 0
