"""What the database refuses, whatever the code above it does. One illegal row for each constraint."""

from __future__ import annotations

import datetime
import uuid
from math import inf, nan
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobplatform.models import (
    CHUNK,
    SCHEMA,
    ApiToken,
    BatchRow,
    Bucket,
    BulkActionRow,
    Connection,
    ConnectionAuthorization,
    ConnectionCredentials,
    ErrorGroupRow,
    ExportFile,
    HealthRule,
    Hook,
    HookDelivery,
    JobAttempt,
    JobEdge,
    JobRecord,
    JobStep,
    KeptAnswer,
    Notice,
    Pause,
    Plan,
    PlatformCell,
    PlatformErrorGroup,
    QueueLimits,
    QueueRow,
    RateLimit,
    Record,
    ResourceLevel,
    ResourceLimits,
    Schedule,
    ScheduleTick,
    SourceLimit,
    SyncLog,
    TaskLimits,
    TaskRetention,
    UniquePeriod,
    Upload,
    UploadChunk,
    WebhookSubscription,
    Workspace,
    WorkspaceAlertRule,
    WorkspaceCell,
    WorkspaceKey,
    WorkspaceLimits,
    WorkspaceRetention,
    WorkspaceTotal,
    endings,
)

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
WORKSPACE = uuid.UUID(int=1)

SEALED = '{"$sealed":"v1:1:…"}'
BEFORE = datetime.timedelta(days=-1)

CELL = {
    "minutes": 1,
    "at": NOW,
    "queue": "q",
    "task": "t",
    "status": 3,
    "outcome": "ok",
    **dict.fromkeys(("wait", "run", "amount", "retries", "wait_ms", "run_ms"), 1),
}
GROUP = {
    "fingerprint": "f",
    "task": "t",
    "error_type": "E",
    "message": "m",
    "amount": 1,
    "first_at": NOW,
    "last_at": NOW,
    "last_job_id": uuid.UUID(int=2),
}

