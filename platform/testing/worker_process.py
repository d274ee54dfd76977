"""A real worker in a process of its own: started, watched through its log and /proc, ended by its pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from jobplatform.testing.processes import children_of, descendants_of, is_dead
from jobplatform.testing.waiting import wait_until

COMMAND = (sys.executable, "-m", "jobplatform.cli", "worker")
READY = "worker ready"
#: A start is two interpreters importing everything, and a busy machine takes its time for that.
START_SECONDS = 90
#: So much of a log is shown.
_SHOWN = 5_000
#: Of the test's own process, and not meant for its workers.
_NOT_FOR_WORKERS = (
    "JOBPLATFORM_TEST_DATABASE_URL",
    "JOBPLATFORM_DIRECT_DATABASE_URL",
    "JOBS_DATABASE_URL",
    "DISABLE_QUEUE",
)

#: Fast enough for tests, slow enough for a busy machine.
DEFAULTS = {
    "JOBPLATFORM_MODE": "queue",
    "JOBPLATFORM_CONCURRENCY": "2",
    "JOBPLATFORM_POLL_SECONDS": "0.2",
    "JOBPLATFORM_KILL_GRACE_SECONDS": "0.5",
    "JOBPLATFORM_LOG_FORMAT": "json",
    "JOBPLATFORM_LOG_LEVEL": "INFO",
}


def environment_of(database_url: str, tasks: str, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a worker is started with: this process's environment and search path, settings fit for a test, and
    ``variables`` on top."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
    # The task's module is found where the test has found it.
    search_path = os.pathsep.join(path for path in sys.path if path)
    own = {"DATABASE_URL": database_url, "JOBPLATFORM_TASKS": tasks, "PYTHONPATH": search_path}
    return inherited | DEFAULTS | own | dict(variables or {})


class Process(Protocol):
    """What we ask of a process that was started."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class WorkerProcess:
    """A worker that runs. Whoever starts one calls :meth:`stop` or, at the latest, :meth:`destroy`."""

    def __init__(
        self,
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = COMMAND,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = self._start(command, folder, environment, output)
        self.pid = self._process.pid

    def _start(
        self, command: Sequence[str], folder: Path | None, environment: Mapping[str, str] | None, output: IO[bytes]
    ) -> Process:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)

    # -- what it says ----------------------------------------------------------------------------

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Its log lines so far, as JSON objects; those with this message only."""
        lines = [line for line in self._lines() if line.startswith("{")]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in events if name is None or event["message"] == name]

    def _lines(self) -> list[str]:
        """The lines that are complete: it may be writing one just now."""
        complete, _, _ = self.log.read_text(errors="replace").rpartition("\n")
        return complete.split("\n")

    def wait_for(self, name: str, count: int = 1, *, seconds: float = 30) -> dict[str, Any]:
        """Wait until an event was logged so many times; return the last one."""

        def seen() -> list[dict[str, Any]]:
            ended = self.exit_code is not None
            events = self.events(name)
            assert events or not ended, f"the worker ended with exit code {self.exit_code}"
            return events if len(events) >= count else []

        try:
            return wait_until(seen, what=f"the event {name!r}", seconds=seconds)[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}; the worker's log ends with:\n{self.end_of_log}") from None

    def wait_until_ready(self) -> None:
        """Wait until it asks for jobs; fail with its log when it ends instead."""
        self.wait_for(READY, seconds=START_SECONDS)

    @property
    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-_SHOWN:]

    # -- its processes ---------------------------------------------------------------------------

    @property
    def nursery(self) -> int:
        """The process that its handlers' processes are children of."""
        return int(self.events("nursery up")[-1]["pid"])

    def children(self) -> list[int]:
        """The processes that run handlers."""
        return children_of(self.nursery)

    def descendants(self) -> list[int]:
        """Every process below it."""
        return descendants_of(self.pid)

    # -- its end ---------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self._process.wait(30)

    def stop(self) -> int:
        """Ask it to stop, as a deployment does: running jobs may finish. Returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def destroy(self) -> None:
        """End it whatever state it is in; nothing of it is left."""
        below = self.descendants()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pid in below:
            wait_until(lambda pid=pid: is_dead(pid), what=f"the end of descendant {pid}")  # type: ignore[misc]
