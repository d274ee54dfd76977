"""Enqueue: a job appears exactly when the caller's own transaction does.

One statement writes both halves of every job. One job is the common case and has a statement of its own that answers
with nothing but how many rows it wrote; whatever that cannot say (a duplicate, a quota) and every bulk is asked of the
statement for many. The uniqueness guard is a unique index over live rows only, so it covers every unfinished state and
frees itself; Python only repeats the question when two transactions raced for the same key.
"""

from __future__ import annotations

import datetime
import functools
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import EnqueueConflictError, InvalidJobError, InvalidPayloadError, Problem
from jobplatform.models import SUCCESSOR, reaching
from jobplatform.queue.doorbell import ring_for_jobs
from jobplatform.queue.edges import Edge, Predecessor, hold_what_they_wait_for, link, problems_of_edges
from jobplatform.queue.happenings import note_enqueued
from jobplatform.queue.opening import open_with
from jobplatform.queue.parent import adopted, parent_of, traced
from jobplatform.queue.quota import Wanted, make_room
from jobplatform.queue.replace import enqueue_newest
from jobplatform.queue.safe_json import strict_json, text_problem
from jobplatform.queue.seal import MARK, SealedPayload
from jobplatform.queue.statement import array, one_transaction, quick_maker, run, text_array
from jobplatform.queue.told import told
from jobplatform.queue.vault import is_open, seal_payloads, wants_sealing
from jobplatform.settings import QUEUE_NAME
from jobplatform.tracing import is_traced, sending

#: A holder can end and another begin between our two looks; more often than this it is not chance.
ROUNDS = 10

PRIORITIES = range(-1000, 1001)
MAX_ATTEMPTS = range(1, 1001)
UNITS = range(1, 10_001)
SHORTEST_TIMEOUT = datetime.timedelta(milliseconds=1)
LONGEST_TIMEOUT = datetime.timedelta(days=7)
LONGEST_KEY = 500
LONGEST_RESOURCE = 200
MOST_TAGS = 20

_NO_TIME = datetime.timedelta(0)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# It answers with a row count and no rows: what SQLAlchemy does for a result costs a single enqueue as much as both
# inserts cost the server. Nothing is written for a workspace with a quota; that takes a lock first, see quota.py.
# The key may be free because the job that takes it over has not done so yet: see succeed.py.
# The end of a job that a webhook is told of leaves a notice: see tell_webhooks.py.
# `on conflict` names no index: a repeat of a request that is just being committed waits and is answered like any other.
ENQUEUE_ONE = f"""
with queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key,
        resource, units, payload_version, followed
    )
    select
        a.workspace_id, a.id, %(queue)s, %(task)s,
        case when a.due_at > jobplatform.clock() then 0 else 1 end,
        %(priority)s::smallint, %(max_attempts)s::smallint, %(timeout)s::int, a.due_at, %(unique_key)s,
        %(resource)s, %(units)s::smallint, %(version)s::smallint,
        (
            select true
            from jobplatform.webhook_subscriptions s
            where {told("a.workspace_id", "%(task)s")}
            limit 1
        ) is true
    from (
        select
            %(workspace_id)s::uuid as workspace_id,
            %(id)s::uuid as id,
            coalesce(
                %(run_after)s::timestamptz, jobplatform.clock() + make_interval(secs => %(delay)s::float8)
            ) as due_at
    ) a
    where not exists (select from jobplatform.job_records r where r.workspace_id = a.workspace_id and r.id = a.id)
    and not exists (
        select
        from jobplatform.job_queue successor
        where successor.workspace_id = a.workspace_id and successor.unique_key = chr(30) || %(unique_key)s
    )
    and not exists (
        select
        from jobplatform.workspace_limits l
        left join jobplatform.plans p on p.name = l.plan
        where l.workspace_id = a.workspace_id and coalesce(l.max_pending, p.max_pending) is not null
    )
    and (
        %(sealed)s::bool
        or not exists (select from jobplatform.workspace_keys k where k.workspace_id = a.workspace_id and k.encrypts)
    )
    on conflict do nothing
    returning workspace_id, id, run_after
)
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, payload_version, priority, max_attempts, timeout_ms,
    unique_key, resource, units, tags, request_id, trace_parent, parent_id, run_after
)
select
    queued.workspace_id, queued.id, %(task)s, %(queue)s, %(payload)s::jsonb, %(version)s::smallint,
    %(priority)s::smallint, %(max_attempts)s::smallint, %(timeout)s::int,
    %(unique_key)s, %(resource)s, %(units)s::smallint, %(tags)s::text[], %(request_id)s, %(trace_parent)s,
    %(parent_id)s::uuid, queued.run_after
from queued
"""

