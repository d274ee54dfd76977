"""Harm in what only the tables take: names of tasks, queues and workers, actors, alerts, and texts that do not end."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.browser.conftest import CORPUS as PROGRAMS

#: Beside the ways by which texts have become programs: those by which they have taken a page's place.
CORPUS = (
    *PROGRAMS,
    "\x01\x07\x1b[31m\x7f\x85\r\n\t\u2029\ufeff\u200f\u2067<b onclick=alert(11)>",
    "W" * 160,
)
EVIL = " ".join(CORPUS)
WORD = CORPUS[-1]
#: Where nothing says how long a text may be.
LONG = EVIL + 10_000 * "x" + "\n".join(CORPUS) + 100 * "\n"
TASK, QUEUE = WORD[:60] + CORPUS[2], CORPUS[1] + WORD[:60]
ACTION_ID = uuid.uuid4()

_STATEMENTS = (
    "update jobplatform.api_tokens set name = :evil where workspace_id is null",
    """insert into jobplatform.workers (name, host, pid, version, queues, tasks, slots, heartbeat_at, versions)
       values (:evil, :evil, 1, :evil, array[:queue, :word], array[:task], 3, now() + interval '1 hour', '{}')""",
    "insert into jobplatform.task_types (name, details) values (:task, cast(:details as jsonb))",
    "insert into jobplatform.queue_limits (queue, max_running) values (:queue, 3)",
    "insert into jobplatform.rate_limits (resource, units, period_ms, burst) values (:word, 1, 1000, 1)",
    "insert into jobplatform.resource_limits (resource, max_running) values (:short, 1)",
    """insert into jobplatform.audit_log (actor, workspace_id, action, target, request_id, details)
       values (:evil, :workspace_id, :short, :evil, :evil,
           jsonb_build_object(cast(:evil as text), cast(:long as text)))""",
    """insert into jobplatform.bulk_actions (
           id, deed, search, actor, state, expected, left_alone, error, started_at, ended_at)
       values (:action_id, 'retry', :evil, :evil, 'failed', 1,
           jsonb_build_object(cast(:evil as text), 3), :long, now(), now())""",
    """insert into jobplatform.workspace_alert_rules (workspace_id, name, metric, task, above)
       values (:workspace_id, 'haunted', 'completed_last_hour', :task, 1)""",
    """insert into jobplatform.workspace_alerts (workspace_id, code, message, resolved_at)
       values (:workspace_id, :word, :long, null), (:workspace_id, :short, :long, now())""",
    "insert into jobplatform.alerts (code, message, resolved_at) values (:word, :long, null), (:short, :long, now())",
    """insert into jobplatform.pauses (kind, key, reason, actor)
       values ('task', :task, :evil, :evil), ('queue', :queue, :evil, :evil)""",
    """update jobplatform.job_queue set task = :task, queue = :queue, resource = :word,
       progress = jsonb_build_object('message', cast(:long as text))
       where workspace_id = :workspace_id and id = :waits""",
    """update jobplatform.job_records set task = :task, queue = :queue, resource = :word, unique_key = :evil,
       tags = array[:word, :evil], payload = jsonb_build_object(cast(:evil as text), cast(:long as text))
       where workspace_id = :workspace_id and id = :waits""",
    """insert into jobplatform.job_logs (workspace_id, job_id, epoch, line, level, message)
       values (:workspace_id, :failed, 1, 101, 'info', :long), (:workspace_id, :failed, 1, 102, :word, '')""",
    """update jobplatform.job_attempts set error = :long, traceback = :long
       where workspace_id = :workspace_id and job_id = :failed""",
    "update jobplatform.job_records set error = :long where workspace_id = :workspace_id and id = :failed",
)


def haunt(session: Session, workspace_id: uuid.UUID, *, waits: uuid.UUID, failed: uuid.UUID) -> list[str]:
    """Write it beside two jobs of this workspace. The addresses that lead to it, or have it in them."""
    values: dict[str, Any] = {
        "evil": EVIL, "long": LONG, "word": WORD, "short": CORPUS[1], "task": TASK, "queue": QUEUE, "waits": waits,
        "failed": failed, "workspace_id": workspace_id, "action_id": ACTION_ID,
        "details": json.dumps({"description": EVIL, "queue": QUEUE, "payload_schema": {"properties": {EVIL: {}}}}),
    }  # fmt: skip
    for statement in _STATEMENTS:
        session.execute(text(statement), values)
    task, evil, script = quote(TASK, safe=""), quote(EVIL, safe=""), "javascript:alert(12)"
    return [
        f"/tasks/{task}", f"/tasks/{task}/new?workspace={evil}", f"/bulk/{ACTION_ID}", "/resources", f"/jobs?q={evil}",
        f"/jobs?status={evil}&before={evil}", f"/workspaces?q={evil}&sort={evil}", f"/audit?actor={evil}",
        f"/audit?target={script}&workspace={evil}&before={evil}", f"/schedules/new?workspace={evil}",
        f"/schedules?after={evil}", f"/bulk/preview?deed={evil}&q={evil}", f"/nowhere/{evil}?next={script}",
        f"/?span={evil}",
    ]  # fmt: skip
