"""Enqueue: a job appears exactly when the caller's own transaction does.

One statement writes both halves of every job and answers, for each, whether it was created or who holds its
uniqueness guard. The guard is a unique index over live rows only, so it covers every unfinished state and frees
itself; Python only repeats the question when two transactions raced for the same key.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import EnqueueConflictError, InvalidJobError, Problem
from jobplatform.queue.doorbell import ring_after_commit
from jobplatform.queue.safe_json import strict_json, text_problem
from jobplatform.queue.statement import array, run, text_array
from jobplatform.settings import QUEUE_NAME

#: A holder can end and another begin between our two looks; more often than this it is not chance.
ROUNDS = 10

PRIORITIES = range(-1000, 1001)
MAX_ATTEMPTS = range(1, 1001)
LONGEST_TIMEOUT = datetime.timedelta(days=7)
LONGEST_KEY = 500
MOST_TAGS = 20

# The limits say nothing new to the reader; to the planner they say "one row" where it would assume ten, and so make
# one generic plan the cheapest for one job and for a thousand. Without them every enqueue was planned anew (1 ms).
# Scalar subselects, because a join may be planned as a scan of the whole table: that took two thirds of a bulk enqueue.
# Full joins, because they are the ones that are never planned as nested loops: with "one row" those look cheapest, and
# took 130 of 180 ms for a thousand. (Nothing is queued that was not asked for, so they say what inner and left joins
# would; the planner must not notice, hence num_nulls() where "is not null" would do.)
# `on conflict` names no index: a repeat of a request that is just being committed waits and is answered like any other.
ENQUEUE = """
with given as materialized (
    select g.*
    from (
        select *
        from unnest(
            %(ids)s::uuid[], %(workspace_ids)s::uuid[], %(tasks)s::text[], %(queues)s::text[], %(payloads)s::jsonb[],
            %(versions)s::smallint[], %(priorities)s::smallint[], %(run_afters)s::timestamptz[], %(delays)s::float8[],
            %(max_attempts)s::smallint[], %(timeouts)s::int[], %(unique_keys)s::text[], %(tags)s::text[],
            %(request_ids)s::text[], %(trace_parents)s::text[]
        ) as u(
            id, workspace_id, task, queue, payload, payload_version, priority, run_after, delay,
            max_attempts, timeout_ms, unique_key, tags, request_id, trace_parent
        )
        limit cardinality(%(ids)s::uuid[])
    ) g
    where (
        select true from jobplatform.job_records r where r.workspace_id = g.workspace_id and r.id = g.id
    ) is null
),
timed as materialized (
    select
        g.*,
        coalesce(g.run_after, jobplatform.clock() + make_interval(secs => g.delay)) as due_at
    from given g
),
queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key
    )
    select
        t.workspace_id, t.id, t.queue, t.task,
        case when t.due_at > jobplatform.clock() then 0 else 1 end,
        t.priority, t.max_attempts, t.timeout_ms, t.due_at, t.unique_key
    from timed t
    order by t.workspace_id, t.unique_key, t.id
    on conflict do nothing
    returning workspace_id, id
),
recorded as (
    insert into jobplatform.job_records (
        workspace_id, id, task, queue, payload, payload_version, priority, max_attempts, timeout_ms,
        unique_key, tags, request_id, trace_parent, run_after
    )
    select
        t.workspace_id, t.id, t.task, t.queue, t.payload, t.payload_version, t.priority, t.max_attempts, t.timeout_ms,
        t.unique_key, t.tags::text[], t.request_id, t.trace_parent, t.due_at
    from timed t
    full join queued on queued.workspace_id = t.workspace_id and queued.id = t.id
    where num_nulls(queued.id, t.id) = 0
)
select
    asked.id::text,
    queued.id is not null as created,
    coalesce(
        queued.id,
        (
            select r.id
            from jobplatform.job_records r
            where r.workspace_id = asked.workspace_id and r.id = asked.id
        ),
        (
            select holder.id
            from jobplatform.job_queue holder
            where holder.workspace_id = asked.workspace_id and holder.unique_key = asked.unique_key
        )
    )::text as job_id
