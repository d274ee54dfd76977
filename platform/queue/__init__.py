"""What may happen to a job. One verb, one file; every verb takes the caller's Session first and never commits."""

from jobplatform.errors import JobError
from jobplatform.queue.again import RetryFunction
from jobplatform.queue.audit import list_audit, record
from jobplatform.queue.batch import Batch, BatchResultError, Item
from jobplatform.queue.belongings import owns_something
from jobplatform.queue.blockers import CODES as BLOCKER_CODES
from jobplatform.queue.blockers import Blocker, JobsAhead
from jobplatform.queue.breaker import ResourceNote, note_of, note_resources
from jobplatform.queue.cancel import CancelAnswer, cancel_job
from jobplatform.queue.claim import NOBODY, Ahead, Claim, ClaimedJob, Ring, claim_job, claim_jobs
from jobplatform.queue.compact import compact_now, needs_compacting
from jobplatform.queue.complete import Completion, complete_jobs
from jobplatform.queue.doorbell import CANCEL, CHANNEL, LISTENER, silence
from jobplatform.queue.enqueue import (
    LONGEST_KEY,
    LONGEST_TIMEOUT,
    MAX_ATTEMPTS,
    MOST_TAGS,
    PRIORITIES,
    Enqueued,
    NewJob,
    Replaced,
    enqueue_job,
    enqueue_jobs,
)
from jobplatform.queue.erase import begin_erasing, count_running, erase_some, finish_erasing, stop_running
from jobplatform.queue.execute import Ended, decode_payload, execute
from jobplatform.queue.execute_batch import execute_batch
from jobplatform.queue.export import export_workspace
from jobplatform.queue.export_files import export_files
from jobplatform.queue.fail import Failure, fail_jobs
from jobplatform.queue.health import Alert, Health, queue_health
from jobplatform.queue.inline import run_inline
from jobplatform.queue.kept_answers import (
    NOBODYS,
    Kept,
    RequestKey,
    find_answer,
    keep_answer,
    lock_request,
)
from jobplatform.queue.limits import (
    Limits,
    LimitsInCode,
    LimitsOfWorkspace,
    PlanDeletion,
    clear_rate_limit,
    clear_task_limits,
    clear_workspace_limits,
    declare_task_limits,
    delete_plan,
    find_plan,
    find_rate_limit,
    find_task_limits,
    limits_of_workspaces,
    list_plans,
    list_queue_limits,
    list_rate_limits,
    list_task_limits,
    read_workspace_limits,
    set_plan,
    set_queue_limit,
    set_rate_limit,
    set_task_limits,
    set_workspace_limits,
)
from jobplatform.queue.logs import MOST_LINES, LogLine, append_log_lines
from jobplatform.queue.outcomes import (
    INTERRUPTIONS,
    Cancel,
    Cancelled,
    Discard,
    JobInterrupted,
    LeaseLost,
    RateLimited,
    Retry,
    ShutDown,
    Skip,
    Snooze,
    TimedOut,
)
from jobplatform.queue.overview import (
    QueueSeen,
    WorkerSeen,
    WorkspaceSeen,
    find_workspace,
    list_queues,
    list_workers,
    list_workspaces,
)
from jobplatform.queue.pause import find_pause, list_pauses, pause, pauses_of, resume
from jobplatform.queue.progress import ProgressReport, report_progress
from jobplatform.queue.promote import Promoted, promote_jobs
from jobplatform.queue.read import get_job, list_attempts, list_jobs, statuses_of
from jobplatform.queue.reconcile import release_unknown_jobs
from jobplatform.queue.release import Release, release_jobs
from jobplatform.queue.rescue import Rescued, rescue_jobs
from jobplatform.queue.retention import prune_jobs
from jobplatform.queue.retry import RetryPolicy
from jobplatform.queue.retry_job import RetryAnswer, RetryKind, retry_job
from jobplatform.queue.running import Channel, RunningJob
from jobplatform.queue.safe_json import safe_json, strict_json
from jobplatform.queue.seal import CLOSED, CLOSED_TEXT
from jobplatform.queue.shares import Shares
from jobplatform.queue.statement import Lease
from jobplatform.queue.succeed import Succeeded, succeed_jobs
from jobplatform.queue.task import Task
from jobplatform.queue.task_options import IfActive, JobOptions
from jobplatform.queue.tasks import Tasks, load_tasks
from jobplatform.queue.vault import (
    is_encrypting,
    key_ring,
    make_key,
    master_keys_in_use,
    reveal,
    rewrap_keys,
    set_encrypting,
    use_key_ring,
)
from jobplatform.queue.why import Why, why_waiting
from jobplatform.queue.workers import (
    Heartbeat,
    WorkerInfo,
    bury_workers,
    deregister_worker,
    heartbeat,
    register_worker,
)

