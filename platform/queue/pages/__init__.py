"""What pages ask the database: one module a page, each function one bounded question or a few, none of which writes.

Where to look, by what is asked:

    the operator's pages          overview, lanes (queues, tasks and workers), workspaces, job, errors, schedules, syncs
                                  (connections, audit log), hooks, resources, alerts
    a workspace's own portal      tenant
    what several of them show     charts, pulse (whether anything has changed)
"""

from jobplatform.queue.by_hand.bulk_actions import (
    BULK_STATUSES,
    BulkAction,
    BulkDeed,
    BulkPreview,
    begin_bulk,
    find_bulk,
    list_bulk,
    preview_bulk,
    stop_bulk,
)
from jobplatform.queue.find import Capped, JobCounts, JobLine, JobPage, count_jobs, find_jobs
from jobplatform.queue.find.search import QUALIFIERS, Range, Search, parse_search
from jobplatform.queue.pages.alerts import RuleLine, WorkspaceAlertLine, rule_lines, workspace_alert_lines
from jobplatform.queue.pages.charts import (
    Point,
    Span,
    Spread,
    Throughput,
    throughput,
    throughput_by_queue,
    throughput_by_task,
    totals_by_task,
)
from jobplatform.queue.pages.errors import ErrorGroup, ErrorPage, error_group, error_groups
from jobplatform.queue.pages.hooks import HookLine, HookPage, WebhookLine, WebhookPage, hook_lines, webhook_lines
from jobplatform.queue.pages.job import EarlierEnding, JobDetail, Try, job_detail
from jobplatform.queue.pages.lanes import (
    QueueLine,
    RunningLine,
    TaskLine,
    WorkerLine,
    queue_lines,
    task_lines,
    worker_lines,
)
from jobplatform.queue.pages.overview import Overview, RaisedAlert, health_now, overview, raised_alerts
from jobplatform.queue.pages.pulse import TOPICS, writes_by_topic
from jobplatform.queue.pages.resources import ResourceLine, resource_lines
from jobplatform.queue.pages.schedules import Foreseen, ScheduleLine, SchedulePage, foresee, schedule_lines
from jobplatform.queue.pages.syncs import (
    AuditPage,
    ConnectionLine,
    ConnectionPage,
    SyncLine,
    SyncPage,
    SyncState,
    audit_lines,
    connection_lines,
    sync_lines,
)
from jobplatform.queue.pages.tenant import (
    ActivityLine,
    ActivityPage,
    Guard,
    SyncCard,
    TenantSyncs,
    activity_line,
    friendly_error,
    tenant_activity,
    tenant_syncs,
)
from jobplatform.queue.pages.workspaces import Order, WorkspaceLine, WorkspacePage, workspace_line, workspace_lines

__all__ = [
    "BULK_STATUSES",
    "QUALIFIERS",
    "TOPICS",
    "ActivityLine",
    "ActivityPage",
    "AuditPage",
    "BulkAction",
    "BulkDeed",
    "BulkPreview",
    "Capped",
    "ConnectionLine",
    "ConnectionPage",
    "EarlierEnding",
    "ErrorGroup",
    "ErrorPage",
    "Foreseen",
    "Guard",
    "HookLine",
    "HookPage",
    "JobCounts",
    "JobDetail",
    "JobLine",
    "JobPage",
    "Order",
    "Overview",
    "Point",
    "QueueLine",
    "RaisedAlert",
    "Range",
    "ResourceLine",
    "RuleLine",
    "RunningLine",
    "ScheduleLine",
    "SchedulePage",
    "Search",
    "Span",
    "Spread",
    "SyncCard",
    "SyncLine",
    "SyncPage",
    "SyncState",
    "TaskLine",
    "TenantSyncs",
    "Throughput",
    "Try",
    "WebhookLine",
    "WebhookPage",
    "WorkerLine",
    "WorkspaceAlertLine",
    "WorkspaceLine",
    "WorkspacePage",
    "activity_line",
    "audit_lines",
    "begin_bulk",
    "connection_lines",
    "count_jobs",
    "error_group",
    "error_groups",
    "find_bulk",
    "find_jobs",
    "foresee",
    "friendly_error",
    "health_now",
    "hook_lines",
    "job_detail",
    "list_bulk",
    "overview",
    "parse_search",
    "preview_bulk",
    "queue_lines",
    "raised_alerts",
    "resource_lines",
    "rule_lines",
    "schedule_lines",
    "stop_bulk",
    "sync_lines",
    "task_lines",
    "tenant_activity",
    "tenant_syncs",
    "throughput",
    "throughput_by_queue",
    "throughput_by_task",
    "totals_by_task",
    "webhook_lines",
    "worker_lines",
    "workspace_alert_lines",
    "workspace_line",
    "workspace_lines",
    "writes_by_topic",
]
