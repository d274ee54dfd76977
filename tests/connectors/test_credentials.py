"""Credentials are sealed, shown to the source and to nobody else, renewed by one, and gone when they are taken back."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from examples.activity_sync.fake_strava import FakeStrava
from examples.crm_sync.fake_hubspot import FakeHubSpot
from examples.stand_in import Answer, Asked, StandIn
from jobplatform.connectors import (
    Returned,
    Taken,
    begin_authorization,
    change_connection,
    create_connection,
    delete_connection,
    exchange_code,
    get_connection,
    keep_authorized,
    open_connector,
    run_sync,
    seal_headers,
    take_authorization,
    try_connection,
)
from jobplatform.connectors import tasks as sync_tasks
from jobplatform.connectors.credentials import find_credentials, take_credentials
from jobplatform.connectors.outside import Answer as OutsideAnswer
from jobplatform.connectors.renewing import DatabaseKeeper, renew_credentials
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import (
    AddressRefusedError,
    InvalidConnectionError,
    KeyMissingError,
    NeedsAttentionError,
    SourceError,
    SourceUnreachableError,
    SyncFailedError,
)
from jobplatform.key_ring import generate_key
from jobplatform.models import Connection, ConnectionCredentials, Record, Role, Schedule, SyncLog, confine
from jobplatform.queue import (
    Cron,
    RunningJob,
    Skip,
    Tasks,
    create_schedule,
    pause_schedule,
    read_snapshot,
    replay_job,
    rewrap_keys,
    set_encrypting,
)
from jobplatform.settings import OAuthClient
from tests.connectors.conftest import Jobs
from tests.queue.replay_tasks import Ear

VARIABLE = "JOBPLATFORM_ENCRYPTION_KEYS"
SECRET = "the-secret-7f3a"


class Notes(StandIn):
    """A source of a page of notes, whose caller has to be known by whatever the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.knows: Callable[[Asked], bool] = self.is_known

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/token":
            found = self.new_tokens(asked.form(), rotates=True)
            if found is None:
                return Answer(400, {"error": "invalid_grant", "error_description": "the grant was revoked"})
            return Answer(200, {**found, "expires_in": 3600})
        if not self.knows(asked):
            return Answer(401, {"error": "invalid_token"})
        return Answer(200, {"results": [{"id": "1", "text": "hello"}]})


@pytest.fixture
def notes() -> Iterator[Notes]:
    with Notes() as server:
        yield server


@pytest.fixture
def strava() -> Iterator[FakeStrava]:
    with FakeStrava() as server:
        yield server


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> str:
    made = generate_key("a")
    monkeypatch.setenv(VARIABLE, made)
    return made


def config_of(url: str) -> dict[str, Any]:
    return {"baseUrl": url, "streams": {"notes": {"path": "/notes"}}}


def grant(server: StandIn, **changes: str) -> dict[str, str]:
    return {
        "scheme": "oauth2",
        "clientId": server.client_id,
        "clientSecret": server.client_secret,
        "refreshToken": "refresh-token-0",
        "accessToken": "access-token-0",
        **changes,
    }


@pytest.fixture
def make(session: Session, workspace_id: uuid.UUID) -> Callable[..., Connection]:
    def make(url: str, credentials: dict[str, Any] | None, kind: str = "http_json", **config: Any) -> Connection:
        made = create_connection(
            session,
            workspace_id,
            connector_type=kind,
            name="Notes",
            config=config_of(url) if kind == "http_json" else {"baseUrl": url, **config},
            credentials=credentials,
            allow_private=True,
        )
        session.commit()
        session.refresh(made)
        session.expunge(made)
        session.commit()
        return made

    return make


def stored(session: Session) -> str:
    found = session.scalars(select(ConnectionCredentials.sealed)).one()
    session.commit()
    return found


# -- sealed ------------------------------------------------------------------------------------------


def test_credentials_are_sealed_and_open_for_their_own_connection_only(
    session: Session, make: Callable[..., Connection], notes: Notes
) -> None:
    first = make(notes.url, {"scheme": "bearer", "token": SECRET})
    second = make(notes.url, None)

    assert SECRET not in session.scalars(select(ConnectionCredentials.sealed)).one()
    opened = find_credentials(session, first)
    assert opened is not None
    assert (opened.scheme, opened.values) == ("bearer", {"token": SECRET})
    assert SECRET not in repr(opened)

    session.execute(text("update jobplatform.connection_credentials set connection_id = :id"), {"id": second.id})
    with pytest.raises(SourceError, match="cannot be opened"):
        find_credentials(session, second)