#: By model, or by table where there is no model.
LEGAL: dict[Any, dict[str, Any]] = {
    endings: {"workspace_id": WORKSPACE, "status": 3, "ids": [uuid.UUID(int=2)]},
    WorkspaceCell: {"workspace_id": WORKSPACE, **CELL},
    WorkspaceTotal: {
        "workspace_id": WORKSPACE,
        "minutes": 15,
        "at": NOW,
        "waits": [1],
        "runs": [1],
        **dict.fromkeys(("completed", "skipped", "failed", "cancelled", "retries"), 1),
    },
    PlatformCell: CELL,
    ErrorGroupRow: {"workspace_id": WORKSPACE, **GROUP},
    PlatformErrorGroup: {**GROUP, "last_workspace_id": WORKSPACE},
    BulkActionRow: {"id": uuid.UUID(int=2), "deed": "retry", "search": "", "actor": "ada"},
    HealthRule: {"name": "r", "above": 1.0},
    WorkspaceAlertRule: {"workspace_id": WORKSPACE, "name": "r", "metric": "ready", "above": 1.0},
    TaskRetention: {"task": "t", "completed": datetime.timedelta(days=1)},
    WorkspaceRetention: {"workspace_id": WORKSPACE, "failed": datetime.timedelta(days=1)},
    SyncLog: {"workspace_id": WORKSPACE, "id": uuid.UUID(int=2), "job_id": uuid.UUID(int=3), "mode": "initial"},
    JobStep: {"workspace_id": WORKSPACE, "job_id": uuid.UUID(int=2), "name": "s", "epoch": 1, "value": 1},
    JobRecord: {"workspace_id": WORKSPACE, "id": uuid.UUID(int=2), "task": "t", "queue": "q", "payload": {}},
    QueueRow: {
        "workspace_id": WORKSPACE,
        "id": uuid.UUID(int=2),
        "queue": "q",
        "task": "t",
        "state": 1,
        "priority": 0,
        "max_attempts": 3,
        "timeout_ms": 1000,
        "run_after": NOW,
    },
    JobAttempt: {
        "workspace_id": WORKSPACE,
        "job_id": uuid.UUID(int=2),
        "epoch": 1,
        "attempt": 1,
        "ended_at": NOW,
        "outcome": "error",
        "final": True,
    },
    UniquePeriod: {
        "workspace_id": WORKSPACE,
        "unique_key": "k",
        "job_id": uuid.UUID(int=2),
        "began_at": NOW,
        "until": NOW - BEFORE,
    },
    KeptAnswer: {"workspace_id": WORKSPACE, "caller": "c", "key": "k", "fingerprint": bytes(32)},
    BatchRow: {"workspace_id": WORKSPACE, "id": uuid.UUID(int=4)},
    JobEdge: {"workspace_id": WORKSPACE, "job_id": uuid.UUID(int=2), "after_id": uuid.UUID(int=5), "number": 0},
    Notice: {"workspace_id": WORKSPACE, "kind": "ended", "job_id": uuid.UUID(int=2), "status": 3},
    WorkspaceKey: {"workspace_id": WORKSPACE, "key_id": 1, "wrapped_key": bytes(60), "wrapped_by": "a"},
    Workspace: {"id": WORKSPACE, "name": "Acme"},
    Schedule: {
        "workspace_id": WORKSPACE,
        "id": uuid.UUID(int=2),
        "name": "nightly",
        "task": "t",
        "payload": {},
        "cron": "0 3 * * *",
        "made_by": "ann",
    },
    Hook: {
        "workspace_id": WORKSPACE,
        "id": uuid.UUID(int=2),
        "name": "pushes",
        "scheme": "github",
        "task": "t",
        "key_hash": bytes(32),
        "secret": SEALED,
        "made_by": "ann",
    },
    HookDelivery: {
        "workspace_id": WORKSPACE,
        "hook_id": uuid.UUID(int=2),
        "delivery_id": "d-1",
        "job_id": uuid.UUID(int=3),
    },
    WebhookSubscription: {
        "workspace_id": WORKSPACE,
        "id": uuid.UUID(int=2),
        "name": "the CRM",
        "url": "https://crm.example.com/hooks",
        "events": ["job.failed"],
        "secret": SEALED,
        "made_by": "ann",
    },
    ScheduleTick: {
        "workspace_id": WORKSPACE,
        "schedule_id": uuid.UUID(int=2),
        "tick_at": NOW,
        "outcome": "enqueued",
        "job_id": uuid.UUID(int=3),
    },
    ApiToken: {
        "id": "t1",
        "workspace_id": WORKSPACE,
        "name": "ci",
        "secret_hash": b"x" * 32,
        "scopes": ["jobs:read"],
    },
    Connection: {
        "workspace_id": WORKSPACE,
        "id": uuid.UUID(int=3),
        "connector_type": "crm",
        "name": "CRM",
        "config": {},
    },
    ConnectionAuthorization: {
        "workspace_id": WORKSPACE,
        "state_hash": bytes(32),
        "connection_id": uuid.UUID(int=3),
        "actor": "ada",
        "binding_hash": bytes(32),
        "sealed": '{"$sealed":"v1:1:AA"}',
        "redirect_url": "https://x",
        "scopes": ["read"],
        "expires_at": NOW,
    },
    ConnectionCredentials: {
        "workspace_id": WORKSPACE,
        "connection_id": uuid.UUID(int=3),
        "scheme": "bearer",
        "sealed": '{"$sealed":"v1:1:AA"}',
    },
    SourceLimit: {"workspace_id": WORKSPACE, "resource": "crm:1"},
    Record: {
        "workspace_id": WORKSPACE,
        "connection_id": uuid.UUID(int=3),
        "stream": "people",
        "external_id": "1",
        "data": {},
    },
    Upload: {
        "workspace_id": WORKSPACE,
        "connection_id": uuid.UUID(int=3),
        "id": uuid.UUID(int=4),
        "name": "people.csv",
        "size": 0,
        "digest": bytes(32),
    },
    UploadChunk: {
        "workspace_id": WORKSPACE,
        "connection_id": uuid.UUID(int=3),
        "upload_id": uuid.UUID(int=4),
        "number": 0,
        "content": b"x",
    },
    ExportFile: {
        "workspace_id": WORKSPACE,
        "id": uuid.UUID(int=2),
        "job_id": uuid.UUID(int=3),
        "name": "records.csv",
        "key": "1/2.csv",
        "expires_at": NOW,
    },
    Plan: {"name": "pro"},
    WorkspaceLimits: {"workspace_id": WORKSPACE},
    QueueLimits: {"queue": "q", "max_running": 1},
    TaskLimits: {"task": "t"},
    RateLimit: {"resource": "crm:*", "units": 100, "period_ms": 10_000, "burst": 100},
    ResourceLimits: {"resource": "crm:*"},
    ResourceLevel: {"resource": "crm:1", "level": 1.5},
    Bucket: {"kind": "resource", "key": "crm:1", "tokens": 1.5, "filled_at": NOW},
    Pause: {"kind": "queue", "key": "q", "reason": "", "actor": "ann"},
}
RUNNING = {"state": 2, "epoch": 1, "attempts": 1, "worker_id": 1, "started_at": NOW}
ENDED = {"status": 3, "outcome": "ok", "completed_at": NOW}

