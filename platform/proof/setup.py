"""How big a run is, how long, and how bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from jobplatform.proof.fleet import WORKER
from jobplatform.proof.monkey import WEIGHTS
from jobplatform.proof.terrain import DEMANDED

#: Of the time of a run, this is when jobs are enqueued and faults injected; the rest is for finishing.
STORM = 0.75
#: When nothing becomes less for so many seconds it never will: what was killed last is taken back after its lease, and
#: tried again after a second or two.
LONGEST_PAUSE = 60.0
#: Restarts of the server in a minute.
RESTARTS = 1.2

#: With fewer jobs than this not many are at any one place: its limits are lower then, or nobody would reach them; and
#: few have to wait, so that the pauses of a busy machine are no matter of a few leases.
FEW_JOBS = 3_000
FEW: dict[str, Any] = {
    "workspaces": 12,
    "producers": 2,
    "slots": 4,
    "poison": 2,
    "pause": 0.4,
    "lease": 2.0,
    "limits": (1, 2, 4),
    "flooded": 0.4,
    "flood": 8,
    "turns": 0.3,
    "schedules": 3,
    "patience": 10.0,
}

#: Of a worker, beside the one of each handler that uses its Session.
OF_A_WORKER = 4
#: Who asks beside the producers of a plan: of floods two, of rushes and of families one, an operator, an intruder, and
#: the knobs.
OTHER_CLIENTS = 7
#: The watcher, the monkey, and those who look whether all has ended.
ONLOOKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How big, how long and how bad."""

    seed: int
    jobs: int = 11_000
    seconds: float = 180
    rest_seconds: float = 120
    """For how long nothing may become less, once all is to come to its end."""
    workspaces: int = 40
    producers: int = 3
    workers: int = 4
    slots: int = 3
    poison: int = 12
    restarts: int = 5
    pause: float = 0.5
    lease: float = 2.5
    crash_limit: int = 3
    retries: int = 30
    faults: tuple[str, ...] = tuple(WEIGHTS)
    long_naps: float = 0.03
    """The share of naps that last about a lease."""
    stops: tuple[float, float] = (1.2, 3)
    """How long a stopped worker stays so, in leases."""
    worker: tuple[str, ...] = WORKER
    """The program of the workers, without its options."""
    alter: Callable[[psycopg.Connection[Any]], object] | None = None
    """What is done to the database before anybody uses it."""
    limits: tuple[int, int, int] | None = (1, 3, 10)
    """How many may run at a time in three of the workspaces; None for a run without any limits, rates and quotas."""
    flooded: float = 0.2
    """The share of the jobs that is poured into limited places."""
    flood: int = 30
    """How many at once, at most."""
    turns: float = 1.0
    """Seconds between two turns of a knob, about."""
    rushes: float = 0.04
    """How many more are poured on resources with limits, also adaptive ones, as a share of all the others."""
    families: float = 0.1
    """How many jobs wait for others or belong to batches, as a share of all the others."""
    crowd: int = 8
    """How many workers there are in the middle of the storm."""
    demanded: frozenset[str] = DEMANDED
    patience: float = 3
    """For how many leases a job may be left waiting while slots are free and nothing forbids it to start. A worker that
    is stopped looks healthy for a lease, and one that lost its connection, or just began, has no use for its slots a
    while."""
    schedules: int = 8
    """How many schedules tick every second."""

    @classmethod
    def sized(cls, *, seed: int, jobs: int, minutes: float, workers: int) -> Setup:
        """For a run that takes about so long."""
        seconds = minutes * 60
        setup = cls(
            seed=seed,
            jobs=jobs,
            seconds=seconds * STORM,
            rest_seconds=LONGEST_PAUSE,
            workers=workers,
            crowd=2 * workers,
            restarts=max(1, round(minutes * RESTARTS)),
        )
        return replace(setup, **FEW) if jobs < FEW_JOBS else setup

    @property
    def connections(self) -> int:
        """How many a run has at a time, at most: one worker more, whose connections were not missed yet."""
        workers = max(self.workers, self.crowd) + 1
        return workers * (OF_A_WORKER + self.slots) + self.producers + OTHER_CLIENTS + ONLOOKERS
