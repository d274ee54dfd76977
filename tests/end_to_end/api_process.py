"""`jobplatform api` in a process of its own, on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import httpx

from jobplatform.testing import wait_until
from tests.end_to_end.conftest import COMMAND

THREADS = 4


class Api:
    """`jobplatform api` with one process, and few threads."""

    def __init__(self, database_url: str, server: str, **settings: str) -> None:
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        os.set_inheritable(self._listener.fileno(), True)
        self.address = self._listener.getsockname()
        self.url = "http://{}:{}".format(*self.address)
        fd = str(self._listener.fileno())
        options = ["api", "--fd", fd, "--workers", "1", "--threads", str(THREADS), "--server", server]
        environ = {**os.environ, "DATABASE_URL": database_url, "JOBPLATFORM_TRUST_LOGIN": "true", **settings}
        self.process = subprocess.Popen([*COMMAND, *options], env=environ, pass_fds=[self._listener.fileno()])
        wait_until(lambda: httpx.get(f"{self.url}/readyz", timeout=60).status_code == 200, what="the API to be ready")

    def memory(self) -> int:
        """Bytes that its serving process has for itself."""
        pid = self.process.pid
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self._listener.close()
