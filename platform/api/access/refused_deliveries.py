"""Deliveries that were not believed, counted for each hook in this process's memory: so many a minute are looked into.

Whoever knows a hook's URL can send what is not signed, and each of these would cost a look into the database and the
opening of a secret. When a hook has had its number of them, what comes next is judged by what is remembered of the hook
for a few seconds: one that is not believed is turned away with nothing asked of anybody, and one that is goes on as
ever. So nobody who sends rubbish can keep the provider out. A secret that was just replaced is known here a few seconds
later; until then the provider is asked to come again, and nothing is lost.

Other processes count for themselves. A key that is no hook's is remembered nowhere.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from jobplatform.api.access.request_rates import RequestRates
from jobplatform.queue import FoundHook, HookKey

#: Seconds for which what is known of a hook is good enough to refuse by.
FRESH: Final = 5.0
#: Hooks that are remembered; each has a secret or two.
MOST_SUSPECTS: Final = 1_000


class Suspect(NamedTuple):
    """What is remembered of a hook that too much rubbish comes to. ``seconds``: until one more is looked into."""

    hook: FoundHook
    secrets: Sequence[str]
    learnt_at: float
    seconds: int

    def moment(self, clock: float) -> float:
        """The database's moment now, in seconds: as it was said, and what has passed since."""
        return self.hook.now.timestamp() + clock - self.learnt_at


class RefusedDeliveries:
    """``per_minute`` refused deliveries of each hook are looked into. 0: all of them."""

    def __init__(self, per_minute: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._rates = RequestRates(per_minute, clock)
        self._lock = threading.Lock()
        self._suspects: OrderedDict[HookKey, Suspect] = OrderedDict()

    def __len__(self) -> int:
        return len(self._suspects)

    @property
    def per_minute(self) -> int:
        return self._rates.per_minute

    def note(self, key: HookKey, hook: FoundHook, secrets: Sequence[str]) -> None:
        """One was looked into and refused."""
        if not self.per_minute:
            return
        standing = self._rates.take(key)
        if standing.left:
            return
        with self._lock:
            self._suspects[key] = Suspect(hook, secrets, self.clock(), standing.seconds)
            self._suspects.move_to_end(key)
            if len(self._suspects) > MOST_SUSPECTS:
                self._suspects.popitem(last=False)

    def suspect(self, key: HookKey) -> Suspect | None:
        """What a delivery of this hook is to be judged by before anything else; None: as ever."""
        with self._lock:
            found = self._suspects.get(key)
            if found is None:
                return None
            if self.clock() - found.learnt_at < FRESH and self._rates.left(key) < 1:
                return found
            del self._suspects[key]
            return None
