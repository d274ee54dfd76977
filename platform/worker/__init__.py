"""The process that runs jobs: a parent that owns the database work, a nursery, and children that run handlers."""

from jobplatform.worker.host import Worker
from jobplatform.worker.options import WorkerOptions

__all__ = ["Worker", "WorkerOptions"]
