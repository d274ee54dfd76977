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
from jobplatform.connectors import Spool, create_connection, keep_upload
from jobplatform.key_ring import generate_key
from jobplatform.models import PLATFORM_WORKSPACE, AuditEntry, ExportFile, clock
from jobplatform.queue import (
    Cron,
    Tasks,
    WorkerInfo,
    cancel_job,
    create_hook,
    create_schedule,
    create_webhook,
    disable_hook,
    disable_webhook,
    find_hook,
    find_schedule,
    find_webhook,
    list_audit,
    open_batch,
    pause,
    pause_schedule,
    register_worker,
    send_test,
    set_plan,
    set_rate_limit,
    set_resource_limit,
    set_retention,
    set_rule,
    set_task_limits,
    set_workspace_limits,
    set_workspace_rule,
)
from tests.api.conftest import Client, Hand, MintToken
from tests.api.routes import Route, guarded, routes
from tests.audit_lines import CAMEL, names_in
from tests.rows import NO_LINE_CAN_BE_WRITTEN, everything

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

    def connection(self) -> Values:
        """To an address that is never asked, so that trying it ends at once."""
        config = {"baseUrl": "https://127.0.0.1:9", "streams": {"contacts": {"path": "/contacts"}}}
        with self.sessions.begin() as session:
            made = create_connection(session, self.workspace_id, connector_type="http_json", name="CRM", config=config)
            return {"connectionId": made.id}

    def hubspot(self) -> Values:
        with self.sessions.begin() as session:
            made = create_connection(session, self.workspace_id, connector_type="hubspot", name="CRM", config={})
            return {"connectionId": made.id}

    def csv_connection(self) -> Values:
        """With a file."""
        with self.sessions.begin() as session, Spool() as spool:
            config = {"idColumn": "id"}
            made = create_connection(session, self.workspace_id, connector_type="csv", name="CSV", config=config)
            spool.write(b"id")
            keep_upload(session, self.workspace_id, made.id, name="a", file=spool.file, size=2, digest=spool.digest)
            return {"connectionId": made.id}

    def export(self) -> Values:
        with self.sessions.begin() as session:
            export = ExportFile(
                workspace_id=self.workspace_id,
                id=uuid.uuid4(),
                job_id=uuid.uuid4(),
                name="r.csv",
                key="k",
                rows=0,
                size=0,
                digest=bytes(32),
                expires_at=clock() + datetime.timedelta(days=1),
            )
            session.add(export)
            session.flush()
            return {"exportId": export.id}

    def hook(self) -> Values:
        from tests.api.example_tasks import make_tasks

        with self.sessions.begin() as session:
            options = {"workspace_id": self.workspace_id, "name": "a hook", "scheme": "standard"}
            return {"hookId": create_hook(session, make_tasks()["echo"], **options).hook.id}

    def disabled_hook(self) -> Values:
        made = self.hook()
        with self.sessions.begin() as session:
            found = find_hook(session, self.workspace_id, made["hookId"])  # type: ignore[arg-type]  # it is an id
            assert found is not None
            disable_hook(session, found, actor="ann")
        return made

    def webhook(self) -> Values:
        with self.sessions.begin() as session:
            made = create_webhook(session, workspace_id=self.workspace_id, name="a", url="https://crm.example.com")
            return {"webhookId": made.webhook.id}

    def delivery(self) -> Values:
        made = self.webhook()
        with self.sessions.begin() as session:
            found = find_webhook(session, self.workspace_id, made["webhookId"])  # type: ignore[arg-type]  # it is an id
            assert found is not None
            job_id = send_test(session, found)
            cancel_job(session, self.workspace_id, job_id)
        return {**made, "jobId": job_id}

    def disabled_webhook(self) -> Values:
        made = self.webhook()
        with self.sessions.begin() as session:
            found = find_webhook(session, self.workspace_id, made["webhookId"])  # type: ignore[arg-type]  # it is an id
            assert found is not None
            disable_webhook(session, found, actor="ann")
        return made

    def token(self) -> Values:
        return {"tokenId": self.mint(self.workspace_id).split("_")[1]}

    def worker(self) -> Values:
        with self.sessions.begin() as session:
            return {
                "workerId": register_worker(session, WorkerInfo("w", "host", 1, "test", ("default",), ("echo",), 1))
            }

    def limits(self) -> Values:
        with self.sessions.begin() as session:
            day = {"completed": datetime.timedelta(days=1)}
            for place in ({"task": "echo"}, {"workspace_id": self.workspace_id}):
                set_retention(session, day, **place)
            set_retention(session, day, workspace_id=self.workspace_id, task="echo")
            set_rule(session, "backlog", above=7)
            set_workspace_rule(session, self.workspace_id, "backlog", above=7)
            set_plan(session, "gold", {"weight": 2})
            set_task_limits(session, "echo", {"max_running": 1})
            set_rate_limit(session, "hubspot:4711", {"units": 1, "period_ms": 1})
            set_resource_limit(session, "hubspot:4711", 1)
            set_workspace_limits(session, self.workspace_id, {"weight": 2})
            pause(session, "queue", "default", reason="a look", actor="ann")
        return {}


