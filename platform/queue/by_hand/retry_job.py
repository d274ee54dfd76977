"""Retry by hand: a failed or cancelled job becomes pending again, with all its attempts ahead of it."""

from __future__ import annotations

import enum
import uuid
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import QuotaExceededError
from jobplatform.models import visit
from jobplatform.queue.after.notices import ask_to_settle
from jobplatform.queue.attempts.ending import AS_RECORDED, PAST_ENDINGS
from jobplatform.queue.by_hand.from_step import unknown_step
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import ring_after_commit
from jobplatform.queue.guard import holder_of_guard
from jobplatform.queue.hooks.told import told
from jobplatform.queue.limits.quota import Wanted, make_room
from jobplatform.queue.locks import QUOTA
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.start_by import start_by
from jobplatform.queue.statement import one_transaction, run

# For a workspace with a quota nothing is written at first, and its lock is taken: see limits/quota.py.
# The new queue row continues the record's epoch: a worker that still believes in an old attempt is fenced off.
# It is blocked only if something it waits for has not ended: what had ended otherwise, whoever retries it knows.
# Locked is first the queue row, by being made, and then the record, as everywhere. Who had the record while they wait
# for the key would be in a circle with a transaction that has the key and comes to this job; and who finds that it is
# live again would keep its record from whoever ends it. So what was read of the record may be over when the row is
# there: then nothing but the row is written, and it is taken back. (Not by a savepoint: many may be retried at once.)
RETRY_JOB = f"""
with limited as materialized (
    select hashtext(l.workspace_id::text) as lock
    from jobplatform.workspace_limits l
    left join jobplatform.plans p on p.name = l.plan
    where %(gated)s and l.workspace_id = %(workspace_id)s and coalesce(l.max_pending, p.max_pending) is not null
),
final as materialized (
    select *
    from jobplatform.job_records
    where workspace_id = %(workspace_id)s and id = %(id)s and status in (4, 5)
    and not exists (select from limited)
    and (
        %(from_step)s::text is null
        or exists (
            select
            from jobplatform.job_steps s
            where s.workspace_id = %(workspace_id)s and s.job_id = %(id)s and s.name = %(from_step)s
                and left(s.name, 1) not in ('', chr(30))
        )
    )
    and not exists (
        select
        from jobplatform.job_queue successor
        where successor.workspace_id = %(workspace_id)s and successor.unique_key = chr(30) || job_records.unique_key
    )
),
queued as (
    insert into jobplatform.job_queue ({AS_RECORDED}, state, run_after, start_by, followed)
    select
        {AS_RECORDED},
        case when waits.blocked then -1 else 1 end,
        jobplatform.clock(),
        case when not waits.blocked then {start_by("jobplatform.clock()", "start_within_ms")} end,
        batch_id is not null
        or exists (
            select from jobplatform.job_edges e where e.workspace_id = final.workspace_id and e.after_id = final.id
        )
        or (
            select true
            from jobplatform.webhook_subscriptions s
            where {told("final.workspace_id", "final.task")}
            limit 1
        ) is true
    from final
    cross join lateral (
        select exists (
            select from jobplatform.job_edges e
            where e.workspace_id = final.workspace_id and e.job_id = final.id and e.after_status is null
        ) as blocked
    ) waits
    on conflict do nothing
    returning id, queue, followed
),
reopened as (
    update jobplatform.job_records r
    set status = null,
        outcome = null,
        completed_at = null,
        started_at = null,
        worker_id = null,
        result = null,
        error_type = null,
        error = null,
        progress = null,
        attempts = 0,
        crash_count = 0,
        run_after = jobplatform.clock(),
        {PAST_ENDINGS}
    from queued
    join final on final.id = queued.id
    where r.workspace_id = %(workspace_id)s
        and r.id = queued.id
        and (r.status, r.epoch, r.completed_at) = (final.status, final.epoch, final.completed_at)
    returning r.id, queued.followed
),
forgotten as (
    delete from jobplatform.job_steps s
    using reopened
    where s.workspace_id = %(workspace_id)s
        and s.job_id = reopened.id
        and (
            %(from_start)s
            or coalesce(
                (
                    select c.saved_at
                    from jobplatform.job_steps c
                    where c.workspace_id = %(workspace_id)s and c.job_id = %(id)s and c.name = ''
                        and left(s.name, 1) = chr(30)
                ),
                s.saved_at
            ) >= (
                select first.saved_at
                from jobplatform.job_steps first
                where first.workspace_id = %(workspace_id)s and first.job_id = %(id)s and first.name = %(from_step)s
            )
        )
),
told as (
    insert into jobplatform.notices (workspace_id, kind, job_id, batch_id, status)
    select final.workspace_id, 'reopened', final.id, final.batch_id, final.status
    from reopened
    join final on final.id = reopened.id
    where reopened.followed
    returning true
)
select
    r.status,
    (select queue from queued),
    {holder_of_guard("r")}::text,
    case
        when r.status in (4, 5)
        then (select count(pg_advisory_xact_lock({QUOTA}, limited.lock)::text) from limited)
        else 0
    end,
    r.unique_key,
    r.priority,
    exists (select from reopened),
    exists (select from told)
from jobplatform.job_records r
where r.workspace_id = %(workspace_id)s and r.id = %(id)s
"""

