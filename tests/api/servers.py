"""The API in a process of its own, which can be killed and started again at the same address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from jobplatform.testing import wait_until

ROOT = Path(__file__).parents[2]


class Server:
    """gunicorn on a port of its own: ``start``, ``kill``, ``start`` again."""

    def __init__(
        self,
        database_url: str,
        folder: Path,
        *options: str,
        application: str = "wsgi:app",
        probe: str = "/api/readyz",
        **environ: str,
    ) -> None:
        # Kept as long as we are: nobody else gets the port, also while the server is down.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._place.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self.log = folder / "server.log"
        self._application = application
        self._probe = probe
        self._options = options or ("--threads", "12")
        self._environ = {
            **os.environ,
            "DATABASE_URL": database_url,
            "JOBPLATFORM_TASKS": "tests.api.stream_tasks:tasks",
            "JOBPLATFORM_TRUST_LOGIN": "true",
            "PYTHONPATH": str(ROOT),
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "--bind", self.address, "--reuse-port", "--no-control-socket"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options, self._application],
                cwd=ROOT,
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, what="the server to answer", seconds=90)

    def kill(self) -> None:
        """End it and its worker processes at once: nothing of theirs is finished."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

    def destroy(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._place.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}{self._probe}", timeout=30).status_code == 200
        except httpx.TransportError:
            return False
