"""Until: when a worker is done that is not to work for ever.

That is when nothing is left to do for it, or when it has started as many jobs as it was to. Either way only once it has
nothing any more: what runs has ended, and that is written down. Whether anything is left is asked then, and of the
database: what the last job has enqueued is there by that time, and so is what waited for it.
"""

import logging
import math
from collections.abc import Callable
from typing import Final

from jobplatform.worker.ledger import Ledger
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.supply import Supply

NEVER: Final = math.inf
#: So many times what a look took passes before the next one: among very many jobs of others one takes a while. But whom
#: a stalled database has kept waiting once is not to stay for a minute more.
REST: Final = 20.0
LONGEST_REST: Final = 10.0

logger = logging.getLogger("jobplatform.worker")


class Until:
    """``holds_nothing`` says whether the worker has no job and nothing to write, ``ask`` has somebody look whether
    anything is left, and ``leave`` is the end.
    """

    def __init__(
        self,
        options: WorkerOptions,
        ledger: Ledger,
        supply: Supply,
        *,
        holds_nothing: Callable[[], bool],
        ask: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._supply = supply
        self._holds_nothing = holds_nothing
        self._ask = ask
        self._leave = leave
        self._asked = False
        self._looked_at = 0.0
        self._look_at = 0.0
        self._rest_until = 0.0
        self._claims_then = 0
        self._said_at = -1

    def step(self, now: float) -> float:
        """Leave, or find out whether to. Returns when to look again."""
        if not self._holds_nothing():
            return NEVER
        if self._options.max_jobs and self._ledger.taken >= self._options.max_jobs:
            self._done("it has started as many jobs as it was to")
        elif self._options.until_empty and self._supply.has_enough and not self._asked:
            return self._look(now)
        return NEVER

    def _look(self, now: float) -> float:
        """At once after having had something to do, else once a poll, and neither before the last look has paid off.
        What was put off for a moment is not left.
        """
        look_at = self._look_at if self._has_had_nothing else 0.0
        look_at = max(look_at, self._rest_until, self._ledger.put_off_until)
        if now < look_at:
            return look_at
        self._asked = True
        self._claims_then = self._ledger.claims
        self._looked_at = now
        self._look_at = now + self._options.poll
        self._ask()
        return NEVER

    def answered(self, left: bool, seconds: float = 0.0) -> None:
        """Whether something was left when somebody looked, for which they took so many seconds. Also where nothing was,
        what has come since is seen to, and then it is looked for again.
        """
        self._asked = False
        self._rest_until = self._looked_at + min(REST * seconds, LONGEST_REST)
        if left:
            self._wait()
        elif self._has_had_nothing and self._holds_nothing() and self._supply.has_enough:
            self._done("nothing is left to do")

    @property
    def _has_had_nothing(self) -> bool:
        """Since it was asked. What was claimed then may have come and gone by now, and have left something."""
        return self._claims_then == self._ledger.claims

    def _wait(self) -> None:
        if self._said_at != self._ledger.claims:
            self._said_at = self._ledger.claims
            logger.info("something is left to do, which waits for a limit or for somebody else")
        self._supply.wake()

    def _done(self, why: str) -> None:
        logger.info("worker done", extra={"why": why, "jobs": self._ledger.taken})
        self._leave()