from (
    select *
    from unnest(%(ids)s::uuid[], %(workspace_ids)s::uuid[], %(unique_keys)s::text[]) as a(id, workspace_id, unique_key)
    limit cardinality(%(ids)s::uuid[])
) asked
full join queued on queued.workspace_id = asked.workspace_id and queued.id = asked.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A request to run ``task`` for a workspace, checked when it is made.

    ``run_after`` is a moment with a time zone, ``delay`` counts from the transaction's start; give one or neither.
    ``unique_key`` is the uniqueness guard: at most one unfinished job of the workspace has it. ``id`` is made here
    (UUIDv7), so repeating an enqueue whose outcome is unknown cannot make a second job.
    Raises :class:`InvalidJobError` with every problem at once.
    """

    workspace_id: uuid.UUID
    task: str
    payload: Any = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    run_after: datetime.datetime | None = None
    delay: datetime.timedelta | None = None
    max_attempts: int = 3
    timeout: datetime.timedelta = datetime.timedelta(minutes=10)
    unique_key: str | None = None
    tags: tuple[str, ...] = ()
    payload_version: int = 1
    request_id: str | None = None
    trace_parent: str | None = None
    id: uuid.UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        problems = [problem for problem in self._problems() if problem]
        if problems:
            raise InvalidJobError(problems)

    def _problems(self) -> list[Problem | None]:
        return [
            _unless(QUEUE_NAME.match(self.task), "/task", "is not a task name"),
            _unless(QUEUE_NAME.match(self.queue), "/queue", "is not a queue name"),
            _in_range(self.priority, PRIORITIES, "/priority"),
            _in_range(self.max_attempts, MAX_ATTEMPTS, "/maxAttempts"),
            _unless(
                datetime.timedelta(milliseconds=1) <= self.timeout <= LONGEST_TIMEOUT,
                "/timeoutMs",
                "must be from 1 ms to 7 days",
            ),
            _unless(
                self.run_after is None or self.delay is None,
                "/delayMs",
                "cannot be given together with runAfter",
            ),
            _unless(self.run_after is None or self.run_after.tzinfo, "/runAfter", "must have a time zone"),
            _unless(self.delay is None or self.delay >= datetime.timedelta(0), "/delayMs", "must not be negative"),
            _text(self.unique_key, LONGEST_KEY, "/uniqueKey"),
            _unless(len(self.tags) <= MOST_TAGS, "/tags", f"must be at most {MOST_TAGS}"),
            *(_text(tag, 100, f"/tags/{index}") for index, tag in enumerate(self.tags)),
            _text(self.request_id, 200, "/requestId"),
            _text(self.trace_parent, 200, "/traceParent"),
        ]


class Enqueued(NamedTuple):
    """What became of a request: ``created``, or the id of the unfinished job that holds its uniqueness guard."""

    job_id: uuid.UUID
    created: bool


def enqueue_job(session: Session, job: NewJob) -> Enqueued:
    """Enqueue one job in the caller's transaction. See :func:`enqueue_jobs`."""
    return enqueue_jobs(session, [job])[0]


def enqueue_jobs(session: Session, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Enqueue jobs in the caller's transaction; the answers come in the same order. Never commits.

    After the commit idle workers are woken (a rollback wakes nobody). Rows are written sorted by workspace and key,
    so two bulk enqueues of the same keys cannot deadlock. Raises :class:`InvalidPayloadError` for a payload that
    JSON or PostgreSQL cannot hold, and :class:`EnqueueConflictError` (see there) under REPEATABLE READ.
    """
    answers: dict[str, Enqueued] = {}
    todo = list({job.id: job for job in jobs}.values())
    for _ in range(ROUNDS):
        if not todo:
            break
        for asked, created, job_id in run(session, ENQUEUE, **_parameters(todo)):
            if job_id is not None:
                answers[asked] = Enqueued(uuid.UUID(job_id), created)
        todo = [job for job in todo if str(job.id) not in answers]
    if todo:
        raise EnqueueConflictError(todo[0].unique_key or "", todo[0].workspace_id)
    _wake_workers(session, jobs, answers)
    return [answers[str(job.id)] for job in jobs]


def _parameters(jobs: Sequence[NewJob]) -> Mapping[str, Any]:
    return {
        "ids": array(job.id for job in jobs),
        "workspace_ids": array(job.workspace_id for job in jobs),
        "tasks": text_array(job.task for job in jobs),
        "queues": text_array(job.queue for job in jobs),
        "payloads": text_array(strict_json(job.payload) for job in jobs),
        "versions": array(job.payload_version for job in jobs),
        "priorities": array(job.priority for job in jobs),
        "run_afters": [job.run_after for job in jobs],
        "delays": array(job.delay.total_seconds() if job.delay else 0.0 for job in jobs),
        "max_attempts": array(job.max_attempts for job in jobs),
        "timeouts": array(max(1, round(job.timeout.total_seconds() * 1000)) for job in jobs),
        "unique_keys": text_array(job.unique_key for job in jobs),
        # An array literal as each element: arrays of arrays must be rectangular, tags are not.
        "tags": text_array(text_array(job.tags) for job in jobs),
        "request_ids": text_array(job.request_id for job in jobs),
        "trace_parents": text_array(job.trace_parent for job in jobs),
    }


def _wake_workers(session: Session, jobs: Sequence[NewJob], answers: Mapping[str, Enqueued]) -> None:
    """Only for jobs that may run at once: a later one is found by whoever promotes it."""
    queues = {job.queue for job in jobs if job.run_after is None and not job.delay and answers[str(job.id)].created}
    if queues:
        ring_after_commit(session, {f"q:{queue}" for queue in queues})


def _unless(fine: object, path: str, message: str) -> Problem | None:
    return None if fine else Problem(path, message)


def _in_range(value: int, allowed: range, path: str) -> Problem | None:
    return _unless(value in allowed, path, f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def _text(value: str | None, longest: int, path: str) -> Problem | None:
    if value is None:
        return None
    problem = text_problem(value) or ("must not be empty" if not value else None)
    if problem is None and len(value) > longest:
        problem = f"must be at most {longest} characters"
    return Problem(path, problem) if problem else None