@dataclass(frozen=True)
class Act:
    """A request that is accepted, and what the log calls it."""

    action: str
    prepare: Callable[[Stage], Values] = Stage.limits
    body: Any = None
    file: bytes | None = None
    values: Values = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """What is sent, as the test client takes it."""
        if self.file is None:
            return {"json": self.body}
        return {"data": self.file, "content_type": "application/octet-stream"}


WORKSPACE = "/workspaces/{workspaceId}"
SCHEDULE = f"{WORKSPACE}/schedules/{{scheduleId}}"
HOOK = f"{WORKSPACE}/hooks/{{hookId}}"
WEBHOOK = f"{WORKSPACE}/webhooks/{{webhookId}}"
PLATFORM_SCHEDULE = "/operator/schedules/{scheduleId}"
CONNECTION = f"{WORKSPACE}/connections/{{connectionId}}"
EXPORT = f"{WORKSPACE}/exports/{{exportId}}"
A_CONNECTION = {
    "connectorType": "http_json",
    "name": "CRM",
    "config": {"baseUrl": "https://crm.example.com", "streams": {"contacts": {"path": "/contacts"}}},
}
ACTS = {
    Route("POST", f"{WORKSPACE}/connections"): Act("connection.create", body=A_CONNECTION),
    Route("PATCH", CONNECTION): Act("connection.change", Stage.connection, body={"name": "Our CRM"}),
    Route("DELETE", CONNECTION): Act("connection.delete", Stage.connection),
    Route("POST", f"{CONNECTION}/authorize"): Act("connection.begin_authorization", Stage.hubspot),
    Route("POST", f"{CONNECTION}/test"): Act("connection.test", Stage.connection),
    Route("PUT", f"{CONNECTION}/file"): Act("connection.upload", Stage.csv_connection, file=b"id"),
    Route("DELETE", f"{CONNECTION}/file"): Act("connection.file.delete", Stage.csv_connection),
    Route("POST", f"{EXPORT}/link"): Act("export.link", Stage.export),
    Route("DELETE", EXPORT): Act("export.delete", Stage.export),
    Route("POST", f"{WORKSPACE}/sync"): Act("job.enqueue", body={"mode": "initial"}),
    Route("POST", f"{WORKSPACE}/jobs"): Act("job.enqueue", body={"jobType": "echo"}),
    Route("POST", f"{WORKSPACE}/jobs/batch"): Act("job.enqueue_many", body={"jobs": [{"jobType": "echo"}]}),
    Route("PATCH", f"{WORKSPACE}/jobs/{{jobId}}"): Act("job.change", Stage.job, body={"priority": 3}),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/cancel"): Act("job.cancel", Stage.job),
    Route("POST", f"{WORKSPACE}/batches"): Act(
        "batch.open", body={"onSuccess": {"jobType": "echo"}, "jobs": [{"jobType": "echo"}], "close": True}
    ),
    Route("POST", f"{WORKSPACE}/batches/{{batchId}}/jobs"): Act(
        "batch.add", Stage.batch, body={"jobs": [{"jobType": "echo"}]}
    ),
    Route("POST", f"{WORKSPACE}/batches/{{batchId}}/close"): Act("batch.close", Stage.batch),
    Route("POST", f"{WORKSPACE}/batches/{{batchId}}/cancel"): Act("batch.cancel", Stage.batch),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/retry"): Act("job.retry", Stage.cancelled_job),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/fork"): Act("job.fork", Stage.cancelled_job),
    Route("POST", f"{WORKSPACE}/jobs/{{jobId}}/run-now"): Act("job.run_now", Stage.later_job),
    Route("POST", f"{WORKSPACE}/schedules"): Act("schedule.create", body={"jobType": "echo", "everyMs": 60_000}),
    Route("PATCH", SCHEDULE): Act("schedule.change", Stage.schedule, body={"priority": 3}),
    Route("DELETE", SCHEDULE): Act("schedule.delete", Stage.schedule),
    Route("POST", f"{SCHEDULE}/pause"): Act("schedule.pause", Stage.schedule),
    Route("POST", f"{SCHEDULE}/resume"): Act("schedule.resume", Stage.paused_schedule),
    Route("POST", f"{SCHEDULE}/run-now"): Act("schedule.run_now", Stage.schedule),
    Route("POST", f"{WORKSPACE}/hooks"): Act(
        "hook.create", body={"name": "a hook", "scheme": "none", "jobType": "echo"}
    ),
    Route("PATCH", HOOK): Act("hook.change", Stage.hook, body={"name": "another"}),
    Route("DELETE", HOOK): Act("hook.delete", Stage.hook),
    Route("POST", f"{HOOK}/rotate-key"): Act("hook.rotate_key", Stage.hook),
    Route("POST", f"{HOOK}/rotate-secret"): Act("hook.rotate_secret", Stage.hook, body={"keepOldMs": 0}),
    Route("POST", f"{HOOK}/disable"): Act("hook.disable", Stage.hook),
    Route("POST", f"{HOOK}/enable"): Act("hook.enable", Stage.disabled_hook),
    Route("POST", f"{WORKSPACE}/webhooks"): Act("webhook.create", body={"name": "a", "url": "https://crm.example.com"}),
    Route("PATCH", WEBHOOK): Act("webhook.change", Stage.webhook, body={"name": "another"}),
    Route("DELETE", WEBHOOK): Act("webhook.delete", Stage.webhook),
    Route("POST", f"{WEBHOOK}/rotate-secret"): Act("webhook.rotate_secret", Stage.webhook, body={"keepOldMs": 0}),
    Route("POST", f"{WEBHOOK}/test"): Act("webhook.test", Stage.webhook),
    Route("POST", f"{WEBHOOK}/deliveries/{{jobId}}/redeliver"): Act("webhook.redeliver", Stage.delivery),
    Route("POST", f"{WEBHOOK}/disable"): Act("webhook.disable", Stage.webhook),
    Route("POST", f"{WEBHOOK}/enable"): Act("webhook.enable", Stage.disabled_webhook),
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
    Route("PUT", "/operator/resource-limits/{resource}"): Act("resource.limit", body={"maxRunning": 5}),
    Route("DELETE", "/operator/resource-limits/{resource}"): Act("resource.clear_limit"),
    Route("PUT", "/operator/pauses/{kind}/{key}"): Act("queue.pause", body={"reason": "a longer look"}),
    Route("DELETE", "/operator/pauses/{kind}/{key}"): Act("queue.resume"),
    Route("PATCH", "/operator/retention/tasks/{task}"): Act("retention.set", body={"completedSeconds": 60}),
    Route("DELETE", "/operator/retention/tasks/{task}"): Act("retention.clear"),
    Route("PATCH", "/operator/retention/workspaces/{workspaceId}"): Act("retention.set", body={"failedSeconds": 60}),
    Route("DELETE", "/operator/retention/workspaces/{workspaceId}"): Act("retention.clear"),
    Route("PATCH", "/operator/retention/workspaces/{workspaceId}/tasks/{task}"): Act(
        "retention.set", body={"cancelledSeconds": None}
    ),
    Route("DELETE", "/operator/retention/workspaces/{workspaceId}/tasks/{task}"): Act("retention.clear"),
    Route("PATCH", "/operator/alert-rules/{name}"): Act("rule.set", body={"above": 3}, values={"name": "backlog"}),
    Route("DELETE", "/operator/alert-rules/{name}"): Act("rule.clear", values={"name": "backlog"}),
    Route("PUT", "/operator/workspaces/{workspaceId}/alert-rules/{name}"): Act(
        "rule.set", body={"above": 3}, values={"name": "backlog"}
    ),
    Route("DELETE", "/operator/workspaces/{workspaceId}/alert-rules/{name}"): Act(
        "rule.clear", values={"name": "backlog"}
    ),
    Route("POST", "/operator/workers/{workerId}/drain"): Act("worker.drain", Stage.worker),
    Route("POST", "/operator/tokens"): Act("token.create", body={"name": "night shift", "scopes": ["operator"]}),
    Route("POST", "/operator/tokens/{tokenId}/rotate"): Act("token.rotate", Stage.token),
    Route("DELETE", "/operator/tokens/{tokenId}"): Act("token.revoke", Stage.token),
}

