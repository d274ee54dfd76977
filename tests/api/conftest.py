"""The API as clients meet it: an application, workspaces, tokens, and jobs in every status."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from jobplatform.api import create_app, mint_token
from jobplatform.api.streams.hub import Hub
from jobplatform.models import Role, make_engine
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    Tasks,
    WorkerInfo,
    claim_job,
    complete_jobs,
    fail_jobs,
    register_worker,
)
from jobplatform.queue.attempts.save_step import save_checkpoint, save_step
from jobplatform.settings import Settings
from tests.api.example_tasks import make_tasks
from tests.conftest import EngineOn

PROBLEM = "application/problem+json"
READ_WRITE = ("jobs:read", "jobs:write")

MintToken = Callable[..., str]

#: What compiling a rule of werkzeug's leaves in it.
COMPILED = ("arguments", "_converters", "_trace", "_parts", "_build", "_build_unknown")


def hub_of(app: Flask) -> Hub:
    """What feeds the streams of an application of ours."""
    hub: Hub = app.blueprints["jobplatform"].mounted.hub  # type: ignore[attr-defined]
    return hub


class Client:
    """A client of the API with a token of its own."""

    def __init__(self, http: FlaskClient, token: str | None) -> None:
        self.http = http
        self.token = token

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.request("POST", path, json=json, **options)

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> TestResponse:
        sent = dict(headers or {})
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        if options.get("json") is None:
            options.pop("json", None)
        return self.http.open(path, method=method, headers=sent, **options)


@pytest.fixture(scope="session", autouse=True)
def rules_are_compiled_once() -> Iterator[None]:
    """Werkzeug parses each route, and writes and compiles two functions for it, which is nearly all that an application
    costs. What comes of it depends on the rule's text alone, and each test has an application of its own."""
    compiled: dict[Any, dict[str, Any]] = {}
    compile_rule = Rule.compile

    def compile_once(rule: Rule) -> None:
        key = (rule.rule, rule.subdomain, rule.host, rule.strict_slashes, rule.merge_slashes, rule.map.host_matching)
        if rule.defaults:
            compile_rule(rule)
            return
        if key not in compiled:
            compile_rule(rule)
            compiled[key] = {name: vars(rule)[name] for name in COMPILED}
        vars(rule).update(compiled[key])
        for name in ("_build", "_build_unknown"):
            setattr(rule, name, getattr(rule, name).__func__.__get__(rule))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "compile", compile_once)
        yield


@pytest.fixture
def tasks() -> Tasks:
    return make_tasks()


def engine_of_api(url: str) -> Engine:
    return make_engine(url, application_name="jobplatform-api")


@pytest.fixture
def app(login_url: Callable[..., str], engine_on: EngineOn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """Its login may do what the API may, and nothing else: whatever a test does, row security was in force.

    Its connections may be those of the application of the test before.
    """
    url = login_url(Role.API)
    engine = engine_on(url, engine_of_api)
    with monkeypatch.context() as patch:
        patch.setattr("jobplatform.api.app.make_engine", lambda _url, **_options: engine)
        # It leaves no connection open behind it, for a server that forks. Here they would have to be made anew.
        patch.setattr(engine, "dispose", lambda: None)
        app = create_app(Settings(database_url=url, tasks="tests.api.example_tasks:tasks"))
    yield app
    hub_of(app).close()


@pytest.fixture
def mint(sessions: sessionmaker[Session]) -> MintToken:
    def mint(workspace_id: uuid.UUID | None, scopes: tuple[str, ...] = READ_WRITE, **options: Any) -> str:
        with sessions.begin() as session:
            return mint_token(session, workspace_id, scopes, "a test", **options)

    return mint


@pytest.fixture
def client(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    """A client whose token may read and write the jobs of ``workspace_id``."""
    return Client(app.test_client(), mint(workspace_id))


@pytest.fixture
def operator(app: Flask, mint: MintToken) -> Client:
    return Client(app.test_client(), mint(None, ("operator",)))


@pytest.fixture
def nobody(app: Flask) -> Client:
    return Client(app.test_client(), None)


@pytest.fixture
def other_workspace() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture
def stranger(app: Flask, other_workspace: uuid.UUID, mint: MintToken) -> Client:
    """A client of another workspace."""
    return Client(app.test_client(), mint(other_workspace))


class Hand:
    """A worker moved by hand: claims one named job and ends it as the test says."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        with sessions.begin() as session:
            info = WorkerInfo("by hand", "localhost", 1, "test", (), (), 1)
            self.worker_id = register_worker(session, info)

    def claim(self, workspace_id: uuid.UUID, job_id: str) -> Any:
        with self.sessions.begin() as session:
            claimed = claim_job(session, worker_id=self.worker_id, workspace_id=workspace_id, job_id=uuid.UUID(job_id))
        assert claimed is not None
        return claimed.lease

    def complete(self, workspace_id: uuid.UUID, job_id: str, result: str = "{}") -> None:
        self.end(self.claim(workspace_id, job_id), result)

    def end(self, lease: Lease, result: str = "{}") -> None:
        with self.sessions.begin() as session:
            assert complete_jobs(session, [Completion(lease, result)])

    def save(self, workspace_id: uuid.UUID, job_id: str, steps: dict[str, Any], state: Any = None) -> Any:
        """Do steps, each in a transaction of its own."""
        lease = self.claim(workspace_id, job_id)
        for name, result in steps.items():
            with self.sessions.begin() as session:
                save_step(session, lease, name, json.dumps(result))
        if state is not None:
            with self.sessions.begin() as session:
                save_checkpoint(session, lease, json.dumps(state))
        return lease

    def fail(
        self, workspace_id: uuid.UUID, job_id: str, *, retry: bool = False, steps: dict[str, Any] | None = None
    ) -> None:
        self.give_up(self.save(workspace_id, job_id, steps or {}), retry=retry)

    def give_up(self, lease: Lease, *, retry: bool = False) -> None:
        failure = Failure(lease, "error", "RuntimeError", "the far side said no", "Traceback …", delay=60, retry=retry)
        with self.sessions.begin() as session:
            assert fail_jobs(session, [failure])


@pytest.fixture
def hand(sessions: sessionmaker[Session]) -> Hand:
    return Hand(sessions)


@pytest.fixture
def jobs_url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/jobs"


@pytest.fixture
def sync_url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/sync"


@pytest.fixture
def echo(client: Client, jobs_url: str) -> Callable[..., str]:
    """Enqueue an ``echo`` and return its id."""

    def echo(**options: Any) -> str:
        answer = client.post(jobs_url, json={"jobType": "echo", **options})
        assert answer.status_code == 202, answer.text
        return str(answer.get_json()["jobId"])

    return echo
