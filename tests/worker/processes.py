"""Workers with any options, as the tests of the worker start them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from jobplatform.testing import WorkerProcess
from tests.worker.fork_server import ForkedProcess, ForkServer

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


def command_of(**options: Any) -> list[str]:
    """What starts a worker with these options; from the root of the repository."""
    return [sys.executable, "-m", "tests.worker.run_worker", json.dumps(DEFAULTS | options)]


def start_anew(log: Path, **options: Any) -> WorkerProcess:
    """A worker that is started the long way, as a deployment starts it."""
    return WorkerProcess(log, command=command_of(**options), folder=ROOT)


class ForkedWorker(WorkerProcess):
    """A worker whose imports somebody else has done."""

    def __init__(self, server: ForkServer, log: Path, **options: Any) -> None:
        self._server = server
        self._options = DEFAULTS | options
        super().__init__(log)

    def _start(
        self, command: Sequence[str], folder: Path | None, environment: Mapping[str, str] | None, output: IO[bytes]
    ) -> ForkedProcess:
        return self._server.fork(self._options, os.environ, output)