# The answer has only what was not created, since that is all there is to tell.
# The limit says nothing new to the reader; to the planner it says "one row" where it would assume ten, and so makes
# one generic plan the cheapest for one job and for a thousand. Without it every enqueue was planned anew (1 ms).
# Scalar subselects, because a join may be planned as a scan of the whole table: that took two thirds of a bulk enqueue.
# A full join and a `not in`, because they are never planned as nested loops: with "one row" those look cheapest, and
# took 130 of 180 ms for a thousand. (Nothing is queued that was not asked for, so the full join says what an inner one
# would; the planner must not notice, hence num_nulls() where "is not null" would do.)
# `gated` are the workspaces whose quota has not been looked at yet. If one of them has a quota nothing is written, and
# the locks that looking at it takes are taken here already, which saves such a workspace a round trip.
# `unsealed` are the workspaces of payloads that are not sealed. If one of them wants all of its sealed nothing is
# written either: no process can forget that, whatever it knows of keys.
ENQUEUE = f"""
with asked as materialized (
    select
        u.id,
        coalesce(u.workspace_id, %(workspace_id)s::uuid) as workspace_id,
        coalesce(u.task, %(task)s::text) as task,
        coalesce(u.queue, %(queue)s::text) as queue,
        u.payload,
        coalesce(u.payload_version, %(version)s::smallint) as payload_version,
        coalesce(u.priority, %(priority)s::smallint) as priority,
        coalesce(
            u.run_after,
            %(run_after)s::timestamptz,
            jobplatform.clock() + make_interval(secs => coalesce(u.delay, %(delay)s::float8, 0))
        ) as due_at,
        coalesce(u.max_attempts, %(max_attempts)s::smallint) as max_attempts,
        coalesce(u.timeout_ms, %(timeout)s::int) as timeout_ms,
        coalesce(u.unique_key, %(unique_key)s::text) as unique_key,
        coalesce(u.resource, %(resource)s::text) as resource,
        coalesce(u.units, %(units)s::smallint) as units,
        coalesce(u.tags::text[], %(tags)s::text[]) as tags,
        coalesce(u.request_id, %(request_id)s::text) as request_id,
        coalesce(u.trace_parent, %(trace_parent)s::text) as trace_parent,
        coalesce(u.parent_id, %(parent_id)s::uuid) as parent_id,
        coalesce(u.batch_id, %(batch_id)s::uuid) as batch_id,
        coalesce(u.blocked, %(blocked)s::bool) as blocked,
        coalesce(u.followed, %(followed)s::bool) as followed,
        u.number
    from unnest(
        %(ids)s::uuid[], %(workspace_ids)s::uuid[], %(tasks)s::text[], %(queues)s::text[], %(payloads)s::jsonb[],
        %(versions)s::smallint[], %(priorities)s::smallint[], %(run_afters)s::timestamptz[], %(delays)s::float8[],
        %(all_max_attempts)s::smallint[], %(timeouts)s::int[], %(unique_keys)s::text[], %(resources)s::text[],
        %(all_units)s::smallint[], %(all_tags)s::text[], %(request_ids)s::text[], %(trace_parents)s::text[],
        %(parent_ids)s::uuid[], %(batch_ids)s::uuid[], %(all_blocked)s::bool[], %(all_followed)s::bool[]
    ) with ordinality as u(
        id, workspace_id, task, queue, payload, payload_version, priority, run_after, delay,
        max_attempts, timeout_ms, unique_key, resource, units, tags, request_id, trace_parent,
        parent_id, batch_id, blocked, followed, number
    )
    limit cardinality(%(ids)s::uuid[])
),
limited as materialized (
    select hashtext(l.workspace_id::text) as lock
    from jobplatform.workspace_limits l
    left join jobplatform.plans p on p.name = l.plan
    where l.workspace_id = any(%(gated)s::uuid[]) and coalesce(l.max_pending, p.max_pending) is not null
    order by 1
),
unsealed as materialized (
    select
    from jobplatform.workspace_keys k
    where k.workspace_id = any(%(unsealed)s::uuid[]) and k.encrypts
    limit 1
),
queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, unique_key,
        resource, units, followed, payload_version
    )
    select
        a.workspace_id, a.id, a.queue, a.task,
        case when a.blocked then -1 when a.due_at > jobplatform.clock() then 0 else 1 end,
        a.priority, a.max_attempts, a.timeout_ms, a.due_at, a.unique_key,
        a.resource, a.units,
        a.followed or (
            exists (select from jobplatform.webhook_subscriptions s where s.workspace_id = any(%(workspaces)s::uuid[]))
            and (
                select true
                from jobplatform.webhook_subscriptions s
                where {told("a.workspace_id", "a.task")}
                limit 1
            ) is true
        ),
        a.payload_version
    from asked a
    where (
        select true from jobplatform.job_records r where r.workspace_id = a.workspace_id and r.id = a.id
    ) is null
    and (
        a.unique_key is null
        or (
            select true
            from jobplatform.job_queue successor
            where successor.workspace_id = a.workspace_id and successor.unique_key = chr(30) || a.unique_key
        ) is null
    )
    and not exists (select from limited)
    and not exists (select from unsealed)
    order by a.workspace_id, a.unique_key, a.id
    on conflict do nothing
    returning workspace_id, id
),
recorded as (
    insert into jobplatform.job_records (
        workspace_id, id, task, queue, payload, payload_version, priority, max_attempts, timeout_ms,
        unique_key, resource, units, tags, request_id, trace_parent, parent_id, batch_id, run_after
    )
    select
        a.workspace_id, a.id, a.task, a.queue, a.payload, a.payload_version, a.priority, a.max_attempts, a.timeout_ms,
        ltrim(a.unique_key, chr(30)), a.resource, a.units, a.tags, a.request_id, a.trace_parent, a.parent_id,
        a.batch_id, a.due_at
    from asked a
    full join queued on queued.workspace_id = a.workspace_id and queued.id = a.id
    where num_nulls(queued.id, a.id) = 0
)
select
    a.number - 1,
    coalesce(
        (
            select r.id
            from jobplatform.job_records r
            where r.workspace_id = a.workspace_id and r.id = a.id
        ),
        (
            select holder.id
            from jobplatform.job_queue holder
            where holder.workspace_id = a.workspace_id and holder.unique_key = a.unique_key
        ),
        (
            select successor.id
            from jobplatform.job_queue successor
            where successor.workspace_id = a.workspace_id and successor.unique_key = chr(30) || a.unique_key
        )
    )::text,
    (select count(pg_advisory_xact_lock(724618004, limited.lock)::text) from limited),
    exists (select from unsealed)
from asked a
where (select count(*) from queued) < cardinality(%(ids)s::uuid[])
    and (a.workspace_id, a.id) not in (select queued.workspace_id, queued.id from queued)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A request to run ``task`` for a workspace, checked when it is made.

    ``run_after`` is a moment with a time zone, ``delay`` counts from the transaction's start; give one or neither.
    ``unique_key`` is the uniqueness guard: at most one unfinished job of the workspace has it. With
    ``if_active="replace"`` one may wait beside the one that runs, and is always the newest that was asked for; a job
    of a batch, or one that waits for others, takes nobody's place. ``resource`` names what the job uses outside, as
    ``kind:account`` (``hubspot:4711``), and ``units`` how much of its rate an attempt takes. ``encrypted`` seals its
    payload and whatever it says while it runs. ``parent_id`` is the job that asked for it, ``batch_id`` the batch it
    belongs to, and ``after`` what it waits for: jobs, or :class:`Edge` for more than "until that has completed".
    ``blocked`` and ``followed`` follow from these and are not for users. ``id`` is made here (UUIDv7), so repeating an
    enqueue whose outcome is unknown cannot make a second job.
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
    resource: str | None = None
    units: int = 1
    tags: tuple[str, ...] = ()
    payload_version: int = 1
    request_id: str | None = None
    trace_parent: str | None = None
    encrypted: bool = False
    parent_id: uuid.UUID | None = None
    batch_id: uuid.UUID | None = None
    after: Sequence[Edge | Predecessor] = ()
    blocked: bool = False
    followed: bool = False
    if_active: Literal["return", "replace"] = "return"
    id: uuid.UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        """Nothing is made for what is right: this runs for every job, and there is hardly ever a problem."""
        if problems := [*self._problems_of_names_and_numbers(), *self._problems_of_time(), *self._problems_of_texts()]:
            raise InvalidJobError(problems)

    def _problems_of_names_and_numbers(self) -> Iterator[Problem]:
        if not _is_name(self.task):
            yield Problem("/task", "is not a task name")
        if not _is_name(self.queue):
            yield Problem("/queue", "is not a queue name")
        if self.priority not in PRIORITIES:
            yield _outside(PRIORITIES, "/priority")
        if self.max_attempts not in MAX_ATTEMPTS:
            yield _outside(MAX_ATTEMPTS, "/maxAttempts")
        if self.units not in UNITS:
            yield _outside(UNITS, "/units")

    def _problems_of_time(self) -> Iterator[Problem]:
        if not SHORTEST_TIMEOUT <= self.timeout <= LONGEST_TIMEOUT:
            yield Problem("/timeoutMs", "must be from 1 ms to 7 days")
        if self.run_after is not None and self.delay is not None:
            yield Problem("/delayMs", "cannot be given together with runAfter")
        if self.run_after is not None and not self.run_after.tzinfo:
            yield Problem("/runAfter", "must have a time zone")
        if self.delay is not None and self.delay < _NO_TIME:
            yield Problem("/delayMs", "must not be negative")

    def _problems_of_texts(self) -> Iterator[Problem]:
        if self.unique_key is not None:
            yield from _problems_of_key(self.unique_key, blocked=self.blocked)
        if self.resource is not None:
            yield from _problems_of_resource(self.resource)
        if self.tags:
            yield from self._problems_of_tags()
        if self.after:
            yield from problems_of_edges(self.after)
        if self.request_id is not None:
            yield from _problems_of_text(self.request_id, 200, "/requestId")
        if self.trace_parent is not None:
            yield from _problems_of_text(self.trace_parent, 200, "/traceParent")

    def _problems_of_tags(self) -> Iterator[Problem]:
        if len(self.tags) > MOST_TAGS:
            yield Problem("/tags", f"must be at most {MOST_TAGS}")
        for index, tag in enumerate(self.tags):
            yield from _problems_of_text(tag, 100, f"/tags/{index}")


class Enqueued(NamedTuple):
    """What became of a request: ``created``, or the id of the unfinished job that holds its uniqueness guard.

    ``replaced``: that job waited, and is what was asked for now.
    """

    job_id: uuid.UUID
    created: bool

    @property
    def replaced(self) -> bool:
        return False


_enqueued = quick_maker(Enqueued)


class Replaced(Enqueued):
    """The request took the place of one that waited, under the id of that."""

    __slots__ = ()

    @property
    def replaced(self) -> bool:
        return True


def enqueue_job(session: Session, job: NewJob) -> Enqueued:
    """Enqueue one job in the caller's transaction. See :func:`enqueue_jobs`."""
    return enqueue_jobs(session, [job])[0]


