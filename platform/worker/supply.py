"""Supply: when to ask the claimer for jobs, and when to have it hand back what we don't know."""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple

from jobplatform.queue import Rung
from jobplatform.worker.claimer import Claimed, Claimer, ClaimWanted, Reconcile
from jobplatform.worker.dispatch import Dispatch
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.newcomers import Newcomers
from jobplatform.worker.outbox import FLUSH_ROWS
from jobplatform.worker.pace import SLOW_SECONDS, claim_size

NEVER: Final = math.inf
#: Of the jobs that are claimed, this part may go to workspaces out of turn: the others are for the ring. Jobs that take
#: next to no time leave their workspace late, and while a claim is of one or two jobs it took all of them: the ring
#: stood still for tens of seconds, until that backlog was gone. With three fifths who has short jobs among a crowd that
#: comes once gets less than half of its part.
OUT_OF_TURN: Final = 0.8
#: How many such turns are kept while nobody is late.
MOST_FOR_LATE: Final = 4
#: A claim follows the one on its way when there is room for so many jobs. What lies between two claims is a quarter of
#: one of 400, and jobs that take no time are through before it has passed.
FOLLOWING_JOBS: Final = 250


class _Asked(NamedTuple):
    """A request without its answer: when it was sent, how many jobs it may bring (0: it is no claim), and how many
    children had nothing to do then.
    """

    at: float
    jobs: int = 0
    idle: int = 0


class Supply:
    """Polling is the truth, the doorbell a hint: both only make the worker hungry.

    A request waits for the answer to the one before, so that it knows whose turn it is. Only a large claim may be asked
    for behind another one, so that the database can go on with it at once: it knows whose turn it was one claim ago.
    Nothing is ever behind reconciling, or before it: the rows of a claim on its way would look unknown.

    A poll that would find nothing is not made: ``calm_at`` says when somebody has last seen that nothing is ready. Then
    the next one is due two polls after that, whatever becomes of whoever looks.

    With ``most`` no more jobs are taken than that, those handed back unstarted not counted.
    """

    def __init__(
        self,
        claimer: Claimer,
        ledger: Ledger,
        dispatch: Dispatch,
        *,
        capacity: int,
        poll: float,
        most: int = 0,
        calm_at: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        self._claimer = claimer
        self._ledger = ledger
        self._dispatch = dispatch
        self._capacity = capacity
        self._poll = poll
        self._most = most
        self._calm_at = calm_at
        self._hungry = True
        self._poll_at = 0.0
        self._asked: deque[_Asked] = deque()
        self._answered_at = 0.0
        self._was_full = False
        self._must_reconcile = False
        self._held_back = False
        self._ended_meanwhile = False
        self._newcomers = Newcomers(ledger.shares.is_behind)
        self._for_late = 0.0
        self._rung: Rung | None = None

    @property
    def in_flight(self) -> bool:
        """Whether anything that was asked is unanswered."""
        return bool(self._asked)

    @property
    def has_enough(self) -> bool:
        """Whether there was nothing more to claim when that was last looked for, and nothing has happened since."""
        return not (self._hungry or self._must_reconcile or self.in_flight)

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

    def end(self) -> None:
        """The worker is about to leave: a claim that still waits for the one before it is not made."""
        self._claimer.close()

    def reconcile_soon(self) -> None:
        self._must_reconcile = True

    def ask(self, now: float, worker_id: int, *, behind_another: bool = True) -> float:
        """Send the next request if there is one to send; if so, also behind another one. Returns when to look again."""
        if now >= self._poll_at:
            self._poll_or_put_off(now)
        self._hand_back_surplus(now)
        if self.in_flight:
            if behind_another:
                self._follow(now, worker_id)
            return NEVER
        if self._must_reconcile:
            self._must_reconcile = False
            self._send(Reconcile(worker_id, list(self._ledger.known)), _Asked(now))
        elif self._hungry and (wanted := self._wanted(now)):
            self._claim(now, worker_id, wanted)
        # While jobs wait here, those that run may turn out to be long.
        return min(self._poll_at, now + SLOW_SECONDS) if self._ledger.ready else self._poll_at

    def claimed(self, claim: Claimed) -> float:
        """Returns the seconds of slots that waited for this answer and have something to do now."""
        asked = self._asked.popleft()
        self._was_full = len(claim.jobs) >= asked.jobs
        # What ended while this claim was on its way may be what held it back.
        self._hungry = self._hungry or claim.more or (claim.held_back and self._ended_meanwhile)
        self._held_back = claim.held_back
        self._answered_at = monotonic()
        if not self._hungry:
            pause = self._poll * random.uniform(1, 2)
            self._poll_at = self._answered_at + (pause if claim.wait is None else min(pause, claim.wait))
        return (self._answered_at - asked.at) * min(asked.idle, len(claim.jobs))

    def failed(self) -> None:
        """A request did not get through, or only its answer did not: look for rows that nobody works on."""
        self._asked.popleft()
        self._must_reconcile = True
        self._hungry = True

    def reconciled(self, released: int | None) -> None:
        self._asked.popleft()
        self._must_reconcile = released is None
        self._hungry = self._hungry or bool(released)

    def _follow(self, now: float, worker_id: int) -> None:
        """Ask for the next claim behind the one on its way, which is as likely to be full as the last one was."""
        if len(self._asked) == 1 and self._asked[0].jobs and self._was_full and not self._must_reconcile:
            wanted = self._wanted(now)
            if wanted >= FOLLOWING_JOBS:
                self._claim(now, worker_id, wanted)

    def _claim(self, now: float, worker_id: int, wanted: int) -> None:
        # A bell that rings while this claim is on its way may be about jobs that it does not see.
        self._hungry = False
        ahead = self._ledger.shares.ahead()
        first = self._look_first_at(wanted)
        rung = self._take_rung(first)
        # Behind another claim: who has nothing to do waits for that one.
        idle = 0 if self.in_flight else self._dispatch.idle
        self._send(
            ClaimWanted(worker_id, wanted, self._ledger.pace.turn, first, ahead, rung), _Asked(now, wanted, idle)
        )

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
        has_work = self._ledger.waiting or self._dispatch.given or self.in_flight
        if rung is None or has_work or not set(first) <= {rung.workspace_id}:
            return None
        return rung._replace(alone=not self._ledger.shares.is_behind(rung.workspace_id))

    def _send(self, request: ClaimWanted | Reconcile, asked: _Asked) -> None:
        self._asked.append(asked)
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
            kept = self._ledger.pace.keep(self._hands(now)[0], self._dispatch.typical_seconds(now))
            self._ledger.release_last(max(0, waiting - kept))

    def _wanted(self, now: float) -> int:
        working = self._ledger.waiting + self._dispatch.given + sum(asked.jobs for asked in self._asked)
        unwritten = max(0, self._ledger.outbox.endings - FLUSH_ROWS)
        hands, tied_up = self._hands(now)
        room = tied_up + self._ledger.pace.room(hands, self._dispatch.typical_seconds(now))
        size = claim_size(room, working + unwritten, working, hands + tied_up)
        return min(size, self._may_take()) if self._most else size

    def _may_take(self) -> int:
        return max(0, self._most - self._ledger.taken - sum(asked.jobs for asked in self._asked))

    def _hands(self, now: float) -> tuple[int, int]:
        """How many jobs can run at a time, more where one call takes several: beside those that run for long, and where
        these do. What is held in stock is for the former.
        """
        held_at_once = int(self._capacity * self._ledger.gathering.stretch)
        tied_up = round(held_at_once * self._dispatch.tied_up(now))
        return held_at_once - tied_up, tied_up
