"""The claimer: fetches jobs ahead of their being needed, and hands back those whose claim's answer was lost."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobplatform.queue import (
    NOBODY,
    Ahead,
    Claim,
    ClaimedJob,
    Lease,
    Ring,
    Rung,
    claim_jobs,
    prepare_claims,
    release_unknown_jobs,
)
from jobplatform.worker.database import DatabaseThread, will_pass
from jobplatform.worker.repair import Repair

logger = logging.getLogger("jobplatform.worker")


@dataclass(frozen=True, slots=True)
class ClaimWanted:
    """Whom to look at out of turn, and who comes after the others, is known to the hub. ``rung``: we had nothing to do,
    and were woken for one job.
    """

    worker_id: int
    limit: int
    turn: int = 1
    newcomers: Sequence[str] = ()
    ahead: Ahead = NOBODY
    rung: Rung | None = None


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Asked only while no claim is in flight; `known` is everything the hub holds."""

    worker_id: int
    known: Sequence[Lease]


@dataclass(frozen=True, slots=True)
class Claimed:
    """See :class:`jobplatform.queue.Claim`. ``since``: no job of it was claimed before, on this machine's clock."""

    worker_id: int
    jobs: list[ClaimedJob]
    more: bool
    wait: float | None = None
    held_back: bool = False
    waiting: Collection[str] = ()
    came_round: bool = False
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """The claim may have happened all the same: reconcile before the next one."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`released` is None when it did not work."""

    released: int | None


class Claimer(DatabaseThread):
    """The thread that claims jobs, and hands back those whose claim was answered to nobody."""

    def __init__(self, engine: Engine, post: Callable[[Any], None]) -> None:
        super().__init__("claimer", engine, post)
        self._ring = Ring([])
        self._repair = Repair(engine)
        self._tasks: Sequence[str] = ()
        self._versions: Mapping[str, int] = {}
        self._warm: Session | None = None
        self._closed = False

    def know(self, queues: Sequence[str], tasks: Sequence[str], versions: Mapping[str, int]) -> None:
        """What to claim. Called once, before the first request."""
        self._ring = Ring(queues)
        self._tasks = tasks
        self._versions = versions

    def close(self) -> None:
        """Claim no more: what is asked for and has not begun finds nothing. May be called from any thread."""
        self._closed = True

    def serve(self) -> None:
        while (request := self.requests.get()) is not None:
            match request:
                case ClaimWanted():
                    self._claim(request)
                case Reconcile():
                    self._reconcile(request)

    def _claim(self, wanted: ClaimWanted) -> None:
        if self._closed:
            self.post(Claimed(wanted.worker_id, [], more=False))
            return
        since = monotonic()
        try:
            claim = self.once(lambda session: self._claim_and_time(session, wanted))
        except SQLAlchemyError as error:
            self._report(error)
            self.pause()
            self.post(ClaimFailed())
        else:
            self.post(Claimed(wanted.worker_id, *claim, since=since))
            if not claim.jobs and self._warm is not self._session:
                self._warm_up(wanted.worker_id)

    def _claim_and_time(self, session: Session, wanted: ClaimWanted) -> Claim:
        began = monotonic()
        claim = claim_jobs(
            session,
            self._ring,
            worker_id=wanted.worker_id,
            tasks=self._tasks,
            limit=wanted.limit,
            turn=wanted.turn,
            newcomers=wanted.newcomers,
            ahead=wanted.ahead,
            versions=self._versions,
            rung=wanted.rung,
        )
        self._repair.after_claim(session, monotonic() - began, len(claim.jobs))
        return claim

    def _warm_up(self, worker_id: int) -> None:
        """Once for each connection, while there is nothing to do."""
        with suppress(SQLAlchemyError):
            self.once(
                lambda session: prepare_claims(
                    session, self._ring, worker_id=worker_id, tasks=self._tasks, versions=self._versions
                )
            )
            self._warm = self._session

    def _reconcile(self, request: Reconcile) -> None:
        try:
            released = self.once(lambda session: release_unknown_jobs(session, request.worker_id, request.known))
        except SQLAlchemyError as error:
            self._report(error)
            self.pause()
            self.post(Reconciled(None))
        else:
            if released:
                logger.info("unknown jobs handed back", extra={"worker_id": request.worker_id, "jobs": released})
            self.post(Reconciled(released))

    def _report(self, error: SQLAlchemyError) -> None:
        if not will_pass(error):
            logger.error("claim refused by the database", extra={"error": str(error)[:1000]})