def enqueue_jobs(session: Session, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Enqueue jobs in the caller's transaction; the answers come in the same order. Never commits.

    After the commit idle workers are woken (a rollback wakes nobody). Rows are written sorted by workspace and key,
    so two bulk enqueues of the same keys cannot deadlock. Raises :class:`InvalidPayloadError` for a payload that
    JSON or PostgreSQL cannot hold, :class:`QuotaExceededError` when a workspace's quota has no room for all of them
    (then none was enqueued, and the transaction can go on), :class:`KeyMissingError` when payloads are to be sealed
    and this process has no key for that, :class:`InvalidJobError` for a batch or a predecessor that the workspace has
    not, and :class:`EnqueueConflictError` (see there) under REPEATABLE READ.
    """
    if is_traced():
        with sending((job.queue for job in jobs), [job.id for job in jobs]) as trace_parent:
            return _enqueue_jobs(session, traced(jobs, trace_parent))
    return _enqueue_jobs(session, jobs)


def _enqueue_jobs(session: Session, jobs: Sequence[NewJob]) -> list[Enqueued]:
    if (parent := parent_of(session)) is not None:
        jobs = adopted(parent, jobs)
    # By number: hashing a UUID is a call into Python.
    asked = list({job.id.int: job for job in jobs}.values())
    existing: dict[int, uuid.UUID] = {}
    replaced: set[int] = set()
    with reaching(session, (job.workspace_id for job in asked)):
        if wants_sealing(asked):
            asked = seal_payloads(session, asked)
        if not (len(asked) == 1 and _stands_alone(asked[0]) and _enqueue_one(session, asked[0])):
            with one_transaction(session):
                related = any(map(_is_related, asked))
                if related:
                    asked = hold_what_they_wait_for(session, asked)
                existing = _enqueue_many(session, [job for job in asked if not _replaces(job)])
                if related:
                    link(session, asked, existing)
                if any(map(_replaces, asked)):
                    replaced = _enqueue_newest(session, asked, existing)
    _wake_workers(session, (job for job in asked if job.id.int not in existing or job.id.int in replaced))
    note_enqueued(session, asked, existing, replaced)
    if not existing:
        return [_enqueued((job.id, True)) for job in jobs]
    return [_answer(job, existing, replaced) for job in jobs]


def enqueue_of_ours(session: Session, jobs: Sequence[NewJob]) -> None:
    """Enqueue what the platform itself has to do for a workspace, in the caller's transaction.

    No quota is asked: it is not the workspace that wants it, and what asks may be busy with others' jobs too. Payloads
    are written as they are: they hold nothing that does not stand in the open elsewhere.
    """
    if not jobs:
        return
    with reaching(session, {job.workspace_id for job in jobs}):
        run(session, ENQUEUE, workspaces=array(_workspaces(jobs)), gated="{}", unsealed="{}", **_columns(jobs))
    _wake_workers(session, jobs)


def _answer(job: NewJob, existing: Mapping[int, uuid.UUID], replaced: Collection[int]) -> Enqueued:
    number = job.id.int
    if number in replaced:
        return Replaced(existing[number], False)
    return Enqueued(existing.get(number, job.id), number not in existing)


def _replaces(job: NewJob) -> bool:
    """What is part of something larger takes nobody's place: whoever counts on it would count on another job."""
    return job.if_active == "replace" and job.unique_key is not None and not _is_related(job)


def _enqueue_newest(session: Session, jobs: Sequence[NewJob], existing: dict[int, uuid.UUID]) -> set[int]:
    """Enqueue those that replace what waits, one after the other in one order for all; tell which did."""

    def enqueue(job: NewJob) -> uuid.UUID | None:
        return _enqueue_many(session, [job]).get(job.id.int)

    replaced: set[int] = set()
    for job in sorted(filter(_replaces, jobs), key=lambda job: (job.workspace_id.int, job.unique_key or "")):
        job_id, was_there = enqueue_newest(session, job, enqueue, _parameters)
        if was_there:
            existing[job.id.int] = job_id
            replaced.update([job.id.int] if job_id != job.id else [])
    return replaced


def _stands_alone(job: NewJob) -> bool:
    """The statement for one job knows nothing of what others have to do with it."""
    return not _is_related(job) and not job.blocked and not job.followed and job.if_active != "replace"


def _is_related(job: NewJob) -> bool:
    return bool(job.after) or job.batch_id is not None


def _enqueue_one(session: Session, job: NewJob) -> bool:
    """Whether the job was created. If not, there is more to know: it may exist, or its workspace has a quota."""
    parameters = _parameters(job)
    count = open_with(session, ENQUEUE_ONE, parameters)
    return (run(session, ENQUEUE_ONE, **parameters).rowcount if count is None else count) == 1


def _enqueue_many(session: Session, jobs: Sequence[NewJob]) -> dict[int, uuid.UUID]:
    """Enqueue jobs and answer which jobs there were instead of those that were not created."""
    existing: dict[int, uuid.UUID] = {}
    gated = unsealed = workspaces = _workspaces(jobs)
    if not all(map(is_open, jobs)):
        unsealed = _workspaces(jobs, unsealed_only=True)
    for _ in range(ROUNDS):
        if not jobs:
            return existing
        asked = {"workspaces": array(workspaces), "gated": array(gated), "unsealed": array(unsealed)}
        rows = run(session, ENQUEUE, **asked, **_columns(jobs)).all()
        if rows and rows[0][3]:
            jobs = seal_payloads(session, jobs)
            unsealed = _workspaces(jobs, unsealed_only=True)
            continue
        if any(locked for _, _, locked, _ in rows):
            found = make_room(session, [_wanted(job) for job in jobs])
            left = [job for number, job in enumerate(jobs) if number not in found]
        else:
            found = {number: uuid.UUID(job_id) for number, job_id, *_ in rows if job_id}
            left = [jobs[number] for number, job_id, *_ in rows if not job_id]
        existing.update((jobs[number].id.int, job_id) for number, job_id in found.items())
        jobs, gated = left, set()
    if jobs:
        raise EnqueueConflictError(jobs[0].unique_key or "", jobs[0].workspace_id)
    return existing


def _workspaces(jobs: Iterable[NewJob], *, unsealed_only: bool = False) -> set[str]:
    """By number, as hashing a UUID is a call into Python: of a thousand jobs most are for the same few."""
    return {f"{number:032x}" for number in {job.workspace_id.int for job in jobs if not unsealed_only or is_open(job)}}


def _wanted(job: NewJob) -> Wanted:
    return Wanted(job.workspace_id, job.id, job.unique_key, job.priority)


def _parameters(job: NewJob) -> dict[str, str | None]:
    """All as text: the driver sends whole numbers in types by size, and each combination of types would be prepared as
    a statement of its own."""
    return {
        "id": job.id.hex,
        "workspace_id": job.workspace_id.hex,
        "task": job.task,
        "queue": job.queue,
        "payload": _json(job.payload),
        "sealed": "false" if is_open(job) else "true",
        "version": str(job.payload_version),
        "priority": str(job.priority),
        "run_after": None if job.run_after is None else job.run_after.isoformat(),
        "delay": str(_seconds(job.delay)),
        "max_attempts": str(job.max_attempts),
        "timeout": str(_milliseconds(job.timeout)),
        "unique_key": job.unique_key,
        "resource": job.resource,
        "units": str(job.units),
        "tags": text_array(job.tags),
        "request_id": job.request_id,
        "trace_parent": job.trace_parent,
        "parent_id": None if job.parent_id is None else job.parent_id.hex,
    }


def _columns(jobs: Sequence[NewJob]) -> dict[str, Any]:
    """The parameters of many jobs: a value where all have the same, a column where they have not. The other is null."""
    parameters: dict[str, Any] = {}
    for column, values in zip(_COLUMNS, zip(*map(_VALUES, jobs), strict=True), strict=True):
        if column.one is None:
            parameters[column.many] = column.array(values)
        elif _all_alike(values):
            parameters[column.one], parameters[column.many] = column.value(values[0]), None
        else:
            parameters[column.one], parameters[column.many] = None, column.array(values)
    return parameters


def _all_alike(values: Sequence[Any]) -> bool:
    """Nearly always they are, or the second one is another already."""
    first = values[0]
    return values[len(values) // 2] == first and values[-1] == first and values.count(first) == len(values)


def _json(payload: Any) -> str:
    """What was sealed was looked at before, and may be larger by then. What only looks sealed would never be opened."""
    if type(payload) is SealedPayload:
        return payload.json
    text = strict_json(payload)
    if text.startswith(_LOOKS_SEALED):
        raise InvalidPayloadError([Problem(f"/{MARK}", "is a reserved name")])
    return text


def _hex(job_id: uuid.UUID | None) -> str | None:
    return None if job_id is None else job_id.hex


def _hexes(ids: Iterable[uuid.UUID | None]) -> str:
    return "{" + ",".join(["null" if job_id is None else f"{job_id.int:032x}" for job_id in ids]) + "}"


def _names(names: Sequence[str]) -> str:
    """No name has a sign in it that a quoted text would have to escape. (Without quotes, "null" would be none.)"""
    return '{"' + '","'.join(names) + '"}'


def _seconds(delay: datetime.timedelta | None) -> float:
    return delay.total_seconds() if delay else 0.0


@functools.lru_cache(maxsize=1024)
def _milliseconds(timeout: datetime.timedelta) -> int:
    return max(1, round(timeout / _MILLISECOND))


_LOOKS_SEALED = f'{{"{MARK}"'


def _same(value: Any) -> Any:
    return value


class _Column(NamedTuple):
    """An attribute of jobs as the statement for many takes it: as ``one`` value for all, or as an array of ``many``."""

    attribute: str
    one: str | None
    many: str
    value: Callable[[Any], Any] = _same
    array: Callable[[Sequence[Any]], Any] = array


_COLUMNS = (
    _Column("id", None, "ids", array=_hexes),
    _Column("workspace_id", "workspace_id", "workspace_ids", _hex, _hexes),
    _Column("task", "task", "tasks", array=_names),
    _Column("queue", "queue", "queues", array=_names),
    _Column("payload", None, "payloads", array=lambda payloads: text_array(map(_json, payloads))),
    _Column("payload_version", "version", "versions", str),
    _Column("priority", "priority", "priorities", str),
    _Column("run_after", "run_after", "run_afters", array=list),
    _Column(
        "delay", "delay", "delays", lambda delay: str(_seconds(delay)), lambda delays: array(map(_seconds, delays))
    ),
    _Column("max_attempts", "max_attempts", "all_max_attempts", str),
    _Column(
        "timeout",
        "timeout",
        "timeouts",
        lambda timeout: str(_milliseconds(timeout)),
        lambda timeouts: array(map(_milliseconds, timeouts)),
    ),
    _Column("unique_key", "unique_key", "unique_keys", array=text_array),
    _Column("resource", "resource", "resources", array=text_array),
    _Column("units", "units", "all_units", str),
    # An array literal as each element: arrays of arrays must be rectangular, tags are not.
    _Column("tags", "tags", "all_tags", text_array, lambda tags: text_array(map(text_array, tags))),
    _Column("request_id", "request_id", "request_ids", array=text_array),
    _Column("trace_parent", "trace_parent", "trace_parents", array=text_array),
    _Column("parent_id", "parent_id", "parent_ids", _hex, _hexes),
    _Column("batch_id", "batch_id", "batch_ids", _hex, _hexes),
    _Column("blocked", "blocked", "all_blocked", str),
    _Column("followed", "followed", "all_followed", str),
)
_VALUES = attrgetter(*(column.attribute for column in _COLUMNS))


def _wake_workers(session: Session, created: Iterable[NewJob]) -> None:
    """Only for jobs that may run at once: a later one is found by whoever promotes it."""
    ready = [job for job in created if job.run_after is None and not job.delay and not job.blocked]
    if ready:
        ring_for_jobs(session, {job.queue for job in ready}, {job.workspace_id for job in ready})


@functools.lru_cache(maxsize=1024)
def _is_name(text: str) -> bool:
    return QUEUE_NAME.match(text) is not None


def _outside(allowed: range, path: str) -> Problem:
    return Problem(path, f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def _problems_of_text(value: str, longest: int, path: str) -> Iterator[Problem]:
    if problem := text_problem(value):
        yield Problem(path, problem)
    elif not value:
        yield Problem(path, "must not be empty")
    elif len(value) > longest:
        yield Problem(path, f"must be at most {longest} characters")


def _problems_of_key(value: str, *, blocked: bool) -> Iterator[Problem]:
    if value.startswith(SUCCESSOR):
        # The mark is ours: what has it waits for the job without it.
        if not blocked:
            yield Problem("/uniqueKey", "must not begin with a control character")
        value = value[1:]
    yield from _problems_of_text(value, LONGEST_KEY, "/uniqueKey")


def _problems_of_resource(value: str) -> Iterator[Problem]:
    problems = list(_problems_of_text(value, LONGEST_RESOURCE, "/resource"))
    if not problems and _CONTROL.search(value):
        # chr(31) stands between task and resource where lanes are told apart.
        problems = [Problem("/resource", "must not contain control characters")]
    yield from problems
