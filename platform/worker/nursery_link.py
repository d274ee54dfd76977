"""The parent's end of the nursery: starting it, asking it for children and signals, hearing from it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from jobplatform.worker.frames import MESSAGE_SIZE

STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class NurseryConfig:
    """What the nursery and its children need to know. Sent through the socket: a command line is public."""

    tasks: str
    database_url: str
    threads: int
    log_level: int
    counts: bool = False
    import_path: list[str] = field(default_factory=lambda: list(sys.path))

    def as_message(self) -> dict[str, Any]:
        return asdict(self)


class NurseryGoneError(Exception):
    """The nursery's socket is closed; every child of it is dead or about to be."""


def start_nursery(control: socket.socket) -> subprocess.Popen[bytes]:
    """A process that obeys what comes through ``control``."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobplatform.worker.nursery", str(control.fileno())],
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
        cwd=_folder(),
        env=os.environ | {"PYTHONPATH": _python_path()},
    )


class NurseryLink:
    """A running nursery process and the socket to it. Requests never block."""

    def __init__(self, config: NurseryConfig) -> None:
        # One request is one message, and descriptors can't be torn from theirs.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = start_nursery(theirs)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        self._send(["configure", config.as_message()])

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._socket.fileno()

    def spawn(self, number: int, descriptors: Sequence[int]) -> None:
        """Ask for a child that gets these descriptors; `started` tells its pid."""
        self._send(["spawn", number], descriptors)

    def kill(self, pid: int, signum: int) -> None:
        """Signal one child. Ignored when it was reaped: the nursery knows, so a reused pid can't be hit."""
        self._send(["kill", pid, int(signum)])

    def kill_group(self, pid: int, signum: int) -> None:
        """Signal a child and all it started."""
        self._send(["killpg", pid, int(signum)])

    def kill_nursery(self) -> None:
        """Its children die with it; the end of its socket is on the way."""
        self._process.kill()

    def messages(self) -> Iterator[list[Any]]:
        """What the nursery said since the last call. Raises NurseryGoneError at the end of a dead one's words."""
        while True:
            try:
                data = self._socket.recv(MESSAGE_SIZE)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                raise NurseryGoneError
            yield json.loads(data)

    def close(self, *, patience: float = STOP_SECONDS) -> None:
        """Close the socket, at which the nursery kills every group of its children and leaves."""
        self._socket.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: list[Any], descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode()
        try:
            socket.send_fds(self._socket, [data], descriptors)
        except BlockingIOError:
            # A nursery with a full inbox is stopped or stuck.
            self.kill_nursery()
        except OSError:
            pass  # It is dead; the end of its socket is on the way.


def kill_orphans(pids: Sequence[int]) -> None:
    """Kill the groups a dead nursery left behind. Only then: as long as it lives it alone may signal its children."""
    for pid in pids:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def _folder() -> str | None:
    """Ours. Where that was deleted, as a release is by the next one, another: an interpreter does not start there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return os.sep
    return None


def _python_path() -> str:
    """The nursery must find this very package, also when the parent was started from elsewhere."""
    return os.pathsep.join(path for path in sys.path if path)
