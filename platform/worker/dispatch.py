"""Dispatch: which job goes to which child, what children have, and what is taken back from them. Owned by the pool."""

import math
import selectors
from collections.abc import Callable, Collection, Mapping
from typing import Final

from jobplatform.worker.attempt import Attempt
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.pace import SLOW_SECONDS
from jobplatform.worker.slot import Slot, State

# More in one frame overruns the pipe and makes the child wait for the parent's next turn.
RUN_BYTES: Final = 200_000
NEVER: Final = math.inf


class Dispatch:
    """Moves jobs between the ledger and the children. `slots` are the pool's: it alone fills and empties the mapping.

    `hear` reads what a child has finished.
    """

    def __init__(
        self,
        options: WorkerOptions,
        ledger: Ledger,
        slots: Mapping[int, Slot],
        selector: selectors.BaseSelector,
        hear: Callable[[Slot], None],
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._slots = slots
        self._selector = selector
        self._hear = hear
        self._reserved: int | None = None

    # -- what children have ----------------------------------------------------------------------

    @property
    def given(self) -> int:
        """Jobs that children have, started or not."""
        return sum(len(slot.run) for slot in self._slots.values())

    @property
    def idle(self) -> int:
        """Children that have nothing to do."""
        return sum(slot.takes_jobs and not slot.run for slot in self._slots.values())

    def running(self) -> list[tuple[Slot, Attempt]]:
        return [(slot, attempt) for slot in self._slots.values() for attempt in slot.run]

    def find(self, attempt: Attempt) -> Slot | None:
        return next((slot for slot in self._slots.values() if attempt in slot.run), None)

    def tied_up(self, now: float) -> float:
        """What part of the children have been at their job for so long that nothing is to wait behind it.

        0 if all have: then it is jobs that are long.
        """
        tied_up = len(self._starts_of_long(now))
        return tied_up / self._options.slots if tied_up < self._options.slots else 0.0

    def typical_seconds(self, now: float) -> float:
        """For how long more than half of the children have been running their job, those that are tied up not counted;
        0 when they have not.
        """
        starts = sorted(self._head_started(slot, now) for slot in self._slots.values() if slot.run)
        tied_up = len(self._starts_of_long(now))
        if tied_up >= self._options.slots:
            tied_up = 0
        middle = tied_up + (self._options.slots - tied_up) // 2
        return now - starts[middle] if len(starts) > middle else 0.0

    def _starts_of_long(self, now: float) -> list[float]:
        """Children with threads are never tied up: their other threads go on."""
        if self._options.threads > 1:
            return []
        return [slot.since for slot in self._slots.values() if slot.run and now - slot.since > SLOW_SECONDS]

    def _head_started(self, slot: Slot, now: float) -> float:
        """When a child began with its oldest job: one that has a single thread does so when the last one has ended."""
        return slot.since if self._options.threads == 1 else slot.run[0].started or now

    @property
    def may_linger(self) -> bool:
        """Whether results may gather in the pipes for a moment without a child running out of work meanwhile."""
        threads = self._options.threads
        runs = [len(slot.run) for slot in self._slots.values()] or [0]
        if min(runs) >= 2 * threads:
            return True
        return max(runs) > 3 * threads and not (self._ledger.ready and min(runs) == 0)

    # -- giving ----------------------------------------------------------------------------------

    def give_out(self, now: float) -> float:
        """Give waiting jobs to children that are out of work or soon will be, the emptiest first.

        Returns when to look again: what was just given may be slow, or have a short deadline.
        """
        look_at = self._ledger.release_late(now)
        if self._ledger.gathering:
            look_at = min(look_at, self._ledger.release_gathered(now))
        if not self._ledger.ready:
            return look_at
        if self._options.threads == 1 or not self._ledger.apart:
            return min(look_at, self._share_out(now))
        waiting = self._give_apart(now)
        given_at = self._share_out(now)
        self._ledger.ready.extendleft(reversed(waiting))
        return min(look_at, given_at)

    def _give_apart(self, now: float) -> list[Attempt]:
        """Give jobs that want a child to themselves to those that have nothing to do, and answer with the rest.

        While there is a rest one child gets nothing new, so that it will be free for the first of them.
        """
        apart = [attempt for attempt in self._ledger.ready if attempt.task in self._ledger.apart]
        others = [attempt for attempt in self._ledger.ready if attempt.task not in self._ledger.apart]
        self._ledger.ready.clear()
        self._ledger.ready.extend(apart)
        takers = [slot for slot in self._slots.values() if slot.takes_jobs]
        for slot in takers:
            if not slot.run and self._ledger.ready:
                run = self._ledger.next_run(1, RUN_BYTES, free=1)
                for attempt in run:
                    attempt.apart = True
                self._give(slot, run)
        left = list(self._ledger.ready)
        self._ledger.ready.clear()
        self._ledger.ready.extend(others)
        busy = [slot for slot in takers if slot.run and slot.takes_jobs]
        self._reserved = self._reserve(busy) if left else None
        return left

    def _reserve(self, busy: list[Slot]) -> int | None:
        """The child that is kept from new jobs: the one that was so before, else the one that will be free first."""
        if any(slot.number == self._reserved for slot in busy):
            return self._reserved
        return min(busy, key=lambda slot: len(slot.run)).number if busy else None

    def _share_out(self, now: float) -> float:
        ready = self._ledger.ready
        if not ready:
            return NEVER
        takers = sorted((slot for slot in self._slots.values() if slot.takes_jobs), key=Slot.load)
        look_at = NEVER
        # One that has its hands full has no part in what there is for the others.
        takers = [slot for slot in takers if slot.number != self._reserved and self._room(slot, now) > 0]
        for position, slot in enumerate(takers):
            share = math.ceil(len(ready) / (len(takers) - position))
            room = self._room(slot, now)
            if room > 0:
                self._give(slot, self._ledger.next_run(min(room, share), RUN_BYTES, free=self._options.threads))
                look_at = now + SLOW_SECONDS
            if not ready:
                break
        return look_at

    def _room(self, slot: Slot, now: float) -> int:
        """How many more jobs this child should get: none while all its threads work and half of its run is left."""
        threads = self._options.threads
        length = max(threads, self._ledger.pace.run_length(self._ledger.ready[0].task))
        have = len(slot.run)
        if have and now - slot.since > SLOW_SECONDS:
            length = threads
        if self._options.max_jobs_per_child:
            length = min(length, max(1, self._options.max_jobs_per_child - slot.served))
        if have >= threads and have > length // 2:
            return 0
        return length - have

    def _give(self, slot: Slot, run: list[Attempt]) -> None:
        slot.give(run)
        if slot.has_rest:
            self._watch_body(slot)

    def _watch_body(self, slot: Slot) -> None:
        """A body longer than its pipe goes on when the child has made room."""
        if slot.body not in self._selector.get_map():
            self._selector.register(slot.body, selectors.EVENT_WRITE, lambda: self._write_rest(slot))

    def _write_rest(self, slot: Slot) -> None:
        slot.write_rest()
        if not slot.has_rest:
            self._selector.unregister(slot.body)

    # -- taking back -----------------------------------------------------------------------------

    def take_back(self, slot: Slot) -> None:
        """Make what the child has not started wait again, and hear what it has finished."""
        self.take_back_unstarted(slot)
        self._hear(slot)

    def take_back_unstarted(self, slot: Slot) -> None:
        """Make what the child has not started wait again, before all others."""
        self._ledger.put_back(slot.take_back())

    def take_back_all(self) -> None:
        for slot in self._slots.values():
            self.take_back(slot)

    def free_followers(self, slot: Slot, now: float) -> float:
        """Behind a job that takes long nobody waits: its followers go to other children. Returns when to look again."""
        if slot.state is not State.BUSY or len(slot.run) <= self._options.threads:
            return NEVER
        slow_at = slot.since + SLOW_SECONDS
        if now < slow_at:
            return slow_at
        self.take_back_unstarted(slot)
        return NEVER

    def hand_back_users(self, resources: Collection[str]) -> None:
        """Nothing more is to start on these resources: not of what waits here, and not of what children have."""
        for slot in list(self._slots.values()):
            if any(attempt.job.resource in resources for attempt in slot.run):
                self.take_back(slot)
        self._ledger.release_users(resources)
