"""The hub: the worker's main loop, the one owner of slots and jobs. Whatever may block is someone else's.

One turn of the loop:

    1. Has our lease run out by our own clock? Then nothing we hold is ours.
    2. Keep the slots filled with children; look at deadlines, escalations and memory; go on with stopping.
    3. Give waiting jobs to children.
    4. Send what has ended to the finisher, ask the claimer for more, have the registrar renew our lease. Leave when
       there is to be no more.
    5. Sleep until something happens; while children have long runs a moment more, so that results gather.

Threads answer through the inbox and a byte in a pipe. They hold no jobs, so there is no lock in this process.
"""

import logging
import math
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine

from jobplatform.errors import SettingsError
from jobplatform.queue import Lease
from jobplatform.worker.claimer import Claimed, Claimer, ClaimFailed, Reconciled
from jobplatform.worker.database import ThreadDied
from jobplatform.worker.departure import Departure, Phase
from jobplatform.worker.ear import Ear
from jobplatform.worker.finisher import Finisher, Flushed
from jobplatform.worker.frames import Reason
from jobplatform.worker.keeper import Keeper
from jobplatform.worker.keeper_messages import (
    Due,
    JobsReady,
    Know,
    Lapse,
    Leftovers,
    ListenAgain,
    Listening,
    LookForLeftovers,
    Reaped,
    Serve,
    SettleNow,
)
from jobplatform.worker.kernel import is_readable
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.membership import Membership
from jobplatform.worker.options import WorkerOptions
from jobplatform.worker.pool import Pool
from jobplatform.worker.registrar import (
    Beaten,
    Declarations,
    Deregistered,
    LoginRefused,
    Registered,
    Registrar,
    RegistrationFailed,
)
from jobplatform.worker.supply import Supply
from jobplatform.worker.tally import Tally
from jobplatform.worker.until import Until

# Results gather in the pipes meanwhile and nobody waits for them: 5 to 25 % less CPU while draining. On a fast machine
# a millisecond is a quarter of a claim: with half of it jobs of no time are drained 5 % faster, for the same CPU.
LINGER_SECONDS: Final = 0.0005
LONGEST_SLEEP: Final = 10.0
THREAD_STOP_SECONDS: Final = 2.0
NEVER: Final = math.inf

logger = logging.getLogger("jobplatform.worker")


