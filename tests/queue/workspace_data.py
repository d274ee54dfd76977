"""A workspace with something in every table, and a canary in every place that can hold text of a user."""

from __future__ import annotations

import datetime
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from jobplatform.embedded import EmbeddedServer
from jobplatform.models import (
    ApiToken,
    Bucket,
    Connection,
    ConnectionAuthorization,
    ConnectionCredentials,
    ErrorGroupRow,
    ExportFile,
    Hook,
    HookDelivery,
    Record,
    SourceLimit,
    SyncLog,
    SyncStream,
    Upload,
    UploadChunk,
    WebhookSubscription,
    Workspace,
    WorkspaceAlert,
    WorkspaceAlertRule,
    WorkspaceCell,
    WorkspaceLimits,
    WorkspaceRetention,
    WorkspaceTotal,
)
from jobplatform.queue import (
    Cron,
    Edge,
    NewJob,
    RequestKey,
    RunningJob,
    Tasks,
    create_schedule,
    enqueue_job,
    keep_answer,
    open_batch,
    pause,
    record,
    run_schedule_now,
)

WITH_ROWS = {
    "workspaces", "workspace_limits", "api_tokens", "audit_log", "connections", "records", "job_records", "job_queue",
    "job_attempts", "job_logs", "job_steps", "pauses", "buckets", "kept_answers", "schedules", "workspace_retention",
    "schedule_ticks", "sync_streams", "sync_logs", "connection_credentials", "source_limits",
    "uploads", "upload_chunks", "exports", "connection_authorizations",
    "batches", "job_edges", "notices", "endings", "workspace_cells", "workspace_totals", "error_groups",
    "hooks", "hook_deliveries", "webhook_subscriptions",
    "workspace_alert_rules", "workspace_alerts", "unique_periods",
}  # fmt: skip


def canary(place: str, workspace_id: uuid.UUID) -> str:
    return f"canary-{place}-{workspace_id.hex}"


def fill(session: Session, workspace_id: uuid.UUID, *, encrypted: bool = False) -> None:
    """Rows in every table, jobs that went well, badly and not yet; committed."""

    def of(place: str) -> str:
        return canary(place, workspace_id)

    tasks = Tasks(mode="sync")

    @tasks.task("work", encrypted=encrypted, max_attempts=1)
    def work(job: RunningJob, payload: dict[str, Any]) -> Any:
        job.log(of("line"))
        job.progress(1, 2, of("progress"))
        job.step("half" if encrypted else of("step"), lambda: of("done"))
        job.checkpoint({"at": of("state")})
        if payload.get("fails"):
            raise RuntimeError(of("error"))
        return {"result": of("result")}

    for payload in ({}, {"fails": True}):
        work.enqueue(session, {"text": of("payload"), **payload}, workspace_id=workspace_id)
    session.commit()
    tasks.mode = "queue"
    waiting = NewJob(
        workspace_id=workspace_id,
        task="work",
        payload={"text": of("payload")},
        encrypted=encrypted,
        unique_key=None if encrypted else of("key"),
        unique_for=None if encrypted else datetime.timedelta(days=1),
        tags=() if encrypted else (of("tag"),),
        request_id=None if encrypted else of("request"),
    )
    enqueue_job(session, waiting)
    if not encrypted:
        schedule = create_schedule(
            session,
            tasks["work"],
            Cron("0 3 * * *"),
            workspace_id=workspace_id,
            name=of("schedule"),
            payload={"text": of("scheduled")},
            unique_key=of("schedulekey"),
        )
        session.commit()
        run_schedule_now(session, schedule, tasks["work"])
        batch_id = open_batch(session, workspace_id, of("batch"))
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", batch_id=batch_id))
        after = Edge(batch_id, of_batch=True)
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", after=[after]))
        _fill_other_tables(session, workspace_id)
    session.commit()