#: They need a row of another table.
OF_OTHERS = (Record, ConnectionAuthorization, ConnectionCredentials, Upload, UploadChunk)

ILLEGAL: list[tuple[Any, dict[str, Any], str]] = [
    (endings, {"status": 2}, "endings_final_status"),
    (WorkspaceCell, {"minutes": 2}, "workspace_cells_known_minutes"),
    (WorkspaceCell, {"wait": 32}, "workspace_cells_known_buckets"),
    (WorkspaceCell, {"run": -2}, "workspace_cells_known_buckets"),
    (WorkspaceCell, {"status": 0}, "workspace_cells_known_status"),
    (WorkspaceTotal, {"minutes": 1}, "workspace_totals_known_minutes"),
    (WorkspaceTotal, {"runs": [1] * 33}, "workspace_totals_known_buckets"),
    (PlatformCell, {"status": 2}, "platform_cells_known_status"),
    (PlatformCell, {"minutes": 2}, "platform_cells_known_minutes"),
    (PlatformCell, {"run": 32}, "platform_cells_known_buckets"),
    (ErrorGroupRow, {"amount": 0}, "error_groups_amount_positive"),
    (PlatformErrorGroup, {"amount": 0}, "platform_error_groups_amount_positive"),
    (BulkActionRow, {"deed": "praise"}, "bulk_actions_known_deed"),
    (BulkActionRow, {"deed": "change"}, "bulk_actions_change_says_what"),
    (BulkActionRow, {"arguments": {"priority": 5}}, "bulk_actions_change_says_what"),
    (BulkActionRow, {"state": "lost", "ended_at": NOW}, "bulk_actions_known_state"),
    (BulkActionRow, {"ended_at": NOW}, "bulk_actions_ended_when_final"),
    (BulkActionRow, {"actor": ""}, "bulk_actions_by_somebody"),
    (JobRecord, {**ENDED, "status": 2}, "job_records_final_status"),
    (JobRecord, {**ENDED, "completed_at": None}, "job_records_completed_at_when_final"),
    (JobRecord, {"completed_at": NOW}, "job_records_completed_at_when_final"),
    (JobRecord, {**ENDED, "outcome": None}, "job_records_outcome_when_final"),
    (JobRecord, {"outcome": "ok"}, "job_records_outcome_when_final"),
    (JobRecord, {**ENDED, "outcome": "fine"}, "job_records_known_outcome"),
    (JobRecord, {"attempts": 4}, "job_records_attempts_in_range"),
    (JobRecord, {"attempts": -1}, "job_records_attempts_in_range"),
    (JobRecord, {"max_attempts": 0}, "job_records_attempts_in_range"),
    (JobRecord, {"max_attempts": 1001}, "job_records_attempts_in_range"),
    (JobRecord, {"crash_count": -1}, "job_records_counters_not_negative"),
    (JobRecord, {"epoch": -1}, "job_records_counters_not_negative"),
    (JobRecord, {"timeout_ms": 0}, "job_records_timeout_in_range"),
    (JobRecord, {"timeout_ms": 604_800_001}, "job_records_timeout_in_range"),
    (JobRecord, {"units": 0}, "job_records_units_in_range"),
    (QueueRow, {"units": 10_001}, "job_queue_units_in_range"),
    (KeptAnswer, {"fingerprint": bytes(31)}, "kept_answers_fingerprint_is_a_digest"),
    (UniquePeriod, {"until": NOW}, "unique_periods_not_over_before_it_began"),
    (KeptAnswer, {"key": ""}, "kept_answers_named"),
    (KeptAnswer, {"caller": ""}, "kept_answers_named"),
    (QueueRow, {"state": -2}, "job_queue_known_state"),
    (QueueRow, {**RUNNING, "worker_id": None}, "job_queue_worker_when_running"),
    (QueueRow, {**RUNNING, "started_at": None}, "job_queue_worker_when_running"),
    (QueueRow, {"worker_id": 1}, "job_queue_worker_when_running"),
    (QueueRow, {"started_at": NOW}, "job_queue_worker_when_running"),
    (QueueRow, {**RUNNING, "epoch": 0}, "job_queue_epoch_when_running"),
    (QueueRow, {"cancel_requested_at": NOW}, "job_queue_cancel_requested_when_running"),
    (QueueRow, {"unique_key": "\x1ek"}, "job_queue_successor_is_blocked"),
    (QueueRow, {"start_within_ms": 0}, "job_queue_start_within_positive"),
    (QueueRow, {"start_by": NOW}, "job_queue_start_by_with_start_within"),
    (QueueRow, {"attempts": 4}, "job_queue_attempts_in_range"),
    (QueueRow, {"attempts": -1}, "job_queue_attempts_in_range"),
    (QueueRow, {"crash_count": -1}, "job_queue_counters_not_negative"),
    (QueueRow, {"epoch": -1}, "job_queue_counters_not_negative"),
    (JobAttempt, {"outcome": "bad luck"}, "job_attempts_known_outcome"),
    (JobStep, {"name": "x" * 201}, "job_steps_name_not_long"),
    (SyncLog, {"status": "lost"}, "sync_logs_known_status"),
    (BatchRow, {"ended_at": NOW}, "batches_ends_when_closed"),
    (JobEdge, {"run_if": "sunny"}, "job_edges_known_run_if"),
    (JobEdge, {"after_status": 2}, "job_edges_final_status"),
    (JobEdge, {"after_id": uuid.UUID(int=2)}, "job_edges_not_itself"),
    (Notice, {"kind": "rumour"}, "notices_known_kind"),
    (Notice, {"job_id": None}, "notices_about_something"),
    (Workspace, {"name": ""}, "workspaces_name_not_empty"),
    *(
        (Schedule, change, f"schedules_{rule}")
        for change, rule in (
            ({"cron": None}, "one_rule"),
            ({"run_at": NOW}, "one_rule"),
            ({"cron": None, "every_ms": 5000}, "interval_anchored"),
            ({"cron": None, "every_ms": 999, "anchor": NOW}, "interval_anchored"),
            ({"name": ""}, "named"),
            ({"made_by": ""}, "named"),
            ({"catch_up": "some"}, "known_catch_up"),
            ({"if_active": "wait"}, "known_if_active"),
            ({"spread_ms": -1}, "spread_not_negative"),
            ({"start_within_ms": 0}, "start_within_positive"),
            ({"units": 0}, "units_in_range"),
            ({"every_workspace": True}, "platform_when_every_workspace"),
            ({"declared_by": "app:tasks"}, "declared_or_not"),
            ({"paused_at": NOW}, "paused_by_somebody"),
            ({"fan_tick_at": NOW, "fan_after": WORKSPACE}, "fanning_out_or_not"),
        )
    ),
    *(
        (Hook, change, f"hooks_{rule}")
        for change, rule in (
            ({"name": ""}, "named"),
            ({"task": ""}, "named"),
            ({"split": "line"}, "known_split"),
            ({"key_hash": b"the key itself"}, "key_hash_is_a_digest"),
            ({"replay_seconds": 0}, "replay_in_range"),
            ({"secret": "s3cret"}, "secrets_sealed"),
            ({"previous_secret": "s3cret", "previous_until": NOW}, "secrets_sealed"),
            ({"secret": None}, "secret_unless_none"),
            ({"scheme": "none"}, "secret_unless_none"),
            ({"previous_secret": SEALED}, "previous_for_a_while"),
            ({"disabled_at": NOW}, "disabled_by_somebody"),
        )
    ),
    *(
        (WebhookSubscription, change, f"webhook_subscriptions_{rule}")
        for change, rule in (
            ({"name": ""}, "named"),
            ({"url": ""}, "named"),
            ({"events": []}, "known_events"),
            ({"events": ["job.failed", "job.lost"]}, "known_events"),
            ({"tasks": []}, "some_tasks"),
            ({"secret": "whsec_x"}, "secrets_sealed"),
            ({"previous_secret": "whsec_x", "previous_until": NOW}, "secrets_sealed"),
            ({"previous_until": NOW}, "previous_for_a_while"),
            ({"disabled_at": NOW}, "disabled_by_somebody"),
            ({"disabled_at": NOW, "disabled_by": "ann", "disabled_why": "bored"}, "known_why"),
        )
    ),
    (HookDelivery, {"delivery_id": ""}, "hook_deliveries_id_in_range"),
    (HookDelivery, {"job_id": None}, "hook_deliveries_job_when_accepted"),
    (HookDelivery, {"answer": 429}, "hook_deliveries_job_when_accepted"),
    (HookDelivery, {"repeats": 1}, "hook_deliveries_repeated_or_not"),
    (HealthRule, {"name": ""}, "health_rules_name_not_empty"),
    (HealthRule, {"above": -1.0}, "health_rules_thresholds_not_negative"),
    (WorkspaceAlertRule, {"name": ""}, "workspace_alert_rules_named"),
    (WorkspaceAlertRule, {"metric": ""}, "workspace_alert_rules_named"),
    (WorkspaceAlertRule, {"above": -1.0}, "workspace_alert_rules_threshold_not_negative"),
    (TaskRetention, {"completed": BEFORE}, "task_retention_not_negative"),
    (WorkspaceRetention, {"cancelled": BEFORE}, "workspace_retention_not_negative"),
    (ScheduleTick, {"outcome": "done", "job_id": None}, "schedule_ticks_known_outcome"),
    (ScheduleTick, {"job_id": None}, "schedule_ticks_job_when_enqueued"),
    (ScheduleTick, {"outcome": "skipped"}, "schedule_ticks_job_when_enqueued"),
    (WorkspaceKey, {"key_id": 0}, "workspace_keys_key_id_positive"),
    (WorkspaceKey, {"wrapped_key": b"the key itself"}, "workspace_keys_wrapped_key_is_wrapped"),
    (ApiToken, {"secret_hash": b"the secret itself"}, "api_tokens_secret_hash_is_sha256"),
    (ApiToken, {"signing_key": b"easy to guess"}, "api_tokens_signing_key_has_32_bytes"),
    (ApiToken, {"scopes": []}, "api_tokens_has_a_scope"),
    (ApiToken, {"workspace_id": None}, "api_tokens_operator_or_workspace"),
    (ApiToken, {"scopes": ["operator"]}, "api_tokens_operator_or_workspace"),
    (Connection, {"name": ""}, "connections_named"),
    (Connection, {"connector_type": ""}, "connections_named"),
    (Connection, {"attention": "the grant is gone"}, "connections_attention_whole"),
    (Connection, {"attention_at": NOW}, "connections_attention_whole"),
    (ConnectionAuthorization, {"actor": ""}, "connection_authorizations_named"),
    (ConnectionAuthorization, {"redirect_url": ""}, "connection_authorizations_named"),
    (ConnectionAuthorization, {"state_hash": b"itself"}, "connection_authorizations_hashes_are_digests"),
    (ConnectionAuthorization, {"binding_hash": b"itself"}, "connection_authorizations_hashes_are_digests"),
    (ConnectionAuthorization, {"client_hash": b"itself"}, "connection_authorizations_client_is_a_digest"),
    (ConnectionAuthorization, {"sealed": '{"$sealed":"no"}'}, "connection_authorizations_sealed_is_sealed"),
    (ConnectionCredentials, {"scheme": ""}, "connection_credentials_named_and_counted"),
    (ConnectionCredentials, {"version": 0}, "connection_credentials_named_and_counted"),
    (ConnectionCredentials, {"sealed": '{"token": "the secret itself"}'}, "connection_credentials_sealed_is_sealed"),
    (SourceLimit, {"resource": ""}, "source_limits_named"),
    (Upload, {"digest": b"short"}, "uploads_digest_is_sha256"),
    (Upload, {"size": -1}, "uploads_size_not_negative"),
    (UploadChunk, {"content": b""}, "upload_chunks_bounded"),
    (UploadChunk, {"content": bytes(CHUNK + 1)}, "upload_chunks_bounded"),
    (UploadChunk, {"number": -1}, "upload_chunks_bounded"),
    (ExportFile, {"rows": 1}, "exports_whole"),
    (ExportFile, {"link_hash": bytes(32)}, "exports_link_expires"),
    (ExportFile, {"key": ""}, "exports_named"),
    (Plan, {"name": ""}, "plans_name_not_empty"),
    *(
        (model, change, f"{model.__tablename__}_{rule}")
        for model in (Plan, WorkspaceLimits)
        for change, rule in (
            ({"weight": 0}, "weight_in_range"),
            ({"weight": 101}, "weight_in_range"),
            ({"max_running": -1}, "limits_not_negative"),
            ({"max_pending": -1}, "limits_not_negative"),
            ({"rate_units": 5}, "rate_whole"),
            ({"rate_units": 0, "rate_period_ms": 1000}, "rate_whole"),
            ({"rate_units": 5, "rate_period_ms": 0}, "rate_whole"),
        )
    ),
    (QueueLimits, {"max_running": -1}, "queue_limits_limits_not_negative"),
    (TaskLimits, {"max_running": -1}, "task_limits_limits_not_negative"),
    (TaskLimits, {"max_running_per_workspace": -1}, "task_limits_limits_not_negative"),
    (RateLimit, {"units": 0}, "rate_limits_rate_positive"),
    (RateLimit, {"period_ms": 0}, "rate_limits_rate_positive"),
    (RateLimit, {"burst": 0}, "rate_limits_rate_positive"),
    (ResourceLimits, {"max_running": -1}, "resource_limits_limits_not_negative"),
    (ResourceLimits, {"code_max_running": -1, "declared_by": "app:tasks"}, "resource_limits_limits_not_negative"),
    (ResourceLimits, {"code_max_running": 1}, "resource_limits_declared_or_not"),
    (ResourceLimits, {"min_running": 0, "max_running": 1}, "resource_limits_least_is_positive"),
    (ResourceLimits, {"code_min_running": 0}, "resource_limits_least_is_positive"),
    (ResourceLevel, {"level": 0}, "resource_levels_level_positive"),
    *((ResourceLevel, {"level": level}, "resource_levels_level_readable") for level in (nan, inf, 2.0**31)),
    (ResourceLevel, {"lowered_at": NOW}, "resource_levels_lowered_for_something"),
    (Bucket, {"kind": "task"}, "buckets_known_kind"),
    (Bucket, {"failures": -1}, "buckets_failures_not_negative"),
    (Pause, {"kind": "token"}, "pauses_known_kind"),
    (Pause, {"actor": ""}, "pauses_named"),
]


