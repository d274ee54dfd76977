"""What an answer's headers say, which forms count, and what becomes of errors."""

from __future__ import annotations

import base64
import html
import re
import uuid
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_app
from jobplatform.pages import Visitor as KnownVisitor
from jobplatform.pages.shell import Shell
from jobplatform.pages.visitors import May
from jobplatform.queue import NewJob, enqueue_job
from jobplatform.settings import Settings
from tests.api.conftest import MintToken, hub_of
from tests.pages.conftest import Visitor, notice_of

Sessions = sessionmaker[Session]

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def test_a_page_runs_shows_and_asks_nothing_that_is_not_ours_and_is_kept_by_nobody(operator: Visitor) -> None:
    for path in ("/", "/jobs", "/nothing", "/sign-in"):
        headers = operator.get(path).headers
        assert dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")) == POLICY
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_files_are_kept_for_ever_at_an_address_that_changes_with_them(operator: Visitor) -> None:
    page = operator.get("/jobs").text
    addresses = re.findall(r'(?:href|src)="(/console/assets/[^"]+)"', page)

    assert len(addresses) == 3
    for address in addresses:
        answer = operator.http.get(address)
        assert (answer.status_code, "immutable" in answer.headers["Cache-Control"]) == (200, True)
        old = re.sub(r"assets/\w+/", "assets/0123456789abcdef/", address)
        assert operator.http.get(old).headers["Cache-Control"] == "no-cache"
    for name in ("../shell.py", "x.css", "base.html", "%2e%2e/shell.py"):
        assert operator.http.get(f"/console/assets/x/{name}").status_code == 404


SENT = (
    ({"Sec-Fetch-Site": "same-origin"}, True, True),
    ({"Origin": "http://localhost"}, True, True),
    ({}, True, True),
    ({"Sec-Fetch-Site": "same-origin"}, False, False),
    ({"Sec-Fetch-Site": "cross-site"}, True, False),
    ({"Sec-Fetch-Site": "same-site"}, True, False),
    ({"Sec-Fetch-Site": "none"}, True, False),
    ({"Origin": "https://evil.example"}, True, False),
    ({"Origin": "null"}, True, False),
)


def test_a_form_counts_when_it_was_sent_from_a_page_of_ours(operator: Visitor, sessions: Sessions) -> None:
    for number, (headers, has_token, accepted) in enumerate(SENT):
        with sessions.begin() as session:
            session.execute(
                text("insert into jobplatform.queue_limits (queue, max_running) values (:queue, 3)"),
                {"queue": f"q{number}"},
            )
        operator.get("/queues")
        form = operator.form(f"/queues/q{number}/pause")
        fields = form.fields | {"reason": "because"} | ({} if has_token else {"form_token": "0" * 64})

        answer = operator.http.post(form.action, data=fields, headers=headers)

        with sessions() as session:
            found = text("select count(*) from jobplatform.pauses where key = :queue")
            paused = session.scalar(found, {"queue": f"q{number}"})
        assert (answer.status_code, paused) == ((303, 1) if accepted else (403, 0)), headers


