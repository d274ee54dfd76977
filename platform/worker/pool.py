"""The pool: the lives of children, from their start to what is said of their end. Owned by the hub, which runs it in
its loop.

What a child has to do is not decided here: `dispatch` gives jobs and takes them back, `hearing` reads what children say
of them, and the `ladder` stops them.
"""

import logging
import math
import selectors
import signal
from time import monotonic
from typing import Final

from jobplatform.worker.attempt import Attempt
from jobplatform.worker.cradle import Cradle, Events
from jobplatform.worker.dispatch import Dispatch
from jobplatform.worker.frames import Reason
from jobplatform.worker.hearing import Hearing
from jobplatform.worker.kernel import resident_bytes
from jobplatform.worker.ladder import Ladder
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.nursery_link import NurseryConfig, kill_orphans
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.output import OutputReader
from jobplatform.worker.slot import Slot, State
from jobplatform.worker.verdicts import exit_message

MEMORY_CHECK_SECONDS: Final = 0.25
# A child that has not touched what it was given for so long is stuck between jobs.
STUCK_SECONDS: Final = 5.0
# A supervisor that stops every process of a worker does so one after the other, and may come to us last.
TOGETHER_SECONDS: Final = 1.0
# The states of a child that is there for jobs; and of one in whose place no other is started.
SERVING: Final = frozenset(State) - {State.STARTING, State.LOST, State.STRUCK}
TAKING_UP_A_SLOT: Final = frozenset(State) - {State.LEAVING, State.LOST, State.STRUCK}
# What an operator, a supervisor or a terminal stops a worker by.
STOPPING: Final = frozenset({-signal.SIGTERM, -signal.SIGHUP, -signal.SIGQUIT})
NEVER: Final = math.inf

logger = logging.getLogger("jobplatform.worker")