@pytest.mark.parametrize(
    ("model", "change", "constraint"), ILLEGAL, ids=[f"{name}-{sorted(change)}" for _, change, name in ILLEGAL]
)
def test_an_illegal_row_is_refused(session: Session, model: Any, change: dict[str, Any], constraint: str) -> None:
    with pytest.raises(IntegrityError) as refused:
        session.execute(insert(model).values(**{**LEGAL[model], **change}))

    assert refused.value.orig.diag.constraint_name == constraint  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        *((model, {}) for model in LEGAL if model not in OF_OTHERS),
        (QueueRow, RUNNING),
        (QueueRow, {"state": 0}),
        (JobRecord, ENDED),
        (ApiToken, {"workspace_id": None, "scopes": ["operator"]}),
    ],
)
def test_a_legal_row_is_taken(session: Session, model: Any, change: dict[str, Any]) -> None:
    session.execute(insert(model).values(**{**LEGAL[model], **change}))


def test_every_check_has_a_row_that_it_refuses(engine: Engine) -> None:
    with engine.connect() as connection:
        checks = connection.scalars(
            text("select conname from pg_constraint where contype = 'c' and connamespace = cast(:s as regnamespace)"),
            {"s": SCHEMA},
        ).all()

    assert set(checks) == {constraint for _, _, constraint in ILLEGAL}


