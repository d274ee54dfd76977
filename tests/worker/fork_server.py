"""Workers without the wait for their imports: a process that has imported everything and forks for each of them.

Nearly all that a worker's start costs is importing, in the worker and once more in its nursery. A forked worker is a
process like any other (its own pid, signals, log, interpreter exit, and a nursery of its own); only how both were born
differs, and the tests about starting and stopping don't use it.

    1. ``python -m tests.worker.fork_server FD`` imports the worker and waits at the socket FD.
    2. A message asks for a worker: its options, environment and folder, with the log's descriptor.
    3. It forks. The child leaves the loop by an exception, so it ends as a process does that never was here.
    4. It reaps, and tells how each one ended.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

LARGEST = 1 << 20


class ForkServer:
    """The server as the tests see it."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        with theirs:
            command = [sys.executable, "-m", "tests.worker.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=folder, pass_fds=[theirs.fileno()])
        self._socket = ours
        self._ended: dict[int, int] = {}

    def fork(self, options: Mapping[str, Any], environment: Mapping[str, str], log: IO[bytes]) -> ForkedProcess:
        request = json.dumps([dict(options), dict(environment)]).encode()
        socket.send_fds(self._socket, [request], [log.fileno()])
        while (message := self._hear())[0] != "forked":
            pass
        return ForkedProcess(self, message[1])

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)

    def exit_code(self, pid: int, seconds: float | None) -> int | None:
        """How a worker ended; None when it has not after so long."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while pid not in self._ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._socket], [], [], left)[0]:
                return None
            self._hear()
        return self._ended[pid]

    def _hear(self) -> tuple[str, int]:
        data = self._socket.recv(LARGEST)
        assert data, "the fork server has ended"
        kind, pid, code = json.loads(data)
        if kind == "ended":
            self._ended[pid] = code
        return kind, pid


class ForkedProcess:
    """A worker that the server forked; the part of ``subprocess.Popen`` that tests use."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        return self._server.exit_code(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._server.exit_code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"forked worker {self.pid}", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# -- the server's own process --------------------------------------------------------------------


class BeWorker(Exception):  # noqa: N818 - not an error: in the child this is how the server's loop is left
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options


def serve(control: socket.socket) -> None:
    """Fork when asked and reap, until nobody is at the other end."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    while True:
        ready = select.select([control, wake_read], [], [])[0]
        if wake_read in ready:
            os.read(wake_read, 1_000)
            reap(control)
        if control in ready:
            request, descriptors, _, _ = socket.recv_fds(control, LARGEST, 1)
            if not request:
                return
            fork(control, json.loads(request), descriptors[0], (wake_read, wake_write))


def fork(control: socket.socket, request: list[Any], log: int, pipe: tuple[int, int]) -> None:
    options, environment = request
    if pid := os.fork():
        os.close(log)
        control.send(json.dumps(["forked", pid, None]).encode())
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    control.close()
    for descriptor in pipe:
        os.close(descriptor)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    # An interpreter looks there when it begins, which this one did long ago.
    sys.path[:0] = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    raise BeWorker(options)


def reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps(["ended", pid, os.waitstatus_to_exitcode(status)]).encode())


def main() -> int:
    from tests.worker.run_worker import run  # imports the worker
    from tests.worker.waiting_nursery import use_a_waiting_nursery

    assert threading.active_count() == 1, "a fork has no other threads"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    try:
        serve(control)
    except BeWorker as request:
        options = request.options
    else:
        return 0
    use_a_waiting_nursery()
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
