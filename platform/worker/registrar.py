"""The registrar: makes us a worker, renews our lease when the hub asks, and says goodbye.

It does nothing else, and has a connection that nothing else uses: whatever a chore waits for, the lease does not.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from jobplatform.errors import MigrationError, SettingsError
from jobplatform.queue import (
    Adaptive,
    Heartbeat,
    Lease,
    LimitsInCode,
    WorkerInfo,
    declare_resource_limits,
    declare_retention,
    declare_rules,
    declare_task_limits,
    deregister_worker,
    heartbeat,
    register_worker,
)
from jobplatform.worker.clock import lease_clock
from jobplatform.worker.database import DatabaseThread, will_pass

logger = logging.getLogger("jobplatform.worker")


@dataclass(frozen=True, slots=True)
class Register:
    """The limits are written down by the first registration of a process: later, newer code may have said others."""

    info: WorkerInfo
    limits: Sequence[LimitsInCode] = ()
    resource_limits: Mapping[str, int | Adaptive] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beat:
    """Renew the leases, and say what is held."""

    worker_id: int
    held: Sequence[Lease]
    draining: bool


@dataclass(frozen=True, slots=True)
class Deregister:
    """Say goodbye: the worker is not to be waited for."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class Registered:
    """`since` is when the registration was sent, on the lease's clock."""

    worker_id: int
    since: float


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """The database was not to be reached; the registrar may be asked again."""


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """This process must not go on with the login that it has."""

    error: SettingsError


@dataclass(frozen=True, slots=True)
class Beaten:
    """`answer` is None when the heartbeat did not get through."""

    worker_id: int
    since: float
    answer: Heartbeat | None


@dataclass(frozen=True, slots=True)
class Deregistered:
    """The goodbye is said."""


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the tasks' code asks for, to be written down by each worker that begins."""

    keeps: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    rules: Sequence[Mapping[str, Any]] = ()
    declared_by: str = ""

    @classmethod
    def of(
        cls, catalogue: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]], tasks: str
    ) -> "Declarations":
        return cls({task["name"]: task["keep"] for task in catalogue}, rules, tasks)


class Registrar(DatabaseThread):
    """``admit`` says whether our login may be a worker's, False while there is no schema yet. It raises SettingsError
    for one that may do more, and OperationalError while the database is away. Nothing is done before it says yes.
    """

    def __init__(self, engine: Engine, post: Callable[[Any], None], admit: Callable[[], bool]) -> None:
        super().__init__("registrar", engine, post)
        self._admit = admit
        self._admitted = False
        self._limits_declared = False
        self.declarations = Declarations()
        """Set before the first registration."""

    def serve(self) -> None:
        while (request := self.requests.get()) is not None:
            match request:
                case Register():
                    self._register(request)
                case Beat():
                    self._beat(request)
                case Deregister():
                    self._deregister(request.worker_id)

    def _register(self, request: Register) -> None:
        self._admitted = self._admitted or self._ask_for_admission()
        if not self._admitted:
            self.pause()
            self.post(RegistrationFailed())
            return
        since = lease_clock()
        try:
            self._declare()
            self._declare_limits(request)
            worker_id = self.once(lambda session: register_worker(session, request.info))
        except SQLAlchemyError as error:
            self._report("registration", error)
            self.pause()
            self.post(RegistrationFailed())
        else:
            self.post(Registered(worker_id, since))

    def _ask_for_admission(self) -> bool:
        try:
            admitted = self._admit()
        except SettingsError as error:
            self.post(LoginRefused(error))
            return False
        except OperationalError as error:
            self.outage.failed(error)
            return False
        if not admitted:
            self.outage.failed(MigrationError("there is no schema jobplatform in it yet: run `jobplatform migrate`"))
        return admitted

    def _declare(self) -> None:
        """Before there is a worker, so that nothing is deleted that the code wants kept."""
        said = self.declarations
        self.once(lambda session: declare_retention(session, said.keeps))
        self.once(lambda session: declare_rules(session, said.rules, said.declared_by))

    def _declare_limits(self, said: Register) -> None:
        if self._limits_declared:
            return
        declared_by = self.declarations.declared_by
        tasks = self.once(lambda session: declare_task_limits(session, said.limits))
        resources = self.once(lambda session: declare_resource_limits(session, said.resource_limits, declared_by))
        self._limits_declared = True
        if tasks:
            logger.info("limits of tasks follow the code", extra={"tasks": tasks})
        if resources:
            logger.info("limits of resources follow the code", extra={"resources": resources})

    def _beat(self, beat: Beat) -> None:
        since = lease_clock()
        answer: Heartbeat | None = None
        try:
            answer = self.once(lambda session: heartbeat(session, beat.worker_id, beat.held, draining=beat.draining))
        except SQLAlchemyError as error:
            self._report("heartbeat", error)
        self.post(Beaten(beat.worker_id, since, answer))

    def _deregister(self, worker_id: int) -> None:
        with suppress(SQLAlchemyError):
            self.once(lambda session: deregister_worker(session, worker_id))
        self.post(Deregistered())

    def _report(self, what: str, error: SQLAlchemyError) -> None:
        """An outage is told by itself; what the database refuses would show only when the lease is over."""
        if not will_pass(error):
            logger.error(f"{what} refused by the database", extra={"error": str(error)[:500]})
