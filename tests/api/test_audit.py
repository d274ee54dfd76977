"""Every route that changes something writes one line about it, in the transaction of the change.

A route without an entry here fails the first test: write down what it is called in the log, and a request that works.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.api import Principal, Scope, create_blueprint
from jobplatform.models import PLATFORM_WORKSPACE, AuditEntry
from jobplatform.queue import (
    Cron,
    Tasks,
    WorkerInfo,
    cancel_job,
    create_schedule,
    find_schedule,
    list_audit,
    open_batch,
    pause,
    pause_schedule,
    register_worker,
    set_plan,
    set_rate_limit,
    set_task_limits,
    set_workspace_limits,
)
from tests.api.conftest import Client, Hand, MintToken
from tests.api.routes import Route, guarded, routes

Values = Mapping[str, object]


class Stage:
    """What requests are about: one of everything, made without the API and so without a line in the log."""

    def __init__(self, sessions: sessionmaker[Session], workspace_id: uuid.UUID, mint: MintToken) -> None:
        self.sessions = sessions
        self.workspace_id = workspace_id
        self.mint = mint

    def job(self) -> Values:
        from tests.api.example_tasks import make_tasks

        with self.sessions.begin() as session:
            job = make_tasks()["echo"].enqueue(session, {}, workspace_id=self.workspace_id)
        return {"jobId": job.job_id}

    def batch(self) -> Values:
        with self.sessions.begin() as session:
            return {"batchId": open_batch(session, self.workspace_id)}

    def later_job(self) -> Values:
        from tests.api.example_tasks import make_tasks

        later = datetime.timedelta(hours=1)
        with self.sessions.begin() as session:
            job = make_tasks()["echo"].enqueue(session, {}, workspace_id=self.workspace_id, delay=later)
        return {"jobId": job.job_id}

    def worker(self) -> Values:
        with self.sessions.begin() as session:
            return {"worker": register_worker(session, WorkerInfo("w", "host", 1, "test", (), (), 1))}

    def cancelled_job(self) -> Values:
        job = self.job()
        with self.sessions.begin() as session:
            cancel_job(session, self.workspace_id, job["jobId"])  # type: ignore[arg-type]  # it is an id
        return job

    def schedule(self, workspace_id: uuid.UUID | None = None) -> Values:
        from tests.api.example_tasks import make_tasks

        with self.sessions.begin() as session:
            where = workspace_id or self.workspace_id
            made = create_schedule(session, make_tasks()["echo"], Cron("0 3 * * *"), workspace_id=where)
            return {"scheduleId": made.id}

    def paused_schedule(self, workspace_id: uuid.UUID | None = None) -> Values:
        made = self.schedule(workspace_id)
        with self.sessions.begin() as session:
            found = find_schedule(session, workspace_id or self.workspace_id, made["scheduleId"])  # type: ignore[arg-type]  # it is an id
            assert found is not None
            pause_schedule(session, found, actor="ann")
        return made

    def platform_schedule(self) -> Values:
        return self.schedule(PLATFORM_WORKSPACE)

    def paused_platform_schedule(self) -> Values:
        return self.paused_schedule(PLATFORM_WORKSPACE)

    def token(self) -> Values:
        return {"tokenId": self.mint(self.workspace_id).split("_")[1]}

    def limits(self) -> Values:
        with self.sessions.begin() as session:
            set_plan(session, "gold", {"weight": 2})
            set_task_limits(session, "echo", {"max_running": 1})
            set_rate_limit(session, "hubspot:4711", {"units": 1, "period_ms": 1})
            set_workspace_limits(session, self.workspace_id, {"weight": 2})
            pause(session, "queue", "default", reason="a look", actor="ann")
        return {}


@dataclass(frozen=True)
class Act:
    """A request that is accepted, and what the log calls it."""

    action: str
    prepare: Callable[[Stage], Values] = Stage.limits
    body: Any = None
    values: Values = field(default_factory=dict)


WORKSPACE = "/workspaces/{workspaceId}"
SCHEDULE = f"{WORKSPACE}/schedules/{{scheduleId}}"
PLATFORM_SCHEDULE = "/operator/schedules/{scheduleId}"
ACTS = {
    Route("POST", f"{WORKSPACE}/sync"): Act("job.enqueue", body={"mode": "initial"}),
    Route("POST", f"{WORKSPACE}/jobs"): Act("job.enqueue", body={"jobType": "echo"}),
    Route("POST", f"{WORKSPACE}/jobs/batch"): Act("job.enqueue_many", body={"jobs": [{"jobType": "echo"}]}),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/cancel"): Act("job.cancel", Stage.job),
    Route("POST", f"{WORKSPACE}/batches/{{batchId}}/cancel"): Act("batch.cancel", Stage.batch),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/retry"): Act("job.retry", Stage.cancelled_job),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/run-now"): Act("job.run_now", Stage.later_job),
    Route("POST", f"{WORKSPACE}/schedules"): Act("schedule.create", body={"jobType": "echo", "everyMs": 60_000}),
    Route("PATCH", SCHEDULE): Act("schedule.change", Stage.schedule, body={"priority": 3}),
    Route("DELETE", SCHEDULE): Act("schedule.delete", Stage.schedule),
    Route("POST", f"{SCHEDULE}/pause"): Act("schedule.pause", Stage.schedule),
    Route("POST", f"{SCHEDULE}/resume"): Act("schedule.resume", Stage.paused_schedule),
    Route("POST", f"{SCHEDULE}/run-now"): Act("schedule.run_now", Stage.schedule),
    Route("POST", "/operator/schedules"): Act("schedule.create", body={"jobType": "echo", "cron": "@daily"}),
    Route("PATCH", PLATFORM_SCHEDULE): Act("schedule.change", Stage.platform_schedule, body={"priority": 3}),
    Route("DELETE", PLATFORM_SCHEDULE): Act("schedule.delete", Stage.platform_schedule),
    Route("POST", f"{PLATFORM_SCHEDULE}/pause"): Act("schedule.pause", Stage.platform_schedule),
    Route("POST", f"{PLATFORM_SCHEDULE}/resume"): Act("schedule.resume", Stage.paused_platform_schedule),
    Route("POST", f"{PLATFORM_SCHEDULE}/run-now"): Act("schedule.run_now", Stage.platform_schedule),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/token"): Act("job.token", Stage.job),
    Route("POST", "/trigger"): Act("job.enqueue", body={"taskId": "echo"}),
    Route("POST", "/operator/workspaces"): Act("workspace.create", body={"name": "Acme"}),
    Route("PATCH", "/operator/workspaces/{workspaceId}"): Act("workspace.change", body={"name": "Acme"}),
    Route("PATCH", "/operator/workspaces/{workspaceId}/limits"): Act("workspace.limit", body={"plan": "gold"}),
    Route("DELETE", "/operator/workspaces/{workspaceId}/limits"): Act("workspace.clear_limits"),
    Route("PUT", "/operator/plans/{name}"): Act("plan.set", body={"weight": 3}),
    Route("PATCH", "/operator/plans/{name}"): Act("plan.set", body={"weight": 3}),
    Route("DELETE", "/operator/plans/{name}"): Act("plan.delete"),
    Route("PATCH", "/operator/queues/{queue}/limits"): Act("queue.limit", body={"maxRunning": 3}),
    Route("PATCH", "/operator/tasks/{task}/limits"): Act("task.limit", body={"maxRunning": 3}),
    Route("DELETE", "/operator/tasks/{task}/limits"): Act("task.clear_limits"),
    Route("PUT", "/operator/rate-limits/{resource}"): Act("rate.set", body={"units": 5, "periodMs": 1000}),
    Route("PATCH", "/operator/rate-limits/{resource}"): Act("rate.set", body={"units": 5}),
    Route("DELETE", "/operator/rate-limits/{resource}"): Act("rate.clear"),
    Route("PUT", "/operator/pauses/{kind}/{key}"): Act("queue.pause", body={"reason": "a longer look"}),
    Route("DELETE", "/operator/pauses/{kind}/{key}"): Act("queue.resume"),
    Route("POST", "/operator/workers/{worker}/drain"): Act("worker.drain", Stage.worker),
    Route("POST", "/operator/tokens"): Act("token.create", body={"name": "night shift", "scopes": ["operator"]}),
    Route("POST", "/operator/tokens/{tokenId}/rotate"): Act("token.rotate", Stage.token),
    Route("DELETE", "/operator/tokens/{tokenId}"): Act("token.revoke", Stage.token),
}

every_act = pytest.mark.parametrize(("route", "act"), ACTS.items(), ids=[" ".join(route) for route in ACTS])


@pytest.fixture
def stage(sessions: sessionmaker[Session], workspace_id: uuid.UUID, mint: MintToken) -> Stage:
    return Stage(sessions, workspace_id, mint)


class Asker:
    """Does what is written in ``ACTS``, with a token that may."""

    def __init__(self, app: Flask, stage: Stage) -> None:
        self.stage = stage
        self.tokens = {
            True: stage.mint(None, ("operator",)),
            False: stage.mint(stage.workspace_id, ("jobs:read", "jobs:write", "schedules")),
        }
        self.clients = {key: Client(app.test_client(), token) for key, token in self.tokens.items()}

    def token_id(self, route: Route) -> str:
        return self.tokens[route.scope is Scope.OPERATOR].split("_")[1]

    def do(self, route: Route, act: Act) -> TestResponse:
        url = route.url({"workspaceId": self.stage.workspace_id, **act.prepare(self.stage), **act.values})
        return self.send(route, url, json=act.body)

    def send(self, route: Route, url: str, **options: Any) -> TestResponse:
        client = self.clients[route.scope is Scope.OPERATOR]
        return client.request(route.method, url, headers={"X-Request-Id": "request-1"}, **options)


@pytest.fixture
def asker(app: Flask, stage: Stage) -> Asker:
    return Asker(app, stage)


def lines(sessions: sessionmaker[Session]) -> list[AuditEntry]:
    with sessions() as session:
        return list(list_audit(session, limit=1000))


def test_every_route_that_changes_something_is_written_down_here(app: Flask) -> None:
    assert {route for route in routes(app) if route.writes} == set(ACTS)


@every_act
def test_every_change_writes_one_line(
    route: Route, act: Act, asker: Asker, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    answer = asker.do(route, act)

    assert 200 <= answer.status_code < 300, answer.text
    (line,) = lines(sessions)
    assert (line.action, line.actor, line.token_id) == (act.action, "a test", asker.token_id(route))
    assert line.request_id == answer.headers["X-Request-Id"] == "request-1"
    assert ":" in line.target
    if route.has("workspaceId"):
        assert line.workspace_id == workspace_id


@every_act
def test_no_line_no_change(route: Route, act: Act, asker: Asker, sessions: sessionmaker[Session], stage: Stage) -> None:
    """One transaction: when the line cannot be written, nothing has happened."""
    url = route.url({"workspaceId": stage.workspace_id, **act.prepare(stage), **act.values})
    asker.send(Route("GET", "/operator/plans"), "/operator/plans")
    asker.send(Route("GET", f"{WORKSPACE}/jobs"), f"/workspaces/{stage.workspace_id}/jobs")
    with sessions.begin() as session:
        session.execute(text("alter table jobplatform.audit_log add constraint broken check (false) not valid"))
    before = everything(sessions)

    answer = asker.send(route, url, json=act.body)

    assert answer.status_code == 500, answer.text
    assert everything(sessions) == before


def everything(sessions: sessionmaker[Session]) -> dict[str, list[str]]:
    """Every row of every table."""
    with sessions() as session:
        tables = session.scalars(
            text("select tablename from pg_tables where schemaname = 'jobplatform' order by tablename")
        ).all()
        return {table: sorted(session.scalars(text(f"select t::text from jobplatform.{table} t"))) for table in tables}


def test_what_is_refused_writes_no_line(
    app: Flask, asker: Asker, nobody: Client, mint: MintToken, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    """Every route: without a token, without its scope, for another workspace, with nonsense or about nothing."""
    lacking = Client(app.test_client(), mint(workspace_id, ("jobs:read",)))

    for route in (route for route in guarded(app) if route.writes):
        url = route.url(workspaceId=workspace_id)
        nonsense = {"nonsense": 1} if ACTS[route].body is not None else None
        refused = [
            nobody.request(route.method, url),
            lacking.request(route.method, url),
            lacking.request(route.method, route.url()),
            asker.send(route, url, json=nonsense),
        ]
        if nonsense:
            refused.append(asker.send(route, url, data=b"{", content_type="application/json"))
            refused.append(asker.send(route, url, data=b"{}", content_type="text/plain"))
        assert [answer.status for answer in refused if not 400 <= answer.status_code < 500] == [], route
    assert lines(sessions) == []


@pytest.mark.parametrize("again", ["cancel", "retry"])
def test_a_conflict_writes_no_line(
    client: Client, stage: Stage, sessions: sessionmaker[Session], hand: Hand, again: str
) -> None:
    job_id = stage.job()["jobId"]
    hand.complete(stage.workspace_id, str(job_id))

    answer = client.post(f"/workspaces/{stage.workspace_id}/jobs/{job_id}/{again}")

    assert answer.status_code == 409
    assert lines(sessions) == []


def test_a_refused_duplicate_writes_no_line_and_an_accepted_one_says_that_it_is_one(
    client: Client, jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    wanted = {"jobType": "echo", "uniqueKey": "nightly"}
    first = client.post(jobs_url, json=wanted).get_json()["jobId"]

    assert client.post(jobs_url, json=wanted).status_code == 409
    assert client.post(jobs_url, json={**wanted, "ifActive": "return"}).status_code == 202

    again, original = lines(sessions)
    assert (original.target, original.details["created"]) == (f"job:{first}", True)
    assert (again.target, again.details["created"]) == (f"job:{first}", False)


def test_no_line_holds_a_secret_or_a_payload(
    operator: Client, client: Client, jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    token = operator.post("/operator/tokens", json={"name": "night shift", "scopes": ["operator"]}).get_json()["token"]
    client.post(jobs_url, json={"jobType": "echo", "payload": {"password": "hunter2"}})

    written = str([vars(line) for line in lines(sessions)])
    assert token.split("_")[2] not in written
    assert "hunter2" not in written


def test_a_host_s_own_user_is_the_actor_and_has_no_token(
    sessions: sessionmaker[Session], tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    host = Flask(__name__)
    ann = Principal("ann@example.org", workspace_id, frozenset({"jobs:write"}))
    blueprint = create_blueprint(sessions, tasks, authorize=lambda _request, _workspace: ann)
    host.register_blueprint(blueprint, url_prefix="/api")

    answer = Client(host.test_client(), None).post(f"/api/workspaces/{workspace_id}/jobs", json={"jobType": "echo"})

    assert answer.status_code == 202, answer.text
    (line,) = lines(sessions)
    assert (line.actor, line.token_id, line.workspace_id) == ("ann@example.org", None, workspace_id)
