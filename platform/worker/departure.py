"""Departure: how a worker stops. Slowly at first, then firmly, and in the end without what can't be waited for.

SERVING       until the first request to stop
DRAINING      no claims; what was not started is handed back at once, what runs may finish
HANDING_BACK  the drain timeout is over, a second request came, or it makes way: what runs is stopped and handed back
LEAVING       nothing runs; the last writes and the goodbye are on their way, for a bounded time
GONE
"""

import logging
import math
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from jobplatform.worker.frames import Reason
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.membership import Membership
from jobplatform.worker.pool import Pool
from jobplatform.worker.supply import Supply

NEVER: Final = math.inf
# How long what was asked to stop may take after somebody asked twice.
HURRY_SECONDS: Final = 1.0
LAST_WRITES_SECONDS: Final = 10.0
# How long children that have nothing more to do may take to leave: they send off what they have recorded of traces.
LAST_WORDS_SECONDS: Final = 3.0

logger = logging.getLogger("jobplatform.worker")


class Phase(IntEnum):
    """How far a worker is with stopping; the module says what happens in each."""

    SERVING = 0
    DRAINING = 1
    HANDING_BACK = 2
    LEAVING = 3
    GONE = 4


class Departure:
    """Goes through the phases, one step a turn of the hub. `quiet` tells whether every write has been answered."""

    def __init__(
        self,
        pool: Pool,
        ledger: Ledger,
        membership: Membership,
        supply: Supply,
        *,
        drain_timeout: float,
        quiet: Callable[[], bool],
    ) -> None:
        self.phase = Phase.SERVING
        self.unsaved = 0
        self._pool = pool
        self._ledger = ledger
        self._membership = membership
        self._supply = supply
        self._drain_timeout = drain_timeout
        self._quiet = quiet
        self._requests = 0
        self._told_to_drain = False
        self._makes_way = False
        self._deadline = NEVER
        self._last_words_until = 0.0

    def request(self, *, at_once: bool = False) -> None:
        """Stop; asked again, or ``at_once``, stop now. Safe in a signal handler."""
        self._requests += 2 if at_once else 1

    def drain(self) -> None:
        """Stop, and however often this is said it makes no request a second one. Safe in a signal handler."""
        self._told_to_drain = True

    def make_way(self) -> None:
        """Stop now, for another that begins in its place. Whoever asks it to stop meanwhile wants none. Safe in any
        thread."""
        self._makes_way = True

    @property
    def told_to_stop(self) -> bool:
        return self._told_to_drain or self._requests > 0

    @property
    def begun(self) -> bool:
        return self.phase is not Phase.SERVING or self.told_to_stop or self._makes_way

    @property
    def _hurried(self) -> bool:
        return self._requests > 1 or self._makes_way

    def step(self, now: float) -> float:
        """Go as far as possible. Returns when to look again."""
        if self.phase is Phase.SERVING and self.begun:
            self._drain(now)
        if self.phase in (Phase.DRAINING, Phase.HANDING_BACK):
            self._ledger.release_ready()
        if self.phase is Phase.DRAINING and (self._hurried or now >= self._deadline):
            self._hand_back()
        if self.phase is Phase.HANDING_BACK:
            self._press(now)
        if self.phase in (Phase.DRAINING, Phase.HANDING_BACK) and not self._pool.dispatch.given:
            self._leave(now)
        if self.phase is Phase.LEAVING:
            self._finish(now)
        return self._last_words_until if self._children_still_speak(now) else self._deadline

    def said_goodbye(self) -> None:
        self.phase = Phase.GONE

    def _drain(self, now: float) -> None:
        self.phase = Phase.DRAINING
        self._deadline = now + self._drain_timeout
        self._supply.end()
        self._membership.draining = True
        self._membership.beat_soon()
        self._pool.retire_all()
        self._pool.dispatch.take_back_all()
        facts = {"running": self._pool.dispatch.given, "handed_back": len(self._ledger.ready)}
        logger.info("worker draining", extra=facts | {"drain_timeout": self._drain_timeout})

    def _hand_back(self) -> None:
        self.phase = Phase.HANDING_BACK
        self._deadline = NEVER
        logger.warning("running jobs handed back", extra={"running": self._pool.dispatch.given})

    def _press(self, now: float) -> None:
        """Stop whatever still runs; the second request is not followed by the full grace."""
        for slot, attempt in self._pool.dispatch.running():
            if attempt.reason is None:
                self._pool.ladder.stop(slot, attempt, Reason.SHUTDOWN, now)
        if self._hurried:
            self._pool.hurry_all(now + HURRY_SECONDS)

    def _leave(self, now: float) -> None:
        self.phase = Phase.LEAVING
        self._deadline = now + LAST_WRITES_SECONDS
        self._last_words_until = now + LAST_WORDS_SECONDS

    def _children_still_speak(self, now: float) -> bool:
        """Whether a child is on its way out, and may yet say something. Nobody waits for that who was asked twice."""
        return not self._hurried and now < self._last_words_until and self._pool.has_leavers

    def _finish(self, now: float) -> None:
        self._ledger.release_ready()
        if self._children_still_speak(now):
            return
        outbox = self._ledger.outbox
        all_written = self._quiet() and outbox.empty and not outbox.holds_something_up
        if all_written and not self._goodbye_is_on_its_way:
            if self._membership.deregister():
                self._goodbye_is_on_its_way = True
            else:
                self.phase = Phase.GONE
        elif now >= self._deadline:
            self.unsaved = len(self._ledger.known)
            self.phase = Phase.GONE

    _goodbye_is_on_its_way = False
