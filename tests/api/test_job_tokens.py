"""Tokens for browsers: one job, a short time, nothing else. Which routes they open is in test_matrix.py."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import logging
import time as wall_clock
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_blueprint, presented_id, revoke_token
from jobplatform.api.access.guard import hide_token
from jobplatform.api.requests import hide_secrets
from jobplatform.models import ApiToken, Role, confine
from jobplatform.queue import Tasks
from tests.api.conftest import READ_WRITE, Client, MintToken, hub_of
from tests.api.streams import Stream
from tests.queue.actors import Time

KeyOf = Callable[[str], bytes]


@pytest.fixture
def time(engine: Engine) -> Time:
    return Time(engine)


@pytest.fixture
def browser(app: Flask, client: Client, jobs_url: str) -> Callable[..., Client]:
    """A client with a token for this job."""

    def browser(job: str, **body: Any) -> Client:
        answer = client.post(f"{jobs_url}/{job}/token", json=body)
        assert answer.status_code == 201, answer.text
        return Client(app.test_client(), answer.get_json()["token"])

    return browser


def test_a_job_s_token_says_when_it_ends_and_ends_then(
    client: Client, browser: Callable[..., Client], jobs_url: str, echo: Callable[..., str], time: Time
) -> None:
    job = echo()
    made = client.post(f"{jobs_url}/{job}/token", json={"validForMs": 60_000}).get_json()
    looker = browser(job, validForMs=60_000)
    left = datetime.datetime.fromisoformat(made["expiresAt"]) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(seconds=30) < left <= datetime.timedelta(seconds=61)

    assert looker.get(f"{jobs_url}/{job}").status_code == 200
    time.passes(61)
    assert looker.get(f"{jobs_url}/{job}").status_code == 401


def test_a_job_s_token_ends_with_the_one_it_was_made_with(
    client: Client,
    browser: Callable[..., Client],
    jobs_url: str,
    echo: Callable[..., str],
    sessions: sessionmaker[Session],
) -> None:
    job = echo()
    looker = browser(job)
    stream = Stream(looker.get(f"{jobs_url}/{job}/events"))
    stream.next(1)
    assert client.token is not None

    with sessions.begin() as session:
        revoke_token(session, client.token.split("_")[1])

    assert looker.get(f"{jobs_url}/{job}").status_code == 401
    assert list(stream) == []


def test_a_job_s_token_s_stream_ends_with_it(
    app: Flask, browser: Callable[..., Client], jobs_url: str, echo: Callable[..., str], time: Time
) -> None:
    job = echo()
    # However long it takes to get there, three seconds are left of it then.
    time.freeze()
    looker = browser(job, validForMs=60_000)
    time.passes(57)

    stream = Stream(looker.get(f"{jobs_url}/{job}/events"))

    assert [event.name for event in stream] == ["job.pending"]
    assert hub_of(app).following_now == 0


def test_an_operator_can_make_one_for_the_workspace_s_job(
    app: Flask, operator: Client, jobs_url: str, echo: Callable[..., str]
) -> None:
    job = echo()
    token = operator.post(f"{jobs_url}/{job}/token").get_json()["token"]
    looker = Client(app.test_client(), token)

    assert looker.get(f"{jobs_url}/{job}").status_code == 200
    assert looker.get("/operator/workers").status_code == 403


def signed_by_hand(token: str, workspace_id: uuid.UUID, job: str, key: bytes) -> str:
    """A token for one job as somebody makes it who knows how they look, and has a key."""
    expires = (int(wall_clock.time()) + 3600).to_bytes(5, "big")
    said = bytes.fromhex(presented_id(token)) + workspace_id.bytes + uuid.UUID(job).bytes + expires
    signature = hmac.digest(key, b"jobplatform job token v1|" + said, "sha256")
    return "jpj_" + base64.urlsafe_b64encode(said + signature).decode()


@pytest.fixture
def key_of(sessions: sessionmaker[Session]) -> KeyOf:
    """What is signed with in the name of a token, as only the database knows it."""

    def key_of(token: str) -> bytes:
        with sessions() as session:
            return session.scalars(select(ApiToken.signing_key).where(ApiToken.id == presented_id(token))).one()

    return key_of


def test_whoever_holds_a_token_cannot_sign_one_for_a_job_by_themselves(
    app: Flask,
    workspace_id: uuid.UUID,
    other_workspace: uuid.UUID,
    mint: MintToken,
    jobs_url: str,
    echo: Callable[..., str],
) -> None:
    job, mine, another, foreign = echo(), mint(workspace_id), mint(workspace_id), mint(other_workspace)
    known = [
        hashlib.sha256(secret).digest() for token in (mine, another) for secret in (token.encode(), secret_of(token))
    ]
    known += [secret_of(mine), bytes.fromhex(secret_of(mine).decode()), b"", bytes(32)]

    guesses = [signed_by_hand(token, workspace_id, job, key) for key in known for token in (mine, another, foreign)]

    assert {Client(app.test_client(), guess).get(f"{jobs_url}/{job}").status_code for guess in guesses} == {401}


def secret_of(token: str) -> bytes:
    return token.split("_")[2].encode()


def test_what_one_token_s_key_has_signed_is_not_signed_for_another(
    app: Flask, workspace_id: uuid.UUID, mint: MintToken, jobs_url: str, echo: Callable[..., str], key_of: KeyOf
) -> None:
    job, token, another = echo(), mint(workspace_id), mint(workspace_id)
    own, others = signed_by_hand(token, workspace_id, job, key_of(token)), key_of(another)

    assert Client(app.test_client(), own).get(f"{jobs_url}/{job}").status_code == 200
    mixed = signed_by_hand(token, workspace_id, job, others)
    assert Client(app.test_client(), mixed).get(f"{jobs_url}/{job}").status_code == 401


def test_new_keys_end_what_was_signed_and_no_token(
    client: Client, browser: Callable[..., Client], jobs_url: str, echo: Callable[..., str], engine: Engine
) -> None:
    """As the docs say to do with a copy of the database that has got out."""
    job = echo()
    looker = browser(job)
    assert looker.get(f"{jobs_url}/{job}").status_code == 200

    with confine(Session(engine), Role.OPERATOR) as session, session.begin():
        session.execute(text("update jobplatform.api_tokens set signing_key = default"))

    assert looker.get(f"{jobs_url}/{job}").status_code == 401
    assert client.get(f"{jobs_url}/{job}").status_code == 200
    assert browser(job).get(f"{jobs_url}/{job}").status_code == 200


def test_not_even_with_the_key_is_a_job_s_token_signed_for_a_job_of_another_workspace(
    app: Flask,
    workspace_id: uuid.UUID,
    other_workspace: uuid.UUID,
    mint: MintToken,
    jobs_url: str,
    echo: Callable[..., str],
    key_of: KeyOf,
) -> None:
    job, stranger = echo(), mint(other_workspace, READ_WRITE)

    looker = Client(app.test_client(), signed_by_hand(stranger, workspace_id, job, key_of(stranger)))

    for path in (f"{jobs_url}/{job}", f"{jobs_url}/{job}/events", f"/trigger/runs/{job}", f"/jobs/stream/{job}"):
        assert looker.get(path).status_code == 401, path


def test_a_job_s_token_shows_nothing_that_the_one_it_was_signed_with_may_not_look_at(
    app: Flask, workspace_id: uuid.UUID, mint: MintToken, jobs_url: str, echo: Callable[..., str], key_of: KeyOf
) -> None:
    job = echo()
    blind, seeing = mint(workspace_id, ("connections", "schedules", "jobs:write")), mint(workspace_id, ("jobs:read",))

    answers = [
        Client(app.test_client(), signed_by_hand(token, workspace_id, job, key_of(token)))
        .get(f"{jobs_url}/{job}")
        .status_code
        for token in (blind, seeing)
    ]

    assert answers == [401, 200]


def test_a_job_s_token_makes_no_other(browser: Callable[..., Client], jobs_url: str, echo: Callable[..., str]) -> None:
    job = echo()

    answer = browser(job).post(f"{jobs_url}/{job}/token")

    assert (answer.status_code, answer.get_json()["type"]) == (403, "urn:jobplatform:problem:one-job-token")


@pytest.mark.parametrize("body", [{"validForMs": 999}, {"validForMs": 86_400_001}, {"validForMs": "1000"}, {"x": 1}])
def test_a_job_s_token_lives_for_a_day_at_most(
    body: dict[str, Any], client: Client, jobs_url: str, echo: Callable[..., str]
) -> None:
    assert client.post(f"{jobs_url}/{echo()}/token", json=body).status_code == 422


def test_nothing_is_stored_of_a_job_s_token(
    client: Client, jobs_url: str, echo: Callable[..., str], sessions: sessionmaker[Session]
) -> None:
    job = echo()
    with sessions() as session:
        before = session.scalar(text("select count(*) from jobplatform.api_tokens"))
        client.post(f"{jobs_url}/{job}/token")
        assert session.scalar(text("select count(*) from jobplatform.api_tokens")) == before


def test_a_host_that_knows_its_own_users_has_no_token_to_make_one_with(
    sessions: sessionmaker[Session], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    from jobplatform.api import Principal

    tasks = Tasks()

    @tasks.task("work")
    def work(job: Any, payload: Any) -> None: ...

    host = Flask(__name__)
    ann = Principal("ann", workspace_id, frozenset({"jobs:read", "jobs:write"}))
    blueprint = create_blueprint(sessions, tasks, lambda _request, _workspace: ann, trust_login=True)
    host.register_blueprint(blueprint, url_prefix="/api")
    client = Client(host.test_client(), None)
    job = client.post(f"/api/workspaces/{workspace_id}/jobs", json={"jobType": "work"}).get_json()["jobId"]

    answer = client.post(f"/api/workspaces/{workspace_id}/jobs/{job}/token")

    assert (answer.status_code, answer.get_json()["type"]) == (403, "urn:jobplatform:problem:needs-a-token")


def test_a_token_in_the_query_is_gone_before_anybody_logs_the_request(
    app: Flask,
    browser: Callable[..., Client],
    jobs_url: str,
    echo: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = echo()
    token = browser(job).token
    environ = {
        "RAW_URI": f"/x?token={token}&a=1",
        "REQUEST_URI": f"/x?a=1&token={token}",
        "QUERY_STRING": f"token={token}",
    }
    caplog.set_level(logging.DEBUG)
    served: list[Any] = []
    inner = app.wsgi_app
    monkeypatch.setattr(app, "wsgi_app", lambda environ, start: (served.append(environ), inner(environ, start))[1])

    hide_token(environ)
    answer = app.test_client().get(f"{jobs_url}/{job}/events?token={token}")

    assert environ == {
        "RAW_URI": "/x?token=[redacted]&a=1",
        "REQUEST_URI": "/x?a=1&token=[redacted]",
        "QUERY_STRING": "token=[redacted]",
    }
    assert answer.status_code == 200
    assert [environ["QUERY_STRING"] for environ in served] == ["token=[redacted]"]
    assert str(token) not in caplog.text + str([vars(record) for record in caplog.records])
    answer.close()


def test_the_development_server_s_log_shows_no_token() -> None:
    line = logging.LogRecord("werkzeug", logging.INFO, "", 1, "%s", ("GET /x?token=jpj_" + "a" * 104,), None)

    hide_secrets(line)

    assert "jpj_" not in line.getMessage()
