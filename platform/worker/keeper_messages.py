"""What the hub asks of the keeper, and what the keeper tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

# -- asked of it --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Know:
    """What the tasks are, and what schedules are declared beside them."""

    catalogue: Sequence[Mapping[str, Any]]
    schedules: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Serve:
    """We are a worker now, of these queues: chores from here on."""

    queues: Sequence[str]


@dataclass(frozen=True, slots=True)
class Lapse:
    """We are no worker for now: no chores until the next registration. Sweeping would rescue, and so charge as a crash,
    the very jobs that we are about to hand back.
    """


@dataclass(frozen=True, slots=True)
class Due:
    """Something is due in so many seconds; look then, not at the next poll."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SettleNow:
    """Something ended that somebody waits for."""


@dataclass(frozen=True, slots=True)
class LookForLeftovers:
    """The worker would leave if nothing is left to do."""


@dataclass(frozen=True, slots=True)
class ListenAgain:
    """The listening connection broke."""


# -- told by it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobsReady:
    """Scheduled or rescued jobs have become ready, of these workspaces among others."""

    workspaces: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Reaped:
    """So many jobs were taken back from dead workers."""

    jobs: int


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Whether there are any, as far as it is known, and how long it took to find out."""

    left: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Listening:
    """The keeper has a connection on which the doorbell is heard."""

    connection: psycopg.Connection[Any]
