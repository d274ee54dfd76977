"""Drain: run what is ready in this process, through the verbs and the ``execute()`` that a worker uses.

    1. commit what the test's Session holds: for a worker a job exists from then on
    2. do the chores of a worker: rescue, let go what waited for others, do what schedules are due for, promote
    3. claim one job, run its handler here, write down how it ended; again until nothing is ready
    4. go back to 2 until the chores bring nothing new either

One at a time, so that what a job enqueues takes its turn by priority and age like everything else. Limits, rates and
pauses count as they do for a worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, func, select, update
from sqlalchemy.orm import Session

from jobplatform.errors import StillReadyError
from jobplatform.models import Job, QueueRow, State, clock
from jobplatform.queue import ClaimedJob, Recorder, Ring, Tasks, as_worker, claim_jobs, get_job, run_claimed
from jobplatform.testing.chores import declare_schedules, do_chores
from jobplatform.testing.places import Place, commit, engine_of, require_tasks, session_of
from jobplatform.wording import plural

#: Attempts after which jobs that are still ready are taken to enqueue each other for ever.
BOUND = 1_000
#: How many of them an error names.
_NAMED = 10


def drain(
    where: Place,
    tasks: Tasks,
    *,
    workspace_id: uuid.UUID | None = None,
    queue: str | None = None,
    limit: int | None = None,
    with_scheduled: bool = False,
    with_schedules: bool = False,
    raise_errors: bool = False,
    bound: int = BOUND,
) -> list[Job]:
    """Run every ready job of these ``tasks``, and what those enqueue, until nothing is ready. Returns the jobs that
    ran, in that order and as they are now.

    A Session is committed first. ``workspace_id`` and ``queue`` leave the others' jobs alone. ``limit`` stops after so
    many attempts; without it, :class:`StillReadyError` is raised when ``bound`` attempts did not empty the queue.
    ``with_scheduled`` also runs what is scheduled for later, retries too, as if its time had come. ``with_schedules``
    first writes down the schedules that the code declares, as a worker that starts does; what of them, or of any other
    schedule, is due then (or after you moved the clock) is done by every drain.
    ``raise_errors`` raises what a handler raised, once that attempt is written down; otherwise it is in the job.
    """
    require_tasks(tasks)
    commit(where)
    drainer = _Drainer(engine_of(where), tasks, workspace_id, queue, with_scheduled, with_schedules, raise_errors)
    try:
        return drainer.run(limit, bound)
    finally:
        if (session := session_of(where)) is not None:
            # What the test has loaded before is not how things are now.
            session.expire_all()


@dataclass(frozen=True)
class _Drainer:
    engine: Engine
    tasks: Tasks
    workspace_id: uuid.UUID | None
    queue: str | None
    with_scheduled: bool
    with_schedules: bool
    raise_errors: bool

    def run(self, limit: int | None, bound: int) -> list[Job]:
        ran: dict[uuid.UUID, uuid.UUID] = {}
        self._run_all(ran, limit, bound)
        return self._look(ran)

    def _run_all(self, ran: dict[uuid.UUID, uuid.UUID], limit: int | None, bound: int) -> None:
        """Run them, and note in ``ran`` which (and of which workspace)."""
        # The same pool, with each statement a transaction of its own: the only way in which a claim works.
        own = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with Session(own) as session, as_worker(own, session, self.tasks) as worker_id:
            if self.with_schedules:
                declare_schedules(session, self.tasks)
            self._do_chores(session)
            for _ in range(bound if limit is None else limit):
                claimed = self._next(session, worker_id)
                if claimed is None:
                    return
                self._run(session, claimed, ran)
            if limit is None and (ready := self._describe_ready(session)):
                raise StillReadyError(bound, ready)

    def _next(self, session: Session, worker_id: int) -> ClaimedJob | None:
        """The next job, after chores when nothing was ready."""
        while (claimed := self._claim(session, worker_id)) is None:
            if not self._do_chores(session):
                return None
        return claimed

    def _claim(self, session: Session, worker_id: int) -> ClaimedJob | None:
        queues = session.scalars(self._waiting(State.READY, QueueRow.queue).distinct().order_by(QueueRow.queue)).all()
        if not queues:
            return None
        ring = Ring(queues, 0.0) if self.workspace_id is None else _OneWorkspace(queues, self.workspace_id)
        more = True
        while more:
            jobs, more, *_ = claim_jobs(session, ring, worker_id=worker_id, tasks=self.tasks.names(), limit=1)
            if jobs:
                return jobs[0]
        return None

    def _run(self, session: Session, claimed: ClaimedJob, ran: dict[uuid.UUID, uuid.UUID]) -> None:
        recorder = Recorder()
        ended = run_claimed(self.engine, session, recorder.listen_to(self.tasks[claimed.task]), claimed)
        if ended is None:
            return
        ran[uuid.UUID(claimed.lease.job_id)] = uuid.UUID(claimed.lease.workspace_id)
        if self.raise_errors and ended.kind == "failed":
            raise recorder.error or RuntimeError(f"{claimed.task}: {ended.error_type}: {ended.message}")

    def _do_chores(self, session: Session) -> bool:
        brought = do_chores(session, self.tasks)
        return self._bring_forward(session) or brought if self.with_scheduled else brought

    def _bring_forward(self, session: Session) -> bool:
        """What waits for a later time is ready now."""
        waiting = self._waiting(State.SCHEDULED, QueueRow.id).scalar_subquery()
        now = {"state": State.READY, "run_after": func.least(QueueRow.run_after, clock())}
        brought: Any = session.execute(
            update(QueueRow).where(QueueRow.id.in_(waiting)).values(now),
            execution_options={"synchronize_session": False},
        )
        return bool(brought.rowcount)

    def _waiting(self, state: State, column: Any) -> Select[Any]:
        """A column of the rows in this state that this drain is for."""
        statement = select(column).where(QueueRow.state == state, QueueRow.task.in_(self.tasks.names()))
        if self.workspace_id is not None:
            statement = statement.where(QueueRow.workspace_id == self.workspace_id)
        if self.queue is not None:
            statement = statement.where(QueueRow.queue == self.queue)
        return statement

    def _describe_ready(self, session: Session) -> Sequence[str]:
        rows = session.scalars(self._waiting(State.READY, QueueRow).order_by(QueueRow.id).limit(_NAMED))
        return [
            f"{row.task} {row.id} of workspace {row.workspace_id}, {plural(row.attempts, 'attempt')} so far"
            for row in rows
        ]

    def _look(self, ran: dict[uuid.UUID, uuid.UUID]) -> list[Job]:
        with Session(self.engine) as session:
            found = [get_job(session, workspace_id, job_id) for job_id, workspace_id in ran.items()]
            session.expunge_all()
        return [job for job in found if job is not None]


class _OneWorkspace(Ring):
    """A ring that ends where it began: a claim sees this workspace, which has something ready, and no other."""

    def __init__(self, queues: Sequence[str], workspace_id: uuid.UUID) -> None:
        super().__init__(queues)
        self._before = uuid.UUID(int=(workspace_id.int - 1) % 2**128)

    def cursor(self, queue: str) -> uuid.UUID:
        return self._before

    def workspaces(self, queue: str, wanted: int) -> int:
        return 1
