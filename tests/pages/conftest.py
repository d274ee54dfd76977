"""The pages as somebody meets them who has a browser and no scripts: forms are filled in and sent as they stand."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.models import Workspace
from jobplatform.queue import Tasks
from tests.api.conftest import MintToken, app, hand, mint, rules_are_compiled_once
from tests.api.example_tasks import make_tasks

Sessions = sessionmaker[Session]
Enqueue = Callable[..., uuid.UUID]

__all__ = ["app", "hand", "mint", "rules_are_compiled_once"]


class Form:
    """A form as it was sent: where it goes to, and what its fields hold."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.fields: dict[str, str] = {}


class Forms(HTMLParser):
    """The forms of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.words: list[str] = []
        self._textarea: str | None = None
        self._select: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        if tag == "form":
            self.found.append(Form(about.get("action") or ""))
        if tag == "input" and self.found and about.get("name") and about.get("type") not in ("checkbox", "radio"):
            self.found[-1].fields[str(about["name"])] = about.get("value") or ""
        if tag == "textarea" and self.found:
            self._textarea = str(about.get("name"))
            self.found[-1].fields[self._textarea] = ""
        if tag == "select" and self.found and "disabled" not in about:
            self._select = str(about.get("name"))
        if tag == "option" and self._select and ("selected" in about or self._select not in self.found[-1].fields):
            self.found[-1].fields[self._select] = about.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = None
        if tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.found[-1].fields[self._textarea] += data
        self.words.append(data)


class Visitor:
    """Somebody with a browser: keeps cookies, follows links, sends the forms of the page that they are on."""

    def __init__(self, http: FlaskClient, prefix: str = "/console", **environ: Any) -> None:
        self.http = http
        self.prefix = prefix
        self.environ = environ
        self.page: TestResponse | None = None

    def get(self, path: str, **options: Any) -> TestResponse:
        self.page = self.http.get(path if path.startswith(self.prefix) else self.prefix + path, **options)
        return self.page

    def sign_in(self, token: str, **options: Any) -> TestResponse:
        self.get("/sign-in")
        return self.send("/sign-in", token=token, **options)

    def send(self, ending: str, **fields: Any) -> TestResponse:
        """Send the form that goes to an address with this ending. Fields of several values are lists."""
        form = self.form(ending)
        return self.http.post(form.action, data={**form.fields, **fields}, headers={"Sec-Fetch-Site": "same-origin"})

    def form(self, ending: str) -> Form:
        assert self.page is not None
        forms = Forms(self.page.text).found
        for form in forms:
            if form.action.endswith(ending):
                return form
        raise AssertionError(f"no form goes to …{ending}; there are {[form.action for form in forms]}")

    def follow(self, answer: TestResponse) -> TestResponse:
        assert answer.status_code == 303
        return self.get(answer.headers["Location"])

    def do(self, ending: str, **fields: Any) -> str:
        """Send a form, follow where it leads, and answer with what that page says first."""
        page = self.follow(self.send(ending, **fields))
        return notice_of(page)


def notice_of(page: TestResponse) -> str:
    """What was done, or why not, as the page says it."""
    html = page.text
    start = html.find('class="notice told')
    return " ".join("".join(Forms(html[start:].split(">", 1)[1].split("</p>")[0]).words).split()) if start >= 0 else ""


def scalar(sessions: Sessions, statement: str) -> Any:
    with sessions() as session:
        return session.scalar(text(statement))


def audited(sessions: Sessions) -> list[tuple[str, str]]:
    """What was done, beside coming in, and by whom."""
    with sessions() as session:
        rows = session.execute(
            text("select action, actor from jobplatform.audit_log where action <> 'session.begin' order by id")
        )
        return [(row[0], row[1]) for row in rows]


def complaint_about(field: str, visitor: Visitor) -> str:
    assert visitor.page is not None
    return visitor.page.text.split(f'id="{field}-wrong"')[1].split("</span>")[0]


@pytest.fixture
def tasks() -> Tasks:
    return make_tasks()


@pytest.fixture
def stranger(app: Flask) -> Visitor:
    return Visitor(app.test_client())


@pytest.fixture
def operator(app: Flask, mint: MintToken) -> Visitor:
    """Somebody who has signed in with an operator's token."""
    visitor = Visitor(app.test_client())
    visitor.token = mint(None, ("operator",))  # type: ignore[attr-defined]  # for tests that revoke it
    assert visitor.sign_in(visitor.token).status_code == 303  # type: ignore[attr-defined]
    return visitor


def sign_in_to_portal(visitor: Visitor, token: str) -> TestResponse:
    """Whose portal it is the token says: there is one place to sign in for all."""
    visitor.page = visitor.http.get("/w/sign-in")
    return visitor.send("/sign-in", token=token)


@pytest.fixture
def member(app: Flask, mint: MintToken, acme: uuid.UUID) -> Visitor:
    """Somebody of the workspace, signed in with its token."""
    visitor = Visitor(app.test_client(), f"/w/{acme}")
    visitor.token = mint(acme, ("jobs:read", "jobs:write", "schedules"))  # type: ignore[attr-defined]  # as above
    assert sign_in_to_portal(visitor, visitor.token).status_code == 303  # type: ignore[attr-defined]
    return visitor


@pytest.fixture
def acme(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> uuid.UUID:
    """A workspace with a name."""
    with sessions.begin() as session:
        session.add(Workspace(id=workspace_id, name="Acme & Sons"))
    return workspace_id


@pytest.fixture
def described(sessions: sessionmaker[Session]) -> None:
    """As a worker describes its tasks when it starts."""
    schema = '{"type": "object", "properties": {"left": {"type": "integer"}, "right": {"type": "integer"}}, '
    schema += '"required": ["left", "right"]}'
    with sessions.begin() as session:
        session.execute(
            text("insert into jobplatform.task_types (name, details) values ('add', cast(:details as jsonb))"),
            {"details": f'{{"queue": "default", "timeout_ms": 60000, "payload_schema": {schema}}}'},
        )


@pytest.fixture
def enqueue(sessions: Sessions, tasks: Tasks, acme: uuid.UUID) -> Enqueue:
    def enqueue(task: str = "echo", payload: Any = None, **options: Any) -> uuid.UUID:
        with sessions.begin() as session:
            if "delay" in options:
                options["delay"] = datetime.timedelta(seconds=options["delay"])
            return tasks[task].enqueue(session, payload or {}, workspace_id=acme, **options).job_id

    return enqueue