def test_two_live_rows_of_one_workspace_cannot_have_one_unique_key(session: Session) -> None:
    guarded = {**LEGAL[QueueRow], "unique_key": "sync"}
    session.execute(insert(QueueRow).values(**guarded))

    with pytest.raises(IntegrityError, match="job_queue_unique"):
        session.execute(insert(QueueRow).values(**{**guarded, "id": uuid.UUID(int=9)}))


def test_two_workspaces_may_use_the_same_unique_key(session: Session) -> None:
    guarded = {**LEGAL[QueueRow], "unique_key": "sync"}
    session.execute(insert(QueueRow).values(**guarded))

    session.execute(insert(QueueRow).values(**{**guarded, "workspace_id": uuid.UUID(int=9)}))


def test_a_record_belongs_to_a_connection_of_its_own_workspace(session: Session) -> None:
    session.execute(insert(Connection).values(**LEGAL[Connection]))

    with pytest.raises(IntegrityError, match="foreign key"):
        session.execute(insert(Record).values(**{**LEGAL[Record], "workspace_id": uuid.UUID(int=9)}))


def test_a_connection_takes_its_records_along(session: Session) -> None:
    session.execute(insert(Connection).values(**LEGAL[Connection]))
    session.execute(insert(Record).values(**LEGAL[Record]))

    session.execute(text("delete from jobplatform.connections"))

    assert session.scalars(select(Record)).all() == []
