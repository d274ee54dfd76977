"""A nursery whose imports somebody else has done: forked beside its worker, it waits until the worker starts it.

It is the worker's own child, as any nursery is, and knows nothing of the worker: it is forked before there is anything
to know. A worker that starts another one, because this one died, starts that the long way.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from typing import NoReturn

from jobplatform.worker import nursery_link
from jobplatform.worker.nursery import Nursery


class WaitingNursery:
    """What the worker has of it; the part of ``subprocess.Popen`` that the worker uses."""

    def __init__(self) -> None:
        """Fork it. Only a process without threads may do that."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            wait_and_be_nursery(theirs)
        theirs.close()
        self._socket = ours

    def start(self, control: socket.socket) -> WaitingNursery:
        socket.send_fds(self._socket, [b"start"], [control.fileno()])
        self._socket.close()
        return self

    def wait(self, timeout: float | None = None) -> int:
        end = os.pidfd_open(self.pid)
        try:
            if not select.select([end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("nursery", timeout or 0)
        finally:
            os.close(end)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def use_a_waiting_nursery() -> None:
    """Let the worker that this process is about to be start its first nursery at once."""
    if not hasattr(os, "pidfd_open"):
        return
    anew = nursery_link.start_nursery
    waiting = [WaitingNursery()]

    def start(control: socket.socket) -> subprocess.Popen[bytes]:
        if waiting:
            return waiting.pop().start(control)  # type: ignore[return-value]  # as far as the worker can tell
        return anew(control)

    nursery_link.start_nursery = start


def wait_and_be_nursery(orders: socket.socket) -> NoReturn:
    """As ``python -m jobplatform.worker.nursery`` would be; when the worker ends without a word, so does this."""
    code = 0
    try:
        word, descriptors, _, _ = socket.recv_fds(orders, 16, 1)
        if word:
            orders.close()
            nowhere = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nowhere, 0)
            os.close(nowhere)
            Nursery(socket.socket(fileno=descriptors[0])).run()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
