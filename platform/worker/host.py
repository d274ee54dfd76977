"""The worker: one process per host, put together and run."""

import logging
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jobplatform.models import make_engine
from jobplatform.settings import Settings
from jobplatform.worker.hub import Hub, stop_on_signals
from jobplatform.worker.options import WorkerOptions

# Claimer, finisher, keeper; the keeper opens a fourth one that listens and is then taken out of the pool.
CONNECTIONS = 4

logger = logging.getLogger("jobplatform.worker")


class Worker:
    """Runs jobs until it is told to stop.

    The handlers are imported and run in child processes only: `tasks` names them as "module:attribute".

    >>> Worker(database_url="postgresql:///app", tasks="app:tasks", slots=4).run()  # doctest: +SKIP
    """

    def __init__(self, options: WorkerOptions | None = None, **values: Any) -> None:
        """Take ready options, or their fields by name. Raises SettingsError for what cannot work."""
        self.options = options or WorkerOptions(**values)
        self._hub: Hub | None = None

    @classmethod
    def from_settings(cls, settings: Settings, **changes: Any) -> "Worker":
        """A worker as the settings describe it; `changes` (fields of WorkerOptions) win."""
        return cls(WorkerOptions.from_settings(settings, **changes))

    def run(self) -> int:
        """Block until stopped by SIGTERM, SIGINT or `stop()`, and return the process's exit code.

        0: everything was finished or handed back. 1: something could not be written any more. Raises SettingsError
        when the tasks can't be imported.
        """
        engine = make_engine(
            self.options.database_url,
            application_name="jobplatform-worker",
            pool_size=CONNECTIONS,
            autocommit=True,
        )
        hub = self._hub = Hub(self.options, engine, _version())
        if threading.current_thread() is threading.main_thread():
            stop_on_signals(hub)
        logger.info(
            "worker starting", extra={"worker_name": self.options.worker_name, "tasks_from": self.options.tasks}
        )
        try:
            code = hub.run()
        finally:
            self._hub = None
            engine.dispose()
        logger.info("worker stopped", extra={"exit_code": code})
        return code

    def stop(self) -> None:
        """Have a running worker drain and stop; called again, stop now. Safe from any thread and signal handler."""
        if self._hub is not None:
            self._hub.stop()


def _version() -> str:
    try:
        return version("jobplatform")
    except PackageNotFoundError:
        return "unknown"