def test_without_a_key_ring_credentials_are_refused_with_what_to_do_and_nothing_is_written(
    session: Session, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)

    with pytest.raises(KeyMissingError, match=r"jobplatform\[encryption\].*JOBPLATFORM_ENCRYPTION_KEYS"):
        create_connection(
            session,
            workspace_id,
            connector_type="http_json",
            name="CRM",
            config=config_of("https://crm.example.com"),
            credentials={"scheme": "bearer", "token": SECRET},
        )
    session.rollback()

    assert session.scalars(select(Connection)).all() == []


def test_a_rotated_key_ring_opens_what_was_sealed_before(
    session: Session, make: Callable[..., Connection], notes: Notes, ring: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = make(notes.url, {"scheme": "bearer", "token": SECRET})
    newer = generate_key("b")
    before = stored(session)

    monkeypatch.setenv(VARIABLE, f"{newer},{ring}")
    assert rewrap_keys(session) == 1
    session.commit()
    monkeypatch.setenv(VARIABLE, newer)

    assert stored(session) == before
    opened = find_credentials(session, connection)
    assert opened is not None
    assert opened.values == {"token": SECRET}


def test_a_worker_without_the_key_fails_the_connection_and_says_why(
    session: Session,
    make: Callable[..., Connection],
    notes: Notes,
    workspace_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = make(notes.url, {"scheme": "bearer", "token": SECRET})
    monkeypatch.delenv(VARIABLE)

    with pytest.raises(SourceError, match="JOBPLATFORM_ENCRYPTION_KEYS"):
        open_connector(session, connection, True)


# -- shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "header", "value"),
    [
        ({"scheme": "bearer", "token": SECRET}, "authorization", f"Bearer {SECRET}"),
        (
            {"scheme": "basic", "username": "ada", "password": SECRET},
            "authorization",
            "Basic " + base64.b64encode(f"ada:{SECRET}".encode()).decode(),
        ),
        ({"scheme": "header", "name": "X-Api-Key", "value": SECRET}, "x-api-key", SECRET),
    ],
)
def test_a_source_is_shown_the_credentials_in_a_header(
    session: Session,
    make: Callable[..., Connection],
    notes: Notes,
    credentials: dict[str, str],
    header: str,
    value: str,
) -> None:
    notes.knows = lambda asked: asked.headers.get(header) == value

    assert try_connection(session, make(notes.url, credentials), allow_private=True).ok


def test_a_source_is_shown_the_credentials_in_the_query(
    session: Session, make: Callable[..., Connection], notes: Notes
) -> None:
    notes.knows = lambda asked: asked.query.get("key") == SECRET
    connection = make(notes.url, {"scheme": "query", "name": "key", "value": SECRET})

    assert try_connection(session, connection, allow_private=True).ok


def test_credentials_for_one_address_are_not_sent_to_another(
    session: Session, make: Callable[..., Connection], notes: Notes
) -> None:
    """Who may change a connection could otherwise read its credentials: at an address of their own."""
    made = make(notes.url, {"scheme": "bearer", "token": SECRET})
    connection = get_connection(session, made.workspace_id, made.id)
    assert connection is not None
    elsewhere = config_of("http://127.0.0.1:1")

    with pytest.raises(InvalidConnectionError, match="give them again"):
        change_connection(session, connection, config=elsewhere, allow_private=True)

    change_connection(
        session, connection, config=elsewhere, credentials={"scheme": "bearer", "token": "other"}, allow_private=True
    )
    opened = find_credentials(session, connection)
    assert opened is not None
    assert opened.values == {"token": "other"}


def test_credentials_that_are_not_accepted_have_the_connection_need_attention(
    session: Session, make: Callable[..., Connection], notes: Notes, jobs: Jobs, workspace_id: uuid.UUID
) -> None:
    connection = make(notes.url, {"scheme": "bearer", "token": "wrong"})

    with pytest.raises(SyncFailedError, match="does not accept") as caught:
        run_sync(jobs.start(), allow_private=True)

    assert caught.value.should_retry is False
    found = get_connection(session, workspace_id, connection.id)
    assert found is not None
    assert found.attention is not None
    assert "does not accept the connection's credentials" in found.attention
    assert found.attention_at is not None
    session.commit()

    skipped = run_sync(jobs.start(), allow_private=True)
    assert isinstance(skipped, Skip)
    assert "does not accept" in skipped.reason
    assert len(notes.requests) == 1, "the second sync asks nobody"


def test_a_sync_of_connections_that_need_credentials_and_have_none_is_skipped_with_the_reason(
    jobs: Jobs, connect: Callable[..., uuid.UUID]
) -> None:
    connect(name="CRM", connector="hubspot", config={})

    skipped = run_sync(jobs.start(), allow_private=True)

    assert isinstance(skipped, Skip)
    assert skipped.reason == "CRM: the connection has no credentials; give it some (bearer, oauth2)"


def test_credentials_that_were_given_meanwhile_are_used_and_the_old_ones_refusal_is_not_noted(
    session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID
) -> None:
    """A sync under way holds the old token; somebody has just given a new one."""
    made = make(notes.url, {"scheme": "bearer", "token": "old"})
    with open_connector(session, made, True) as connector:
        connection = get_connection(session, workspace_id, made.id)
        assert connection is not None
        change_connection(session, connection, credentials={"scheme": "bearer", "token": "access-token-0"})
        session.commit()

        assert len(connector.fetch("notes", None).records) == 1

    connection = get_connection(session, workspace_id, made.id)
    assert connection is not None
    assert connection.attention is None


def test_a_change_waits_for_a_renewal_and_a_renewal_for_a_change(
    engine: Engine, session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID
) -> None:
    """Both lock the connection first. In different orders they would wait for each other."""
    made = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token"))
    notes.revoke()
    changed = threading.Event()

    def change() -> None:
        with Session(engine) as other, other.begin():
            found = get_connection(other, workspace_id, made.id, lock=True)
            assert found is not None
            change_connection(other, found, credentials={"scheme": "bearer", "token": "new"})
        changed.set()

    answer = notes.answer
    threads = [threading.Thread(target=change)]

    def begin_a_change(asked: Asked) -> Answer:
        if asked.path == "/token":
            threads[0].start()
        return answer(asked)

    notes.answer = begin_a_change  # type: ignore[method-assign]  # a double

    assert try_connection(session, made, allow_private=True).needs_attention
    assert changed.wait(20)
    threads[0].join()
    found = get_connection(session, workspace_id, made.id)
    assert found is not None
    assert found.attention is None, "the new credentials came after the old ones' refusal"


# -- renewed -----------------------------------------------------------------------------------------


def test_a_token_that_is_refused_is_renewed_once_and_the_sync_goes_on(
    session: Session, make: Callable[..., Connection], strava: FakeStrava, jobs: Jobs
) -> None:
    for number in range(1, 6):
        strava.add(number, f"2026-05-0{number}T06:00:00Z")
    make(strava.url, grant(strava), "strava", pageSize=2)
    strava.expire()

    result = run_sync(jobs.start(), allow_private=True)

    assert not isinstance(result, Skip)
    assert (result["totalRecords"], result["errors"]) == (5, [])
    assert strava.refreshed == 1
    assert "access-token" not in stored(session)


def test_a_refresh_token_that_rotates_is_kept(
    session: Session, make: Callable[..., Connection], strava: FakeStrava, jobs: Jobs
) -> None:
    """The old one is of no use after each renewal: two in a row work only if the new one was stored."""
    connection = make(strava.url, grant(strava), "strava")

    for times in (1, 2, 3):
        strava.expire()
        assert not isinstance(run_sync(jobs.start(), allow_private=True), Skip)
        assert strava.refreshed == times

    opened = find_credentials(session, connection)
    assert opened is not None
    assert (opened.values["refresh_token"], opened.version) == ("refresh-token-3", 4)


def test_a_token_near_its_end_is_renewed_before_it_is_refused(
    session: Session, make: Callable[..., Connection], strava: FakeStrava, jobs: Jobs
) -> None:
    make(strava.url, grant(strava), "strava")
    strava.expire()
    strava.expires_in = 20
    run_sync(jobs.start(), allow_private=True)
    asked = len(strava.requests)

    run_sync(jobs.start(), allow_private=True)

    assert strava.requests[asked].path == "/oauth/token"
    assert strava.refreshed == 2


def test_a_token_that_somebody_else_renewed_and_that_ran_out_again_is_renewed_too(
    session: Session, make: Callable[..., Connection], strava: FakeStrava
) -> None:
    """Who has been at it for hours knows neither the first token nor the second, and asks for a third."""
    strava.add(1, "2026-05-01T06:00:00Z")
    connection = make(strava.url, grant(strava), "strava")
    with open_connector(session, connection, True) as slow:
        strava.expire()
        with open_connector(session, connection, True) as other:
            other.fetch("activities", None)
        strava.expire()

        slow.fetch("activities", None)
        slow.fetch("activities", None)

    assert strava.refreshed == 2


def test_a_source_that_refuses_a_new_token_too_is_not_asked_for_ever(
    session: Session, make: Callable[..., Connection], notes: Notes
) -> None:
    connection = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token"))
    notes.knows = lambda _: False

    tried = try_connection(session, connection, allow_private=True)

    assert tried.needs_attention
    assert [request.path for request in notes.requests] == ["/notes", "/token", "/notes"]


def test_a_provider_may_want_the_client_in_a_header(
    session: Session, make: Callable[..., Connection], notes: Notes
) -> None:
    connection = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token", clientAuthentication="header"))
    notes.expire()

    assert try_connection(session, connection, allow_private=True).needs_attention, "this one wants it in the form"
    asked = next(request for request in notes.requests if request.path == "/token")
    assert asked.form() == {"grant_type": "refresh_token", "refresh_token": "refresh-token-0"}
    pair = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == f"{notes.client_id}:{notes.client_secret}"


def test_a_token_is_not_asked_for_at_an_address_that_may_not_be_asked(
    session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID
) -> None:
    with pytest.raises(InvalidConnectionError, match="/credentials/tokenUrl"):
        create_connection(
            session,
            workspace_id,
            connector_type="http_json",
            name="CRM",
            config=config_of("https://crm.example.com"),
            credentials=grant(notes, tokenUrl=f"{notes.url}/token"),
        )
    session.rollback()
    connection = make(notes.url, grant(notes, tokenUrl=notes.url.replace("http:", "https:") + "/token"))
    seen = find_credentials(session, connection)
    session.commit()
    assert seen is not None

    with pytest.raises(AddressRefusedError, match="not a public address"):
        DatabaseKeeper(session, connection, None, allow_private=False).renew(seen)
    assert notes.requests == []


def test_a_grant_that_is_gone_fails_the_job_for_good_and_new_credentials_end_that(
    session: Session, make: Callable[..., Connection], strava: FakeStrava, jobs: Jobs, workspace_id: uuid.UUID
) -> None:
    connection = make(strava.url, grant(strava), "strava")
    strava.revoke()

    with pytest.raises(SyncFailedError, match="taken back the access") as caught:
        run_sync(jobs.start(), allow_private=True)
    assert caught.value.should_retry is False
    found = get_connection(session, workspace_id, connection.id)
    assert found is not None
    assert "connect it again" in str(found.attention)
    assert "refresh-token" not in str(found.attention)

    strava.refresh = {"refresh-token-new"}
    change_connection(session, found, credentials=grant(strava, refreshToken="refresh-token-new"), allow_private=True)
    session.commit()
    assert found.attention is None
    session.commit()
    assert not isinstance(run_sync(jobs.start(), allow_private=True), Skip)


@pytest.mark.parametrize("word", ["in\0valid", "in\ud800valid"])
def test_a_grant_is_gone_also_where_the_provider_says_so_in_words_that_cannot_be_stored(
    session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID, word: str
) -> None:
    connection = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token"))
    seen = find_credentials(session, connection)
    assert seen is not None
    refusal = OutsideAnswer(f"{notes.url}/token", 400, httpx.Headers(), json.dumps({"error": word}).encode())

    why = renew_credentials(session, connection, seen, None, lambda *_: refusal)
    session.commit()

    found = get_connection(session, workspace_id, connection.id)
    assert found is not None
    assert isinstance(why, NeedsAttentionError)
    assert found.attention == str(why).replace(word, "in\ufffdvalid")


@pytest.fixture
def schedule(session: Session, workspace_id: uuid.UUID) -> Callable[..., Schedule]:
    """A schedule of syncs, of one connection or of all of them."""

    def schedule(connection: Connection | None, name: str) -> Schedule:
        payload = {} if connection is None else {"connectionId": str(connection.id)}
        made = create_schedule(
            session, sync_tasks["sync"], Cron("0 * * * *"), workspace_id=workspace_id, name=name, payload=payload
        )
        session.commit()
        return made

    return schedule


@pytest.mark.parametrize("how", ["revoked", "gone"])
def test_what_is_taken_back_or_gone_pauses_the_connection_s_schedules_and_connecting_again_resumes_them(
    notes: Notes, job: RunningJob, make: Callable[..., Connection], session: Session, workspace_id: uuid.UUID,
    schedule: Callable[..., Schedule], how: str,
) -> None:  # fmt: skip
    given = grant(notes, tokenUrl=f"{notes.url}/token")
    connection, other = (
        make(notes.url, given),
        make(notes.url, given),
    )
    hourly, all_of_them, another_s = schedule(connection, "a"), schedule(None, "b"), schedule(other, "c")
    by_hand = schedule(connection, "d")
    pause_schedule(session, by_hand, actor="ann")
    session.commit()
    if how == "revoked":
        notes.revoke()
    else:
        notes.next_answers.append(Answer(410, {"error": "gone"}))

    with pytest.raises(SyncFailedError) as failed:
        run_sync(job, connection_id=connection.id, allow_private=True)
    job.close_session(commit=False)

    assert not failed.value.should_retry
    session.expire_all()
    assert (hourly.paused_by, hourly.next_run_at) == (f"connection:{connection.id}", None)
    assert hourly.paused_why == session.get_one(Connection, (workspace_id, connection.id)).attention
    assert ("410" in (hourly.paused_why or "")) == (how == "gone")
    assert (all_of_them.paused_at, another_s.paused_at, by_hand.paused_by) == (None, None, "ann")

    notes.refresh.add("refresh-token-0")
    notes.access.add("access-token-0")
    found = get_connection(session, workspace_id, connection.id, lock=True)
    assert found is not None
    change_connection(session, found, credentials=given, allow_private=True)
    session.commit()

    session.expire_all()
    assert (hourly.paused_at, hourly.paused_by, hourly.paused_why) == (None, None, None)
    assert hourly.next_run_at is not None
    assert by_hand.paused_by == "ann"


def test_schedules_with_sealed_payloads_are_paused_and_resumed_like_the_others(
    notes: Notes, jobs: Jobs, make: Callable[..., Connection], session: Session, workspace_id: uuid.UUID,
    schedule: Callable[..., Schedule],
) -> None:  # fmt: skip
    given = grant(notes, tokenUrl=f"{notes.url}/token")
    connection, other = make(notes.url, given), make(notes.url, given)
    before = schedule(connection, "a")
    set_encrypting(session, workspace_id, True)
    hourly, another_s, all_of_them = schedule(connection, "b"), schedule(other, "c"), schedule(None, "d")
    assert str(connection.id) not in json.dumps(hourly.payload)
    notes.revoke()

    with pytest.raises(SyncFailedError):
        run_sync(jobs.start(), connection_id=connection.id, allow_private=True)

    session.expire_all()
    why = session.get_one(Connection, (workspace_id, connection.id)).attention
    assert (hourly.paused_by, hourly.paused_why, hourly.next_run_at) == (f"connection:{connection.id}", why, None)
    assert before.paused_by == hourly.paused_by
    assert (another_s.paused_at, all_of_them.paused_at) == (None, None)

    found = get_connection(session, workspace_id, connection.id, lock=True)
    assert found is not None
    change_connection(session, found, credentials=given, allow_private=True)
    session.commit()

    session.expire_all()
    assert (hourly.paused_at, before.paused_at) == (None, None)


def test_a_schedule_that_nobody_can_open_here_keeps_no_connection_from_being_marked(
    notes: Notes, jobs: Jobs, make: Callable[..., Connection], session: Session, workspace_id: uuid.UUID,
    schedule: Callable[..., Schedule],
) -> None:  # fmt: skip
    connection = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token"))
    open_one = schedule(connection, "a")
    set_encrypting(session, workspace_id, True)
    broken = schedule(connection, "b")
    broken.payload = {"$sealed": broken.payload["$sealed"][:-8] + "AAAAAAAA"}
    session.commit()
    notes.revoke()

    with pytest.raises(SyncFailedError):
        run_sync(jobs.start(), allow_private=True)

    session.expire_all()
    assert (open_one.paused_at is None, broken.paused_at is None) == (False, True)
    assert session.get_one(Connection, (workspace_id, connection.id)).attention is not None


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


@pytest.fixture(params=["hubspot", "strava"])
def provider(request: pytest.FixtureRequest) -> tuple[str, FakeHubSpot | FakeStrava]:
    """One that the platform has an application with; each tells what is wrong in words of its own."""
    return request.param, request.getfixturevalue(request.param)


@pytest.fixture
def consented(
    session: Session, make: Callable[..., Connection], provider: tuple[str, StandIn], workspace_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> Connection:  # fmt: skip
    """A connection that somebody has consented to."""
    kind, server = provider
    clients = {kind: OAuthClient(server.client_id, server.client_secret)}
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", f"{kind}:{server.client_id}:{server.client_secret}")
    made = make(server.url, None, kind)
    connection = get_connection(session, workspace_id, made.id)
    assert connection is not None
    begun = begin_authorization(
        session, connection, actor="ada", clients=clients, redirect_url="https://jobs.example.com/back"
    )
    location = httpx.get(begun.authorize_url).headers["Location"]
    said = dict(parse_qsl(urlsplit(location).query))
    taken = take_authorization(session, said["state"], actor="ada")
    assert isinstance(taken, Taken)
    session.commit()
    tokens = exchange_code(taken, Returned(**said), clients=clients, allow_private=True)
    for secret in (server.client_secret, "access-token-1", "refresh-token-1", taken.verifier):
        assert secret not in repr((taken, tokens))
    keep_authorized(session, tokens)
    session.commit()
    return made


def test_a_new_secret_of_the_platform_s_application_reaches_connections_made_before(
    session: Session, consented: Connection, provider: tuple[str, StandIn], jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, server = provider
    server.client_secret = "the-new-one"
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", f"{kind}:{server.client_id}:the-new-one")
    server.expire()

    assert not isinstance(run_sync(jobs.start(), allow_private=True), Skip)

    # A worker without the setting finds the new one sealed.
    monkeypatch.delenv("JOBPLATFORM_OAUTH_CLIENTS")
    server.expire()
    assert not isinstance(run_sync(jobs.start(), allow_private=True), Skip)
    assert server.refreshed == 3


def test_an_application_that_the_provider_refuses_takes_no_connection_away(
    session: Session, consented: Connection, provider: tuple[str, StandIn], jobs: Jobs, workspace_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Its secret was changed at the provider, and nobody has told the platform yet."""
    kind, server = provider
    server.client_secret = "the-new-one"
    server.expire()

    with pytest.raises(SyncFailedError, match="whoever runs the platform looks after its entry") as failed:
        run_sync(jobs.start(), allow_private=True)

    assert failed.value.should_retry
    assert "client-secret-of-the-application" not in str(failed.value) + caplog.text
    assert "a provider refuses the platform's application" in caplog.text
    found = get_connection(session, workspace_id, consented.id)
    assert found is not None
    assert found.attention is None
    session.commit()
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", f"{kind}:{server.client_id}:the-new-one")
    assert not isinstance(run_sync(jobs.start(), allow_private=True), Skip)


def test_where_another_application_is_registered_by_now_the_one_that_was_consented_to_is_used_on(
    session: Session, consented: Connection, provider: tuple[str, StandIn], jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, server = provider
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", f"{kind}:99:of-another")
    server.expire()

    assert not isinstance(run_sync(jobs.start(), allow_private=True), Skip)


def test_the_platform_s_secret_is_not_lent_to_credentials_that_somebody_wrote_by_hand(
    session: Session, make: Callable[..., Connection], strava: FakeStrava, jobs: Jobs, workspace_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Or a refresh token that was stolen could be used without it."""
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", f"strava:{strava.client_id}:{strava.client_secret}")
    connection = make(strava.url, grant(strava, clientSecret="guessed"), "strava")
    strava.expire()

    with pytest.raises(SyncFailedError) as failed:
        run_sync(jobs.start(), allow_private=True)

    assert not failed.value.should_retry
    assert strava.refreshed == 0
    found = get_connection(session, workspace_id, connection.id, lock=True)
    assert found is not None
    assert found.attention is not None
    with pytest.raises(InvalidConnectionError, match="ofPlatform"):
        change_connection(session, found, credentials={**grant(strava), "ofPlatform": True}, allow_private=True)


def test_a_token_endpoint_that_fails_for_a_moment_takes_nothing_away(
    session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID
) -> None:
    connection = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token"))
    before = stored(session)
    notes.expire()
    keeper = DatabaseKeeper(session, connection, None, allow_private=True)
    seen = find_credentials(session, connection)
    session.commit()
    assert seen is not None
    notes.next_answers.append(Answer(503, {}))

    with pytest.raises(SourceUnreachableError):
        keeper.renew(seen)

    found = get_connection(session, workspace_id, connection.id)
    assert found is not None
    assert found.attention is None
    session.commit()
    assert stored(session) == before


def test_a_replay_renews_no_token_which_nobody_would_have_afterwards(
    engine: Engine, session: Session, make: Callable[..., Connection], strava: FakeStrava, workspace_id: uuid.UUID
) -> None:
    make(strava.url, grant(strava), "strava")
    tasks, ear = Tasks(), Ear()
    pull = tasks.task("pull")(lambda job, _payload: run_sync(job, allow_private=True))
    job_id = pull.enqueue(session, workspace_id=workspace_id).job_id
    session.commit()
    before = stored(session)
    session.commit()
    strava.expire()
    snapshot = read_snapshot(session, workspace_id, job_id)
    session.commit()
    assert snapshot is not None

    with engine.connect() as connection:
        ended = replay_job(connection, pull, snapshot, ear).ended

    assert "which a replay leaves to a real attempt" in ended.message
    assert strava.refreshed == 0
    assert stored(session) == before


def test_many_who_are_refused_at_once_have_the_token_renewed_by_one(
    engine: Engine, session: Session, make: Callable[..., Connection], strava: FakeStrava, workspace_id: uuid.UUID
) -> None:
    """Each has a connection to the database of its own, as workers on several hosts have."""
    connection = make(strava.url, grant(strava), "strava")
    strava.expire()
    start, tokens = threading.Barrier(6), []

    def renew() -> None:
        with confine(Session(engine), Role.HANDLER, workspace_id) as own:
            seen = find_credentials(own, connection)
            own.commit()
            assert seen is not None
            start.wait(60)
            tokens.append(DatabaseKeeper(own, connection, f"{strava.url}/oauth/token", allow_private=True).renew(seen))

    threads = [threading.Thread(target=renew) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert strava.refreshed == 1
    assert {one.values["access_token"] for one in tokens} == {"access-token-1"}
    assert len(tokens) == 6


def test_the_row_is_locked_while_a_provider_is_asked_and_free_while_pages_are(
    engine: Engine, session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID
) -> None:
    connection = make(notes.url, grant(notes, tokenUrl=f"{notes.url}/token"))
    notes.expire()
    locked: dict[str, bool] = {}
    answer = notes.answer

    def look(asked: Asked) -> Answer:
        with Session(engine) as other:
            row = select(ConnectionCredentials.version).with_for_update(skip_locked=True)
            locked[asked.path] = other.scalars(row).one_or_none() is None
        return answer(asked)

    notes.answer = look  # type: ignore[method-assign]  # a double

    assert try_connection(session, connection, allow_private=True).ok
    assert locked == {"/notes": False, "/token": True}


def test_a_source_is_not_asked_within_a_transaction(
    session: Session, make: Callable[..., Connection], notes: Notes
) -> None:
    connection = make(notes.url, None)
    session.execute(text("select 1"))

    with pytest.raises(RuntimeError, match="commit it first"):
        open_connector(session, connection, True)


def test_a_handler_cannot_give_credentials_or_read_another_workspace_s(
    engine: Engine, session: Session, make: Callable[..., Connection], notes: Notes, workspace_id: uuid.UUID
) -> None:
    connection = make(notes.url, {"scheme": "bearer", "token": SECRET})

    with confine(Session(engine), Role.HANDLER, uuid.uuid4()) as stranger:
        assert find_credentials(stranger, connection) is None
    with confine(Session(engine), Role.HANDLER, workspace_id) as own, pytest.raises(DBAPIError, match="permission"):
        take_credentials(own, connection)


# -- configurations of before ------------------------------------------------------------------------


def test_a_secret_in_a_configuration_is_refused_with_where_it_goes(session: Session, workspace_id: uuid.UUID) -> None:
    config = {
        **config_of("https://crm.example.com"),
        "headers": {"Authorization": f"Bearer {SECRET}", "Accept-Language": "de", "X-Auth": "Bearer abcdefghi"},
        "params": {"api_key": SECRET},
    }

    with pytest.raises(InvalidConnectionError) as caught:
        create_connection(session, workspace_id, connector_type="http_json", name="CRM", config=config)

    assert [problem.path for problem in caught.value.problems] == [
        "/config/headers/Authorization", "/config/headers/X-Auth", "/config/params/api_key"
    ]  # fmt: skip
    assert '{"scheme": "header", "name": "Authorization"' in caught.value.problems[0].message
    assert SECRET not in str(caught.value)


def test_a_header_in_an_older_configuration_still_works_and_can_be_sealed(
    session: Session, notes: Notes, workspace_id: uuid.UUID
) -> None:
    notes.knows = lambda asked: asked.headers.get("authorization") == f"Bearer {SECRET}"
    headers = {"Authorization": f"Bearer {SECRET}", "Accept-Language": "de"}
    config = {**config_of(notes.url), "headers": headers}
    old = Connection(workspace_id=workspace_id, id=uuid.uuid4(), connector_type="http_json", name="Old", config=config)
    session.add(old)
    session.commit()

    old_id = old.id
    session.commit()
    found = get_connection(session, workspace_id, old_id)
    assert found is not None
    session.expunge(found)
    session.commit()
    assert try_connection(session, found, allow_private=True).ok

    found = get_connection(session, workspace_id, old_id)
    assert found is not None
    assert seal_headers(session, found) is True
    session.commit()

    assert found.config["headers"] == {"Accept-Language": "de"}
    opened = find_credentials(session, found)
    assert opened is not None
    assert (opened.scheme, opened.values) == ("bearer", {"token": SECRET})
    session.expunge(found)
    session.commit()
    assert try_connection(session, found, allow_private=True).ok


def test_a_connection_goes_with_everything_that_is_its(
    session: Session, make: Callable[..., Connection], strava: FakeStrava, jobs: Jobs, workspace_id: uuid.UUID
) -> None:
    strava.add(1, "2026-05-01T06:00:00Z")
    made = make(strava.url, grant(strava), "strava")
    run_sync(jobs.start(), allow_private=True)
    found = get_connection(session, workspace_id, made.id)
    assert found is not None

    delete_connection(session, found)
    session.commit()

    for table in ("connections", "connection_credentials", "records", "sync_streams", "source_limits"):
        assert session.scalar(text(f"select count(*) from jobplatform.{table}")) == 0, table


def test_no_secret_is_in_what_a_failing_sync_leaves_behind(
    session: Session,
    make: Callable[..., Connection],
    strava: FakeStrava,
    jobs: Jobs,
    job: RunningJob,
    direct_url: str,
    server: EmbeddedServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Results, errors, the log of syncs, lines of log: the whole database as a dump, and what was logged."""
    from tests.queue.workspace_data import in_dump

    caplog.set_level("DEBUG")
    make(strava.url, grant(strava, clientSecret=SECRET), "strava")
    strava.expire()

    with pytest.raises(SyncFailedError) as caught:
        run_sync(job, allow_private=True)

    assert session.scalars(select(SyncLog.status)).one() == "failed"
    session.commit()
    for secret in (SECRET, "refresh-token-0", "access-token-0"):
        assert in_dump(server, direct_url, secret) == []
        assert secret not in caplog.text
        assert secret not in json.dumps([str(caught.value), jobs.channel.lines, jobs.channel.reports])
    assert session.scalars(select(Record)).all() == []
