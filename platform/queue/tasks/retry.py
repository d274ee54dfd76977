"""When to try again: arithmetic, and nothing but arithmetic.

The shapes of the delays come from ``backoff``'s generators; that they are durable comes from writing the sum into
the job's ``run_after``.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import backoff

from jobplatform.errors import TaskDefinitionError
from jobplatform.queue.allowed import is_number, is_whole, outside, seconds_wanted

ATTEMPTS = range(1, 1001)
#: Beyond this every shape has long reached its cap; the generators are not asked further.
STEPS = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is tried, and how long it waits in between.

    ``max_attempts`` counts the first one. ``base`` is the first delay in seconds, ``cap`` the longest. ``expo``
    doubles (2, 4, 8 …), ``fibo`` adds (2, 2, 4, 6 …), ``constant`` stays. ``jitter`` spreads retries that would come
    at once: ``equal`` keeps half of the delay and draws the rest, ``full`` draws all of it, ``none`` keeps it exact.

    >>> RetryPolicy(jitter="none").delay(3)
    8.0
    """

    max_attempts: int = 3
    wait: Literal["expo", "fibo", "constant"] = "expo"
    base: float = 2.0
    cap: float = 600.0
    jitter: Literal["equal", "full", "none"] = "equal"

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise TaskDefinitionError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if not is_whole(self.max_attempts, ATTEMPTS):
            yield f"max_attempts {outside(ATTEMPTS, '').message}"
        if self.wait not in ("expo", "fibo", "constant"):
            yield "wait must be expo, fibo or constant"
        wrong = [name for name in ("base", "cap") if not is_number(getattr(self, name))]
        yield from (seconds_wanted(name, getattr(self, name)) for name in wrong)
        if not wrong:
            yield from self._problems_of_delays()
        if self.jitter not in ("equal", "full", "none"):
            yield "jitter must be equal, full or none"

    def _problems_of_delays(self) -> Iterator[str]:
        if not 0 <= self.base < math.inf:
            yield "base must not be negative, nor without end"
        if self.cap < self.base:
            yield "cap must not be below base"

    def delay(self, attempt: int, draw: random.Random | None = None) -> float:
        """Seconds to wait after attempt number ``attempt`` (from 1) failed."""
        full = min(self.cap, self._nth(max(1, attempt)))
        uniform = (draw or random).uniform
        if self.jitter == "equal":
            return full / 2 + uniform(0, full / 2)
        return uniform(0, full) if self.jitter == "full" else full

    def _nth(self, attempt: int) -> float:
        """The generator's n-th delay. Primed first: one version yields None before the first, another 0."""
        delays = self._delays()
        next(delays)
        steps = min(attempt, STEPS)
        return float(next(itertools.islice(_pull(delays), steps - 1, None)))

    def _delays(self) -> Generator[Any, Any, None]:
        if self.wait == "expo":
            return backoff.expo(base=2, factor=self.base, max_value=self.cap)
        if self.wait == "fibo":
            return ((value or 0) * self.base for value in backoff.fibo())
        return backoff.constant(interval=[self.base] * (STEPS + 1))

    def with_max_attempts(self, max_attempts: int | None) -> RetryPolicy:
        """The same delays for another number of attempts; None for the same number."""
        return self if max_attempts is None else replace(self, max_attempts=max_attempts)

    def as_dict(self) -> dict[str, Any]:
        """The policy as data, for a process that does not import the task."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RetryPolicy:
        return cls(**data)


def _pull(delays: Generator[Any, Any, None]) -> Generator[float, None, None]:
    while True:
        yield delays.send(None)
