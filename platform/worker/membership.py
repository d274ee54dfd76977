"""Membership: this worker's row, its heartbeats, and whether its leases can still be its own."""

import math
import os
import socket
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

from jobplatform.queue import Adaptive, LimitsInCode, WorkerInfo
from jobplatform.worker.clock import lease_clock
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.registrar import Beat, Beaten, Deregister, Register, Registered, Registrar

NEVER: Final = math.inf


class Membership:
    """A worker is one between its registration and the end of its lease. A lapsed one comes back under a new id."""

    def __init__(self, registrar: Registrar, ledger: Ledger, options: WorkerOptions, version: str) -> None:
        self.worker_id: int | None = None
        self.draining = False
        self._registrar = registrar
        self._ledger = ledger
        self._options = options
        self._version = version
        self._renewed_at = 0.0
        self._registering = False
        self._beating = False
        self._beat_at = NEVER

    def register(self, queues: tuple[str, ...], tasks: tuple[str, ...], catalogue: Sequence[Mapping[str, Any]]) -> None:
        """Ask for an id, if there is none and none is on its way."""
        if self.worker_id is not None or self._registering:
            return
        self._registering = True
        info = WorkerInfo(
            name=self._options.worker_name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._version,
            queues=queues,
            tasks=tasks,
            slots=self._options.slots,
            versions=tuple(task["payload_version"] for task in catalogue),
        )
        self._registrar.ask(Register(info, limits_in_code(catalogue), resource_limits_in_code(catalogue)))

    def registered(self, answer: Registered) -> None:
        self._registering = False
        self.worker_id = answer.worker_id
        self._renewed_at = answer.since
        self._beat_at = monotonic() + self._options.heartbeat

    def registration_failed(self) -> None:
        self._registering = False

    def step(self, now: float) -> float:
        """Send a heartbeat when it is time. Returns when to look again."""
        if self.worker_id is None or self._beating:
            return NEVER
        if now >= self._beat_at:
            self._beating = True
            self._beat_at = now + self._options.heartbeat
            self._registrar.ask(Beat(self.worker_id, list(self._ledger.known), self.draining))
        return self._beat_at

    def beat_soon(self) -> None:
        """Somebody cancelled a running job; the next heartbeat's answer says which."""
        self._beat_at = min(self._beat_at, monotonic())

    def beaten(self, answer: Beaten) -> bool:
        """Take in a heartbeat's answer. False when it is not about who we are now, or did not get through."""
        self._beating = False
        if answer.answer is None:
            self._beat_at = min(self._beat_at, monotonic() + self._options.heartbeat / 4)
            return False
        if answer.worker_id != self.worker_id:
            return False
        if answer.answer.alive:
            self._renewed_at = answer.since
        return True

    @property
    def lapses_in(self) -> float:
        """Seconds until the lease is over by our own clock. It began when the last good heartbeat was *sent*."""
        if self.worker_id is None:
            return NEVER
        return self._renewed_at + self._options.lease - lease_clock()

    def end(self) -> None:
        """We were declared dead, or must assume so."""
        self.worker_id = None
        self._beat_at = NEVER

    def deregister(self) -> bool:
        """Say goodbye. False when there is nobody to say it."""
        if self.worker_id is None:
            return False
        self._registrar.ask(Deregister(self.worker_id))
        self.end()
        return True


def limits_in_code(catalogue: Sequence[Mapping[str, Any]]) -> list[LimitsInCode]:
    """What the code of each task says about how many of its jobs run at a time."""
    return [LimitsInCode(task["name"], task["limit"], task["limit_per_workspace"]) for task in catalogue]


def resource_limits_in_code(catalogue: Sequence[Mapping[str, Any]]) -> dict[str, int | Adaptive]:
    """What it says about how many jobs use a resource at a time. No two tasks say different things of the same."""
    limits = {resource: most for task in catalogue for resource, most in task["resource_limits"].items()}
    return {resource: most if isinstance(most, int) else Adaptive(*most) for resource, most in limits.items()}
