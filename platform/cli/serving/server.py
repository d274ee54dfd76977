"""gunicorn, inside the process that was started, so that a supervisor's signals reach it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from jobplatform.cli.serving.proxies import BehindProxies
from jobplatform.cli.serving.reloading import watching
from jobplatform.errors import JobPlatformError
from jobplatform.settings import Network

#: Where prometheus_client has the processes of a server share their counters. An operator may name a folder.
SHARED_COUNTERS: Final = "PROMETHEUS_MULTIPROC_DIR"

logger = logging.getLogger(__name__)


class PlainLogger(Logger):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's events through our formatter; requests are the API's own events, not a second kind of line."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.access_log.setLevel(logging.WARNING)


class _Arbiter(Arbiter):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's parent process, which ends with the terminal that it was started in.

    To gunicorn SIGHUP means to start its processes anew, and that is what it means here where there is no terminal. A
    server in a window that was closed would go on unseen.
    """

    _is_stale = False

    def start_anew_soon(self) -> None:
        """Have its processes replaced by new ones, which serve before the old ones end. Safe in any thread."""
        self._is_stale = True
        self.wakeup()

    def manage_workers(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self.reload()
        super().manage_workers()

    def init_signals(self) -> None:
        self._in_terminal = _has_terminal()
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        super().init_signals()
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup wants it.

    def handle_hup(self) -> None:
        if self._in_terminal:
            self.handle_term()
        super().handle_hup()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    def __init__(self, options: dict[str, Any], proxies: Sequence[Network], watched: Sequence[Path]) -> None:
        self.options = options
        self.proxies = proxies
        self.watched = watched
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        try:
            arbiter = _Arbiter(self)
            with watching(self.watched, arbiter.start_anew_soon):
                arbiter.run()
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error

    def load(self) -> Any:
        """The application, or what stands in for one that does not start while its code is being changed."""
        try:
            # Here and not above: each process makes its own application, with its own connections.
            from jobplatform.api.wsgi import app
        except Exception as error:
            if not self.watched:
                raise
            # Where the message says it all, a traceback would hide it.
            is_explained = isinstance(error, JobPlatformError)
            logger.error(
                "the API does not start; it is tried again when its code changes",
                extra={"error": str(error)},
                exc_info=not is_explained,
            )
            return _does_not_start
        return BehindProxies(app, self.proxies) if self.proxies else app


def _does_not_start(_environ: object, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Says so, and no more than that: who asks need not be who may read the code."""
    said = {"title": "Service Unavailable", "status": 503, "detail": "The API does not start. Its log says why."}
    start_response("503 Service Unavailable", [("Content-Type", "application/problem+json")])
    return [json.dumps(said).encode()]


#: How many connections a process has at once: streams under gevent, clients that are kept or not done with asking.
CONNECTIONS: Final = {"gevent": 4_096, "threads": 1_024}
WORKERS: Final = {
    "gevent": "jobplatform.cli.serving.greenlet_worker.GreenletWorker",
    "threads": "jobplatform.cli.serving.patient_worker.PatientWorker",
}


def serve(
    address: str,
    *,
    workers: int,
    threads: int,
    server: str = "threads",
    proxies: Sequence[Network] = (),
    watched: Sequence[Path] = (),
) -> None:
    """Serve until told to stop, then leave the process as gunicorn does, with SystemExit. When Python files below
    ``watched`` change, go on with new processes."""
    options = share_counters()
    _Server(
        options
        | {
            "bind": address,
            "workers": workers,
            "worker_class": WORKERS[server],
            "worker_connections": CONNECTIONS[server],
            "threads": threads,
            "logger_class": PlainLogger,
            # A terminal tells all of its processes, and this one would cut off whom it serves; its parent tells it.
            "post_worker_init": lambda _worker: signal.signal(signal.SIGHUP, signal.SIG_IGN),
            "graceful_timeout": 10,
            "timeout": 60,
            # As much as it allows: the place of a client in a large workspace may stand in the query.
            "limit_request_line": 8190,
            "proc_name": "jobplatform-api",
            # Its remote control would listen in a file shared by every gunicorn of this user.
            "control_socket_disable": True,
            # Of what a proxy passes on it would believe the scheme alone, and of 127.0.0.1 by itself.
            "forwarded_allow_ips": "",
            # Or whoever is trusted could say below which path the application is.
            "forwarder_headers": "",
        },
        proxies,
        watched,
    ).run()


def share_counters() -> dict[str, Any]:
    """Have the processes to be started count together, and say what the server must do about it.

    A process that ends leaves its numbers behind, since a counter never falls; the folder goes with the server.
    """
    if os.environ.get(SHARED_COUNTERS):
        return {}
    folder = os.environ[SHARED_COUNTERS] = tempfile.mkdtemp(prefix="jobplatform-counters-")
    return {"on_exit": lambda _server: shutil.rmtree(folder, ignore_errors=True)}
