"""What a row is, and what the database refuses.

Where to look, by what is asked:

    what all rows have            base, uuid_array
    a job, and what it waits for  job, batch, unique_period
    what repeats                  schedule
    when jobs may run             limits
    whose they are                workspace, workspace_key
    what a workspace connects     source, export_file
    what passes the border        hook, webhook, kept_answer
    who works                     worker, chore
    what is counted, and wrong    history, alert
    what is kept, and how long    retention, audit
    how the database is reached   engine, entry (whether it lets us in), named_cursor, sharing (with a pooler between)
    who may do what there         roles, confine
    what is not there             missing
"""

from jobplatform.models.alert import AlertRow, HealthRule, WorkspaceAlert, WorkspaceAlertRule
from jobplatform.models.audit import AuditEntry
from jobplatform.models.base import SCHEMA, Base, clock
from jobplatform.models.batch import BatchRow, JobEdge, Notice, RunIf
from jobplatform.models.chore import Chore
from jobplatform.models.confine import (
    as_a_handler,
    as_the_api,
    confine,
    confine_connection,
    is_confined,
    reaching,
    set_free,
    take_part,
    visit,
)
from jobplatform.models.engine import connect_bare, make_engine, on_our_driver
from jobplatform.models.entry import Refusal, require_entry, why_refused
from jobplatform.models.export_file import ExportFile
from jobplatform.models.history import (
    BUCKETS,
    CELL_MINUTES,
    UNKNOWN,
    BulkActionRow,
    ErrorGroupRow,
    PlatformCell,
    PlatformErrorGroup,
    TaskType,
    WorkspaceCell,
    WorkspaceTotal,
    endings,
)
from jobplatform.models.hook import Hook, HookDelivery
from jobplatform.models.job import (
    CHECKPOINT_PART,
    FINAL_STATUSES,
    SUCCESSOR,
    Job,
    JobAttempt,
    JobLog,
    JobRecord,
    JobStep,
    Outcome,
    QueueRow,
    State,
    Status,
)
from jobplatform.models.kept_answer import KEPT_HOURS, KeptAnswer
from jobplatform.models.limits import (
    Bucket,
    BucketKind,
    Pause,
    PauseKind,
    Plan,
    QueueLimits,
    RateLimit,
    ResourceLevel,
    ResourceLimits,
    TaskLimits,
    WorkspaceLimits,
)
from jobplatform.models.missing import MISSING, mention_migrations
from jobplatform.models.retention import TaskRetention, WorkspaceRetention
from jobplatform.models.roles import MAY_BECOME, Role, embedded_login, may_serve, require_roles
from jobplatform.models.schedule import PLATFORM_WORKSPACE, CatchUp, Overlap, Schedule, ScheduleTick, TickOutcome
from jobplatform.models.sharing import is_shared
from jobplatform.models.source import (
    CHUNK,
    Connection,
    ConnectionAuthorization,
    ConnectionCredentials,
    Record,
    SourceLimit,
    SyncLog,
    SyncStream,
    Upload,
    UploadChunk,
)
from jobplatform.models.unique_period import UniquePeriod
from jobplatform.models.uuid_array import UuidArray
from jobplatform.models.webhook import WebhookSubscription
from jobplatform.models.worker import PastWorker, WorkerRow
from jobplatform.models.workspace import ApiToken, Workspace
from jobplatform.models.workspace_key import WorkspaceKey

__all__ = [
    "BUCKETS",
    "CELL_MINUTES",
    "CHECKPOINT_PART",
    "CHUNK",
    "FINAL_STATUSES",
    "KEPT_HOURS",
    "MAY_BECOME",
    "MISSING",
    "PLATFORM_WORKSPACE",
    "SCHEMA",
    "SUCCESSOR",
    "UNKNOWN",
    "AlertRow",
    "ApiToken",
    "AuditEntry",
    "Base",
    "BatchRow",
    "Bucket",
    "BucketKind",
    "BulkActionRow",
    "CatchUp",
    "Chore",
    "Connection",
    "ConnectionAuthorization",
    "ConnectionCredentials",
    "ErrorGroupRow",
    "ExportFile",
    "HealthRule",
    "Hook",
    "HookDelivery",
    "Job",
    "JobAttempt",
    "JobEdge",
    "JobLog",
    "JobRecord",
    "JobStep",
    "KeptAnswer",
    "Notice",
    "Outcome",
    "Overlap",
    "PastWorker",
    "Pause",
    "PauseKind",
    "Plan",
    "PlatformCell",
    "PlatformErrorGroup",
    "QueueLimits",
    "QueueRow",
    "RateLimit",
    "Record",
    "Refusal",
    "ResourceLevel",
    "ResourceLimits",
    "Role",
    "RunIf",
    "Schedule",
    "ScheduleTick",
    "SourceLimit",
    "State",
    "Status",
    "SyncLog",
    "SyncStream",
    "TaskLimits",
    "TaskRetention",
    "TaskType",
    "TickOutcome",
    "UniquePeriod",
    "Upload",
    "UploadChunk",
    "UuidArray",
    "WebhookSubscription",
    "WorkerRow",
    "Workspace",
    "WorkspaceAlert",
    "WorkspaceAlertRule",
    "WorkspaceCell",
    "WorkspaceKey",
    "WorkspaceLimits",
    "WorkspaceRetention",
    "WorkspaceTotal",
    "as_a_handler",
    "as_the_api",
    "clock",
    "confine",
    "confine_connection",
    "connect_bare",
    "embedded_login",
    "endings",
    "is_confined",
    "is_shared",
    "make_engine",
    "may_serve",
    "mention_migrations",
    "on_our_driver",
    "reaching",
    "require_entry",
    "require_roles",
    "set_free",
    "take_part",
    "visit",
    "why_refused",
]
