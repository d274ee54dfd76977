"""A stage on which the situations of a chaos run are played with the verbs themselves, one step after the other."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from jobplatform.proof.changes import Scope, change
from jobplatform.proof.clients import Promises
from jobplatform.proof.diary import Entry
from jobplatform.proof.evidence import Evidence, gather
from jobplatform.proof.watcher import Seen, look
from jobplatform.proof.workload import go_through_pages, tasks
from jobplatform.queue import (
    ClaimedJob,
    Completion,
    Enqueued,
    Every,
    Failure,
    Lease,
    NewJob,
    Release,
    Ring,
    RunningJob,
    TaskDefaults,
    WorkerInfo,
    bury_workers,
    claim_jobs,
    complete_jobs,
    create_schedule,
    enqueue_job,
    fail_jobs,
    fire_schedules,
    heartbeat,
    promote_jobs,
    register_worker,
    release_jobs,
    release_unknown_jobs,
    rescue_jobs,
    set_workspace_limits,
    settle_endings,
)

T = TypeVar("T")

LEASE = timedelta(seconds=30)
SECOND = timedelta(seconds=1)

#: More than any situation needs: what is unfinished after so many rounds would stay so.
ROUNDS = 6

WAITING = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class KilledError(BaseException):
    """The handler's process is no more."""


class DyingSession(Session):
    """A Session of a process that is killed after so many commits."""

    def __init__(self, engine: Engine, commits: int | None) -> None:
        super().__init__(engine)
        self._left = commits

    def commit(self) -> None:
        super().commit()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise KilledError


class NoChannel:
    """Nobody listens to this handler, and nobody interrupts it."""

    def progress(self, report: str) -> None: ...

    def log(self, level: str, message: str) -> None: ...

    def completing(self) -> None: ...

    def interruption(self) -> type[BaseException] | None:
        return None


