"""Repair: have the queue table rewritten when claims became slow because dead rows pile up in it."""

import logging
from time import monotonic
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobplatform.queue import compact_now, needs_compacting

#: Claims are slow above this mean, and above this many times their own best.
SLOW_SECONDS: Final = 0.012
SLOW_TIMES: Final = 4
PAUSE_SECONDS: Final = 2.0
WEIGHT: Final = 0.1
#: What a claim costs before its first job, in jobs: a claim of one takes as long as 17 further jobs in a large one.
BASE_JOBS: Final = 16

logger = logging.getLogger("jobplatform.worker")


class Slowness:
    """How long claims take, against how long they took at their best. Pure."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._per_job = 0.0
        self._best = 0.0

    def took(self, seconds: float, jobs: int) -> None:
        """Take a claim into account."""
        per_job = seconds / (BASE_JOBS + jobs)
        if self._mean is None:
            self._mean, self._per_job, self._best = seconds, per_job, per_job
        self._mean += WEIGHT * (seconds - self._mean)
        self._per_job += WEIGHT * (per_job - self._per_job)
        self._best = min(self._best, self._per_job)

    @property
    def slow(self) -> bool:
        return self._mean is not None and self._mean > SLOW_SECONDS and self._per_job > SLOW_TIMES * self._best


class Repair:
    """Tries a rewrite when it is worth one; in the claimer's thread, where no claim of ours is in its way."""

    def __init__(self, engine: Engine) -> None:
        self.slowness = Slowness()
        self._engine = engine
        self._try_at = 0.0

    def after_claim(self, session: Session, seconds: float, jobs: int) -> None:
        """Take a claim into account, and repair if claims are slow. Never raises: claiming goes on either way."""
        self.slowness.took(seconds, jobs)
        if self.slowness.slow and monotonic() >= self._try_at:
            self._try_at = monotonic() + PAUSE_SECONDS
            self._repair(session)

    def _repair(self, session: Session) -> None:
        try:
            if needs_compacting(session):
                if compact_now(self._engine):
                    logger.warning("queue table rewritten, an old snapshot keeps dead rows")
                else:
                    logger.info("queue table not rewritten, somebody holds a lock on it")
        except SQLAlchemyError as error:
            # No right to truncate the table, most likely: a minute between two complaints is enough.
            self._try_at = monotonic() + 60
            logger.error("queue table cannot be rewritten", extra={"error": str(error)[:500]})
