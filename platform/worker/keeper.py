"""The keeper: the chores every worker does without a leader.

look      every poll: is there anything to do for those that follow, or for the claimer? Nearly always there is not
promote   scheduled jobs whose time has come; looked for at every poll, and done when the next one is due
late      end jobs that have not begun in time; the same
schedule  enqueue what is due of schedules; the same
endings   count what ended that others wait for, and let go what waited; every poll, and when something did
succeed   let a job take the place of the one that it waited for; every poll, and after endings
sweep     bury silent workers, then rescue their jobs: two statements, committed in this order
prune     delete old final jobs and old ticks; once a minute, whoever comes first of all workers
syncs     close entries of syncs whose job has ended, delete old ones; the same
exports   have those that are due deleted, by jobs; the same
alerts    look whether something is wrong, with all or with a workspace that has rules, and have it told; the same
count     count what has ended, for the charts; every few seconds, whoever comes first of all workers
bulk      go on with what an operator wants done to many jobs; whoever comes first

settle    write down the schedules that our code declares, and say now and then that it still does
describe  write down what our tasks are, for those who look at them without having them
listen    keep a connection that LISTENs; the hub reads it
"""

import logging
import math
import queue
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any, Final

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobplatform.queue import (
    RENEW_SECONDS,
    AlertEvent,
    Declared,
    Promoted,
    Succeeded,
    TaskDefaults,
    bury_workers,
    continue_bulk,
    count_endings,
    describe_tasks,
    end_late_jobs,
    expire_exports,
    find_unconnected,
    fire_schedules,
    forget_bulk,
    forget_ticks,
    is_anything_left,
    look_around,
    promote_jobs,
    prune_jobs,
    rescue_jobs,
    settle_alerts,
    settle_endings,
    settle_schedules,
    settle_workspace_alerts,
    succeed_jobs,
    tend_sync_logs,
)
from jobplatform.worker.chore import Chore, Watched
from jobplatform.worker.database import DatabaseThread, will_pass
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
from jobplatform.worker.listener import open_listener
from jobplatform.worker.options import WorkerOptions

#: Every how many heartbeats a worker looks whether a chore of the whole platform is due; two looks share a minute.
TURN_BEATS: Final = 3
#: The first look is within so many seconds, at a moment of each worker's own.
TURN_WITHIN: Final = 6.0
LARGEST_PRUNE: Final = 1_000
COUNT_SECONDS: Final = 5.0
BULK_SECONDS: Final = 2.0
DESCRIBE_SECONDS: Final = 600.0
SWEEP_SECONDS: Final = 5.0
LISTEN_AGAIN_SECONDS: Final = 1.0
DEAF: Final = "degraded to polling: LISTEN is impossible through a pooler"
INSTEAD: Final = "set JOBPLATFORM_DIRECT_DATABASE_URL, or JOBPLATFORM_DOORBELL=false if polling is meant"

logger = logging.getLogger("jobplatform.worker")


