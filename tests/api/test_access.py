"""Who may do what. What goes for every route is in test_matrix.py."""

from __future__ import annotations

import uuid

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import Scope, create_blueprint
from jobplatform.queue import Tasks
from tests.api.conftest import Client, MintToken
from tests.api.routes import BY_KEY, PUBLIC, routes


def test_the_routes_are_the_ones_we_know(app: Flask) -> None:
    assert {path for _, path in routes(app)} == PUBLIC | BY_KEY | {
        "/jobs/health",
        "/jobs/stats",
        "/jobs/stream/{jobId}",
        "/metrics",
        "/operator/alert-rules",
        "/operator/alert-rules/{name}",
        "/operator/alerts",
        "/operator/workspaces/{workspaceId}/alert-rules",
        "/operator/workspaces/{workspaceId}/alert-rules/{name}",
        "/operator/workspaces/{workspaceId}/alerts",
        "/operator/audit",
        "/operator/doctor",
        "/operator/pauses",
        "/operator/pauses/{kind}/{key}",
        "/operator/plans",
        "/operator/plans/{name}",
        "/operator/queues",
        "/operator/queues/{queue}/limits",
        "/operator/rate-limits",
        "/operator/rate-limits/{resource}",
        "/operator/resource-levels",
        "/operator/resource-levels/{resource}",
        "/operator/resource-limits",
        "/operator/resource-limits/{resource}",
        "/operator/retention",
        "/operator/retention/tasks/{task}",
        "/operator/retention/workspaces/{workspaceId}",
        "/operator/retention/workspaces/{workspaceId}/tasks/{task}",
        "/operator/schedules",
        "/operator/schedules/preview",
        "/operator/schedules/{scheduleId}",
        "/operator/schedules/{scheduleId}/pause",
        "/operator/schedules/{scheduleId}/preview",
        "/operator/schedules/{scheduleId}/resume",
        "/operator/schedules/{scheduleId}/run-now",
        "/operator/schedules/{scheduleId}/ticks",
        "/operator/tasks",
        "/operator/tasks/{task}/limits",
        "/operator/tokens",
        "/operator/tokens/{tokenId}",
        "/operator/tokens/{tokenId}/rotate",
        "/operator/workers",
        "/operator/workers/{workerId}/drain",
        "/operator/workspaces",
        "/operator/workspaces/{workspaceId}",
        "/operator/workspaces/{workspaceId}/limits",
        "/trigger",
        "/trigger/runs/{jobId}",
        "/workspaces/{workspaceId}/batches",
        "/workspaces/{workspaceId}/batches/{batchId}",
        "/workspaces/{workspaceId}/batches/{batchId}/cancel",
        "/workspaces/{workspaceId}/connections",
        "/workspaces/{workspaceId}/connections/{connectionId}",
        "/workspaces/{workspaceId}/connections/{connectionId}/authorize",
        "/workspaces/{workspaceId}/connections/{connectionId}/test",
        "/workspaces/{workspaceId}/connections/{connectionId}/file",
        "/workspaces/{workspaceId}/connections/{connectionId}/records",
        "/workspaces/{workspaceId}/connections/{connectionId}/records/{recordId}",
        "/workspaces/{workspaceId}/batches/{batchId}/close",
        "/workspaces/{workspaceId}/batches/{batchId}/jobs",
        "/workspaces/{workspaceId}/events",
        "/workspaces/{workspaceId}/exports",
        "/workspaces/{workspaceId}/exports/{exportId}",
        "/workspaces/{workspaceId}/exports/{exportId}/link",
        "/workspaces/{workspaceId}/hooks",
        "/workspaces/{workspaceId}/hooks/{hookId}",
        "/workspaces/{workspaceId}/hooks/{hookId}/deliveries",
        "/workspaces/{workspaceId}/hooks/{hookId}/disable",
        "/workspaces/{workspaceId}/hooks/{hookId}/enable",
        "/workspaces/{workspaceId}/hooks/{hookId}/rotate-key",
        "/workspaces/{workspaceId}/hooks/{hookId}/rotate-secret",
        "/workspaces/{workspaceId}/jobs",
        "/workspaces/{workspaceId}/jobs/batch",
        "/workspaces/{workspaceId}/jobs/{jobId}",
        "/workspaces/{workspaceId}/jobs/{jobId}/attempts",
        "/workspaces/{workspaceId}/jobs/{jobId}/cancel",
        "/workspaces/{workspaceId}/jobs/{jobId}/events",
        "/workspaces/{workspaceId}/jobs/{jobId}/fork",
        "/workspaces/{workspaceId}/jobs/{jobId}/retry",
        "/workspaces/{workspaceId}/jobs/{jobId}/run-now",
        "/workspaces/{workspaceId}/jobs/{jobId}/steps",
        "/workspaces/{workspaceId}/jobs/{jobId}/token",
        "/workspaces/{workspaceId}/jobs/{jobId}/why",
        "/workspaces/{workspaceId}/schedules",
        "/workspaces/{workspaceId}/schedules/preview",
        "/workspaces/{workspaceId}/schedules/{scheduleId}",
        "/workspaces/{workspaceId}/schedules/{scheduleId}/pause",
        "/workspaces/{workspaceId}/schedules/{scheduleId}/preview",
        "/workspaces/{workspaceId}/schedules/{scheduleId}/resume",
        "/workspaces/{workspaceId}/schedules/{scheduleId}/run-now",
        "/workspaces/{workspaceId}/schedules/{scheduleId}/ticks",
        "/workspaces/{workspaceId}/sync",
        "/workspaces/{workspaceId}/sync/jobs",
        "/workspaces/{workspaceId}/sync/logs",
        "/workspaces/{workspaceId}/sync/logs/{syncLogId}",
        "/workspaces/{workspaceId}/sync/jobs/{jobId}",
        "/workspaces/{workspaceId}/webhooks",
        "/workspaces/{workspaceId}/webhooks/{webhookId}",
        "/workspaces/{workspaceId}/webhooks/{webhookId}/deliveries",
        "/workspaces/{workspaceId}/webhooks/{webhookId}/deliveries/{jobId}/redeliver",
        "/workspaces/{workspaceId}/webhooks/{webhookId}/disable",
        "/workspaces/{workspaceId}/webhooks/{webhookId}/enable",
        "/workspaces/{workspaceId}/webhooks/{webhookId}/rotate-secret",
        "/workspaces/{workspaceId}/webhooks/{webhookId}/test",
    }


