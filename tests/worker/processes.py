"""Real worker processes for tests: started, watched through /proc and the log, killed by pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

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


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, database_url: str, log: Path, **options: Any) -> None:
        self.log = log
        arguments = json.dumps({"database_url": database_url} | DEFAULTS | options)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker.run_worker", arguments],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid

    # -- what it says ----------------------------------------------------------------------------

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in events if name is None or event["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until an event was logged so many times; return the last one."""

        def seen() -> list[dict[str, Any]]:
            ended = self.exit_code is not None
            events = self.events(name)
            assert events or not ended, f"the worker ended with exit code {self.exit_code}"
            return events if len(events) >= count else []

        try:
            return wait_until(seen, what=f"the event {name!r}")[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}; the worker's log ends with:\n{self.log.read_text()[-5000:]}") from None

    # -- its processes ---------------------------------------------------------------------------

    @property
    def nursery(self) -> int:
        return int(self.events("nursery up")[-1]["pid"])

    def children(self) -> list[int]:
        """The processes that run handlers."""
        return children_of(self.nursery)

    def descendants(self) -> list[int]:
        found, todo = [], [self.pid]
        while todo:
            below = children_of(todo.pop())
            found += below
            todo += below
        return found

    # -- its end ---------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self._process.wait(30)

    def stop(self) -> int:
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


def process_state(pid: int) -> str:
    """R, S, T, Z …; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def is_dead(pid: int) -> bool:
    """A zombie counts: it runs nothing and waits for whoever inherited it."""
    return process_state(pid) in ("", "Z", "X")


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def children_of(parent: int) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if parent_of(pid) == parent]
