"""What a row is, and what the database refuses."""

from jobplatform.models.base import SCHEMA, Base, clock
from jobplatform.models.engine import make_engine
from jobplatform.models.job import (
    FINAL_STATUSES,
    Job,
    JobAttempt,
    JobLog,
    JobRecord,
    Outcome,
    QueueRow,
    State,
    Status,
)
from jobplatform.models.source import Connection, Record
from jobplatform.models.worker import WorkerRow
from jobplatform.models.workspace import ApiToken, Workspace

__all__ = [
    "FINAL_STATUSES",
    "SCHEMA",
    "ApiToken",
    "Base",
    "Connection",
    "Job",
    "JobAttempt",
    "JobLog",
    "JobRecord",
    "Outcome",
    "QueueRow",
    "Record",
    "State",
    "Status",
    "WorkerRow",
    "Workspace",
    "clock",
    "make_engine",
]
