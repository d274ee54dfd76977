"""Pulse: whether anything has been written to what a page shows, for next to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run, text_array

_OF_RESOURCES: Final = ("resource_limits", "resource_levels")
#: What pages are about, and the tables in which that is.
TOPICS: Final[Mapping[str, tuple[str, ...]]] = {
    "jobs": ("job_queue", "job_records"),
    "counts": ("platform_cells",),
    "errors": ("platform_error_groups",),
    "alerts": ("alerts", "health_rules", "workspace_alerts", "workspace_alert_rules"),
    "bulk": ("bulk_actions",),
    "workers": ("workers", "task_types"),
    "pauses": ("pauses",),
    "limits": ("queue_limits", "task_limits", "workspace_limits", "plans", "rate_limits", *_OF_RESOURCES, "buckets"),
    "schedules": ("schedules", "schedule_ticks"),
    "syncs": ("connections", "sync_logs"),
    "hooks": ("hooks", "hook_deliveries", "webhook_subscriptions", "workers"),
}

# What the server counts anyway. A backend tells it after its transactions, at most once a second, and before it has
# been idle for ten.
WRITES: Final = """
select relname, n_tup_ins + n_tup_upd + n_tup_del
from pg_stat_user_tables
where schemaname = 'jobplatform' and relname = any(%(tables)s::text[])
"""


def writes_by_topic(session: Session, topics: Iterable[str] = TOPICS) -> dict[str, int]:
    """How many rows have been written of each, ever: where a number is another than before, something has changed."""
    wanted = tuple(topics)
    tables = text_array(table for topic in wanted for table in TOPICS[topic])
    writes: dict[str, int] = {row[0]: row[1] for row in run(session, WRITES, tables=tables)}
    return {topic: sum(writes.get(table, 0) for table in TOPICS[topic]) for topic in wanted}
