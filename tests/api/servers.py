"""The API in a process of its own, which can be killed and started again at the same address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from flask import Flask
from werkzeug.serving import make_server

from jobplatform.testing import wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The URL of an application that is served by threads of this process, for as long as the block lasts."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
