"""gunicorn, inside the process that was started, so that a supervisor's signals reach it."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger


class PlainLogger(Logger):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's events through our formatter; requests are the API's own events, not a second kind of line."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.access_log.setLevel(logging.WARNING)


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # Here and not above: each process makes its own application, with its own connections.
        from jobplatform.api.wsgi import app

        return app


def serve(address: str, *, workers: int, threads: int, worker_class: str = "gthread") -> None:
    """Serve until told to stop, then leave the process as gunicorn does, with SystemExit."""
    _Server(
        {
            "bind": address,
            "workers": workers,
            "worker_class": worker_class,
            "threads": threads,
            "logger_class": PlainLogger,
            "graceful_timeout": 10,
            "timeout": 60,
            "proc_name": "jobplatform-api",
            # Its remote control would listen in a file shared by every gunicorn of this user.
            "control_socket_disable": True,
        }
    ).run()
