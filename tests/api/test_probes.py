"""Probes and health."""

from __future__ import annotations

import uuid

from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.api import create_app
from jobplatform.embedded import EmbeddedServer
from jobplatform.settings import Settings
from tests.api.conftest import Client, Hand


def test_a_live_and_ready_process_says_so(nobody: Client) -> None:
    for path in ("/livez", "/healthz", "/api/healthz", "/readyz"):
        assert nobody.get(path).status_code == 200


def test_a_process_is_not_ready_before_the_schema_is(server: EmbeddedServer) -> None:
    name = f"test_{uuid.uuid4().hex}"
    server.create_database(name)
    app = create_app(Settings(database_url=server.url(name), tasks="tests.api.example_tasks:tasks"))
    client = app.test_client()
    engine = app.extensions["jobplatform.engine"]
    try:
        before = client.get("/readyz")
        served = client.get("/jobs/health", headers={"Authorization": "Bearer anything"})
        migrations.upgrade(engine)
        after = client.get("/readyz")
    finally:
        engine.dispose()
        server.drop_database(name)

    assert (before.status_code, before.get_json()["reason"]) == (503, "schema-not-migrated")
    assert (served.status_code, "jobplatform migrate" in served.get_json()["detail"]) == (503, True)
    assert after.status_code == 200


def test_a_process_stays_ready_while_its_database_is_migrated_for_the_next_version(
    client: Client, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("update jobplatform.alembic_version set version_num = '9999'"))

    assert client.get("/readyz").status_code == 200


def test_health_counts_the_jobs_of_the_token_s_workspace(
    client: Client,
    stranger: Client,
    operator: Client,
    jobs_url: str,
    sync_url: str,
    hand: Hand,
    workspace_id: uuid.UUID,
) -> None:
    running = client.post(sync_url).get_json()["jobId"]
    hand.claim(workspace_id, running)
    client.post(jobs_url, json={"jobType": "echo", "delayMs": 60_000})

    mine, theirs, all_of_them = (who.get("/jobs/health") for who in (client, stranger, operator))

    assert (mine.status_code, mine.get_json()["healthy"]) == (200, True)
    assert (mine.get_json()["running"], mine.get_json()["scheduled"]) == (1, 1)
    assert (theirs.get_json()["running"], theirs.get_json()["pending"]) == (0, 0)
    assert all_of_them.get_json()["running"] == 1


def test_an_unhealthy_queue_is_a_503_that_says_why(
    client: Client, sync_url: str, hand: Hand, workspace_id: uuid.UUID, session: Session
) -> None:
    hand.claim(workspace_id, client.post(sync_url).get_json()["jobId"])
    session.execute(text("update jobplatform.job_queue set started_at = started_at - interval '16 minutes'"))
    session.commit()

    answer = client.get("/jobs/health")

    assert (answer.status_code, answer.content_type) == (503, "application/json")
    assert answer.get_json()["stuck"] == 1
    assert [alert["code"] for alert in answer.get_json()["alerts"]] == ["stuck"]


def test_the_probes_are_the_whole_of_what_nobody_may_see(app: Flask, nobody: Client) -> None:
    assert nobody.get("/jobs/health").status_code == 401
