"""Who comes in, for how long, and what everybody else learns: nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Request
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import JobPlatform, presented_id, revoke_token
from jobplatform.api.streams.hub import Hub
from jobplatform.pages import Visitor as KnownVisitor
from jobplatform.queue import Tasks
from tests.api.conftest import MintToken
from tests.pages.conftest import Visitor, notice_of

Sessions = sessionmaker[Session]


def test_without_an_operator_s_token_there_is_no_console(stranger: Visitor) -> None:
    unknown = stranger.http.get("/no-such-path")

    for path in ("/console/", "/console/jobs", "/console/sign-in", "/console/assets/x/pages.css"):
        answer = stranger.http.get(path)
        assert (answer.status_code, answer.mimetype) == (404, unknown.mimetype), path
        assert answer.text == unknown.text.replace("/no-such-path", path)


def test_a_stranger_is_sent_to_the_sign_in_and_learns_nothing_else(operator: Visitor, stranger: Visitor) -> None:
    for path in ("/", "/jobs?q=task:sync", "/nothing/here", f"/jobs/{uuid.uuid4()}/{uuid.uuid4()}"):
        answer = stranger.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/console/sign-in"), path
        head = stranger.http.head(f"/console{path}")
        assert (head.status_code, head.headers["Location"]) == (303, answer.headers["Location"]), path
    assert operator.get("/nothing/here").status_code == 404
    answer = stranger.http.post("/console/queues/default/pause", data={})
    assert answer.status_code == 401


def test_a_token_is_exchanged_for_a_session_and_stands_in_no_answer(
    app: Flask, mint: MintToken, sessions: Sessions
) -> None:
    visitor, token = Visitor(app.test_client()), mint(None, ("operator",))

    answer = visitor.sign_in(f" {token[:30]}\n{token[30:]} ", next="/jobs?q=task:sync")

    assert answer.headers["Location"] == "/console/jobs?q=task:sync"
    cookie = answer.headers["Set-Cookie"]
    assert token not in cookie
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/console", "Max-Age=28800"))
    assert "Secure" not in cookie
    assert "Secure" in app.test_client().get("/console/sign-in", base_url="https://jobs.example").headers["Set-Cookie"]
    page = visitor.get("/")
    assert page.status_code == 200
    assert token not in page.text
    with sessions() as session:
        audited = session.execute(text("select action, target from jobplatform.audit_log")).one()
    assert audited == ("session.begin", f"token:{presented_id(token)}")


def test_a_sign_in_leads_nowhere_but_into_the_console(app: Flask, mint: MintToken) -> None:
    token = mint(None, ("operator",))
    for wanted in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/a\nb", "jobs"):
        answer = Visitor(app.test_client()).sign_in(token, next=wanted)
        assert answer.headers["Location"] == "/console/", wanted


def test_a_session_ends_with_its_token_at_the_next_request(operator: Visitor, sessions: Sessions) -> None:
    assert operator.get("/jobs").status_code == 200

    with sessions.begin() as session:
        revoke_token(session, presented_id(operator.token))  # type: ignore[attr-defined]

    assert operator.get("/jobs").status_code in (303, 404)
    assert operator.http.get("/console/jobs", headers={"X-Live": "1"}).status_code in (401, 404)


def test_a_session_ends_at_its_own_time(operator: Visitor, jobplatform_clock: Any) -> None:
    jobplatform_clock.travel(hours=7, minutes=59)
    assert operator.get("/jobs").status_code == 200

    jobplatform_clock.travel(minutes=2)

    assert operator.get("/jobs").status_code == 303


def test_a_session_that_was_changed_is_none(operator: Visitor) -> None:
    cookie = operator.http.get_cookie("jobplatform_console", path="/console")
    assert cookie is not None
    for place in (5, 20, 30, 60):
        other = "A" if cookie.value[place] != "A" else "B"
        forged = cookie.value[:place] + other + cookie.value[place + 1 :]
        operator.http.set_cookie("jobplatform_console", forged, path="/console")
        assert operator.get("/jobs").status_code == 303, place


def test_signing_out_takes_the_cookie_and_says_so(operator: Visitor) -> None:
    operator.get("/jobs")

    page = operator.follow(operator.send("/sign-out"))

    assert notice_of(page) == "You are signed out."
    assert operator.get("/jobs").status_code == 303


@pytest.mark.parametrize("scopes", [("jobs:read", "jobs:write"), ("jobs:write",)])
def test_a_workspace_s_token_opens_no_console(
    operator: Visitor, stranger: Visitor, mint: MintToken, workspace_id: uuid.UUID, scopes: tuple[str, ...]
) -> None:
    stranger.sign_in(mint(workspace_id, scopes))

    assert stranger.get("/").status_code == 303


def test_wrong_tokens_are_told_the_same_and_after_ten_to_wait(operator: Visitor, stranger: Visitor) -> None:
    said = set()
    for text_of_token in ("jp_" + "0" * 18 + "_" + "0" * 64, "nonsense", "", *["x"] * 7):
        answer = stranger.sign_in(text_of_token)
        assert answer.status_code == 403
        said.add(answer.text.split('id="complaint">')[1].split("<")[0])

    assert len(said) == 1
    answer = stranger.sign_in("x")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_a_right_token_is_let_in_whatever_others_from_its_address_did(operator: Visitor, stranger: Visitor) -> None:
    """Behind a proxy all have one address."""
    while stranger.sign_in("x").status_code != 429:
        pass

    token = operator.token  # type: ignore[attr-defined]  # its fixture has it
    assert stranger.sign_in(token).status_code == 303
    assert stranger.get("/jobs").status_code == 200


class Host:
    """An application with a login of its own."""

    def __init__(self, sessions: Sessions, tasks: Tasks) -> None:
        self.known: KnownVisitor | None = None
        self.app = Flask("host")
        self.app.errorhandler(404)(lambda _error: ("<h1>the host's 404</h1>", 404))
        self.jobs = JobPlatform(self.app, tasks, sessions=sessions, pages_access=self.access)

    def access(self, _request: Request, workspace_id: uuid.UUID | None) -> KnownVisitor | None:
        assert workspace_id is None
        return self.known


@pytest.fixture
def host(sessions: Sessions, tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("JOBPLATFORM_TRUST_LOGIN", "true")
    host = Host(sessions, tasks)
    yield host
    hub: Hub = host.app.extensions["jobplatform"].hub
    hub.close()


def test_a_host_s_own_login_takes_the_place_of_tokens(host: Host, mint: MintToken) -> None:
    visitor = Visitor(host.app.test_client())
    mint(None, ("operator",))

    assert visitor.get("/jobs").text == "<h1>the host's 404</h1>"
    assert visitor.get("/sign-in").text == "<h1>the host's 404</h1>"

    host.known = KnownVisitor("ada@host.example", operator=True, may="all")
    page = visitor.get("/queues")
    assert page.status_code == 200
    assert "ada@host.example" in page.text
    assert "Sign out" not in page.text
    host.known = KnownVisitor("somebody else", workspaces={uuid.uuid4()}, may="all")
    assert visitor.get("/queues").status_code == 404


def test_what_a_host_s_visitor_does_is_written_down_by_the_name_that_the_host_says(
    host: Host, sessions: Sessions
) -> None:
    host.known = KnownVisitor("ada@host.example", operator=True, may={"pause"})
    visitor = Visitor(host.app.test_client())
    with sessions.begin() as session:
        session.execute(text("insert into jobplatform.queue_limits (queue, max_running) values ('slow', 3)"))
    visitor.get("/queues")

    said = visitor.do("/queues/slow/pause", reason="too much of it")

    assert said == "Nothing more of slow is started. What runs goes on to its end."
    with sessions() as session:
        line = session.execute(text("select actor, action, details from jobplatform.audit_log")).one()
    assert line == ("ada@host.example", "queue.pause", {"reason": "too much of it", "until": None})


@pytest.mark.parametrize("may", ["read_only", {"job.retry"}])
def test_what_a_visitor_may_not_do_has_no_button_and_is_refused(host: Host, sessions: Sessions, may: Any) -> None:
    visitor = Visitor(host.app.test_client())
    with sessions.begin() as session:
        session.execute(text("insert into jobplatform.queue_limits (queue, max_running) values ('slow', 3)"))
    host.known = KnownVisitor("ada", operator=True, may="all")
    visitor.get("/queues")
    form = visitor.form("/queues/slow/pause")
    host.known = KnownVisitor("ada", operator=True, may=may)

    page = visitor.get("/queues")
    answer = visitor.http.post(form.action, data=form.fields, headers={"Sec-Fetch-Site": "same-origin"})

    assert "/queues/slow/pause" not in page.text
    assert answer.status_code == 403
    with sessions() as session:
        assert session.scalar(text("select count(*) from jobplatform.pauses")) == 0


@pytest.mark.parametrize(
    ("verb", "status", "of_all", "of_selected"),
    [
        ("job.change", "pending", ["change"], []),
        ("job.delete", "failed", ["delete"], ["delete"]),
        ("pause", "failed", [], []),
    ],
)
def test_whoever_may_do_one_thing_with_many_jobs_finds_it_and_no_other(
    host: Host, verb: str, status: str, of_all: list[str], of_selected: list[str]
) -> None:
    host.known = KnownVisitor("ada", operator=True, may={verb})

    page = Visitor(host.app.test_client()).get(f"/jobs?status={status}").text

    deeds = ("retry", "cancel", "change", "delete")
    assert [deed for deed in deeds if f"/bulk/preview?deed={deed}" in page] == of_all
    assert [deed for deed in deeds if f'name="deed" value="{deed}"' in page] == of_selected
    assert ("Selected jobs:" in page) == bool(of_selected)
