"""What may happen to a job. One verb, one file; every verb takes the caller's Session first and never commits."""

from jobplatform.queue.cancel import CancelAnswer, cancel_job
from jobplatform.queue.claim import Claim, ClaimedJob, Ring, claim_job, claim_jobs
from jobplatform.queue.compact import compact_now, needs_compacting
from jobplatform.queue.complete import Completion, complete_jobs
from jobplatform.queue.doorbell import CANCEL, CHANNEL, silence
from jobplatform.queue.enqueue import (
    LONGEST_KEY,
    LONGEST_TIMEOUT,
    MAX_ATTEMPTS,
    MOST_TAGS,
    PRIORITIES,
    Enqueued,
    NewJob,
    enqueue_job,
    enqueue_jobs,
)
from jobplatform.queue.execute import Ended, decode_payload, execute
from jobplatform.queue.fail import Failure, fail_jobs
from jobplatform.queue.health import Alert, Health, queue_health
from jobplatform.queue.inline import run_inline
from jobplatform.queue.logs import MOST_LINES, LogLine, append_log_lines
from jobplatform.queue.outcomes import (
    INTERRUPTIONS,
    Cancelled,
    Discard,
    JobInterrupted,
    LeaseLost,
    ShutDown,
    Skip,
    Snooze,
    TimedOut,
)
from jobplatform.queue.progress import ProgressReport, report_progress
from jobplatform.queue.promote import Promoted, promote_jobs
from jobplatform.queue.read import get_job, list_attempts, list_jobs
from jobplatform.queue.reconcile import release_unknown_jobs
from jobplatform.queue.release import Release, release_jobs
from jobplatform.queue.rescue import Rescued, rescue_jobs
from jobplatform.queue.retention import prune_jobs
from jobplatform.queue.retry import Retry
from jobplatform.queue.retry_job import RetryAnswer, RetryKind, retry_job
from jobplatform.queue.running import Channel, RunningJob
from jobplatform.queue.safe_json import safe_json
from jobplatform.queue.statement import Lease
from jobplatform.queue.tasks import Task, Tasks, load_tasks
from jobplatform.queue.workers import (
    Heartbeat,
    WorkerInfo,
    bury_workers,
    deregister_worker,
    heartbeat,
    register_worker,
)

__all__ = [
    "CANCEL",
    "CHANNEL",
    "INTERRUPTIONS",
    "LONGEST_KEY",
    "LONGEST_TIMEOUT",
    "MAX_ATTEMPTS",
    "MOST_LINES",
    "MOST_TAGS",
    "PRIORITIES",
    "Alert",
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
    "JobInterrupted",
    "Lease",
    "LeaseLost",
    "LogLine",
    "NewJob",
    "ProgressReport",
    "Promoted",
    "Release",
    "Rescued",
    "Retry",
    "RetryAnswer",
    "RetryKind",
    "Ring",
    "RunningJob",
    "ShutDown",
    "Skip",
    "Snooze",
    "Task",
    "Tasks",
    "TimedOut",
    "WorkerInfo",
    "append_log_lines",
    "bury_workers",
    "cancel_job",
    "claim_job",
    "claim_jobs",
    "compact_now",
    "complete_jobs",
    "decode_payload",
    "deregister_worker",
    "enqueue_job",
    "enqueue_jobs",
    "execute",
    "fail_jobs",
    "get_job",
    "heartbeat",
    "list_attempts",
    "list_jobs",
    "load_tasks",
    "needs_compacting",
    "promote_jobs",
    "prune_jobs",
    "queue_health",
    "register_worker",
    "release_jobs",
    "release_unknown_jobs",
    "report_progress",
    "rescue_jobs",
    "retry_job",
    "run_inline",
    "safe_json",
    "silence",
]
