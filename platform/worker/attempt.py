"""An attempt as the parent sees it: the claimed job and where it is on its way through the worker."""

from jobplatform.queue import ClaimedJob, Lease
from jobplatform.worker.frames import Reason, encode_job


class Attempt:
    """One claimed job. Its sequence number is new each time it is given to a child."""

    __slots__ = (
        "apart",
        "call",
        "charged",
        "completes_itself",
        "is_suspect",
        "job",
        "lease",
        "lines",
        "reason",
        "release_after",
        "runnable_at",
        "seq",
        "start_by",
        "started",
        "task",
        "timeout",
        "told",
    )

    def __init__(self, job: ClaimedJob) -> None:
        self.job = job
        self.lease: Lease = job.lease
        self.task = job.task
        self.timeout: float = job.timeout_ms / 1000
        self.is_suspect = job.crash_count > 0
        self.seq = 0
        self.call: int | None = None
        """The sequence number of the call that it is part of, if it is."""
        self.told: Reason | None = None
        """Why this one alone of a call should stop."""
        self.apart = False
        self.start_by: float | None = None
        """When it must have begun, on this machine's clock; None once it has, or if it may at any time."""
        self.started: float | None = None
        self.reason: Reason | None = None
        self.release_after = False
        self.completes_itself = False
        self.charged = 0.0
        self.runnable_at = 0.0
        """Since when it could have run, on this machine's clock. Known where somebody counts."""
        self.lines = 0

    @property
    def token(self) -> int:
        """What a child reads to start it."""
        return self.seq if self.call is None else self.call

    @property
    def facts(self) -> dict[str, object]:
        """What a log line about this attempt carries."""
        return {
            "workspace_id": self.lease.workspace_id,
            "job_id": self.lease.job_id,
            "task": self.task,
            "attempt": self.job.attempt,
        }

    def wire(self) -> str:
        """The job as a child is told about it."""
        return encode_job(self.seq, self.job, self.start_by)
