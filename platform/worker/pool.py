"""The pool: the nursery, the slots, and which job goes to which child. Owned by the hub, which runs it in its loop."""

import logging
import math
import selectors
import signal
from collections.abc import Collection
from time import monotonic
from typing import Final

from jobplatform.worker.attempt import Attempt
from jobplatform.worker.bodies import BodyError, decode_end
from jobplatform.worker.cradle import Cradle, Events
from jobplatform.worker.frames import (
    COMPLETING,
    ENDED,
    HAPPENED,
    LOG,
    OK,
    PROGRESS,
    READY,
    RECORD,
    STARTED,
    TOO_LATE,
    Frame,
    Reason,
)
from jobplatform.worker.kernel import resident_bytes
from jobplatform.worker.ladder import Ladder
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.nursery_link import NurseryConfig, kill_orphans
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.output import OutputReader, relay_record
from jobplatform.worker.pace import SLOW_SECONDS
from jobplatform.worker.slot import Slot, State
from jobplatform.worker.verdicts import exit_message

# More in one frame overruns the pipe and makes the child wait for the parent's next turn.
RUN_BYTES: Final = 200_000
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
    """Keeps `slots` children alive and busy. Everything happens in calls from the hub; nothing here blocks."""

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
        self.ladder = Ladder(self.cradle, self.take_back, threads=options.threads, grace=options.kill_grace)
        self._selector = selector
        self._by_pid: dict[int, Slot] = {}
        self._output: dict[int, OutputReader] = {}
        self._number = 0
        self._reserved: int | None = None
        self._memory_at = 0.0

    # -- what the hub asks -----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every slot has a child that can take jobs or is at work."""
        serving = [slot for slot in self.slots.values() if slot.state in SERVING]
        return len(serving) >= self.options.slots

    @property
    def given(self) -> int:
        """Jobs that children have, started or not."""
        return sum(len(slot.run) for slot in self.slots.values())

    @property
    def idle(self) -> int:
        """Children that have nothing to do."""
        return sum(slot.takes_jobs and not slot.run for slot in self.slots.values())

    @property
    def has_leavers(self) -> bool:
        """Whether a child that was told to leave is still there."""
        return any(slot.state is State.LEAVING for slot in self.slots.values())

    def tied_up(self, now: float) -> float:
        """What part of the children have been at their job for so long that nothing is to wait behind it.

        0 if all have: then it is jobs that are long.
        """
        tied_up = len(self._starts_of_long(now))
        return tied_up / self.options.slots if tied_up < self.options.slots else 0.0

    def typical_seconds(self, now: float) -> float:
        """For how long more than half of the children have been running their job, those that are tied up not counted;
        0 when they have not.
        """
        starts = sorted(self._head_started(slot, now) for slot in self.slots.values() if slot.run)
        tied_up = len(self._starts_of_long(now))
        if tied_up >= self.options.slots:
            tied_up = 0
        middle = tied_up + (self.options.slots - tied_up) // 2
        return now - starts[middle] if len(starts) > middle else 0.0

    def _starts_of_long(self, now: float) -> list[float]:
        """Children with threads are never tied up: their other threads go on."""
        if self.options.threads > 1:
            return []
        return [slot.since for slot in self.slots.values() if slot.run and now - slot.since > SLOW_SECONDS]

    def _head_started(self, slot: Slot, now: float) -> float:
        """When a child began with its oldest job: one that has a single thread does so when the last one has ended."""
        return slot.since if self.options.threads == 1 else slot.run[0].started or now

    def running(self) -> list[tuple[Slot, Attempt]]:
        return [(slot, attempt) for slot in self.slots.values() for attempt in slot.run]

    def find(self, attempt: Attempt) -> Slot | None:
        return next((slot for slot in self.slots.values() if attempt in slot.run), None)

    @property
    def may_linger(self) -> bool:
        """Whether results may gather in the pipes for a moment without a child running out of work meanwhile."""
        threads = self.options.threads
        runs = [len(slot.run) for slot in self.slots.values()] or [0]
        if min(runs) >= 2 * threads:
            return True
        return max(runs) > 3 * threads and not (self.ledger.ready and min(runs) == 0)

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
                self._free_followers(slot, now),
                self._look_for_signs_of_life(slot, now),
                self._judge_struck(slot, now),
            )
            if slot.state is State.LOST and slot.run:
                self._abandon(slot)
        if self.options.memory_mb:
            soonest = min(soonest, self._watch_memory(now))
        return soonest

    def dispatch(self, now: float) -> float:
        """Give waiting jobs to children that are out of work or soon will be, the emptiest first.

        Returns when to look again: what was just given may be slow, or have a short deadline.
        """
        look_at = self.ledger.release_late(now)
        if self.ledger.gathering:
            look_at = min(look_at, self.ledger.release_gathered(now))
        if not self.ledger.ready:
            return look_at
        if self.options.threads == 1 or not self.ledger.apart:
            return min(look_at, self._dispatch(now))
        waiting = self._give_apart(now)
        given_at = self._dispatch(now)
        self.ledger.ready.extendleft(reversed(waiting))
        return min(look_at, given_at)

    def _give_apart(self, now: float) -> list[Attempt]:
        """Give jobs that want a child to themselves to those that have nothing to do, and answer with the rest.

        While there is a rest one child gets nothing new, so that it will be free for the first of them.
        """
        apart = [attempt for attempt in self.ledger.ready if attempt.task in self.ledger.apart]
        others = [attempt for attempt in self.ledger.ready if attempt.task not in self.ledger.apart]
        self.ledger.ready.clear()
        self.ledger.ready.extend(apart)
        takers = [slot for slot in self.slots.values() if slot.takes_jobs]
        for slot in takers:
            if not slot.run and self.ledger.ready:
                run = self.ledger.next_run(1, RUN_BYTES, free=1)
                for attempt in run:
                    attempt.apart = True
                self._give(slot, run)
        left = list(self.ledger.ready)
        self.ledger.ready.clear()
        self.ledger.ready.extend(others)
        busy = [slot for slot in takers if slot.run and slot.takes_jobs]
        self._reserved = self._reserve(busy) if left else None
        return left

    def _reserve(self, busy: list[Slot]) -> int | None:
        """The child that is kept from new jobs: the one that was so before, else the one that will be free first."""
        if any(slot.number == self._reserved for slot in busy):
            return self._reserved
        return min(busy, key=lambda slot: len(slot.run)).number if busy else None

    def _dispatch(self, now: float) -> float:
        ready = self.ledger.ready
        if not ready:
            return NEVER
        takers = sorted((slot for slot in self.slots.values() if slot.takes_jobs), key=Slot.load)
        look_at = NEVER
        # One that has its hands full has no part in what there is for the others.
        takers = [slot for slot in takers if slot.number != self._reserved and self._room(slot, now) > 0]
        for position, slot in enumerate(takers):
            share = math.ceil(len(ready) / (len(takers) - position))
            room = self._room(slot, now)
            if room > 0:
                self._give(slot, self.ledger.next_run(min(room, share), RUN_BYTES, free=self.options.threads))
                look_at = now + SLOW_SECONDS
            if not ready:
                break
        return look_at

    def take_back(self, slot: Slot) -> None:
        """Make what the child has not started wait again, and hear what it has finished."""
        self.ledger.put_back(slot.take_back())
        self.read_results(slot)

    def hand_back_users(self, resources: Collection[str]) -> None:
        """Nothing more is to start on these resources: not of what waits here, and not of what children have."""
        for slot in list(self.slots.values()):
            if any(attempt.job.resource in resources for attempt in slot.run):
                self.take_back(slot)
        self.ledger.release_users(resources)

    def take_back_all(self) -> None:
        for slot in self.slots.values():
            self.take_back(slot)

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

    # -- giving jobs -----------------------------------------------------------------------------

    def _room(self, slot: Slot, now: float) -> int:
        """How many more jobs this child should get: none while all its threads work and half of its run is left."""
        threads = self.options.threads
        length = max(threads, self.ledger.pace.run_length(self.ledger.ready[0].task))
        have = len(slot.run)
        if have and now - slot.since > SLOW_SECONDS:
            length = threads
        if self.options.max_jobs_per_child:
            length = min(length, max(1, self.options.max_jobs_per_child - slot.served))
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
            self._unwatch(slot.body)

    def _free_followers(self, slot: Slot, now: float) -> float:
        """Behind a job that takes long nobody waits: its followers go to other children."""
        if slot.state is not State.BUSY or len(slot.run) <= self.options.threads:
            return NEVER
        slow_at = slot.since + SLOW_SECONDS
        if now < slow_at:
            return slow_at
        self.ledger.put_back(slot.take_back())
        return NEVER

    def _look_for_signs_of_life(self, slot: Slot, now: float) -> float:
        """Jobs that a child has not started are safe; a child that starts none for seconds is not worth keeping."""
        if slot.state is not State.BUSY or slot.head_started:
            return NEVER
        stuck_at = slot.starts_nothing_at(STUCK_SECONDS)
        if now < stuck_at:
            return stuck_at
        self.take_back(slot)
        slot.head_started = bool(slot.run)
        if slot.takes_jobs and not slot.run:
            logger.error("child starts nothing and is killed", extra={"pid": slot.pid})
            self.ladder.kill(slot, now)
        return NEVER

    # -- hearing from children -------------------------------------------------------------------

    def read_results(self, slot: Slot) -> None:
        for frame in slot.read():
            if frame.kind == OK:
                if attempt := self._finished(slot, frame):
                    self.ledger.completed(attempt, frame)
            else:
                self._hear(slot, frame)
        if slot.broken:
            self._condemn(slot, "ProtocolError", slot.broken)
        slot.settle()
        if self.options.max_jobs_per_child and slot.served >= self.options.max_jobs_per_child:
            self._retire(slot)

    def _hear(self, slot: Slot, frame: Frame) -> None:
        try:
            self._heard(slot, frame)
        except BodyError as error:
            self._condemn(slot, "ProtocolError", str(error))

    def _heard(self, slot: Slot, frame: Frame) -> None:
        kind = frame.kind
        if kind == ENDED:
            facts = decode_end(frame.body)  # First: what cannot be read must not have ended anything.
            if attempt := self._finished(slot, frame):
                self.ledger.ended(attempt, frame, facts)
        elif kind == TOO_LATE:
            if attempt := self._finished(slot, frame):
                self.ledger.release_unstarted([attempt])
        elif kind == READY:
            self._is_ready(slot)
        elif kind == RECORD:
            attempt = slot.find(frame.seq)
            relay_record(frame, attempt.facts if attempt else {})
        elif kind == HAPPENED:
            self.ledger.happened(frame)
        else:
            self._job_reported(slot, frame)

    def _is_ready(self, slot: Slot) -> None:
        """Once in a child's life: later it would open a slot whose child is being killed."""
        if slot.state is not State.STARTING:
            self._condemn(slot, "ProtocolError", "a child said that it is ready after it had begun to work")
            return
        slot.state = State.IDLE
        self.cradle.child_is_ready()
        if self.ready:
            self.cradle.all_are_ready()

    def _finished(self, slot: Slot, frame: Frame) -> Attempt | None:
        attempt = slot.finished(frame.seq, frame.started + frame.seconds)
        if attempt is None:
            self._condemn(slot, "ProtocolError", f"a child finished job {frame.seq}, which it was not given")
        return attempt

    def _job_reported(self, slot: Slot, frame: Frame) -> None:
        attempt = slot.find(frame.seq)
        if attempt is None:
            return
        if frame.kind == STARTED:
            self.ledger.started(attempt, frame)
        elif frame.kind == PROGRESS:
            self.ledger.progressed(attempt, frame)
        elif frame.kind == LOG:
            self.ledger.logged(attempt, frame)
        elif frame.kind == COMPLETING:
            attempt.completes_itself = True

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
            self.ledger.put_back(slot.take_back())

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
        self.take_back(slot)
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
        self.take_back(slot)
        if slot.run:
            message = f"used {used >> 20} MB of memory; its process may use {limit >> 20} MB"
            self._condemn(slot, "MemoryLimitExceeded", message)
        else:
            logger.info("child replaced for its memory", extra={"pid": slot.pid, "used_mb": used >> 20})
            self._retire(slot)
