"""Chores: what a worker does every so often, and when it is due next."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from jobplatform.queue import Signs

NEVER: Final = math.inf
#: Seconds between two tries of what fails each time, at most; and how often the pause doubles before.
LONGEST_PAUSE: Final = 60.0
MOST_DOUBLINGS: Final = 6


@dataclass(slots=True)
class Chore:
    """Something to do every so often. `run` may answer with the seconds until it wants to run again."""

    name: str
    every: float
    run: Callable[[], float | None]
    due_at: float = field(default_factory=monotonic)
    spread: float = 1.5
    failures: int = 0

    def pause(self) -> float:
        """Seconds until it is due again. Workers that started together don't stay together."""
        return self.every * random.uniform(1, self.spread)

    def failed(self, now: float) -> None:
        """It will fail again, so it is tried more rarely each time in a row; but for ever, for its cause may pass."""
        self.failures += 1
        self.due_at = now + self._pause_after_failure()

    def _pause_after_failure(self) -> float:
        return min(LONGEST_PAUSE, self.every + 2.0 ** min(self.failures, MOST_DOUBLINGS))


@dataclass(slots=True)
class Watched(Chore):
    """A chore for which there is seldom something to do: it is due when a look has seen a sign of it, or somebody says
    so. `every` is how often it is looked for, at most.

    `sign` says in how many seconds there will be something to do; None for no sign of it.
    """

    due_at: float = NEVER
    sign: Callable[[Signs], float | None] = field(kw_only=True)
    look_at: float = 0.0

    def pause(self) -> float:
        return NEVER

    def failed(self, now: float) -> None:
        """It is not looked for meanwhile; who knows that there is something to do may still say so."""
        self.failures += 1
        self.due_at = NEVER
        self.look_at = now + self._pause_after_failure()

    def seen(self, signs: Signs, now: float) -> None:
        """Take in what a look has seen."""
        self.look_at = now + Chore.pause(self)
        seconds = self.sign(signs)
        if seconds is not None:
            self.due_at = min(self.due_at, now + seconds)
