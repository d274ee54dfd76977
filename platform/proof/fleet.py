"""The workers, and a supervisor that replaces each one that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobplatform.proof import diary
from jobplatform.proof.part import Part
from jobplatform.proof.processes import Process, descendants, send

#: `jobplatform worker`. Nothing of the folder that this runs in can stand in for a module of ours or of Python's.
WORKER = (sys.executable, "-P", "-m", "jobplatform.cli", "worker")

#: Seconds between two looks of the supervisor.
LOOK_EVERY = 0.1


@dataclass(slots=True)
class WorkerProcess:
    """A worker that was started here. ``expected`` is set by whoever is about to end it, ``leaves`` if nobody is to
    take its place."""

    process: subprocess.Popen[bytes]
    log: Path
    expected: bool = False
    stopped: bool = False
    leaves: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None


@dataclass(slots=True)
class Fleet:
    """``size`` workers of ``slots`` each. Only the supervisor's thread adds and removes workers; any may change the
    size."""

    url: str
    folder: Path
    size: int
    slots: int
    lease: float
    crash_limit: int
    program: Sequence[str] = WORKER
    workers: list[WorkerProcess] = field(default_factory=list)
    started: int = 0
    fallen: list[str] = field(default_factory=list)
    ever: set[Process] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def diary(self) -> Path:
        return self.folder / "diary"

    def start(self) -> None:
        self.diary.touch()
        self._thread = threading.Thread(target=self._supervise, name="supervisor")
        self._thread.start()

    def end(self, seconds: float) -> list[str]:
        """Stop all workers as a deployment would. Returns complaints about those that did not stop, or not cleanly."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        for worker in self.workers:
            worker.expected = True
            send(worker.pid, signal.SIGCONT)
            send(worker.pid, signal.SIGTERM)
        return [complaint for worker in self.workers if (complaint := self._ended(worker, seconds))]

    def kill(self) -> None:
        """End everything that was started here and is still alive; for the end of a run, however it ended."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        for worker in self.workers:
            self.note_descendants(worker)
            if worker.running:
                worker.process.kill()
                worker.process.wait()
        for process in self.orphans():
            send(process.pid, signal.SIGKILL)

    def orphans(self) -> list[Process]:
        """Processes of workers that are no more, still alive."""
        return [process for process in self.ever if process.alive]

    def note_descendants(self, worker: WorkerProcess) -> list[Process]:
        """The processes of a worker, nearest first; remembered, so that none can outlive the run."""
        found = descendants(worker.pid)
        self.ever.update(found)
        return found

    def _supervise(self) -> None:
        while not self._stop.is_set():
            self.workers = [worker for worker in self.workers if self._still_runs(worker)]
            staying = [worker for worker in self.workers if not worker.leaves]
            for worker in staying[self.size :]:
                self._dismiss(worker)
            for _ in range(len(staying), self.size):
                self.workers.append(self._launch())
            self._stop.wait(LOOK_EVERY)

    def _dismiss(self, worker: WorkerProcess) -> None:
        """As a deployment does that needs fewer of them."""
        self.note_descendants(worker)
        worker.expected = worker.leaves = True
        send(worker.pid, signal.SIGTERM)

    def _still_runs(self, worker: WorkerProcess) -> bool:
        if worker.running:
            return True
        if not worker.expected:
            self.fallen.append(
                f"worker {worker.pid} ended by itself with {worker.process.returncode}: {_end(worker.log)}"
            )
        return False

    def _launch(self) -> WorkerProcess:
        self.started += 1
        log = self.folder / f"worker-{self.started}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.program, "--concurrency", str(self.slots), "--drain-timeout", "2"],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return WorkerProcess(process, log)

    def _environment(self) -> dict[str, str]:
        # Without kept bytecode each worker and each nursery compiles all of our code again: 4.2 s of CPU, not 3.0.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("JOBPLATFORM_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        return inherited | {
            "DATABASE_URL": self.url,
            "JOBPLATFORM_TASKS": "jobplatform.proof.workload:tasks",
            "JOBPLATFORM_QUEUES": "default,narrow",
            "JOBPLATFORM_LEASE_SECONDS": f"{self.lease:g}",
            "JOBPLATFORM_HEARTBEAT_SECONDS": f"{self.lease / 4:g}",
            "JOBPLATFORM_POLL_SECONDS": "0.5",
            "JOBPLATFORM_KILL_GRACE_SECONDS": "0.3",
            "JOBPLATFORM_CRASH_LIMIT": str(self.crash_limit),
            "JOBPLATFORM_LOG_FORMAT": "json",
            diary.VARIABLE: str(self.diary),
        }

    def _ended(self, worker: WorkerProcess, seconds: float) -> str | None:
        try:
            code = worker.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"worker {worker.pid} did not stop within {seconds:g} s of SIGTERM: {_end(worker.log)}"
        return f"worker {worker.pid} stopped with {code}: {_end(worker.log)}" if code else None


class Crowd(Part):
    """Brings ``size`` workers for the middle third of ``seconds``."""

    def __init__(self, stop: threading.Event, fleet: Fleet, *, size: int, seconds: float) -> None:
        super().__init__("crowd", stop)
        self.fleet = fleet
        self.size = size
        self.seconds = seconds

    def live(self) -> None:
        usual = self.fleet.size
        self.stop.wait(self.seconds / 3)
        self.fleet.size = max(usual, self.size)
        self.stop.wait(self.seconds / 3)
        self.fleet.size = usual


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-600:].strip()