class Hub:
    """The worker's main loop. :meth:`run` returns when the worker has left."""

    def __init__(
        self,
        options: WorkerOptions,
        engine: Engine,
        version: str,
        tally: Tally | None = None,
        *,
        admit: Callable[[], bool] = lambda: True,
    ) -> None:
        """``admit`` says whether our login may be a worker's: see :class:`Registrar`."""
        self.options = options
        self.inbox: deque[Any] = deque()
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        self.selector.register(self.wake_read, selectors.EVENT_READ, self.read_inbox)
        self.claimer = Claimer(engine, self.post)
        self.finisher = Finisher(engine, self.post, crash_limit=options.crash_limit)
        self.registrar = Registrar(engine, self.post, admit)
        self.keeper = Keeper(engine, self.post, options)
        self.threads = (self.claimer, self.finisher, self.registrar, self.keeper)
        self.ledger = Ledger(tally)
        self.pool = Pool(options, self.ledger, self.selector)
        self.dispatch = self.pool.dispatch
        self.membership = Membership(self.registrar, self.ledger, options, version)
        self.supply = Supply(
            self.claimer,
            self.ledger,
            self.dispatch,
            capacity=options.capacity,
            poll=options.poll,
            most=options.max_jobs,
            calm_at=lambda: self.keeper.calm_at,
        )
        self.departure = Departure(
            self.pool,
            self.ledger,
            self.membership,
            self.supply,
            drain_timeout=options.drain_timeout,
            quiet=lambda: self.quiet,
        )
        self.until = Until(
            options,
            self.ledger,
            self.supply,
            holds_nothing=lambda: self.holds_nothing and not self.ledger.waiting,
            ask=lambda: self.keeper.ask(LookForLeftovers()),
            leave=self.drain,
        )
        self.ear = Ear(
            self.selector,
            on_jobs=self.supply.wake,
            on_newcomers=self.supply.rang,
            on_cancel=self.membership.beat_soon,
            on_settle=lambda: self.keeper.ask(SettleNow()),
            on_broken=lambda: self.keeper.ask(ListenAgain()),
        )
        self.answers = self._who_hears()
        self.flushing = False
        self.closed_meanwhile: set[str] = set()
        self.queues: tuple[str, ...] = ()
        self.tasks: tuple[str, ...] = ()
        self.broken: Exception | None = None
        self.turned_at = monotonic()

    def _who_hears(self) -> dict[type[Any], Callable[[Any], None]]:
        """For each thing that a thread may tell us, whom it is for."""
        return {
            Claimed: self.claimed,
            ClaimFailed: lambda _: self.supply.failed(),
            Reconciled: lambda answer: self.supply.reconciled(answer.released),
            Flushed: self.flushed,
            Registered: self.registered,
            RegistrationFailed: lambda _: self.membership.registration_failed(),
            LoginRefused: self.login_refused,
            Beaten: self.beaten,
            Deregistered: lambda _: self.departure.said_goodbye(),
            JobsReady: lambda answer: self.supply.rang(answer.workspaces),
            Reaped: lambda answer: self.ledger.reaped(answer.jobs),
            Leftovers: lambda answer: self.until.answered(answer.left, answer.seconds),
            Listening: lambda answer: self.ear.attach(answer.connection),
            ThreadDied: self.thread_died,
        }

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop. Returns the exit code; raises SettingsError when the tasks can't be imported, or the
        database's login may do more than a worker's.
        """
        try:
            for thread in self.threads:
                thread.start()
            while self.departure.phase is not Phase.GONE:
                self.turn()
            return self.exit_code()
        finally:
            self.close()

    def turn(self) -> None:
        self.turned_at = monotonic()
        if self.membership.lapses_in <= 0:
            logger.error("lease not renewed in time", extra={"worker_id": self.membership.worker_id})
            self.lose_lease()
        now = monotonic()
        wake_at = min(
            self.departure.step(now),
            self.join(now),
            self.pool.keep_full(now),
            self.pool.watch(now),
        )
        if not self.departure.begun:
            self.hand_back_users()
            wake_at = min(wake_at, self.dispatch.give_out(now))
        wake_at = min(wake_at, self.flush(now), self.ask(now), self.look_whether_done(now))
        self.wait(wake_at)

    def wait(self, wake_at: float) -> None:
        if self.departure.phase is Phase.GONE:
            return
        seconds = min(wake_at - monotonic(), self.membership.lapses_in, LONGEST_SLEEP)
        for key, _ in self.selector.select(max(0.0, seconds)):
            # A callback may have closed what another event of this round is about.
            if key.fd in self.selector.get_map():
                key.data()
        if self.dispatch.may_linger:
            self.linger()

    def linger(self) -> None:
        """Let results gather, and hear at once what a thread has to say: it has nothing to do until it is answered."""
        if is_readable(self.wake_read, LINGER_SECONDS):
            self.read_inbox()
        self.pool.read_all_results()

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the worker to stop; asked again, or ``at_once``, to stop now. Safe in signal handlers and any thread."""
        self.departure.request(at_once=at_once)
        self.wake()

    def drain(self) -> None:
        """Ask the worker to stop, which does not count when it is asked again. Safe where :meth:`stop` is."""
        self.departure.drain()
        self.wake()

    def make_way(self) -> None:
        """Have the worker stop now, for another in its place. Safe in any thread."""
        self.departure.make_way()
        self.wake()

    def exit_code(self) -> int:
        if self.departure.unsaved:
            logger.error("stopped without saving everything", extra={"jobs": self.departure.unsaved})
        return 1 if self.broken or self.departure.unsaved else 0

    def close(self) -> None:
        self.pool.close()
        self.ear.close()
        for thread in self.threads:
            thread.stop(THREAD_STOP_SECONDS)
        self.selector.close()

    # -- steps of a turn -------------------------------------------------------------------------

    def join(self, now: float) -> float:
        """Register once every slot is ready and nothing from an earlier registration is left; then renew the lease."""
        if self.pool.cradle.import_problems:
            raise SettingsError(self.pool.cradle.import_problems)
        if self.membership.worker_id is None and not self.departure.begun and self.pool.ready and self.holds_nothing:
            self.learn_catalogue()
            self.membership.register(self.queues, self.tasks, self.pool.cradle.catalogue)
        return self.membership.step(now)

    def learn_catalogue(self) -> None:
        if self.tasks:
            return
        catalogue = self.pool.cradle.catalogue
        self.ledger.learn_tasks(catalogue)
        self.registrar.declarations = Declarations.of(catalogue, self.pool.cradle.rules, self.options.tasks)
        self.tasks = tuple(task["name"] for task in catalogue)
        self.queues = self.options.queues or tuple(sorted({"default", *(task["queue"] for task in catalogue)}))
        self.ear.queues = frozenset(self.queues)
        self.ledger.know(self.queues, self.tasks)
        self.claimer.know(self.queues, self.tasks, {task["name"]: task["payload_version"] for task in catalogue})
        self.keeper.ask(Know(catalogue, self.pool.cradle.schedules))

    def hand_back_users(self) -> None:
        """Hand back what has not begun of what uses a resource that was closed or paused; also of claims on their way,
        which may not have seen it.
        """
        if not self.ledger.closed:
            return
        resources, self.ledger.closed = self.ledger.closed, set()
        self.dispatch.hand_back_users(resources)
        if self.supply.in_flight:
            self.closed_meanwhile |= resources

    def flush(self, now: float) -> float:
        if self.flushing:
            return NEVER
        outbox = self.ledger.outbox
        due_at = outbox.due_at(idle=not self.dispatch.given and not self.ledger.ready)
        if due_at is None:
            return NEVER
        if due_at > now:
            return due_at
        self.flushing = True
        self.finisher.ask(outbox.take(now))
        return NEVER

    def ask(self, now: float) -> float:
        if self.departure.begun or self.membership.worker_id is None:
            return NEVER
        # What is closed meanwhile counts for the claims that are on their way, and those must come to an end.
        return self.supply.ask(now, self.membership.worker_id, behind_another=not self.closed_meanwhile)

    def look_whether_done(self, now: float) -> float:
        if self.departure.begun or self.membership.worker_id is None:
            return NEVER
        return self.until.step(now)

    @property
    def quiet(self) -> bool:
        """Whether nothing that was asked of the database is unanswered."""
        return not self.flushing and not self.supply.in_flight

    @property
    def obstacle(self) -> str | None:
        """Why no jobs are taken right now, in words; None when they are. May be asked from any thread."""
        if self.departure.begun:
            return "the worker is stopping"
        if outages := [thread.name for thread in self.threads if thread.outage.lasts]:
            return f"the database cannot be reached ({', '.join(outages)})"
        if self.membership.worker_id is None:
            return "the worker is not registered: its handler processes are starting, or its lease is lost"
        return None

    @property
    def holds_nothing(self) -> bool:
        return self.quiet and self.ledger.outbox.empty and not self.dispatch.given

    def lose_lease(self) -> None:
        """Nothing we hold is ours any more: stop it all, hand back what may still be, and come back as somebody new.

        The fence decides about every write that is still on its way, and about each of these releases.
        """
        now = monotonic()
        self.dispatch.take_back_all()
        self.ledger.release_ready()
        for slot, attempt in self.dispatch.running():
            attempt.release_after = True
            self.pool.ladder.stop(slot, attempt, Reason.LEASE_LOST, now)
        self.ledger.known.clear()
        self.membership.end()
        self.keeper.ask(Lapse())

    # -- answers of the threads ------------------------------------------------------------------

    def post(self, message: Any) -> None:
        self.inbox.append(message)
        self.wake()

    def wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            os.write(self.wake_write, b"x")

    def read_inbox(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        while self.inbox:
            self.hear(self.inbox.popleft())

    def hear(self, message: Any) -> None:
        self.answers[type(message)](message)

    def login_refused(self, answer: LoginRefused) -> None:
        raise answer.error

    def thread_died(self, message: ThreadDied) -> None:
        self.broken = message.error
        self.departure.request()

    def claimed(self, claim: Claimed) -> None:
        stood_idle = self.supply.claimed(claim)
        if claim.worker_id == self.membership.worker_id and not self.departure.begun:
            self.ledger.claimed(
                claim.jobs,
                idle=self.dispatch.idle,
                waiting=claim.waiting,
                came_round=claim.came_round,
                stood_idle=stood_idle,
                since=claim.since,
            )
            self.ledger.closed |= self.closed_meanwhile
            self.closed_meanwhile.clear()
            self.hand_back_users()
            # Not only at their places in the next turn: a child that has nothing to do would wait for all that is
            # before, and so would the claimer, which drains a backlog a tenth faster when it is asked at once.
            now = monotonic()
            self.dispatch.give_out(now)
            self.ask(now)
        else:
            self.ledger.refuse(claim.jobs)

    def flushed(self, answer: Flushed) -> None:
        self.flushing = False
        self.ledger.flushed(answer.flush, answer.lost, answer.statuses)
        self.ledger.closed |= answer.paused
        self.ledger.outbox.hold_up(answer.held_up, monotonic())
        self.supply.ended()
        for lease in answer.lost:
            facts = {"job_id": lease.job_id, "epoch": lease.epoch, "repeated": answer.repeated}
            logger.info("ending not accepted, the lease is lost", extra=facts)
        if answer.unsettled:
            self.keeper.ask(SettleNow())
        self.stop_lost(answer.not_held)
        delays = [failure.delay for failure in answer.flush.failures if failure.retry]
        delays += [release.delay for release in answer.flush.releases]
        if delays:
            self.keeper.ask(Due(max(0.0, min(delays))))
            self.supply.wake()

    def registered(self, answer: Registered) -> None:
        self.membership.registered(answer)
        self.keeper.ask(Serve(self.queues))
        self.supply.wake()
        facts = {"worker_id": answer.worker_id, "slots": self.options.slots, "threads": self.options.threads}
        logger.info("worker ready", extra=facts | {"queues": self.queues, "tasks": self.tasks})

    def beaten(self, beat: Beaten) -> None:
        if not self.membership.beaten(beat) or beat.answer is None:
            return
        if not beat.answer.alive:
            logger.error("declared dead by another worker", extra={"worker_id": beat.worker_id})
            self.lose_lease()
            return
        if beat.answer.drain and not self.departure.begun:
            logger.info("asked to drain by an operator", extra={"worker_id": beat.worker_id})
            self.departure.drain()
        self.stop_lost(beat.answer.lost)
        for lease in beat.answer.cancelled:
            self.cancel(lease)
        self.supply.reconcile_soon()

    def stop_lost(self, leases: Iterable[Lease]) -> None:
        """Somebody else has these attempts. One that has ended here meanwhile is decided by its own write, and one that
        completes itself has given up its lease and may do what it still wants to do.
        """
        for lease in leases:
            attempt = self.ledger.known.get(lease)
            if attempt is None:
                continue
            slot = self.dispatch.find(attempt)
            if slot is not None:
                self.pool.read_results(slot)
                if not attempt.completes_itself:
                    self.pool.ladder.stop(slot, attempt, Reason.LEASE_LOST, monotonic())
            self.ledger.lose_ready(attempt)

    def cancel(self, lease: Lease) -> None:
        attempt = self.ledger.known.get(lease)
        if attempt is None:
            return
        slot = self.dispatch.find(attempt)
        if slot is not None:
            self.pool.ladder.stop(slot, attempt, Reason.CANCELLED, monotonic())
        self.ledger.cancel_ready(attempt)


def stop_on_signals(hub: Hub, drain_on: int | None = None) -> None:
    """SIGTERM and SIGINT stop the hub, the second one at once; SIGQUIT does so by itself. The end of the terminal and
    ``drain_on`` stop it too, and are never a second one.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: hub.stop())
    # One that nohup made ignored stays ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: hub.drain())
    signal.signal(signal.SIGQUIT, lambda *_: hub.stop(at_once=True))
    if drain_on is not None:
        signal.signal(drain_on, lambda *_: hub.drain())