def test_an_operator_sees_every_workspace(operator: Client, client: Client, jobs_url: str) -> None:
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["job"]

    assert operator.get(f"{jobs_url}/{job['id']}").get_json() == job
    assert operator.post(f"{jobs_url}/{job['id']}/cancel").status_code == 200


def test_a_foreign_workspace_is_hidden_before_a_missing_scope_is_named(
    app: Flask, mint: MintToken, workspace_id: uuid.UUID
) -> None:
    reader = Client(app.test_client(), mint(uuid.uuid4(), ("jobs:read",)))

    assert reader.post(f"/workspaces/{workspace_id}/sync").status_code == 404


def test_the_body_is_not_read_before_the_token(nobody: Client, jobs_url: str) -> None:
    assert nobody.post(jobs_url, data=b"x" * 2_000_000, content_type="text/plain").status_code == 401


def test_an_application_with_an_unguarded_view_does_not_start(sessions: sessionmaker[Session]) -> None:
    blueprint = create_blueprint(sessions, Tasks())
    blueprint.add_url_rule("/backdoor", "backdoor", lambda: "hello")

    with pytest.raises(RuntimeError, match=r"jobplatform\.backdoor declares no scope"):
        Flask(__name__).register_blueprint(blueprint, url_prefix="/api")


def test_a_scope_is_a_word_of_the_contract() -> None:
    assert set(Scope) == {"jobs:read", "jobs:write", "schedules", "connections", "operator"}
