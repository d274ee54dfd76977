"""The clocks of a worker: the one that leases are measured with on this host, and the one of its children."""

import time
from collections.abc import Callable


def lease_clock() -> float:
    """Seconds that also pass while the machine is suspended: its lease runs out meanwhile, and it must know."""
    return time.clock_gettime(_CLOCK)


def child_clock(monotonic: Callable[[], float] = time.monotonic) -> float:
    """Seconds on the clock that children share with their parent.

    What freezes time for a handler (freezegun) does so for the whole process, by replacing the clock wherever a module
    has it by name. It does not look for it among defaults, so that the time of the other jobs goes on.
    """
    return monotonic()


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
