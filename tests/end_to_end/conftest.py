"""The `jobplatform` command as a user runs it: with an environment of its own, here or in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.cli import main
from jobplatform.embedded import EmbeddedServer
from jobplatform.models import Workspace
from jobplatform.testing import wait_until

Cli = Callable[..., Result]

COMMAND = [sys.executable, "-m", "jobplatform.cli"]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for an embedded server. Not pytest's own: for root it has to be one that others may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="jobplatform-test-"))
    yield folder
    # To look at all processes of the machine takes longer than most tests, which have started none.
    if any(folder.iterdir()):
        wait_until(lambda: not processes_with(folder), what="every process of the test to be gone")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def initialised() -> Iterator[Path]:
    """What a server that was started once, and migrated, leaves in its folder when it stops."""
    folder = Path(tempfile.mkdtemp(prefix="jobplatform-test-"))
    server = EmbeddedServer(folder, {"fsync": "off"})
    migrations.upgrade(server.start())
    server.stop()
    yield folder / "postgresql"
    shutil.rmtree(folder)


@pytest.fixture
def prepared(data_dir: Path, initialised: Path) -> Path:
    """The test's folder with a server in it that only has to be started: to make one and its tables takes longer than
    most tests of what comes after that."""
    # Whoever owns the files here owns them there, which Python's own copies leave to chance.
    subprocess.run(["cp", "-a", str(initialised), str(data_dir)], check=True)
    return data_dir


@pytest.fixture
def environment(data_dir: Path) -> dict[str, str]:
    """What the command sees: the embedded server in the test's folder, and any port that is free."""
    return {**os.environ, "JOBPLATFORM_DATA_DIR": str(data_dir), "JOBPLATFORM_PORT": "0", "COLUMNS": "200"}


def processes_with(folder: Path) -> list[str]:
    """Every process that was started with ``folder`` in its environment or on its command line."""
    return [line for process in psutil.process_iter() if (line := _about(process, folder))]


def _about(process: psutil.Process, folder: Path) -> str:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return ""
        command = " ".join(process.cmdline())
        inside = str(folder) in command or str(folder) in process.environ().get("JOBPLATFORM_DATA_DIR", "")
        return f"{process.pid} {command}" if inside else ""
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return ""


@pytest.fixture
def run(environment: dict[str, str]) -> Cli:
    """The command, called in this process: nearly all of a new one's time would be spent importing. ``typed`` is what
    somebody types when it asks."""

    def run(*arguments: str, typed: str | None = None, **variables: str) -> Result:
        env = {**environment, **variables}
        return CliRunner().invoke(main, arguments, input=typed, env=env, catch_exceptions=False)

    return run


@pytest.fixture
def cli(run: Cli, database_url: str) -> Cli:
    """The same on the test's own migrated database."""

    def cli(*arguments: str, typed: str | None = None, **variables: str) -> Result:
        return run(*arguments, typed=typed, **{"DATABASE_URL": database_url, **variables})

    return cli


def as_json(answer: Result) -> Any:
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture
def acme(session: Session) -> uuid.UUID:
    workspace = Workspace(id=uuid.uuid4(), name="Acme")
    session.add(workspace)
    session.commit()
    return workspace.id


class Running:
    """A command that goes on: its output is read as it comes, through a pipe or as a terminal would."""

    def __init__(self, arguments: list[str], environment: dict[str, str], *, terminal: bool = False) -> None:
        reading, writing = os.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen([*COMMAND, *arguments], env=environment, stdout=writing, stderr=writing)
        os.close(writing)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def _read(self, reading: int) -> None:
        # A terminal whose last writer has left answers EIO instead of an end of file.
        with os.fdopen(reading, errors="replace") as output, contextlib.suppress(OSError):
            for line in output:
                self.lines.append(line.rstrip("\r\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, text: str) -> str:
        """The first line with ``text`` in it; fails at once when the command ends without saying it."""

        def find() -> str:
            found = next((line for line in self.lines if text in line), "")
            if not found and self.process.poll() is not None:
                self._reader.join()
                found = next((line for line in self.lines if text in line), "")
                assert found, f"ended with {self.process.returncode} before saying {text!r}:\n{self.output}"
            return found

        return wait_until(find, what=f"the command to say {text!r}", seconds=180)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(90)
        self._reader.join()
        return code


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Running]]:
    """Starts the command and leaves it running; what is left of it at the end of the test is killed."""
    started: list[Running] = []

    def start(*arguments: str, terminal: bool = False, **variables: str) -> Running:
        started.append(Running(list(arguments), {**environment, **variables}, terminal=terminal))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
            running.wait()