class Pool:
    """Keeps `slots` children alive. Everything happens in calls from the hub; nothing here blocks."""

    def __init__(self, options: WorkerOptions, ledger: Ledger, selector: selectors.BaseSelector) -> None:
        self.options = options
        self.ledger = ledger
        self.slots: dict[int, Slot] = {}
        self.closing = False
        config = NurseryConfig(
            tasks=options.tasks,
            database_url=options.database_url,
            threads=options.threads,
            log_level=logging.getLogger().getEffectiveLevel(),
            counts=ledger.tally is not None,
        )
        self.cradle = Cradle(config, selector, Events(self._started, self._unstarted, self._ended, self._all_died))
        self._hearing = Hearing(ledger, on_ready=self._is_ready, on_nonsense=self._distrust)
        self.dispatch = Dispatch(options, ledger, self.slots, selector, self.read_results)
        self.ladder = Ladder(self.cradle, self.dispatch.take_back, threads=options.threads, grace=options.kill_grace)
        self._selector = selector
        self._by_pid: dict[int, Slot] = {}
        self._output: dict[int, OutputReader] = {}
        self._number = 0
        self._memory_at = 0.0

    # -- what the hub asks -----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every slot has a child that can take jobs or is at work."""
        serving = [slot for slot in self.slots.values() if slot.state in SERVING]
        return len(serving) >= self.options.slots

    @property
    def has_leavers(self) -> bool:
        """Whether a child that was told to leave is still there."""
        return any(slot.state is State.LEAVING for slot in self.slots.values())

    # -- once per turn of the loop ---------------------------------------------------------------

    def keep_full(self, now: float) -> float:
        """Start the nursery and children that are missing. Returns when to look again."""
        if self.closing:
            return NEVER
        look_at = self.cradle.keep_up(now)
        if self.cradle.up and look_at == NEVER:
            alive = sum(slot.state in TAKING_UP_A_SLOT for slot in self.slots.values())
            for _ in range(self.options.slots - alive):
                self._spawn()
        return min(look_at, self.cradle.expect_answers(now))

    def watch(self, now: float) -> float:
        """Deadlines, escalation, slow heads, memory. Returns when to look again."""
        soonest = NEVER
        for slot in list(self.slots.values()):
            soonest = min(
                soonest,
                self.ladder.step(slot, now),
                self.dispatch.free_followers(slot, now),
                self._look_for_signs_of_life(slot, now),
                self._judge_struck(slot, now),
            )
            if slot.state is State.LOST and slot.run:
                self._abandon(slot)
        if self.options.memory_mb:
            soonest = min(soonest, self._watch_memory(now))
        return soonest

    def read_all_results(self) -> None:
        for slot in list(self.slots.values()):
            if slot.run:
                self.read_results(slot)

    def retire_all(self) -> None:
        """Every child leaves once its running job is over; none is replaced."""
        self.closing = True
        for slot in self.slots.values():
            slot.retire()

    def hurry_all(self, at: float) -> None:
        for slot in self.slots.values():
            self.ladder.hurry(slot, at)

    def close(self) -> None:
        """Let the nursery kill what is left and end."""
        self.closing = True
        self.cradle.close()
        for slot in list(self.slots.values()):
            self._drop(slot)

    def _look_for_signs_of_life(self, slot: Slot, now: float) -> float:
        """Jobs that a child has not started are safe; a child that starts none for seconds is not worth keeping."""
        if slot.state is not State.BUSY or slot.head_started:
            return NEVER
        stuck_at = slot.starts_nothing_at(STUCK_SECONDS)
        if now < stuck_at:
            return stuck_at
        self.dispatch.take_back(slot)
        slot.head_started = bool(slot.run)
        if slot.takes_jobs and not slot.run:
            logger.error("child starts nothing and is killed", extra={"pid": slot.pid})
            self.ladder.kill(slot, now)
        return NEVER

    # -- hearing from children -------------------------------------------------------------------

    def read_results(self, slot: Slot) -> None:
        """Hear what the child has said. It leaves when it has served as many jobs as one may."""
        self._hearing.read(slot)
        if self.options.max_jobs_per_child and slot.served >= self.options.max_jobs_per_child:
            self._retire(slot)

    def _is_ready(self, slot: Slot) -> None:
        """Once in a child's life: later it would open a slot whose child is being killed."""
        if slot.state is not State.STARTING:
            self._distrust(slot, "a child said that it is ready after it had begun to work")
            return
        slot.state = State.IDLE
        self.cradle.child_is_ready()
        if self.ready:
            self.cradle.all_are_ready()

    def _distrust(self, slot: Slot, message: str) -> None:
        """Kill a child for what it said."""
        self._condemn(slot, "ProtocolError", message)

    def _condemn(self, slot: Slot, error_type: str, message: str) -> None:
        """Kill a child for what it did; the running attempt is blamed."""
        if slot.condemned is not None:
            return
        slot.condemned = (error_type, message)
        logger.warning("child killed", extra={"pid": slot.pid, "error_type": error_type, "error": message})
        self.ladder.kill(slot, monotonic())

    def _read_output(self, slot: Slot) -> None:
        facts = slot.run[0].facts if slot.run else {"pid": slot.pid}
        if not self._output[slot.number].read(facts):
            self._unwatch(slot.output)

    def _retire(self, slot: Slot) -> None:
        if not slot.retiring:
            slot.retire()
            self.dispatch.take_back_unstarted(slot)

    # -- children coming and going ---------------------------------------------------------------

    def _spawn(self) -> None:
        self._number += 1
        slot = Slot(self._number)
        self.slots[slot.number] = slot
        self._output[slot.number] = OutputReader(slot.output)
        self.cradle.spawn(slot.number, slot.child_ends())
        slot.close_child_ends()
        self._selector.register(slot.results, selectors.EVENT_READ, lambda: self.read_results(slot))
        self._selector.register(slot.output, selectors.EVENT_READ, lambda: self._read_output(slot))

    def _started(self, number: int, pid: int) -> None:
        if slot := self.slots.get(number):
            slot.pid = pid
            self._by_pid[pid] = slot

    def _unstarted(self, number: int) -> None:
        """It was given nothing yet; another one is asked for later."""
        if slot := self.slots.get(number):
            self._drop(slot)

    def _ended(self, pid: int, code: int, peak_kb: int) -> None:
        if slot := self._by_pid.get(pid):
            self._exited(slot, code, peak_kb)

    def _all_died(self) -> None:
        """The nursery is gone, and with it whoever could tell how its children end."""
        kill_orphans(list(self._by_pid))
        for slot in list(self.slots.values()):
            if slot.state is not State.STRUCK:
                self._exited(slot, None)

    def _exited(self, slot: Slot, code: int | None, peak_kb: int = 0) -> None:
        """The child is dead. What it wrote before counts, what it had not started goes elsewhere; the rest was hit."""
        self.dispatch.take_back(slot)
        self._read_output(slot)
        if slot.run and self._may_be_our_stop(slot, code):
            self._strike(slot, code)
        else:
            self._bury(slot, code, peak_kb)

    def _may_be_our_stop(self, slot: Slot, code: int | None) -> bool:
        """Whether what killed it may be meant for all of the worker, and we have not heard of it yet."""
        return code in STOPPING and slot.state in (State.BUSY, State.ASKED) and not self.closing

    def _strike(self, slot: Slot, code: int | None) -> None:
        slot.state = State.STRUCK
        slot.ended_with = code
        slot.escalate_at = monotonic() + TOGETHER_SECONDS
        self._forget_pid(slot)
        self._unwatch_all(slot)

    def _judge_struck(self, slot: Slot, now: float) -> float:
        """Whoever stops the whole worker stops it with its children. A signal to one alone is the job's own, or of
        somebody who means that one.
        """
        if slot.state is not State.STRUCK:
            return NEVER
        if now < slot.escalate_at and not self.closing:
            return slot.escalate_at
        self._bury(slot, slot.ended_with)
        return NEVER

    def _bury(self, slot: Slot, code: int | None, peak_kb: int = 0) -> None:
        for attempt in slot.run:
            self._lost(slot, attempt, code)
        if slot.state is State.STARTING and code is not None and not self.closing:
            self.cradle.start_failed(f"a child ended before it was ready: {exit_message(code)}")
        elif slot.state is not State.LEAVING:
            how = "nursery died" if code is None else exit_message(code)
            logger.info("child ended", extra={"pid": slot.pid, "how": how, "peak_kb": peak_kb})
        self._drop(slot)

    def _abandon(self, slot: Slot) -> None:
        """The child survives SIGKILL for now. Its attempts are over all the same; should it wake up, it dies."""
        for attempt in slot.run:
            self._lost(slot, attempt, None)
        slot.run.clear()

    def _lost(self, slot: Slot, attempt: Attempt, code: int | None) -> None:
        """Say what became of an attempt that was running in a dead child."""
        attempt.reason = attempt.reason or attempt.told
        if attempt.started is None and self.options.threads == 1:
            attempt.started = slot.since
        if attempt.reason is not None:
            self.ledger.interrupted(attempt, attempt.reason)
        elif slot.condemned:
            error_type, message = slot.condemned
            self.ledger.crashed(attempt, message, error_type)
        elif slot.state in (State.TERMING, State.KILLING, State.LOST):
            self.ledger.release([attempt])  # Its neighbour was the reason.
        elif code in STOPPING and self.closing:
            self.ledger.interrupted(attempt, Reason.SHUTDOWN)
        else:
            self.ledger.crashed(attempt, "nursery died" if code is None else exit_message(code))

    def _drop(self, slot: Slot) -> None:
        self._unwatch_all(slot)
        slot.close()
        self._forget_pid(slot)
        del self.slots[slot.number], self._output[slot.number]

    def _forget_pid(self, slot: Slot) -> None:
        if slot.pid is not None:
            self._by_pid.pop(slot.pid, None)

    def _unwatch_all(self, slot: Slot) -> None:
        """Its body too, which dispatch may have been writing."""
        for fd in (slot.results, slot.output, slot.body):
            self._unwatch(fd)

    def _unwatch(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _watch_memory(self, now: float) -> float:
        if now < self._memory_at:
            return self._memory_at
        self._memory_at = now + MEMORY_CHECK_SECONDS
        limit = self.options.memory_mb << 20
        for slot in list(self.slots.values()):
            if slot.pid is not None and slot.state in (State.IDLE, State.BUSY, State.ASKED):
                self._check_memory(slot, resident_bytes(slot.pid), limit)
        return self._memory_at

    def _check_memory(self, slot: Slot, used: int, limit: int) -> None:
        if used <= limit:
            return
        self.dispatch.take_back(slot)
        if slot.run:
            message = f"used {used >> 20} MB of memory; its process may use {limit >> 20} MB"
            self._condemn(slot, "MemoryLimitExceeded", message)
        else:
            logger.info("child replaced for its memory", extra={"pid": slot.pid, "used_mb": used >> 20})
            self._retire(slot)