STEPS = """
select s.name
from jobplatform.job_steps s
where s.workspace_id = %(workspace_id)s and s.job_id = %(id)s and left(s.name, 1) not in ('', chr(30))
order by s.saved_at, s.name
"""

# Nobody has seen it yet.
TAKE_BACK = "delete from jobplatform.job_queue where workspace_id = %(workspace_id)s and id = %(id)s"

#: Between our look and the insert the guard's holder may end, or a new one begin; or the job itself.
ROUNDS = 5


class RetryKind(enum.Enum):
    """What became of a request to retry."""

    RETRIED = "retried"
    DUPLICATE = "duplicate"
    LIVE = "live"
    COMPLETED = "completed"
    BUSY = "busy"
    UNKNOWN = "unknown"


_NOT_TO_RETRY = {None: RetryKind.LIVE, 3: RetryKind.COMPLETED}


class RetryAnswer(NamedTuple):
    """``existing`` is the job that holds the uniqueness guard, for ``DUPLICATE``."""

    kind: RetryKind
    existing: uuid.UUID | None = None


@checks_arguments()
@says_what_it_cannot_see
def retry_job(
    session: Session,
    workspace_id: uuid.UUID,
    job_id: uuid.UUID,
    *,
    from_start: bool = False,
    from_step: str | None = None,
) -> RetryAnswer:
    """Make a failed or cancelled job pending again, in the caller's transaction.

    It goes on after the steps and the checkpoint that it has saved; ``from_start`` forgets them, ``from_step`` those
    that were not saved before that step.

    What was called off because it did not complete is brought back, and its batch counts it anew. A job that was called
    off itself runs without what failed before it; if something it waits for has not ended yet, it waits for that. One
    that has to begin by some moment has as long for it again, from now on.

    ``DUPLICATE``: another unfinished job holds its uniqueness guard. ``LIVE``: it has not ended. ``COMPLETED``: it
    went well, and running it twice is not what a retry means. ``UNKNOWN``: the workspace has no such job. ``BUSY``: it
    or its guard changed hands again and again while we looked; nothing was done, ask again. Raises
    :class:`QuotaExceededError` when the workspace's quota has no room for it, and :class:`InvalidJobError` for a step
    that it has not done: it stays as it is.
    """
    with one_transaction(session):
        return _retry_job(session, workspace_id, job_id, from_start, from_step)


def retry_one_of_many(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> str:
    """Retry one of several jobs, and answer in a word: a :class:`RetryKind`, or ``quota`` where there is no room."""
    try:
        return retry_job(session, workspace_id, job_id).kind.value
    except QuotaExceededError:
        return "quota"


def _retry_job(
    session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, from_start: bool, from_step: str | None
) -> RetryAnswer:
    gated = True
    visit(session, workspace_id)
    for _ in range(ROUNDS):
        asked = {"workspace_id": workspace_id, "id": job_id, "from_start": from_start, "from_step": from_step}
        row = run(session, RETRY_JOB, **asked, gated=gated).one_or_none()
        if row is None:
            return RetryAnswer(RetryKind.UNKNOWN)
        status, queue, holder, locked, unique_key, priority, reopened, told = row
        if reopened:
            _tell(session, queue, settlers=told)
            return RetryAnswer(RetryKind.RETRIED)
        if queue is not None:
            run(session, TAKE_BACK, workspace_id=workspace_id, id=job_id)
            continue
        if status in _NOT_TO_RETRY:
            return RetryAnswer(_NOT_TO_RETRY[status])
        if from_step is not None:
            _require_step(session, workspace_id, job_id, from_step)
        if holder is not None:
            return RetryAnswer(RetryKind.DUPLICATE, uuid.UUID(holder))
        if locked:
            make_room(session, [Wanted(workspace_id, None, unique_key, priority)])
            gated = False
    return RetryAnswer(RetryKind.BUSY)


def _tell(session: Session, queue: str, *, settlers: bool) -> None:
    if settlers:
        ask_to_settle(session)
    ring_after_commit(session, {f"q:{queue}"})


def _require_step(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, name: str) -> None:
    """Asked when it may be why nothing was done. An empty name is the checkpoint's, and no step's."""
    known = run(session, STEPS, workspace_id=workspace_id, id=job_id).scalars().all()
    if name not in known:
        raise unknown_step(name, known)