class Keeper(DatabaseThread):
    """The thread that does the chores, each when its time has come or there is a sign of it."""

    def __init__(self, engine: Engine, post: Callable[[Any], None], options: WorkerOptions) -> None:
        super().__init__("keeper", engine, post)
        self._options = options
        self._promote = Watched("promote", 0.0, self._promote_jobs, sign=lambda signs: signs.scheduled_in)
        self._endings = Watched("endings", 0.0, self._settle_endings, sign=lambda signs: _at_once(signs.endings))
        self._succeed = Watched("succeed", 0.0, self._succeed_jobs, sign=lambda signs: _at_once(signs.successors))
        self._sweep = Watched(
            "sweep", min(options.heartbeat, SWEEP_SECONDS), self._sweep_up, sign=lambda signs: _at_once(signs.dead)
        )
        self._listen = Chore("listen", options.poll, self._open_listener)
        self._watched = [
            self._promote,
            Watched("late", 0.0, self._end_late_jobs, sign=lambda signs: signs.late_in),
            Watched("schedule", 0.0, self._fire_schedules, sign=lambda signs: signs.tick_in),
            self._endings,
            self._succeed,
            self._sweep,
            *self._chores_of_all(TURN_BEATS * options.heartbeat),
        ]
        # None of them is looked for more rarely than it is to be.
        every = min([options.poll, *(chore.every for chore in self._watched if chore.every)])
        self._looking = Chore("look", every, self._look, spread=2)
        self._chores: list[Chore] = [
            Chore("settle", RENEW_SECONDS, self._settle_schedules),
            self._looking,
            *self._watched,
            Chore("describe", DESCRIBE_SECONDS, self._describe_tasks),
        ]
        self._chores += [self._listen] if options.doorbell else []
        self._serving = False
        self._wants_listener = True
        self.calm_at = -math.inf
        """When a look last saw that no job is ready in our queues. May be asked from any thread."""
        self._saw_calm = False
        self._look_for_jobs_at = 0.0
        self._queues: Sequence[str] = ()
        self._catalogue: Sequence[Mapping[str, Any]] = ()
        self._known: dict[str, TaskDefaults] = {}
        self._declared: list[Declared] = []
        self._is_new = True

    def _chores_of_all(self, every: float) -> list[Watched]:
        """Chores of the whole platform: whether one is due says its row, and whoever comes first does it."""

        def of_all(name: str, run: Callable[[], float | None], every: float, within: float = 0.0) -> Watched:
            return Watched(
                name,
                every,
                run,
                sign=lambda signs: _at_once(name not in signs.resting),
                look_at=monotonic() + random.uniform(0, within),
            )

        within = min(every, TURN_WITHIN)
        return [
            of_all("prune", self._prune, every, within),
            of_all("syncs", self._tend_syncs, every, within),
            of_all("exports", self._expire_exports, every, within),
            of_all("alerts", self._settle_alerts, every, within),
            of_all("workspace-alerts", self._settle_workspace_alerts, every, within),
            of_all("count", self._count_endings, min(every, COUNT_SECONDS)),
            Watched("bulk", min(every, BULK_SECONDS), self._continue_bulk, sign=lambda signs: _at_once(signs.bulk)),
        ]

    def serve(self) -> None:
        while (request := self._next_request()) is not None:
            self._handle(request)
            if self._serving:
                self._do_chores()

    def _next_request(self) -> Any:
        """The next request, or () when a chore is due first. Requests that wait come before chores."""
        soonest = min(chore.due_at for chore in self._chores) if self._serving else None
        timeout = None if soonest is None else max(0.0, soonest - monotonic())
        try:
            return self.requests.get(timeout=timeout)
        except queue.Empty:
            return ()

    def _handle(self, request: Any) -> None:
        match request:
            case Know():
                self._know(request)
            case Serve():
                self._serving, self._queues = True, request.queues
            case Lapse():
                self._serving = False
            case Due():
                self._promote.due_at = min(self._promote.due_at, monotonic() + request.seconds)
            case SettleNow():
                self._endings.due_at = monotonic()
            case LookForLeftovers():
                self._look_for_leftovers()
            case ListenAgain():
                self._wants_listener = True
                self._listen.due_at = monotonic() + random.uniform(0, LISTEN_AGAIN_SECONDS)

    def _know(self, told: Know) -> None:
        self._catalogue = told.catalogue
        self._known = {task["name"]: TaskDefaults.of(task) for task in told.catalogue}
        self._declared = [Declared.from_dict(declared) for declared in told.schedules]

    def _look_for_leftovers(self) -> None:
        """What is left may be a chore's to make ready, so those are looked for at once."""
        left, seconds = True, 0.0
        try:
            left, seconds = self.once(self._is_anything_left)
        except SQLAlchemyError as error:
            if not will_pass(error):
                logger.error("leftovers cannot be looked for", extra={"error": str(error)[:500]})
        if left:
            self._looking.due_at = monotonic()
        self.post(Leftovers(left, seconds))

    def _is_anything_left(self, session: Session) -> tuple[bool, float]:
        versions = {task["name"]: task["payload_version"] for task in self._catalogue}
        began = monotonic()
        left = is_anything_left(session, queues=self._queues, tasks=list(versions), versions=versions)
        return left, monotonic() - began

    # -- chores ----------------------------------------------------------------------------------

    def _do_chores(self) -> None:
        """Do what is due, but hear first what the hub has to say."""
        for chore in self._chores:
            if chore.due_at <= monotonic() and self.requests.empty():
                self._do(chore)

    def _do(self, chore: Chore) -> None:
        """Whatever becomes of it: the next worker would meet the same, so it is no reason to stop being one."""
        wish: float | None = None
        try:
            wish = chore.run()
        except Exception as error:
            if not (isinstance(error, psycopg.OperationalError) or will_pass(error)):
                facts = {"chore": chore.name, "error": str(error)[:500], "failures": chore.failures + 1}
                logger.error("chore failed", extra=facts, exc_info=not isinstance(error, SQLAlchemyError))
                chore.failed(monotonic())
                return
        chore.failures = 0
        pause = chore.pause()
        chore.due_at = monotonic() + (pause if wish is None else min(pause, wish))

    def _look(self) -> None:
        """Ask once whether there is anything to do for those that are looked for by now, or would be soon."""
        now = monotonic()
        wanted = [chore for chore in self._watched if chore.look_at <= now + self._options.poll]
        lease, dead, queues = self._options.lease, self._sweep in wanted, self._queues_to_look_in(now)
        signs = self.once(lambda session: look_around(session, self._known, lease=lease, dead=dead, queues=queues))
        for chore in wanted:
            chore.seen(signs, now)
        if queues:
            self._saw_jobs(signs.ready, now)

    def _queues_to_look_in(self, now: float) -> Sequence[str]:
        """Ours, once a poll: as long as no job is ready in them nobody has to claim in vain to find that out."""
        return self._queues if now >= self._look_for_jobs_at else ()

    def _saw_jobs(self, ready: bool, now: float) -> None:
        """Say that there are jobs when there were none before. If they stay, the hub's own polls see to them."""
        self._look_for_jobs_at = now + self._options.poll
        if ready and self._saw_calm:
            self.post(JobsReady())
        self._saw_calm = not ready
        if not ready:
            self.calm_at = now

    def _promote_jobs(self) -> float | None:
        promoted: Promoted = self.once(promote_jobs)
        if promoted.queues:
            self.post(JobsReady(promoted.workspaces))
        return 0.0 if promoted.more else promoted.next_due

    def _end_late_jobs(self) -> float | None:
        ended = self.once(end_late_jobs)
        if ended.jobs:
            logger.info("jobs that came too late ended", extra={"jobs": ended.jobs})
        if self.take_unsettled():
            self._endings.due_at = monotonic()
        return 0.0 if ended.more else ended.next_due

    def _succeed_jobs(self) -> None:
        succeeded: Succeeded = self.once(succeed_jobs)
        if succeeded.queues:
            self.post(JobsReady(succeeded.workspaces))

    def _fire_schedules(self) -> float | None:
        fired = self.once(lambda session: fire_schedules(session, self._known))
        if fired.workspaces:
            self.post(JobsReady(fired.workspaces))
        return fired.next_due

    def _settle_schedules(self) -> None:
        settled = self.once(
            lambda session: settle_schedules(session, self._options.tasks, self._declared, starting=self._is_new)
        )
        if settled and (self._is_new or settled.made or settled.changed or settled.removed):
            level = logging.WARNING if settled.taken else logging.INFO
            logger.log(level, "schedules of the code written down", extra=settled._asdict())
        is_new, self._is_new = self._is_new, False
        if is_new or settled.made or settled.changed:
            self._warn_of_the_unconnected()

    def _warn_of_the_unconnected(self) -> None:
        """Looked for by itself, and once: what is written down stays, whatever becomes of this."""
        if unconnected := self.once(lambda session: find_unconnected(session, self._declared)):
            logger.warning(
                "schedules of the code name connections that their workspaces do not have: their jobs are skipped",
                extra={"schedules": unconnected},
            )

    def _sweep_up(self) -> None:
        """Two statements, two transactions: what is rescued must be seen to belong to a dead worker."""
        buried = self.once(lambda session: bury_workers(session, timedelta(seconds=self._options.lease)))
        if buried:
            logger.warning("workers declared dead", extra={"worker_ids": buried})
        rescued = self.once(lambda session: rescue_jobs(session, crash_limit=self._options.crash_limit))
        if rescued:
            logger.warning("jobs rescued", extra={"jobs": len(rescued)})
            self.post(JobsReady())
            self.post(Reaped(len(rescued)))
        if self.take_unsettled():
            self._endings.due_at = monotonic()

    def _settle_endings(self) -> float | None:
        settled = self.once(settle_endings)
        if settled.notices:
            # One of them may be of a job that another waits for under its key.
            self._succeed.due_at = monotonic()
        if settled.released:
            self.post(JobsReady(list({job.workspace_id for job in settled.released})))
        return 0.0 if settled.more else settled.wait

    def _prune(self) -> float | None:
        options = self._options
        pruned = self.once(
            lambda session: prune_jobs(
                session,
                completed_after=options.completed_retention,
                failed_after=options.failed_retention,
                audit_after=options.audit_retention,
                now=False,
            )
        )
        if pruned:
            logger.info("old jobs deleted", extra={"jobs": pruned})
        # No job must outlive the record of the tick that it came from.
        kept = max(options.tick_retention, options.completed_retention, options.failed_retention)
        forgotten = self.once(lambda session: forget_ticks(session, after=kept))
        self.once(forget_bulk)
        return 1.0 if max(pruned, forgotten) >= LARGEST_PRUNE else None

    def _tend_syncs(self) -> float | None:
        after = self._options.sync_log_retention
        tended = self.once(lambda session: tend_sync_logs(session, after=after, now=False))
        if tended.closed:
            logger.info("entries of syncs closed whose jobs had ended", extra={"entries": tended.closed})
        return 1.0 if tended.more else None

    def _expire_exports(self) -> None:
        if self.once(lambda session: expire_exports(session, now=False)):
            self.post(JobsReady())

    def _settle_alerts(self) -> None:
        self._log_alerts(self.once(settle_alerts))

    def _settle_workspace_alerts(self) -> float | None:
        found = self.once(settle_workspace_alerts)
        self._log_alerts(found.events)
        return 0.0 if found.more else None

    def _log_alerts(self, events: Sequence[AlertEvent]) -> None:
        for event in events:
            log = logger.warning if event.event == "raised" else logger.info
            about = {} if event.workspace_id is None else {"workspace_id": str(event.workspace_id)}
            log(f"alert {event.event}", extra={"code": event.code, "alert": event.message, **about})

    def _count_endings(self) -> float | None:
        return 0.0 if self.once(lambda session: count_endings(session, now=False)).more else None

    def _continue_bulk(self) -> float | None:
        return 0.0 if self.once(continue_bulk) else None

    def _describe_tasks(self) -> None:
        self.once(lambda session: describe_tasks(session, self._catalogue))

    def _open_listener(self) -> float | None:
        if self._wants_listener:
            listener = open_listener(self._engine, trusted=self._options.direct_database_url is not None)
            if listener is None:
                # Said once: what stands between stays there, so there is nothing to try again.
                logger.warning(DEAF, extra={"poll_seconds": self._options.poll, "instead": INSTEAD})
            else:
                self.post(Listening(listener))
            self._wants_listener = False
        return None


def _at_once(sign: bool) -> float | None:
    return 0.0 if sign else None
