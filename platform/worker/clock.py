"""The clock that leases are measured with on this host."""

import time


def lease_clock() -> float:
    """Seconds that also pass while the machine is suspended: its lease runs out meanwhile, and it must know."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
