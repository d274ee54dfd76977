"""Levels of the queue, kept so that nobody can ask for them too often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from jobplatform.queue import Levels


class KeptLevels:
    """Levels are kept for some seconds, and longer the longer it took to measure them: however often somebody asks, a
    process spends a twentieth of the time on it at most."""

    SECONDS: Final = 5.0
    SHARE: Final = 20

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Levels | None = None
        self._until = 0.0

    def get(self, measure: Callable[[], Levels]) -> Levels:
        with self._lock:
            began = self._clock()
            if self._kept is None or began >= self._until:
                self._kept = measure()
                ended = self._clock()
                self._until = ended + max(self.SECONDS, self.SHARE * (ended - began))
            return self._kept
