"""Who acts on the queue in these tests: workers, whoever is on another connection, and time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.queue import ClaimedJob, Lease, Ring, WorkerInfo, claim_jobs, register_worker
from jobplatform.testing import Clock, wait_until

T = TypeVar("T")


class Worker:
    """A worker as the queue sees it: a registered id, a place on the ring, and what it was given."""

    def __init__(
        self,
        db: Session,
        *,
        tasks: Sequence[str] = ("work",),
        queues: Sequence[str] = ("default",),
        position: float = 0.0,
    ) -> None:
        self.db = db
        self.tasks = tuple(tasks)
        self.ring = Ring(queues, position)
        info = WorkerInfo("worker", "host", os.getpid(), "test", tuple(queues), self.tasks, slots=8)
        self.id = register_worker(db, info)

    def claim(self, limit: int = 1) -> list[ClaimedJob]:
        return claim_jobs(self.db, self.ring, worker_id=self.id, tasks=self.tasks, limit=limit).jobs

    def lease(self) -> Lease:
        """Claim the one job there is."""
        (job,) = self.claim(limit=50)
        return job.lease

    def drain(self, limit: int = 10) -> list[ClaimedJob]:
        """Claim in portions until there is nothing left, and answer in the order of claiming."""
        jobs: list[ClaimedJob] = []
        while found := self.claim(limit):
            jobs += found
        return jobs


class Elsewhere:
    """Another process: a second connection, which may have to wait for the first."""

    def __init__(self, engine: Engine) -> None:
        self._pid = 0
        self._answer: Future[Any] | None = None
        self._connection = engine.connect()
        self.session = Session(self._connection)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._watch = engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def start(self, act: Callable[[Session], T]) -> Future[T]:
        """Begin to act and come back at once; the answer is committed when it is there."""

        # Asked within the transaction that acts: through a pooler the next one may be another backend's.
        self._pid = self.session.scalar(text("select pg_backend_pid()")) or 0

        def act_and_commit() -> T:
            answer = act(self.session)
            self.session.commit()
            return answer

        answer = self._thread.submit(act_and_commit)
        self._answer = answer
        return answer

    def is_done_or_blocked(self) -> bool:
        """Whether what was begun has come as far as it can for now."""
        return (self._answer is not None and self._answer.done()) or self._is_blocked()

    def start_and_wait_for_lock(self, act: Callable[[Session], T]) -> Future[T]:
        """Begin to act and come back when the other side's lock is in the way."""
        answer = self.start(act)
        wait_until(lambda: answer.done() or self._is_blocked(), what="the second connection to wait for a lock")
        assert not answer.done(), f"did not have to wait: {answer}"
        return answer

    def close(self) -> None:
        self._thread.shutdown()
        self.session.close()
        self._connection.close()
        self._watch.close()

    def _is_blocked(self) -> bool:
        blocked = self._watch.scalar(text("select cardinality(pg_blocking_pids(:pid)) > 0"), {"pid": self._pid})
        return bool(blocked)


def begin_to_read(session: Session) -> None:
    """Have the Session's transaction see from now on nothing that others do."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    session.execute(text("select 1 from jobplatform.jobs"))


class Time(Clock):
    """The time that the database tells, which only a test can move."""

    def passes(self, seconds: float) -> None:
        self.travel(seconds=seconds)
