"""Workers with any options, as the tests of the worker start them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jobplatform.testing import WorkerProcess

ROOT = Path(__file__).parents[2]

#: Fast enough for tests, slow enough for a busy machine.
DEFAULTS: dict[str, Any] = {
    "tasks": "tests.worker.handlers:tasks",
    "slots": 2,
    "poll": 0.2,
    "kill_grace": 0.3,
    "heartbeat": 0.5,
    "lease": 20.0,
    "drain_timeout": 20.0,
}


def start(database_url: str, log: Path, **options: Any) -> WorkerProcess:
    """A worker in a process of its own."""
    arguments = json.dumps({"database_url": database_url} | DEFAULTS | options)
    return WorkerProcess(log, command=[sys.executable, "-m", "tests.worker.run_worker", arguments], folder=ROOT)
