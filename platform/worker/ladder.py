"""The ladder by which a running attempt is stopped, and how its child is.

    1. Take back what the child was given and has not started, and read what it has finished meanwhile.
    2. Order the attempt to stop: an exception in the handler (with threads: at its next progress or log call).
    3. After the grace, SIGTERM to the child's process group.
    4. After another, SIGKILL. A process that survives that waits in the kernel; its slot is counted as lost.

So a signal that kills only ever hits what was running, and with one thread that is the guilty attempt alone. The jobs
of one call are guilty together; but when one of them alone is to stop, the handler is told and nothing else happens,
until that is so for all.
"""

import logging
import signal
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

from jobplatform.worker.attempt import Attempt
from jobplatform.worker.frames import Reason
from jobplatform.worker.slot import Slot, State

UNKILLABLE_SECONDS: Final = 5.0
# What befalls one job of a call and not the call.
ABOUT_ONE: Final = (Reason.CANCELLED, Reason.LEASE_LOST)

logger = logging.getLogger("jobplatform.worker")


class Signaller(Protocol):
    """Who signals children: the nursery."""

    def kill(self, pid: int, signum: int) -> None: ...

    def kill_group(self, pid: int, signum: int) -> None: ...


class Ladder:
    """Steps slots up. `settle_slot` takes back a slot's unstarted jobs and reads its results."""

    def __init__(
        self,
        signaller: Signaller,
        settle_slot: Callable[[Slot], None],
        *,
        threads: int,
        grace: float,
    ) -> None:
        self._signaller = signaller
        self._settle_slot = settle_slot
        self._threads = threads
        self.grace = grace

    def stop(self, slot: Slot, attempt: Attempt, reason: Reason, now: float) -> None:
        """Begin to stop a running attempt. Does nothing if it turns out not started, or finished by now."""
        self._settle_slot(slot)
        if attempt not in slot.run or attempt.reason is not None:
            return
        if reason in ABOUT_ONE and any(other.told is None for other in slot.call_of(attempt) if other is not attempt):
            self._tell(slot, attempt, reason)
            return
        first = slot.state is not State.ASKED
        slot.order(attempt, reason)
        if self._threads == 1:
            self._kill(slot, signal.SIGUSR1)
        slot.settle()
        if first:
            slot.escalate_at = now + self.grace

    def _tell(self, slot: Slot, attempt: Attempt, reason: Reason) -> None:
        """The others of its call are innocent: the handler is told, and nothing is killed for this one."""
        slot.tell(attempt, reason)
        if self._threads == 1:
            self._kill(slot, signal.SIGUSR1)

    def step(self, slot: Slot, now: float) -> float:
        """Do what is due for this slot and say when to look again."""
        match slot.state:
            case State.BUSY:
                return self._watch_deadlines(slot, now)
            case State.ASKED:
                return min(self._escalate(slot, now), self._watch_deadlines(slot, now) if self._threads > 1 else inf)
            case State.TERMING | State.KILLING:
                return self._escalate(slot, now)
            case _:
                return inf

    def kill(self, slot: Slot, now: float) -> None:
        """Skip to the end: the child has lost every trust, or there is no time left."""
        self._settle_slot(slot)
        slot.state = State.KILLING
        slot.escalate_at = now + UNKILLABLE_SECONDS
        self._kill_group(slot, signal.SIGKILL)

    def hurry(self, slot: Slot, at: float) -> None:
        """Bring the next step of an asked slot forward."""
        if slot.state is State.ASKED:
            slot.escalate_at = min(slot.escalate_at, at)

    def _watch_deadlines(self, slot: Slot, now: float) -> float:
        soonest = inf
        for attempt in list(slot.run):
            deadline = self._deadline(slot, attempt)
            if attempt.reason is None and deadline <= now:
                self.stop(slot, attempt, Reason.TIMEOUT, now)
            elif attempt.reason is None:
                soonest = min(soonest, deadline)
            if self._threads == 1:
                break
        return soonest if slot.state is not State.ASKED else min(soonest, slot.escalate_at)

    def _deadline(self, slot: Slot, attempt: Attempt) -> float:
        """With one thread the head runs since the result before it; with more each child says when one started."""
        if self._threads == 1:
            return slot.since + attempt.timeout
        return inf if attempt.started is None else attempt.started + attempt.timeout

    def _escalate(self, slot: Slot, now: float) -> float:
        if now < slot.escalate_at:
            return slot.escalate_at
        match slot.state:
            case State.ASKED:
                self._settle_slot(slot)
                if slot.state is State.ASKED:
                    slot.state = State.TERMING
                    self._kill_group(slot, signal.SIGTERM)
                slot.escalate_at = now + self.grace
            case State.TERMING:
                slot.state = State.KILLING
                self._kill_group(slot, signal.SIGKILL)
                slot.escalate_at = now + UNKILLABLE_SECONDS
            case State.KILLING:
                slot.state = State.LOST
                logger.error("child cannot be killed", extra={"pid": slot.pid, "slot": slot.number})
                return inf
        return slot.escalate_at

    def _kill(self, slot: Slot, signum: int) -> None:
        if slot.pid is not None:
            self._signaller.kill(slot.pid, signum)

    def _kill_group(self, slot: Slot, signum: int) -> None:
        if slot.pid is not None:
            self._signaller.kill_group(slot.pid, signum)