def _fill_other_tables(session: Session, workspace_id: uuid.UUID) -> None:
    connection_id = uuid.uuid4()
    mine: dict[str, Any] = {"workspace_id": workspace_id}

    def of(place: str) -> str:
        return canary(place, workspace_id)

    rows: list[tuple[Any, dict[str, Any]]] = [
        (Workspace, {"id": workspace_id, "name": of("name")}),
        (WorkspaceLimits, {**mine, "weight": 2}),
        (WorkspaceRetention, {**mine, "task": of("task"), "failed": datetime.timedelta(days=90)}),
        (
            ApiToken,
            {
                **mine,
                "id": workspace_id.hex,
                "name": of("token"),
                "secret_hash": os.urandom(32),
                "scopes": ["jobs:read"],
            },
        ),
        (
            Connection,
            {
                **mine,
                "id": connection_id,
                "connector_type": "x",
                "name": of("connection"),
                "config": {"k": of("config")},
            },
        ),
        (
            ConnectionCredentials,
            {
                **mine,
                "connection_id": connection_id,
                "scheme": of("scheme"),
                "sealed": '{"$sealed":"v1:1:AA"}',
            },
        ),
        (SourceLimit, {**mine, "resource": of("account")}),
        (
            Record,
            {
                **mine,
                "connection_id": connection_id,
                "stream": "s",
                "external_id": of("external"),
                "data": {"d": of("data")},
            },
        ),
        (
            Upload,
            {
                **mine,
                "connection_id": connection_id,
                "id": connection_id,
                "name": of("upload"),
                "size": 1,
                "digest": os.urandom(32),
            },
        ),
        (
            UploadChunk,
            {
                **mine,
                "connection_id": connection_id,
                "upload_id": connection_id,
                "number": 0,
                "content": of("chunk").encode(),
            },
        ),
        (
            ExportFile,
            {
                **mine,
                "id": connection_id,
                "job_id": connection_id,
                "name": of("exported"),
                "key": f"{workspace_id}/{of('exportkey')}",
                "expires_at": text("now()"),
            },
        ),
        (
            Hook,
            {
                **mine,
                "id": connection_id,
                "name": of("hook"),
                "scheme": "none",
                "task": of("task"),
                "key_hash": os.urandom(32),
                "made_by": "ada",
            },
        ),
        (
            HookDelivery,
            {**mine, "hook_id": connection_id, "delivery_id": of("delivery"), "job_id": uuid.uuid4()},
        ),
        (
            WebhookSubscription,
            {
                **mine,
                "id": connection_id,
                "name": of("webhook"),
                "url": of("url"),
                "events": ["job.failed"],
                "tasks": [of("task")],
                "secret": '{"$sealed":"v1"}',
                "made_by": "ada",
            },
        ),
        (
            ConnectionAuthorization,
            {
                **mine,
                "state_hash": os.urandom(32),
                "connection_id": connection_id,
                "actor": of("actor"),
                "binding_hash": os.urandom(32),
                "sealed": '{"$sealed":"v1:1:AA"}',
                "redirect_url": of("redirect"),
                "scopes": [of("scope")],
                "expires_at": datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
            },
        ),
        (WorkspaceAlertRule, {**mine, "name": of("rule"), "metric": "ready", "above": 1.0}),
        (WorkspaceAlert, {**mine, "code": of("alert"), "message": of("alerted")}),
        (SyncStream, {**mine, "connection_id": connection_id, "stream": "s", "state": of("cursor")}),
        (
            SyncLog,
            {**mine, "id": uuid.uuid4(), "job_id": uuid.uuid4(), "mode": "initial", "reference": of("reference")},
        ),
        (
            WorkspaceCell,
            {
                **mine,
                "minutes": 1,
                "at": text("now()"),
                "queue": of("cellqueue"),
                "task": of("celltask"),
                "status": 3,
                "outcome": "ok",
                **dict.fromkeys(("wait", "run", "amount", "retries", "wait_ms", "run_ms"), 1),
            },
        ),
        (
            WorkspaceTotal,
            {
                **mine,
                "minutes": 15,
                "at": text("now()"),
                "waits": [1],
                "runs": [1],
                **dict.fromkeys(("completed", "skipped", "failed", "cancelled", "retries"), 1),
            },
        ),
        (
            ErrorGroupRow,
            {
                **mine,
                "fingerprint": "0123456789abcdef",
                "task": of("failedtask"),
                "error_type": "E",
                "message": of("failure"),
                "amount": 1,
                "first_at": text("now()"),
                "last_at": text("now()"),
                "last_job_id": uuid.uuid4(),
            },
        ),
        (
            Bucket,
            {"kind": "workspace", "key": str(workspace_id), "tokens": 1.0, "filled_at": text("now()")},
        ),
    ]
    for model, values in rows:
        session.execute(insert(model).values(values))
    keep_answer(session, RequestKey(workspace_id, of("caller"), "k"), bytes(32), {"body": of("answer")})
    pause(session, "workspace", str(workspace_id), reason=of("reason"), actor="ada")
    record(
        session,
        actor="ada",
        action="job.cancel",
        target="job:1",
        workspace_id=workspace_id,
        details={"note": of("details")},
    )


def in_dump(server: EmbeddedServer, url: str, needle: str) -> list[str]:
    """The lines of a dump of the whole database that have ``needle``."""
    program = [str(server.programs / "pg_dump"), "--inserts", url]
    done = subprocess.run(program, capture_output=True, check=True, timeout=60)
    dump = done.stdout.decode()
    assert "PostgreSQL database dump complete" in dump
    return [line for line in dump.splitlines() if needle in line]


def in_files(engine: Engine, needles: list[str]) -> set[str]:
    """Which of ``needles`` stand in some file of the server, its write-ahead log included."""
    with engine.connect() as connection:
        connection.execute(text("checkpoint"))
        folder = Path(connection.scalar(text("show data_directory")) or "")
        oid = connection.scalar(text("select oid from pg_database where datname = current_database()"))
    found: set[str] = set()
    for part in (folder / "base" / str(oid), folder / "pg_wal"):
        for path in part.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                found |= {needle for needle in needles if needle.encode() in data}
    return found
