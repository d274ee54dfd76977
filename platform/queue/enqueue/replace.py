"""Replace: a newer request for what is running or waits already.

    1. One job of the key waits: it becomes what is asked for now, under its id. All of the request is replaced, and
       its attempts are all ahead of it again.
    2. One runs and none waits: this one waits for its end, blocked, under the key with a mark before it.
    3. There is none: it is enqueued like any other.

A request with a delay puts the one that waits off, and a longest delay says until when: it counts from the first of
the requests, which is when the job was created. One that has been claimed before is not put off at all: what it was
asked for first has had its chance, and nothing says when the next began.

So there is at most one that runs and one that waits, which two unique keys enforce; and a row with the mark can't run,
which a check enforces. The row of the running job is never touched: its worker reports into it, and whoever enqueues
may be that very job, in a transaction that stays open for as long as it likes. A notice asks for it to be followed
instead, once this is committed, so that its end is told like that of any job that others wait for. What becomes of
the one that waits is decided in ``succeed``.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from sqlalchemy.orm import Session

from jobplatform.models import SUCCESSOR, State
from jobplatform.queue.after.notices import ask_to_settle
from jobplatform.queue.enqueue.edges import note
from jobplatform.queue.enqueue.many import enqueue_many
from jobplatform.queue.enqueue.new_job import NewJob
from jobplatform.queue.enqueue.unseen import conflict_over, run_for
from jobplatform.queue.enqueue.values import parameters_of
from jobplatform.queue.start_by import start_by
from jobplatform.queue.statement import run
from jobplatform.queue.vault import is_open, seal_payloads, wants_sealing

#: It can be claimed, end and begin again between our look and our lock; more often than this it is not chance.
ROUNDS = 20

# The one that waits for the other comes first: it is the newest.
LOOK = """
select q.id::text, q.state
from jobplatform.job_queue q
where q.workspace_id = %(workspace_id)s and q.unique_key in (%(unique_key)s, chr(30) || %(unique_key)s)
order by q.state
"""

# As in ENQUEUE, nothing is written of a workspace that wants its payloads sealed when this one is not.
REPLACE = f"""
with held as materialized (
    select
        q.workspace_id, q.id, q.state,
        coalesce(
            %(run_after)s::timestamptz,
            least(
                jobplatform.clock() + make_interval(secs => %(delay)s::float8),
                case
                    when %(longest_delay)s::float8 is null then null
                    when q.epoch > 0 then q.run_after
                    else (
                        select r.created_at + make_interval(secs => %(longest_delay)s::float8)
                        from jobplatform.job_records r
                        where r.workspace_id = q.workspace_id and r.id = q.id
                    )
                end
            )
        ) as due_at,
        not %(sealed)s::bool and exists (
            select from jobplatform.workspace_keys k where k.workspace_id = q.workspace_id and k.encrypts
        ) as must_be_sealed
    from jobplatform.job_queue q
    where q.workspace_id = %(workspace_id)s and q.id = %(holder)s and q.state + 0 < 2
    for update of q
),
queued as (
    update jobplatform.job_queue q
    set task = %(task)s,
        queue = %(queue)s,
        state = case when held.state = -1 then -1 when held.due_at > jobplatform.clock() then 0 else 1 end,
        priority = %(priority)s::smallint,
        attempts = 0,
        max_attempts = %(max_attempts)s::smallint,
        crash_count = 0,
        timeout_ms = %(timeout)s::int,
        run_after = held.due_at,
        start_within_ms = %(start_within)s::bigint,
        start_by = case
            when held.state > -1 or left(q.unique_key, 1) = chr(30)
            then {start_by("held.due_at", "%(start_within)s::bigint")}
        end,
        progress = null,
        resource = %(resource)s,
        units = %(units)s::smallint,
        payload_version = %(version)s::smallint
    from held
    where q.workspace_id = held.workspace_id and q.id = held.id and not held.must_be_sealed
    returning q.state
),
recorded as (
    update jobplatform.job_records r
    set task = %(task)s,
        queue = %(queue)s,
        payload = %(payload)s::jsonb,
        payload_version = %(version)s::smallint,
        priority = %(priority)s::smallint,
        max_attempts = %(max_attempts)s::smallint,
        timeout_ms = %(timeout)s::int,
        start_within_ms = %(start_within)s::bigint,
        resource = %(resource)s,
        units = %(units)s::smallint,
        tags = %(tags)s::text[],
        request_id = %(request_id)s,
        trace_parent = %(trace_parent)s,
        parent_id = %(parent_id)s::uuid,
        attempts = 0,
        crash_count = 0,
        started_at = null,
        worker_id = null,
        error_type = null,
        error = null,
        progress = null,
        run_after = held.due_at
    from held
    where r.workspace_id = held.workspace_id and r.id = held.id and not held.must_be_sealed
)
select held.must_be_sealed, (select state from queued)
from held
"""


def enqueue_newest(session: Session, job: NewJob) -> tuple[uuid.UUID, bool]:
    """Have ``job`` wait in the place of what waits under its key; answers with the id, and whether it was there before.

    One transaction. Raises :class:`EnqueueConflictError` when the key changed hands too often, or
    where this transaction does not see it.
    """
    for _ in range(ROUNDS):
        found = run(session, LOOK, workspace_id=job.workspace_id, unique_key=job.unique_key).all()
        if found and found[0][1] != State.RUNNING:
            if _replace(session, uuid.UUID(found[0][0]), job):
                return uuid.UUID(found[0][0]), True
            continue
        existing = _enqueue(session, _successor(job) if found else job)
        if existing is None and found:
            _follow(session, job.workspace_id, uuid.UUID(found[0][0]))
        if existing is None or existing == job.id:
            return job.id, existing is not None
    raise conflict_over([job])


def _enqueue(session: Session, job: NewJob) -> uuid.UUID | None:
    """The job that there is instead, if one is."""
    return enqueue_many(session, [job]).get(job.id.int)


def _successor(job: NewJob) -> NewJob:
    return dataclasses.replace(job, unique_key=f"{SUCCESSOR}{job.unique_key}", blocked=True)


def _follow(session: Session, workspace_id: uuid.UUID, running: uuid.UUID) -> None:
    """Have the running job say when it ends. Only whoever comes to wait first asks for it."""
    note(session, [(workspace_id, "look", running, None, 0)])
    ask_to_settle(session)


def _replace(session: Session, holder: uuid.UUID, job: NewJob) -> bool:
    """Whether the job waited still, and is the new one now. What is sealed is sealed for the job that holds it."""
    wanted = dataclasses.replace(job, id=holder)
    if wants_sealing([wanted]):
        (wanted,) = seal_payloads(session, [wanted])
    row = _write(session, wanted)
    if row is not None and row[0]:
        (wanted,) = seal_payloads(session, [wanted])
        row = _write(session, wanted)
    return row is not None


def _write(session: Session, wanted: NewJob) -> Any:
    longest = None if wanted.longest_delay is None else wanted.longest_delay.total_seconds()
    values = {**parameters_of(wanted), "holder": wanted.id, "sealed": not is_open(wanted), "longest_delay": longest}
    return run_for(session, [wanted], REPLACE, **values).one_or_none()