__all__ = [
    "BLOCKER_CODES",
    "CANCEL",
    "CHANNEL",
    "CLOSED",
    "CLOSED_TEXT",
    "INTERRUPTIONS",
    "LISTENER",
    "LONGEST_KEY",
    "LONGEST_TIMEOUT",
    "MAX_ATTEMPTS",
    "MOST_LINES",
    "MOST_TAGS",
    "NOBODY",
    "NOBODYS",
    "PRIORITIES",
    "Ahead",
    "Alert",
    "Batch",
    "BatchResultError",
    "Blocker",
    "Cancel",
    "CancelAnswer",
    "Cancelled",
    "Channel",
    "Claim",
    "ClaimedJob",
    "Completion",
    "Discard",
    "Ended",
    "Enqueued",
    "Failure",
    "Health",
    "Heartbeat",
    "IfActive",
    "Item",
    "JobError",
    "JobInterrupted",
    "JobOptions",
    "JobsAhead",
    "Kept",
    "Lease",
    "LeaseLost",
    "Limits",
    "LimitsInCode",
    "LimitsOfWorkspace",
    "LogLine",
    "NewJob",
    "PlanDeletion",
    "ProgressReport",
    "Promoted",
    "QueueSeen",
    "RateLimited",
    "Release",
    "Replaced",
    "RequestKey",
    "Rescued",
    "ResourceNote",
    "Retry",
    "RetryAnswer",
    "RetryFunction",
    "RetryKind",
    "RetryPolicy",
    "Ring",
    "RunningJob",
    "Shares",
    "ShutDown",
    "Skip",
    "Snooze",
    "Succeeded",
    "Task",
    "Tasks",
    "TimedOut",
    "Why",
    "WorkerInfo",
    "WorkerSeen",
    "WorkspaceSeen",
    "append_log_lines",
    "begin_erasing",
    "bury_workers",
    "cancel_job",
    "claim_job",
    "claim_jobs",
    "clear_rate_limit",
    "clear_task_limits",
    "clear_workspace_limits",
    "compact_now",
    "complete_jobs",
    "count_running",
    "declare_task_limits",
    "decode_payload",
    "delete_plan",
    "deregister_worker",
    "enqueue_job",
    "enqueue_jobs",
    "erase_some",
    "execute",
    "execute_batch",
    "export_files",
    "export_workspace",
    "fail_jobs",
    "find_answer",
    "find_pause",
    "find_plan",
    "find_rate_limit",
    "find_task_limits",
    "find_workspace",
    "finish_erasing",
    "get_job",
    "heartbeat",
    "is_encrypting",
    "keep_answer",
    "key_ring",
    "limits_of_workspaces",
    "list_attempts",
    "list_audit",
    "list_jobs",
    "list_pauses",
    "list_plans",
    "list_queue_limits",
    "list_queues",
    "list_rate_limits",
    "list_task_limits",
    "list_workers",
    "list_workspaces",
    "load_tasks",
    "lock_request",
    "make_key",
    "master_keys_in_use",
    "needs_compacting",
    "note_of",
    "note_resources",
    "owns_something",
    "pause",
    "pauses_of",
    "promote_jobs",
    "prune_jobs",
    "queue_health",
    "read_workspace_limits",
    "record",
    "register_worker",
    "release_jobs",
    "release_unknown_jobs",
    "report_progress",
    "rescue_jobs",
    "resume",
    "retry_job",
    "reveal",
    "rewrap_keys",
    "run_inline",
    "safe_json",
    "set_encrypting",
    "set_plan",
    "set_queue_limit",
    "set_rate_limit",
    "set_task_limits",
    "set_workspace_limits",
    "silence",
    "statuses_of",
    "stop_running",
    "strict_json",
    "succeed_jobs",
    "use_key_ring",
    "why_waiting",
]
