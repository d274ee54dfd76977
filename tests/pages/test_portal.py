"""The portal: what a workspace's own people see and may do, and that it is theirs alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid

import pytest
from flask import Flask, Request
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import JobPlatform, presented_id
from jobplatform.models import ApiToken, Connection, SyncLog, Workspace
from jobplatform.pages import Visitor as KnownVisitor
from jobplatform.queue import Cron, NewJob, Tasks, create_schedule, enqueue_job, pause_schedules_of
from tests.api.conftest import Hand, MintToken
from tests.pages.conftest import Visitor, notice_of, sign_in_to_portal

Sessions = sessionmaker[Session]

CONNECTION = uuid.UUID(int=7)
RESULT = {
    "results": [
        {"connectionId": str(CONNECTION), "name": "CRM", "connectorType": "http_json", "status": "failed", "records": 0}
    ],
    "totalRecords": 0,
    "errors": [f"CRM: page {number} <b>refused</b>" for number in range(25)],
}


@pytest.fixture
def connected(sessions: Sessions, acme: uuid.UUID) -> uuid.UUID:
    with sessions.begin() as session:
        session.add(Connection(workspace_id=acme, id=CONNECTION, connector_type="http_json", name="CRM", config={}))
    return CONNECTION


def enqueue(sessions: Sessions, workspace_id: uuid.UUID, task: str = "echo") -> str:
    with sessions.begin() as session:
        job = NewJob(workspace_id=workspace_id, task=task, payload="{}", request_id="req-77")
        return str(enqueue_job(session, job).job_id)


def test_a_portal_s_lists_follow_the_stream_of_their_workspace(member: Visitor, acme: uuid.UUID) -> None:
    for path in ("/", "/activity", "/schedules"):
        assert f'data-stream="/w/{acme}/events"' in member.get(path).text, path

    stream = member.http.get(f"/w/{acme}/events", buffered=False)

    assert (stream.status_code, stream.mimetype) == (200, "text/event-stream")
    stream.close()


def session_by_hand(token: str, key: bytes) -> str:
    """A session as somebody makes it who knows how they look, and has a key."""
    said = bytes.fromhex(presented_id(token)) + (int(time.time()) + 3600).to_bytes(5, "big") + bytes(8)
    signature = hmac.digest(key, b"jobplatform session v1|" + said, "sha256")
    return "jps_" + base64.urlsafe_b64encode(said + signature).decode()


def comes_in_with(app: Flask, workspace_id: uuid.UUID, session: str) -> bool:
    visitor = Visitor(app.test_client(), f"/w/{workspace_id}")
    visitor.http.set_cookie("jobplatform_portal", session, path="/w")
    return visitor.get("/activity").status_code == 200


def key_of(sessions: Sessions, token: str) -> bytes:
    with sessions() as session:
        return session.scalars(select(ApiToken.signing_key).where(ApiToken.id == presented_id(token))).one()


def test_whoever_holds_a_token_cannot_sign_a_session_by_themselves(
    app: Flask, acme: uuid.UUID, mint: MintToken, sessions: Sessions
) -> None:
    token, another = mint(acme), mint(acme)
    secret = token.split("_")[2].encode()
    known = [hashlib.sha256(secret).digest(), hashlib.sha256(token.encode()).digest(), secret, b"", bytes(32)]

    assert not [key for key in known if comes_in_with(app, acme, session_by_hand(token, key))]
    assert not comes_in_with(app, acme, session_by_hand(token, key_of(sessions, another)))
    assert comes_in_with(app, acme, session_by_hand(token, key_of(sessions, token)))


def test_not_even_with_the_key_is_a_session_signed_that_opens_more_than_the_token(
    app: Flask, acme: uuid.UUID, mint: MintToken, sessions: Sessions
) -> None:
    blind, seeing = mint(acme, ("connections", "schedules", "jobs:write")), mint(acme, ("jobs:read",))

    let_in = [comes_in_with(app, acme, session_by_hand(token, key_of(sessions, token))) for token in (blind, seeing)]

    assert let_in == [False, True]


def test_a_workspace_s_token_opens_its_own_portal_and_nobody_else_s(
    app: Flask, member: Visitor, acme: uuid.UUID, sessions: Sessions, mint: MintToken
) -> None:
    other = uuid.uuid4()
    with sessions.begin() as session:
        session.add(Workspace(id=other, name="Rival"))
    theirs = enqueue(sessions, other)

    assert member.get("/").status_code == 200
    for path in ("", "/activity", "/events", "/schedules", f"/jobs/{theirs}", f"/jobs/{theirs}/errors.txt"):
        nowhere = uuid.uuid4()
        asked = {"X-Request-Id": "the-same"}
        refused = member.http.get(f"/w/{other}{path or '/'}", headers=asked)
        unknown = member.http.get(f"/w/{nowhere}{path or '/'}", headers=asked)
        assert (refused.status_code, refused.text) == (404, unknown.text.replace(str(nowhere), str(other))), path
    # And a foreign job below one's own address is as unknown as any.
    nowhere = uuid.uuid4()
    asked = {"X-Request-Id": "the-same"}
    unknown = member.get(f"/jobs/{nowhere}", headers=asked)
    assert member.get(f"/jobs/{theirs}", headers=asked).text == unknown.text.replace(str(nowhere), theirs)
    assert member.http.get("/console/").status_code in (303, 404)
    assert Visitor(app.test_client()).http.get(f"/w/{acme}/").status_code == 303


def test_every_page_says_whose_it_is(member: Visitor, sessions: Sessions, acme: uuid.UUID) -> None:
    job_id = enqueue(sessions, acme)

    for path in ("/", "/activity", "/schedules", f"/jobs/{job_id}"):
        page = member.get(path).text
        assert ">Acme &amp; Sons</span></a>" in page, path
        assert "· Acme &amp; Sons</title>" in page, path
        assert "Other workspaces" not in page


def test_a_sync_begins_at_a_click_and_the_button_says_why_the_next_one_cannot(
    member: Visitor, connected: uuid.UUID, sessions: Sessions, acme: uuid.UUID
) -> None:
    before = member.get("/")
    assert "not synced yet" in before.text
    assert "disabled" not in before.text

    began = member.send("/sync", mode="initial", connection=str(connected))
    page = member.follow(began)
    job_id = began.headers["Location"].rsplit("/", 1)[1]
    syncs = member.get("/")

    assert notice_of(page) == "The sync has begun."
    assert "A sync is waiting for its turn" in syncs.text
    # Of this source there is one already; all of them can be read after it.
    assert syncs.text.count("disabled aria-describedby") == 1
    with sessions() as session:
        payload = session.scalar(text("select payload from jobplatform.jobs where id = :id"), {"id": job_id})
        audited = session.execute(
            text("select actor, action from jobplatform.audit_log where action <> 'session.begin'")
        )
        (line,) = audited.all()
    assert payload == {"mode": "initial", "connectionId": str(connected)}
    assert line.action == "job.enqueue"
    # Two who click at once: the second is told, and nothing is done twice.
    again = member.send("/sync", mode="incremental", connection=str(connected))
    assert notice_of(member.follow(again)) == "A sync is under way already. The next one can begin when it has ended."

    member.send("/sync")
    syncs = member.get("/")
    assert "A sync is waiting for its turn</a>" in syncs.text
    assert ", and 1 more is under way. The next one can begin when it has ended." in syncs.text
    assert syncs.text.count("disabled aria-describedby") == 2


def test_a_job_tells_its_people_what_went_wrong_and_never_how_it_looks_inside(
    member: Visitor, sessions: Sessions, acme: uuid.UUID, hand: Hand
) -> None:
    job_id = enqueue(sessions, acme)
    hand.fail(acme, job_id)

    for page in (member.get("/activity"), member.get(f"/jobs/{job_id}")):
        assert "Something went wrong." in page.text
        assert "req-77" in page.text
        for inside in ("Traceback", "RuntimeError", "the far side said no", "by hand"):
            assert inside not in page.text

    assert member.do("/retry") == "It is tried again."
    assert member.do("/cancel") == "It is called off."
    assert "called off" in member.get("/activity").text


def test_a_sync_s_errors_are_listed_escaped_and_can_be_taken_away_whole(
    member: Visitor, sessions: Sessions, acme: uuid.UUID, hand: Hand
) -> None:
    job_id = enqueue(sessions, acme, "sync")
    hand.complete(acme, job_id, json.dumps(RESULT))

    page = member.get(f"/jobs/{job_id}").text
    answer = member.get(f"/jobs/{job_id}/errors.txt")

    assert "CRM: page 19 &lt;b&gt;refused&lt;/b&gt;" in page
    assert "page 20" not in page
    assert "5 more errors." in page
    assert answer.text.splitlines() == RESULT["errors"]
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    other = enqueue(sessions, acme)
    assert member.get(f"/jobs/{other}/errors.txt").status_code == 404


def test_a_card_says_when_a_source_was_last_read_and_what_was_wrong_since(
    member: Visitor, connected: uuid.UUID, sessions: Sessions, acme: uuid.UUID
) -> None:
    good = {"connectionId": str(connected), "name": "CRM", "status": "completed", "records": 1234}
    bad = {**good, "status": "failed", "records": 0}
    with sessions.begin() as session:
        for number, (result, errors) in enumerate(((good, []), (bad, ["CRM: the password was refused"])), 1):
            session.add(
                SyncLog(
                    workspace_id=acme,
                    id=uuid.UUID(int=number),
                    job_id=uuid.uuid4(),
                    mode="incremental",
                    status="completed" if not errors else "failed",
                    results=[result],
                    errors=errors,
                    ended_at=text("now()"),
                )
            )

    page = member.get("/").text

    assert "last sync failed" in page
    assert "the password was refused" in page
    assert "1,234" in page


def test_a_card_says_that_its_source_needs_attention_and_why(
    member: Visitor, connected: uuid.UUID, sessions: Sessions
) -> None:
    assert "needs attention" not in member.get("/").text

    with sessions.begin() as session:
        session.execute(text("update jobplatform.connections set connector_type = 'hubspot'"))
    page = member.get("/").text

    assert page.count("needs attention") == 1
    assert "the connection has no credentials; give it some (bearer, oauth2)" in page


def test_schedules_are_paused_resumed_and_run_by_who_may(
    member: Visitor, app: Flask, mint: MintToken, acme: uuid.UUID
) -> None:
    made = member.http.post(
        f"/workspaces/{acme}/schedules",
        json={"name": "Nightly", "jobType": "echo", "cron": "0 3 * * *", "timezone": "Europe/Berlin"},
        headers={"Authorization": f"Bearer {member.token}"},  # type: ignore[attr-defined]
    )
    assert made.status_code == 201, made.text
    looker = Visitor(app.test_client(), f"/w/{acme}")
    sign_in_to_portal(looker, mint(acme, ("jobs:read",)))

    assert "Nightly" in looker.get("/schedules").text
    with pytest.raises(AssertionError, match="no form goes to"):
        looker.form("/pause")
    member.get("/schedules")
    assert member.do("/pause") == "It is paused."
    assert member.do("/resume") == "It goes on from now."
    assert member.do("/run-now") == "It has begun."
    assert "Echo" in member.get("/activity").text


def test_a_schedule_that_its_connection_has_paused_says_why(
    member: Visitor, operator: Visitor, sessions: Sessions, acme: uuid.UUID, connected: uuid.UUID, tasks: Tasks
) -> None:
    with sessions.begin() as session:
        payload = {"connectionId": str(connected)}
        made = create_schedule(session, tasks["echo"], Cron("0 3 * * *"), workspace_id=acme, payload=payload).id
        assert pause_schedules_of(session, acme, connected, "CRM has withdrawn its consent") == 1

    assert "CRM has withdrawn its consent" in member.get("/schedules").text
    assert "CRM has withdrawn its consent" in operator.get(f"/schedules/{acme}/{made}").text


def test_a_host_says_which_workspaces_its_users_see_and_what_they_may_do(
    database_url: str, sessions: Sessions, acme: uuid.UUID, connected: uuid.UUID, tasks: Tasks
) -> None:
    second = uuid.uuid4()
    with sessions.begin() as session:
        session.add(Workspace(id=second, name="Second"))
    users = {
        "one": KnownVisitor("one", workspaces={acme}, may="read_only"),
        "two": KnownVisitor("two", workspaces={acme, second}, may={"sync.start"}),
    }

    def who(request: Request, workspace_id: uuid.UUID | None) -> KnownVisitor | None:
        return users.get(request.headers.get("X-User", ""))

    host = Flask("host")
    host.config["JOBPLATFORM_TRUST_LOGIN"] = True
    host.config["JOBPLATFORM_PORTAL_FRAME_ANCESTORS"] = "'self' https://app.example"
    JobPlatform(host, tasks, sessions=sessions, pages_access=who)
    http = host.test_client()

    assert http.get(f"/w/{acme}/").status_code == 404
    assert http.get("/w/", headers={"X-User": "one"}).headers["Location"] == f"/w/{acme}/"
    choice = http.get("/w/", headers={"X-User": "two"}).text
    assert "Acme &amp; Sons" in choice
    assert "Second" in choice
    page = http.get(f"/w/{acme}/", headers={"X-User": "one"})
    assert "Sync now" not in page.text
    assert "Other workspaces" in http.get(f"/w/{acme}/", headers={"X-User": "two"}).text
    assert "frame-ancestors 'self' https://app.example" in page.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in page.headers
    assert "Sync now" in http.get(f"/w/{acme}/", headers={"X-User": "two"}).text
    assert http.get(f"/w/{second}/", headers={"X-User": "one"}).status_code == 404