class Stage:
    """A database with a history, workers that do what they are told, and the evidence of all of it."""

    def __init__(self, url: str, crash_limit: int = 3) -> None:
        self.crash_limit = crash_limit
        self.workspace_id = uuid.UUID(int=1)
        self.promises = Promises()
        self.diary: list[Entry] = []
        self.seen = Seen()
        self._engine = make_engine(url, pool_size=4)
        self._workers = make_engine(url, autocommit=True)
        self._director = psycopg.connect(url, autocommit=True, prepare_threshold=None)

    def close(self) -> None:
        self._director.close()
        self._engine.dispose()
        self._workers.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with Session(self._engine) as session:
            yield session
            session.commit()

    @contextmanager
    def statement(self) -> Iterator[Session]:
        """A worker's Session: every statement commits."""
        with Session(self._workers) as session:
            yield session

    # Clients

    def enqueue(self, task: str = "noop", **options: Any) -> NewJob:
        job = self.new_job(task, **options)
        with self.transaction() as session:
            answer = enqueue_job(session, job)
        self.acknowledge(answer)
        return job

    def new_job(self, task: str = "noop", **options: Any) -> NewJob:
        asked: dict[str, Any] = {"workspace_id": self.workspace_id} | options
        job = tasks[task].new_job({"seconds": 0}, **asked)
        self.promises.asked.add(str(job.id))
        return job

    def acknowledge(self, answer: Enqueued) -> None:
        self.promises.acknowledged.add(str(answer.job_id))

    # Operators

    def set(self, kind: str, key: object, value: Any) -> None:
        """Set a limit, rate or quota, or pause something; None ends it."""
        change(self._transact, Scope(kind, str(key)), value)

    def shed(self) -> None:
        """From now on a full workspace gives up less important jobs."""
        with self.transaction() as session:
            set_workspace_limits(session, self.workspace_id, {"shed": True})

    def _transact(self, work: Callable[[Session], T]) -> T:
        with self.transaction() as session:
            return work(session)

    # Workers

    def worker(self) -> int:
        info = WorkerInfo("stage", "here", 1, "0", ("default",), tuple(tasks.names()), 4)
        with self.statement() as session:
            return register_worker(session, info)

    def claim(self, worker_id: int, limit: int = 50) -> list[ClaimedJob]:
        """Claim what there is and start it."""
        return self.begin(self.claim_without_answer(worker_id, limit), worker_id)

    def claim_without_answer(self, worker_id: int, limit: int = 50) -> list[ClaimedJob]:
        """Claim, as when the connection is lost before the answer came: nothing is started."""
        with self.statement() as session:
            return self.claim_in(session, worker_id, limit)

    def claim_in(self, session: Session, worker_id: int, limit: int = 50) -> list[ClaimedJob]:
        """Claim in this very transaction, which may take its time to commit."""
        ring = Ring(["default"], 0.0)
        return claim_jobs(session, ring, worker_id=worker_id, tasks=tasks.names(), limit=limit).jobs

    def begin(self, jobs: list[ClaimedJob], worker_id: int) -> list[ClaimedJob]:
        """Start what was claimed."""
        self.diary += [Entry("begin", job.task, job.lease.job_id, job.lease.epoch, worker_id) for job in jobs]
        return jobs

    def hand_back(self, jobs: list[ClaimedJob]) -> None:
        """As a worker does that stops with what it has claimed ahead."""
        with self.statement() as session:
            release_jobs(session, [Release(job.lease, unstarted=True) for job in jobs])

    def complete(self, jobs: list[ClaimedJob]) -> None:
        with self.statement() as session:
            complete_jobs(session, [Completion(job.lease, f'{{"fence": "{fence(job.lease)}"}}') for job in jobs])

    def fail(self, jobs: list[ClaimedJob]) -> None:
        with self.statement() as session:
            fail_jobs(session, [Failure(job.lease, "error", "HiccupError", fence(job.lease)) for job in jobs])

    def go_through(self, job: ClaimedJob, commits: int | None = None) -> None:
        """Run a pager's handler, whose process is killed after so many commits."""
        running = self.running(job, commits)
        with contextlib.suppress(KilledError):
            go_through_pages(running, 0)
        running.close_session(commit=False)

    def running(self, job: ClaimedJob, commits: int | None = None) -> RunningJob:
        """What the job's handler is given."""
        return RunningJob(
            lease=job.lease,
            task=job.task,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            channel=NoChannel(),
            open_session=lambda: DyingSession(self._engine, commits),
        )

    def crash(self, jobs: list[ClaimedJob]) -> None:
        failures = [Failure(job.lease, "lost", "ProcessCrashed", "signal SIGKILL", crash=True) for job in jobs]
        with self.statement() as session:
            fail_jobs(session, failures, crash_limit=self.crash_limit)

    def beat(self, worker_id: int, held: list[ClaimedJob]) -> None:
        """A heartbeat and what belongs to it: handing back what this worker does not know."""
        leases = [job.lease for job in held]
        with self.statement() as session:
            heartbeat(session, worker_id, leases)
            release_unknown_jobs(session, worker_id, leases)

    def fall_silent(self, worker_id: int) -> None:
        """More than a lease passes for this worker."""
        long_ago = "now() - interval '1 hour'"
        self._intervene(f"update jobplatform.workers set heartbeat_at = {long_ago} where id = {worker_id}")

    def sweep(self) -> None:
        """What every worker does every few seconds. Delays are over at once here."""
        with self.statement() as session:
            bury_workers(session, LEASE)
            rescue_jobs(session, crash_limit=self.crash_limit)
        self._intervene("update jobplatform.job_queue set run_after = now() where state = 0")
        with self.statement() as session:
            promote_jobs(session)

    def settle(self) -> None:
        """Settle what there is to settle; what somebody has locked would go on for ever."""
        for _ in range(ROUNDS):
            with self.statement() as session:
                if not settle_endings(session).notices:
                    break

    def finish(self) -> None:
        """A healthy worker does all there is to do. It knows what to do with each task of the stage."""
        worker_id = self.worker()
        for _ in range(ROUNDS):
            self.sweep()
            self.settle()
            jobs = self.claim(worker_id)
            self.look()
            self.crash([job for job in jobs if job.task == "poison"])
            for job in jobs:
                if job.task == "pager":
                    self.go_through(job)
            self.complete([job for job in jobs if job.task != "poison"])
            self.beat(worker_id, [])
            self.settle()
            if not self.unfinished():
                break

    def schedule(self, *, behind: int) -> None:
        """A schedule of every second, of which nobody has done so many ticks."""
        with self.transaction() as session:
            # It began long ago: before its first tick there is nothing to be behind with.
            every_second = Every(SECOND, anchor=datetime(2020, 1, 1, tzinfo=UTC))
            create_schedule(session, tasks["noop"], every_second, workspace_id=self.workspace_id, catch_up="all")
        self.put_back(seconds=behind)

    def put_back(self, seconds: int) -> None:
        """Have schedules wait for ticks of before."""
        back = f"next_tick_at - make_interval(secs => {seconds})"
        self._intervene(f"update jobplatform.schedules set next_tick_at = {back}, next_run_at = {back}")

    def fire(self) -> None:
        """What a worker does when something is due."""
        with self.statement() as session:
            self.fire_in(session)

    def fire_in(self, session: Session) -> None:
        """In this very transaction, which may take its time to commit."""
        fire_schedules(session, {"noop": TaskDefaults()})

    def stop_schedules(self) -> None:
        """No more ticks; what each waits for stays written there."""
        self._intervene("update jobplatform.schedules set next_run_at = null")

    def unfinished(self) -> bool:
        return bool(self._director.execute("select from jobplatform.job_queue limit 1").fetchall())

    def somebody_waits_for_a_lock(self) -> bool:
        return bool(self._director.execute(WAITING).fetchall())

    def _intervene(self, statement: str) -> None:
        """Move time for some rows. A replica's session fires no triggers: this is no part of the history."""
        with self._director.transaction():
            self._director.execute("set local session_replication_role = replica")
            self._director.execute(statement)

    # Evidence

    def look(self) -> None:
        """What the watcher would see now."""
        look(self._director, self.seen)

    def look_later(self, seconds: float) -> None:
        """And after so much time, in which nobody did anything."""
        self.seen.later += seconds
        self.look()

    def evidence(self) -> Evidence:
        return gather(
            self._director,
            crash_limit=self.crash_limit,
            promises=self.promises,
            diary=self.diary,
            seen=self.seen,
        )


def fence(lease: Lease) -> str:
    return f"{lease.job_id}:{lease.epoch}"
