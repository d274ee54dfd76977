"""How often somebody may try to sign in. A token cannot be guessed; this keeps it from being tried for nothing."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

#: Failures within the span: of one address, and of all.
OF_ONE = 10
OF_ALL = 200
SPAN = 60.0
#: Addresses that are remembered.
MOST = 10_000


class Attempts:
    """Failed attempts in this process, by where they came from."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._all: deque[float] = deque()
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_for(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        with self._lock:
            now = self._now()
            return max(
                _wait(self._all, now, OF_ALL),
                _wait(self._by_address.get(address, deque()), now, OF_ONE),
            )

    def note_failure(self, address: str) -> None:
        with self._lock:
            now = self._now()
            self._all.append(now)
            self._by_address.setdefault(address, deque()).append(now)
            self._by_address.move_to_end(address)
            while len(self._by_address) > MOST:
                self._by_address.popitem(last=False)


def _wait(moments: deque[float], now: float, most: int) -> float:
    while moments and moments[0] <= now - SPAN:
        moments.popleft()
    return moments[0] + SPAN - now if len(moments) >= most else 0.0
