"""The worker: one process per host, put together and run."""

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sqlalchemy.exc import OperationalError

from jobplatform.models import Role, make_engine, may_serve, require_entry
from jobplatform.queue import off_happenings, on_happenings
from jobplatform.settings import Settings
from jobplatform.worker.departure import Departure
from jobplatform.worker.hub import Hub, stop_on_signals
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.tally import Tally
from jobplatform.worker.watching import open_port

# Claimer, finisher, registrar, keeper; the keeper opens a fifth one that listens and is then taken out of the pool.
CONNECTIONS = 5
# Several times what the jobs of a worker are made of, so that only what really is left over leads to a collection.
COLLECT_AFTER = 20_000

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
        self._departure: Departure | None = None

    @classmethod
    def from_settings(cls, settings: Settings, **changes: Any) -> "Worker":
        """A worker as the settings describe it; `changes` (fields of WorkerOptions) win."""
        return cls(WorkerOptions.from_settings(settings, **changes))

    def run(self, *, drain_on: int | None = None) -> int:
        """Block until stopped by a signal or `stop()`, or done if the options say when, and return the exit code.

        0: everything was finished or handed back. 1: something could not be written any more. Raises SettingsError
        when the tasks can't be imported, for a database login that could see more than a worker may, and for one that
        the server refuses or a database that it has not.

        ``drain_on`` is a signal that asks it to stop and never counts as a second one: for a parent that cannot know
        whether its own signal has reached this process too.
        """
        with suppress(OperationalError):
            # What is wrong by now is said before anything is started; the registrar asks again until it is answered.
            self._login_is_fit()
        engine = make_engine(
            self.options.own_database_url,
            application_name="jobplatform-worker",
            pool_size=CONNECTIONS,
            autocommit=True,
            role=Role.WORKER,
        )
        tally = None if self.options.health_port is None else Tally()
        hub = self._hub = Hub(self.options, engine, _version(), tally, admit=self._login_is_fit)
        self._departure = hub.departure
        if threading.current_thread() is threading.main_thread():
            stop_on_signals(hub, drain_on)
        logger.info(
            "worker starting", extra={"worker_name": self.options.worker_name, "tasks_from": self.options.tasks}
        )
        try:
            with few_collections(), watched(hub, tally, self.options):
                code = hub.run()
        finally:
            self._hub = None
            engine.dispose()
        logger.info("worker stopped", extra={"exit_code": code})
        return code

    def _login_is_fit(self) -> bool:
        """Whether it can be a worker and make handlers of itself; False while there is no schema to ask about.

        Raises SettingsError when it could do more, or is refused by the server; and OperationalError while the database
        cannot be reached.
        """
        urls = dict.fromkeys((self.options.database_url, self.options.own_database_url))
        return all(self._fits(url) for url in urls)

    def _fits(self, url: str) -> bool:
        engine = make_engine(url, application_name="jobplatform-worker", pool_size=1)
        try:
            return may_serve(engine, Role.WORKER, Role.HANDLER, trust_login=self.options.trust_login)
        except OperationalError:
            # Asked until the first answer, and never again: a password may be changed while we run.
            require_entry(url)
            raise
        finally:
            engine.dispose()

    def stop(self) -> None:
        """Have a running worker drain and stop; called again, stop now. Safe from any thread and signal handler."""
        if self._hub is not None:
            self._hub.stop()

    def make_way(self) -> None:
        """Have a running worker hand back at once, for another to be begun in its place. Safe from any thread."""
        if self._hub is not None:
            self._hub.make_way()

    @property
    def told_to_stop(self) -> bool:
        """Whether anybody has it stop, or had its last run: by a signal, `stop()`, or from afar."""
        return self._departure is not None and self._departure.told_to_stop


@contextmanager
def few_collections() -> Iterator[None]:
    """Have Python look for cyclic garbage rarely in this process.

    Jobs that are claimed and flushed by the hundred look to the collector like a leak: by default it searches all that
    a worker holds several times a claim, for an eighth of this process's CPU, and finds nothing.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


@contextmanager
def watched(hub: Hub, tally: Tally | None, options: WorkerOptions) -> Iterator[None]:
    """Serve probes and numbers meanwhile, where somebody wants them."""
    if tally is None or options.health_port is None:
        yield
        return
    port = open_port(hub, tally, options.health_host, options.health_port)
    on_happenings(tally.happened)
    host, number = port.address
    logger.info("port for probes open", extra={"host": host, "port": number})
    try:
        yield
    finally:
        off_happenings(tally.happened)
        port.stop()


def _version() -> str:
    try:
        return version("jobplatform")
    except PackageNotFoundError:
        return "unknown"