def test_a_form_of_another_session_does_not_count(operator: Visitor, app: Flask, mint: MintToken) -> None:
    other = Visitor(app.test_client())
    other.sign_in(mint(None, ("operator",)))
    other.get("/jobs")
    fields = other.form("/sign-out").fields

    answer = operator.http.post("/console/sign-out", data=fields, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 403
    # The page that is gone back to still has the other session's text in its forms.
    assert "load that page again" in answer.text


def test_a_form_leads_back_into_the_console_and_nowhere_else(operator: Visitor) -> None:
    elsewhere = (
        "https://evil.example/", "//evil.example", "/elsewhere", "/console\\@evil.example", "/consoleevil", "\n",
        "/console/\tx", "//[", "http://[/console/",
    )  # fmt: skip
    operator.get("/jobs")
    for back in elsewhere:
        assert operator.send("/theme", theme="dark", back=back).headers["Location"] == "/console/", back


def test_a_form_that_is_too_large_is_refused_with_a_page(operator: Visitor) -> None:
    operator.get("/jobs")

    answer = operator.send("/theme", theme="x" * 1_100_000)

    assert answer.status_code == 413
    assert "<h1>" in answer.text


def test_an_address_that_somebody_has_made_up_is_answered_with_what_is_wrong(operator: Visitor) -> None:
    for path in (
        "/jobs?before=x", "/errors?before=x", "/errors?before=%00", "/errors?task=%00", "/errors/%00",
        "/workspaces?q=a%00b", "/audit?actor=%00", "/jobs?q=%00",
    ):  # fmt: skip
        answer = operator.get(path)
        assert (answer.status_code, "<h1>" in answer.text) == (400, True), path


def test_a_made_up_number_of_jobs_ends_no_bulk_action(operator: Visitor) -> None:
    operator.get("/jobs")
    fields = operator.form("/sign-out").fields | {"deed": "delete", "q": "status:failed", "expected": "9" * 30}

    answer = operator.http.post("/console/bulk/begin", data=fields, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 303


def test_whoever_has_to_sign_in_again_comes_back_to_where_the_form_was(operator: Visitor) -> None:
    operator.get("/jobs?q=task:sync&status=failed")
    operator.http.delete_cookie("jobplatform_console", path="/console")

    answer = operator.send("/sign-out")

    assert answer.status_code == 401
    (link,) = re.findall(r'href="(/console/sign-in[^"]*)"', answer.text)
    operator.get(html.unescape(link))
    assert operator.form("/sign-in").fields["next"] == "/jobs?q=task:sync&status=failed"
    token = operator.token  # type: ignore[attr-defined]  # its fixture has it
    assert operator.send("/sign-in", token=token).headers["Location"] == "/console/jobs?q=task:sync&status=failed"


def test_filters_survive_an_action(operator: Visitor) -> None:
    operator.get("/jobs?q=task:sync&status=failed")

    answer = operator.send("/theme", theme="dark")

    assert answer.headers["Location"] == "/console/jobs?q=task:sync&status=failed"
    assert '<html lang="en" data-theme="dark">' in operator.follow(answer).text


def test_links_and_cookies_keep_the_prefix_of_a_proxy(app: Flask, mint: MintToken) -> None:
    http, operator_token = app.test_client(), mint(None, ("operator",))
    behind = {"SCRIPT_NAME": "/behind"}
    page = http.get("/console/sign-in", environ_overrides=behind)
    token = re.findall(r'name="form_token" value="(\w+)"', page.text)[0]

    http.set_cookie("jobplatform_form", page.headers["Set-Cookie"].split("=", 1)[1].split(";")[0], path="/")
    answer = http.post(
        "/console/sign-in",
        data={"form_token": token, "token": operator_token},
        environ_overrides=behind,
    )

    assert answer.headers["Location"] == "/behind/console/"
    assert "Path=/behind/console;" in answer.headers["Set-Cookie"] + ";"
    assert 'href="/behind/console/assets/' in page.text
    assert not re.findall(r'(?:href|src|action)="/console', page.text)


def test_a_page_that_breaks_says_so_and_nothing_of_the_inside(
    operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret of the inside")

    monkeypatch.setattr("jobplatform.queue.pages.queue_lines", broken)

    answer = operator.get("/queues")

    assert answer.status_code == 500
    assert "Something went wrong on our side" in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert "secret of the inside" not in answer.text


def test_a_page_cannot_write_and_is_given_up_when_it_takes_too_long(
    operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(session: Session) -> None:
        session.execute(text("delete from jobplatform.pauses"))

    def dawdles(session: Session) -> None:
        session.execute(text("set local statement_timeout = '10ms'; select pg_sleep(30)"))

    monkeypatch.setattr("jobplatform.queue.pages.queue_lines", writes)
    assert operator.get("/queues").status_code == 500
    monkeypatch.setattr("jobplatform.queue.pages.queue_lines", dawdles)
    answer = operator.get("/queues")

    assert answer.status_code == 503
    assert "This takes too long" in answer.text


def test_while_the_database_is_away_pages_say_so_with_their_looks_and_are_asked_for_again() -> None:
    """Nobody is asked to sign in: nobody knows that they have not."""
    away = create_app(Settings(database_url="postgresql://127.0.0.1:1/nothing", tasks="tests.api.example_tasks:tasks"))
    visitor = Visitor(away.test_client())
    visitor.http.set_cookie("jobplatform_console", "jps_whatever")

    answer = visitor.get("/jobs?q=task:echo")

    assert (answer.status_code, "The database cannot be reached" in answer.text) == (503, True)
    assert re.findall(r'class="button" href="([^"]*)">([^<]*)', answer.text) == [
        ("/console/jobs?q=task:echo", "Try again")
    ]
    (style,) = re.findall(r'rel="stylesheet" href="([^"]*)"', answer.text)
    assert visitor.get(style).status_code == 200
    assert visitor.get("/sign-in").status_code == 503
    hub_of(away).close()


def test_a_page_that_somebody_else_is_in_the_way_of_says_so(
    operator: Visitor, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(session: Session) -> None:
        session.execute(text("set local lock_timeout = '10ms'"))
        session.execute(text("select from jobplatform.queue_limits"))

    monkeypatch.setattr("jobplatform.queue.pages.queue_lines", waits)

    with engine.begin() as connection:
        connection.execute(text("lock table jobplatform.queue_limits"))
        answer = operator.get("/queues")

    assert (answer.status_code, "Somebody else is changing the same" in answer.text) == (503, True)


def test_what_a_page_asks_is_planned_for_whom_it_asks_about(operator: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One plan for all workspaces would be a bad one for the largest, and that is the one people look at."""
    seen: list[Any] = []

    def looks(session: Session) -> list[Any]:
        seen.append(session.scalar(text("show plan_cache_mode")))
        return []

    monkeypatch.setattr("jobplatform.queue.pages.queue_lines", looks)

    assert operator.get("/queues").status_code == 200
    assert seen == ["force_custom_plan"]


def test_in_read_only_mode_nothing_is_done_by_anybody(app: Flask, operator: Visitor, described: None) -> None:
    operator.get("/tasks/add/new")
    form = operator.form("/tasks/add/new")
    shell = app.blueprints["console"]
    assert isinstance(shell, Shell)
    object.__setattr__(shell.options, "read_only", True)

    answer = operator.http.post(form.action, data=form.fields, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 403
    assert "These pages are for looking" in answer.text
    assert "read-only" in operator.get("/jobs").text
    for path in ("/schedules/new", "/workspaces/plans"):
        sent = form.fields | {"name": "gold", "task": "echo", "whose": "platform", "rule": "cron", "cron": "@daily"}
        answer = operator.http.post("/console" + path, data=sent, headers={"Sec-Fetch-Site": "same-origin"})
        assert (answer.status_code, "These pages are for looking" in answer.text) == (403, True), path


FORMS = ("/tasks/add/new", "/schedules/new", "/schedules/{0}/{0}/edit", "/bulk/preview?deed=retry")


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("may", ["read_only", {"pause"}])
def test_a_form_is_not_shown_to_those_who_may_not_send_it(
    operator: Visitor, app: Flask, described: None, path: str, may: May
) -> None:
    shell = app.blueprints["console"]
    assert isinstance(shell, Shell)
    shell.access = lambda *_: KnownVisitor("a reader", operator=True, may=may)

    answer = operator.get(path.format(uuid.uuid4()))

    assert (answer.status_code, "You may not do this" in answer.text) == (403, True)
    assert "<form" not in answer.text.split("<main")[1]


@pytest.mark.parametrize("path", FORMS)
def test_a_form_is_shown_to_nobody_in_read_only_mode(operator: Visitor, app: Flask, described: None, path: str) -> None:
    shell = app.blueprints["console"]
    assert isinstance(shell, Shell)
    object.__setattr__(shell.options, "read_only", True)

    answer = operator.get(path.format(uuid.uuid4()))

    assert (answer.status_code, "These pages are for looking" in answer.text) == (403, True)


NESTED = base64.urlsafe_b64encode(b"[" * 2_900).decode()
#: Half of a character, which is in no text.
HALVED = base64.urlsafe_b64encode(b'["\\ud800", "done"]').decode()


def test_nothing_that_a_browser_may_say_breaks_a_page(operator: Visitor, stranger: Visitor) -> None:
    stranger.get("/sign-in")
    form = stranger.form("/sign-in")
    own = {"Sec-Fetch-Site": "same-origin"}

    answer = stranger.http.post(form.action, data={**form.fields, "form_token": "é"}, headers=own)
    assert answer.status_code == 403
    answer = stranger.http.post(form.action, data=form.fields, headers={"Origin": "http://["})
    assert answer.status_code == 403
    for notice in (NESTED, HALVED):
        stranger.http.set_cookie("jobplatform_notice", notice, path="/console")
        assert stranger.get("/sign-in").status_code == 200
    for position in ("jobs.123456789012345678x", "jobs.é", "jobs." + "9" * 40):
        answer = operator.get("/changes?of=jobs", headers={"Last-Event-ID": position}, buffered=False)
        assert answer.status_code == 200
        answer.close()


def test_an_address_with_bytes_that_are_no_text_leads_nowhere(operator: Visitor, stranger: Visitor) -> None:
    # Browsers write them as %FF; a server hands on what anything else has sent.
    sent = {"environ_overrides": {"QUERY_STRING": "q=\xff"}}

    assert stranger.get("/jobs", **sent).headers["Location"].startswith("/console/sign-in?next=/jobs")
    for path in ("/jobs", "/audit", "/sign-in"):
        answer = operator.get(path, **sent)
        assert (answer.status_code, "This address leads nowhere" in answer.text) == (400, True)


def test_a_notice_is_shown_once_and_as_text(operator: Visitor, described: None, sessions: Sessions) -> None:
    with sessions.begin() as session:
        enqueue_job(session, NewJob(workspace_id=uuid.uuid4(), task="echo"))
    operator.get("/tasks/add/new")
    evil = "<img src=x onerror=alert(1)>"
    page = operator.send("/tasks/add/new", workspace=evil, payload="{")
    assert page.status_code == 422
    assert evil not in page.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text

    operator.get("/jobs")
    page = operator.follow(operator.send("/jobs/selected", deed="retry"))

    assert notice_of(page) == "No job was selected."
    assert notice_of(operator.get("/jobs")) == ""


def test_a_path_of_nobody_is_a_page_that_says_so(operator: Visitor) -> None:
    for path in (f"/jobs/{uuid.uuid4()}/{uuid.uuid4()}", "/errors/0123456789abcdef", "/no/such/page"):
        answer = operator.get(path)
        assert (answer.status_code, "There is nothing here" in answer.text) == (404, True), path
