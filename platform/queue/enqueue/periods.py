"""Periods: of jobs with ``unique_for``, those whose key had a job so recently that there is to be no other yet.

    1. Lock the row of each key, or make it. So of two transactions that want the same key, one waits for the other.
    2. In a statement that begins after that, and so sees what the other has committed: which jobs are too recent.
    3. When the rest is enqueued: the row of a key is about the job that was made. Where there is none, it is as before.

A row is what was said and not what is: whether its job has gone well, or is gone, is asked of the job. So nobody who
ends a job, or deletes one, has to know of this table. A row about a job that never came to be (its workspace had no
room for it) says nothing, for the same reason.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.enqueue.edges import edges_of
from jobplatform.queue.enqueue.new_job import NewJob
from jobplatform.queue.enqueue.unseen import run_for
from jobplatform.queue.statement import array, run, text_array

# What nothing is set on is locked all the same.
LOCK = """
insert into jobplatform.unique_periods (workspace_id, unique_key, job_id, until)
select u.workspace_id, u.unique_key, u.job_id, jobplatform.clock() + make_interval(secs => u.seconds)
from unnest(%(workspace_ids)s::uuid[], %(unique_keys)s::text[], %(job_ids)s::uuid[], %(seconds)s::float8[])
    as u(workspace_id, unique_key, job_id, seconds)
order by u.workspace_id, u.unique_key
on conflict (workspace_id, unique_key) do update set job_id = excluded.job_id where false
returning job_id
"""

# How long a request says is what counts for it, from when the last job was made. One that is repeated is no other: it
# has its job already, whichever was made since.
LOOK = """
select u.number - 1, p.job_id::text, p.began_at + make_interval(secs => u.seconds),
    ceil(extract(epoch from p.began_at + make_interval(secs => u.seconds) - jobplatform.clock()))::int
from unnest(%(workspace_ids)s::uuid[], %(unique_keys)s::text[], %(job_ids)s::uuid[], %(seconds)s::float8[])
    with ordinality as u(workspace_id, unique_key, job_id, seconds, number)
join jobplatform.unique_periods p on p.workspace_id = u.workspace_id and p.unique_key = u.unique_key
join jobplatform.job_records r on r.workspace_id = p.workspace_id and r.id = p.job_id
where p.began_at + make_interval(secs => u.seconds) > jobplatform.clock()
    and coalesce(r.status, 3) = 3
    and (
        select true from jobplatform.job_records own where own.workspace_id = u.workspace_id and own.id = u.job_id
    ) is null
"""

BEGIN = """
update jobplatform.unique_periods p
set job_id = u.job_id,
    began_at = jobplatform.clock(),
    until = jobplatform.clock() + make_interval(secs => u.seconds)
from unnest(%(workspace_ids)s::uuid[], %(unique_keys)s::text[], %(job_ids)s::uuid[], %(seconds)s::float8[])
    as u(workspace_id, unique_key, job_id, seconds)
where p.workspace_id = u.workspace_id and p.unique_key = u.unique_key
"""

LEAVE = """
delete from jobplatform.unique_periods p
using unnest(%(workspace_ids)s::uuid[], %(unique_keys)s::text[]) as u(workspace_id, unique_key)
where p.workspace_id = u.workspace_id and p.unique_key = u.unique_key
"""

Place = tuple[int, str | None]


class Recent(NamedTuple):
    """The last job of a key, until when there is to be no other, and the seconds until then."""

    job_id: uuid.UUID
    until: datetime.datetime
    seconds: int


class Periods(NamedTuple):
    """The keys that this transaction has locked, by a job that asks for each, and what there is too recently.

    ``made`` has the ids of those whose key had no row. ``recent`` is by the number of the job that was not to be made.
    """

    asking: Mapping[Place, NewJob]
    made: Collection[uuid.UUID]
    recent: Mapping[int, Recent]


NO_PERIODS = Periods({}, (), {})


def look_at_periods(session: Session, jobs: Iterable[NewJob]) -> Periods:
    """Lock the keys of the jobs with ``unique_for``, and find the last jobs that are too recent. One transaction."""
    spaced = [job for job in jobs if job.unique_for is not None]
    if not spaced:
        return NO_PERIODS
    asking: dict[Place, NewJob] = {}
    # Of one call the one with the shortest period asks. Where it may be made, the others meet it as an unfinished job.
    for job in sorted(spaced, key=_seconds):
        asking.setdefault(_place(job), job)
    locking = list(asking.values())
    made = set(run_for(session, locking, LOCK, **_columns(locking)).scalars())
    had = [job for job in spaced if asking[_place(job)].id not in made]
    found = run(session, LOOK, **_columns(had)).all() if had else []
    recent = {had[number].id.int: Recent(uuid.UUID(job_id), *when) for number, job_id, *when in found}
    return Periods(asking, made, recent)


def without_recent(jobs: list[NewJob], periods: Periods) -> list[NewJob]:
    """Those that may be made; who waits for another of them waits for the one that there is instead."""
    recent = periods.recent
    if not recent:
        return jobs
    return [_after_what_there_is(job, recent) for job in jobs if job.id.int not in recent]


def begin_periods(
    session: Session, periods: Periods, jobs: Iterable[NewJob], existing: Mapping[int, uuid.UUID]
) -> None:
    """When ``jobs`` are enqueued, and some of them ``existing``: what was made begins the period of its key."""
    if not periods.asking:
        return
    created = {_place(job): job for job in jobs if job.unique_for is not None and job.id.int not in existing}
    begun = [job for job in created.values() if job.id not in periods.made]
    left = [job for place, job in periods.asking.items() if job.id in periods.made and place not in created]
    if begun:
        run(session, BEGIN, **_columns(begun))
    if left:
        run(session, LEAVE, **_columns(left))


def _after_what_there_is(job: NewJob, recent: Mapping[int, Recent]) -> NewJob:
    edges = edges_of(job.after)
    if not any(edge.after_id.int in recent for edge in edges):
        return job
    after = [
        dataclasses.replace(edge, after=recent[edge.after_id.int].job_id) if edge.after_id.int in recent else edge
        for edge in edges
    ]
    return dataclasses.replace(job, after=after)


def _place(job: NewJob) -> Place:
    return job.workspace_id.int, job.unique_key


def _seconds(job: NewJob) -> float:
    return 0.0 if job.unique_for is None else job.unique_for.total_seconds()


def _columns(jobs: Collection[NewJob]) -> dict[str, str]:
    return {
        "workspace_ids": array(job.workspace_id for job in jobs),
        "unique_keys": text_array(job.unique_key for job in jobs),
        "job_ids": array(job.id for job in jobs),
        "seconds": array(map(_seconds, jobs)),
    }
