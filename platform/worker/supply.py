"""Supply: when to ask the claimer for jobs, and when to have it hand back what we don't know."""

import math
import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from jobplatform.queue import Rung
from jobplatform.worker.claimer import Claimed, Claimer, ClaimWanted, Reconcile
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.newcomers import Newcomers
from jobplatform.worker.outbox import FLUSH_ROWS
from jobplatform.worker.pace import SLOW_SECONDS, claim_size
from jobplatform.worker.pool import Pool

NEVER: Final = math.inf
#: Of the jobs that are claimed, this part may go to workspaces out of turn: the others are for the ring. Jobs that take
#: next to no time leave their workspace late, and while a claim is of one or two jobs it took all of them: the ring
#: stood still for tens of seconds, until that backlog was gone. With three fifths who has short jobs among a crowd that
#: comes once gets less than half of its part.
OUT_OF_TURN: Final = 0.8
#: How many such turns are kept while nobody is late.
MOST_FOR_LATE: Final = 4


class Supply:
    """Polling is the truth, the doorbell a hint: both only make the worker hungry.

    One request is in flight at a time. That is also what makes reconciling safe: the rows of a claim whose answer is
    still on its way would look unknown.

    A poll that would find nothing is not made: ``calm_at`` says when somebody has last seen that nothing is ready. Then
    the next one is due two polls after that, whatever becomes of whoever looks.
    """

    def __init__(
        self,
        claimer: Claimer,
        ledger: Ledger,
        pool: Pool,
        *,
        capacity: int,
        poll: float,
        calm_at: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        self.in_flight = False
        self._claimer = claimer
        self._ledger = ledger
        self._pool = pool
        self._capacity = capacity
        self._poll = poll
        self._calm_at = calm_at
        self._hungry = True
        self._poll_at = 0.0
        self._asked_at = 0.0
        self._answered_at = 0.0
        self._idle = 0
        self._must_reconcile = False
        self._held_back = False
        self._ended_meanwhile = False
        self._newcomers = Newcomers(ledger.shares.is_behind)
        self._for_late = 0.0
        self._rung: Rung | None = None

    def wake(self) -> None:
        """There may be jobs to claim."""
        self._hungry = True

    def rang(self, workspaces: Sequence[str], queues: Sequence[str] = ()) -> None:
        """These workspaces have something new to do; in which queues, if that is known."""
        self._newcomers.rang(workspaces)
        self._rung = Rung(queues[0], workspaces[0]) if len(queues) == len(workspaces) == 1 else None
        self._hungry = True

    def ended(self) -> None:
        """Jobs have ended, and so may have made room under a limit."""
        self._ended_meanwhile = True
        self._hungry = self._hungry or self._held_back

    def reconcile_soon(self) -> None:
        self._must_reconcile = True

    def ask(self, now: float, worker_id: int) -> float:
        """Send the next request if there is one to send. Returns when to look again."""
        if now >= self._poll_at:
            self._poll_or_put_off(now)
        self._hand_back_surplus(now)
        if self.in_flight:
            return NEVER
        if self._must_reconcile:
            self._must_reconcile = False
            self._send(Reconcile(worker_id, list(self._ledger.known)))
        elif self._hungry and (wanted := self._wanted(now)):
            # A bell that rings while this claim is on its way may be about jobs that it does not see.
            self._hungry = False
            ahead = self._ledger.shares.ahead()
            first = self._look_first_at(wanted)
            rung = self._take_rung(first)
            self._asked_at, self._idle = now, self._pool.idle
            self._send(ClaimWanted(worker_id, wanted, self._ledger.pace.turn, first, ahead, rung))
        # While jobs wait here, those that run may turn out to be long.
        return min(self._poll_at, now + SLOW_SECONDS) if self._ledger.ready else self._poll_at

    def claimed(self, claim: Claimed) -> float:
        """Returns the seconds of slots that waited for this answer and have something to do now."""
        self.in_flight = False
        # What ended while this claim was on its way may be what held it back.
        self._hungry = self._hungry or claim.more or (claim.held_back and self._ended_meanwhile)
        self._held_back = claim.held_back
        self._answered_at = monotonic()
        if not self._hungry:
            pause = self._poll * random.uniform(1, 2)
            self._poll_at = self._answered_at + (pause if claim.wait is None else min(pause, claim.wait))
        return (self._answered_at - self._asked_at) * min(self._idle, len(claim.jobs))

    def failed(self) -> None:
        """A request did not get through, or only its answer did not: look for rows that nobody works on."""
        self.in_flight = False
        self._must_reconcile = True
        self._hungry = True

    def reconciled(self, released: int | None) -> None:
        self.in_flight = False
        self._must_reconcile = released is None
        self._hungry = self._hungry or bool(released)

    def _poll_or_put_off(self, now: float) -> None:
        """A calm that was seen before the last claim's answer does not count: that may have left something waiting."""
        calm_at = self._calm_at()
        if calm_at > self._answered_at and now < calm_at + 2 * self._poll:
            self._poll_at = calm_at + 2 * self._poll
        else:
            self._hungry = True
            self._poll_at = now + self._poll * random.uniform(1, 2)

    def _take_rung(self, first: Sequence[str]) -> Rung | None:
        """What woke us, if we have nothing to do and nobody else is to be looked at first. If it is of somebody who has
        had more than others, only if it is all there is.
        """
        rung, self._rung = self._rung, None
        if rung is None or self._ledger.waiting or self._pool.given or not set(first) <= {rung.workspace_id}:
            return None
        return rung._replace(alone=not self._ledger.shares.is_behind(rung.workspace_id))

    def _send(self, request: ClaimWanted | Reconcile) -> None:
        self.in_flight = True
        self._ended_meanwhile = False
        self._claimer.ask(request)

    def _look_first_at(self, wanted: int) -> list[str]:
        """Those whose turn need not have come on the ring: who rang, and who is far behind its share.

        No more than there are jobs to claim: then one that nothing is claimed from has nothing. And never all of them,
        claim after claim: then nobody else would have a turn.
        """
        newcomers = self._newcomers.take(wanted)
        self._for_late = min(MOST_FOR_LATE, self._for_late + wanted * OUT_OF_TURN - len(newcomers))
        late = self._ledger.shares.late(max(0, min(int(self._for_late), wanted - len(newcomers))))
        self._for_late -= len(late)
        return list(dict.fromkeys([*newcomers, *late]))

    def _hand_back_surplus(self, now: float) -> None:
        """Jobs that wait here for long ones to end could run elsewhere, and others' would have had their turn."""
        if waiting := len(self._ledger.ready):
            kept = self._ledger.pace.keep(self._hands(now)[0], self._pool.typical_seconds(now))
            self._ledger.release_last(max(0, waiting - kept))

    def _wanted(self, now: float) -> int:
        working = self._ledger.waiting + self._pool.given
        unwritten = max(0, self._ledger.outbox.endings - FLUSH_ROWS)
        hands, tied_up = self._hands(now)
        room = tied_up + self._ledger.pace.room(hands, self._pool.typical_seconds(now))
        return claim_size(room, working + unwritten, working, hands + tied_up)

    def _hands(self, now: float) -> tuple[int, int]:
        """How many jobs can run at a time, more where one call takes several: beside those that run for long, and where
        these do. What is held in stock is for the former.
        """
        held_at_once = int(self._capacity * self._ledger.gathering.stretch)
        tied_up = round(held_at_once * self._pool.tied_up(now))
        return held_at_once - tied_up, tied_up
