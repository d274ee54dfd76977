"""Quotas: how many jobs of a workspace may wait, and what is given up for a more important one.

What waits is counted, never stored. So that two enqueuers cannot both find the last place free, whoever adds to a
workspace with a quota first takes a lock of that workspace and keeps it until the transaction's end, and counts in a
statement that begins after that: only a later snapshot sees what the lock's last holder committed. The lock is taken
by the statement that found the quota (see ENQUEUE and RETRY_JOB), so a workspace without one never gets here.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import QuotaExceededError, QuotaIsolationError
from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.end_waiting import end_waiting
from jobplatform.queue.guard import holder_of_guard
from jobplatform.queue.hooks.webhook_job import WEBHOOK_TASK
from jobplatform.queue.statement import array, run, text_array
from jobplatform.wording import plural

#: Places get free when jobs are started, which nobody can foretell; asking again sooner than this is mostly in vain.
RETRY_AFTER = 10

# For each wanted job the one there is already, and the quota, its rule and what waits, of each workspace that has one.
# What waits to be told to a webhook is the platform's own: a receiver that is down takes no place of anybody's.
# Scalar subselects and `state + 0` for the reasons given at ENQUEUE and COMPLETE.
LOOK = f"""
with wanted as materialized (
    select *
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(unique_keys)s::text[])
        with ordinality as u(workspace_id, id, unique_key, number)
    limit cardinality(%(workspace_ids)s::uuid[])
),
limited as materialized (
    select
        l.workspace_id,
        coalesce(l.max_pending, p.max_pending) as quota,
        coalesce(l.shed, p.shed, false) as shed,
        (
            select count(*)
            from jobplatform.job_queue q
            where q.workspace_id = l.workspace_id and q.state + 0 < 2 and q.task <> '{WEBHOOK_TASK}'
        ) as waiting
    from jobplatform.workspace_limits l
    left join jobplatform.plans p on p.name = l.plan
    where l.workspace_id = any(%(workspace_ids)s::uuid[]) and coalesce(l.max_pending, p.max_pending) is not null
)
select
    w.number - 1,
    coalesce(
        (
            select r.id
            from jobplatform.job_records r
            where r.workspace_id = w.workspace_id and r.id = w.id
        ),
        {holder_of_guard("w")}
    )::text,
    limited.quota,
    limited.shed,
    limited.waiting,
    current_setting('transaction_isolation')
from wanted w
left join limited on limited.workspace_id = w.workspace_id
"""

# What waits for other jobs stays: somebody counts on it. Rows that somebody has locked are about to be claimed or
# cancelled, and wait no longer. To wait for them could deadlock with another call that gives up jobs of several
# workspaces.
LEAST_IMPORTANT = f"""
select id::text
from jobplatform.job_queue
where workspace_id = %(workspace_id)s
and state + 0 in (0, 1)
and task <> '{WEBHOOK_TASK}'
and priority < %(below)s
and id <> all(%(sparing)s::uuid[])
order by priority, id desc
limit %(count)s
for update skip locked
"""

GIVE_UP = f"""
with given_up as materialized (
    select *
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(errors)s::text[]) as u(workspace_id, id, error)
    limit cardinality(%(ids)s::uuid[])
),
gone as (
    delete from jobplatform.job_queue q
    using given_up u
    where q.workspace_id = u.workspace_id and q.id = u.id
    returning q.workspace_id, q.id, q.attempts, q.crash_count, q.epoch, q.progress, q.followed, u.error
),
ended as (
    {end_waiting("discarded", "'Shed'", "gone.error")}
),
{tell_ended("gone", "5")}
select exists (select from told)
"""

WHY = "given up for a more important job: the quota of {waiting} was full"


class Wanted(NamedTuple):
    """A job that wants to wait. ``job_id`` is None for one that has its record already."""

    workspace_id: uuid.UUID
    job_id: uuid.UUID | None
    unique_key: str | None
    priority: int


class _Quota(NamedTuple):
    limit: int
    shed: bool
    waiting: int


class _Victim(NamedTuple):
    workspace_id: uuid.UUID
    job_id: str
    error: str


def make_room(session: Session, wanted: Sequence[Wanted]) -> dict[int, uuid.UUID]:
    """See that all that is ``wanted`` may wait, and answer by position which of it exists already.

    What exists (the same request, or the holder of its guard) needs no room. The caller holds the locks of the
    workspaces, and adds nothing but the rest. Raises :class:`QuotaExceededError` when a workspace has no room and
    nothing there is less important than everything wanted; then nothing was given up.
    """
    existing, quotas = _look(session, wanted)
    new = [job for number, job in enumerate(wanted) if number not in existing]
    victims: list[_Victim] = []
    for workspace_id, jobs in sorted(_by_workspace(new).items()):
        if workspace_id in quotas:
            victims += _least_important(session, jobs, quotas[workspace_id], existing.values())
    if victims:
        _give_up(session, victims)
    return existing


def _look(session: Session, wanted: Sequence[Wanted]) -> tuple[dict[int, uuid.UUID], Mapping[uuid.UUID, _Quota]]:
    rows = run(
        session,
        LOOK,
        workspace_ids=array(job.workspace_id for job in wanted),
        ids=array("null" if job.job_id is None else job.job_id for job in wanted),
        unique_keys=text_array(job.unique_key for job in wanted),
    ).all()
    existing: dict[int, uuid.UUID] = {}
    quotas: dict[uuid.UUID, _Quota] = {}
    for number, job_id, limit, shed, waiting, isolation in rows:
        if job_id is not None:
            existing[number] = uuid.UUID(job_id)
        if limit is not None:
            quotas[wanted[number].workspace_id] = _Quota(limit, shed, waiting)
            if isolation != "read committed":
                raise QuotaIsolationError(wanted[number].workspace_id, isolation)
    return existing, quotas


def _by_workspace(jobs: Iterable[Wanted]) -> dict[uuid.UUID, list[Wanted]]:
    """The jobs that will take a place each: of those with one key, one."""
    found: dict[uuid.UUID, dict[object, Wanted]] = defaultdict(dict)
    for job in jobs:
        found[job.workspace_id].setdefault(job.unique_key or job.job_id, job)
    return {workspace_id: list(places.values()) for workspace_id, places in found.items()}


def _least_important(
    session: Session, jobs: Sequence[Wanted], quota: _Quota, sparing: Iterable[uuid.UUID]
) -> list[_Victim]:
    """What has to be given up for ``jobs`` of one workspace, locked; nothing while there is room."""
    workspace_id = jobs[0].workspace_id
    missing = quota.waiting + len(jobs) - quota.limit
    if missing <= 0:
        return []
    found: Sequence[str] = ()
    # More than wait cannot be given up, so there is no need to look (and to lock what is found in vain).
    if quota.shed and missing <= quota.waiting:
        found = (
            run(
                session,
                LEAST_IMPORTANT,
                workspace_id=workspace_id,
                below=min(job.priority for job in jobs),
                sparing=array(sparing),
                count=missing,
            )
            .scalars()
            .all()
        )
    if len(found) < missing:
        raise QuotaExceededError(workspace_id, quota.limit, RETRY_AFTER)
    return [_Victim(workspace_id, job_id, WHY.format(waiting=plural(quota.limit, "waiting job"))) for job_id in found]


def _give_up(session: Session, victims: Sequence[_Victim]) -> None:
    told = run(
        session,
        GIVE_UP,
        workspace_ids=array(victim.workspace_id for victim in victims),
        ids=array(victim.job_id for victim in victims),
        errors=text_array(victim.error for victim in victims),
    ).scalar_one()
    if told:
        ask_to_settle(session)
