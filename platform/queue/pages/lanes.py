"""Queues, tasks and workers: what jobs wait in, what they are of, and who runs them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import Pause, PauseKind, TaskLimits, TaskType
from jobplatform.queue.limits.pause import list_pauses
from jobplatform.queue.limits.queues import list_queue_limits
from jobplatform.queue.limits.tasks import list_task_limits
from jobplatform.queue.numbers.counts import Live, count_live
from jobplatform.queue.numbers.overview import WorkerSeen, list_workers
from jobplatform.queue.pages.charts import Point, Throughput, throughput_by_queue, totals_by_task
from jobplatform.queue.statement import array, run

_ANY: Final = datetime.timedelta(hours=1)
#: Jobs that are shown of a worker.
MOST_JOBS: Final = 64

SERVED: Final = """
select unnest({column}) as name, count(*)
from jobplatform.workers
where dead_at is null
group by 1
"""
RUNNING: Final = f"""
select q.worker_id, q.workspace_id, q.id, q.task, q.queue, q.attempts, q.started_at,
    greatest(0, extract(epoch from jobplatform.clock() - q.started_at))::float8
from (
    select q.*, row_number() over (partition by q.worker_id order by q.started_at, q.id) as nth
    from jobplatform.job_queue q
    where q.state = 2 and q.worker_id = any(%(ids)s::int[])
) q
where q.nth <= {MOST_JOBS}
order by q.worker_id, q.started_at, q.id
"""
NOW: Final = "select jobplatform.clock()"


@dataclass(frozen=True, slots=True)
class QueueLine:
    """A queue that has jobs, a worker, a limit, a pause, or a history of an hour, which tells of no times."""

    queue: str
    ready: int
    scheduled: int
    blocked: int
    running: int
    oldest_ready_seconds: float | None
    workers: int
    max_running: int | None
    paused: Pause | None
    throughput: Throughput | None

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task that some worker has described, or that has live jobs, a worker, a limit, a pause or a history of an hour.

    ``details`` is what its code says, as the worker that came last has written it down: options and
    ``payload_schema``; None: no worker has. ``workers`` know it and live. ``ended``: what did within an hour.
    """

    name: str
    details: Mapping[str, Any] | None
    seen_at: datetime.datetime | None
    ready: int
    scheduled: int
    blocked: int
    running: int
    oldest_ready_seconds: float | None
    workers: int
    limits: TaskLimits | None
    paused: Pause | None
    ended: Point | None

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


class RunningLine(NamedTuple):
    """A job that a worker runs."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    task: str
    queue: str
    attempt: int
    started_at: datetime.datetime
    run_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker that nobody has declared dead, and what it runs. ``running`` counts all, ``jobs`` are some of them."""

    id: int
    name: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    slots: int
    started_at: datetime.datetime
    heartbeat_at: datetime.datetime
    silent_seconds: float
    draining: bool
    drain_requested: bool
    running: int
    jobs: tuple[RunningLine, ...]


def queue_lines(session: Session) -> tuple[QueueLine, ...]:
    """Every queue there is a sign of, by name, on a Session that sees all workspaces."""
    live = count_live(session, None, _ANY)
    served = _served(session, "queues")
    limits = {row.queue: row.max_running for row in list_queue_limits(session)}
    pauses = {pause.key: pause for pause in list_pauses(session, PauseKind.QUEUE)}
    history = throughput_by_queue(session, times=False)
    names = {one.queue for one in live} | served.keys() | limits.keys() | pauses.keys() | history.keys()
    return tuple(
        QueueLine(
            name,
            *_counts(one for one in live if one.queue == name),
            workers=served.get(name, 0),
            max_running=limits.get(name),
            paused=pauses.get(name),
            throughput=history.get(name),
        )
        for name in sorted(names)
    )


def task_lines(session: Session) -> tuple[TaskLine, ...]:
    """Every task there is a sign of, by name, on a Session that sees all workspaces."""
    live = count_live(session, None, _ANY)
    served = _served(session, "tasks")
    limits = {row.task: row for row in list_task_limits(session)}
    pauses = {pause.key: pause for pause in list_pauses(session, PauseKind.TASK)}
    history = totals_by_task(session)
    types = {row.name: row for row in session.scalars(select(TaskType))}
    names = {one.task for one in live} | served.keys() | limits.keys() | pauses.keys() | history.keys() | types.keys()
    return tuple(
        TaskLine(
            name,
            types[name].details if name in types else None,
            types[name].seen_at if name in types else None,
            *_counts(one for one in live if one.task == name),
            workers=served.get(name, 0),
            limits=limits.get(name),
            paused=pauses.get(name),
            ended=history.get(name),
        )
        for name in sorted(names)
    )


def worker_lines(session: Session) -> tuple[WorkerLine, ...]:
    """The workers that are alive, oldest first, on a Session that sees all workspaces."""
    workers = list_workers(session)
    now = run(session, NOW).scalar_one()
    jobs: dict[int, list[RunningLine]] = {}
    for worker_id, *job in run(session, RUNNING, ids=array(worker.id for worker in workers)):
        jobs.setdefault(worker_id, []).append(RunningLine(*job))
    return tuple(_worker_line(worker, now, jobs.get(worker.id, ())) for worker in workers)


def _worker_line(worker: WorkerSeen, now: datetime.datetime, jobs: Sequence[RunningLine]) -> WorkerLine:
    facts = worker._asdict() | {"queues": tuple(worker.queues), "tasks": tuple(worker.tasks)}
    silent = max(0.0, (now - worker.heartbeat_at).total_seconds())
    return WorkerLine(**facts, silent_seconds=silent, jobs=tuple(jobs))


def _served(session: Session, column: str) -> dict[str, int]:
    return {row[0]: row[1] for row in run(session, SERVED.format(column=column))}


def _counts(live: Iterable[Live]) -> tuple[int, int, int, int, float | None]:
    found = list(live)
    return (
        sum(one.ready for one in found),
        sum(one.scheduled for one in found),
        sum(one.blocked for one in found),
        sum(one.running for one in found),
        max((one.oldest_ready_seconds for one in found if one.oldest_ready_seconds is not None), default=None),
    )
