"""CPU time of a process and of everything it started, from the system's own books."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class CpuTime:
    """Seconds used by the process itself and by its descendants, those that have ended included."""

    own: float
    descendants: float

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.own - earlier.own, self.descendants - earlier.descendants)

    @property
    def total(self) -> float:
        return self.own + self.descendants


def cpu_time(pid: int) -> CpuTime:
    process = psutil.Process(pid)
    times = process.cpu_times()
    descendants = times.children_user + times.children_system
    for child in process.children(recursive=True):
        descendants += _of_one(child)
    return CpuTime(times.user + times.system, descendants)


def _of_one(process: psutil.Process) -> float:
    """A process that ends between the listing and the look is in its parent's books from then on."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