every_act = pytest.mark.parametrize(("route", "act"), ACTS.items(), ids=[" ".join(route) for route in ACTS])


@pytest.fixture(autouse=True)
def key_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    monkeypatch.setenv("JOBPLATFORM_PUBLIC_URL", "https://jobs.example.com/api")
    monkeypatch.setenv("JOBPLATFORM_OAUTH_CLIENTS", "hubspot:1:secret")


@pytest.fixture
def stage(sessions: sessionmaker[Session], workspace_id: uuid.UUID, mint: MintToken) -> Stage:
    return Stage(sessions, workspace_id, mint)


class Asker:
    """Does what is written in ``ACTS``, with a token that may."""

    def __init__(self, app: Flask, stage: Stage) -> None:
        self.stage = stage
        self.tokens = {
            True: stage.mint(None, ("operator",)),
            False: stage.mint(stage.workspace_id, ("jobs:read", "jobs:write", "schedules", "connections")),
        }
        self.clients = {key: Client(app.test_client(), token) for key, token in self.tokens.items()}

    def token_id(self, route: Route) -> str:
        return self.tokens[route.scope is Scope.OPERATOR].split("_")[1]

    def do(self, route: Route, act: Act) -> TestResponse:
        url = route.url({"workspaceId": self.stage.workspace_id, **act.prepare(self.stage), **act.values})
        return self.send(route, url, **act.content)

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
    """But for what providers deliver: each delivery has a row of its own that says so."""
    assert {route for route in routes(app) if route.writes and not route.is_by_key} == set(ACTS)


@every_act
def test_every_change_writes_one_line(
    route: Route, act: Act, asker: Asker, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    answer = asker.do(route, act)

    assert 200 <= answer.status_code < 300, answer.text
    (line,) = lines(sessions)
    assert (line.action, line.actor, line.token_id) == (act.action, "a test", asker.token_id(route))
    assert line.request_id == answer.headers["X-Request-Id"] == "request-1"
    assert [name for name in names_in(line) if not CAMEL.match(name)] == []
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
        session.execute(text(NO_LINE_CAN_BE_WRITTEN))
    with sessions() as session:
        before = everything(session)

    answer = asker.send(route, url, **act.content)

    assert answer.status_code == 500, answer.text
    assert before["api_tokens"] != []
    with sessions() as session:
        assert everything(session) == before


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
