"""What tests of jobs need: a real database, somebody to run the jobs, a clock that can be moved, and answers.

The fixtures are in ``jobplatform.pytest_plugin``, which pytest finds by itself.
"""

from jobplatform.testing.databases import Databases
from jobplatform.testing.draining import BOUND, drain
from jobplatform.testing.enqueued import all_enqueued, assert_enqueued, refute_enqueued
from jobplatform.testing.modes import inline, manual
from jobplatform.testing.performing import Performed, perform
from jobplatform.testing.processes import children_of, descendants_of, is_dead, parent_of, process_state
from jobplatform.testing.server import DatabaseServer
from jobplatform.testing.travel import Clock
from jobplatform.testing.waiting import wait_until
from jobplatform.testing.waiting_for_jobs import wait_for
from jobplatform.testing.worker_process import WorkerProcess

__all__ = [
    "BOUND",
    "Clock",
    "DatabaseServer",
    "Databases",
    "Performed",
    "WorkerProcess",
    "all_enqueued",
    "assert_enqueued",
    "children_of",
    "descendants_of",
    "drain",
    "inline",
    "is_dead",
    "manual",
    "parent_of",
    "perform",
    "process_state",
    "refute_enqueued",
    "wait_for",
    "wait_until",
]
