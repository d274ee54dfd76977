"""How an attempt stops being ours: back to waiting, or over.

Failing, releasing, rescuing and reconciling differ in *which* running rows they take and in what they say about each;
what then happens to queue row, record and attempt history is the same for all, and stands here once. A verb writes a
``verdict`` relation and puts :data:`ENDING` behind it.

Columns of ``verdict``: workspace_id, id, epoch, worker_id, attempts, crash_count, started_at, progress (from the row,
locked), followed (whether others wait for its end), give_back (0 or 1 attempts), crash (0 or 1), delay (seconds until
it may run again), final, cancelled, recorded (whether the attempt is kept), outcome, error_type, error, traceback,
unique_key, start_by.

A job that would go back to waiting while a newer one of its key waits for it is over too: superseded. So is one that
has not begun and is too late for that by now.

A job that asks to be run later before any attempt of it counts is due anew, and its record says so (numbers/waited.py).

Lock order: queue row, then the record of the same id; nothing is locked after a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.start_by import TOO_LATE, why_too_late
from jobplatform.queue.statement import run

#: For whoever makes a job unfinished again: the columns that its new queue row has from its record. Only where and
#: since when it waits, and whether it is followed, is for them to say.
AS_RECORDED = (
    "workspace_id, id, queue, task, priority, max_attempts, timeout_ms, unique_key, resource, units, epoch, "
    "payload_version, start_within_ms"
)

#: For whoever makes a job unfinished again (its record is ``r``): the ending that is taken back is kept, or somebody
#: who was not looking would never hear of it.
PAST_ENDINGS = """past_endings = coalesce(r.past_endings, '[]') || jsonb_build_object(
            'epoch', r.epoch,
            'status', case r.status when 4 then 'failed' else 'cancelled' end,
            'outcome', r.outcome,
            'endedAt', r.completed_at,
            'retriedAt', jobplatform.clock()
        )"""

ENDING = f"""
settled as materialized (
    select
        n.workspace_id, n.id, n.epoch, n.worker_id, n.attempts, n.crash_count, n.started_at, n.progress, n.followed,
        n.give_back, n.crash, n.delay, n.recorded, n.outcome, n.traceback, n.start_by,
        n.final or n.superseded or n.late as final,
        n.superseded or n.late as discarded,
        n.late and not n.superseded as late,
        n.cancelled or n.superseded or n.late as cancelled,
        case when n.superseded then coalesce(n.error_type, 'Superseded') else n.error_type end as error_type,
        case when n.superseded then coalesce(n.error, 'a newer job of its key was waiting') else n.error end as error
    from (
        select
            v.*,
            not v.final and v.unique_key is not null and (
                select true
                from jobplatform.job_queue successor
                where successor.workspace_id = v.workspace_id and successor.unique_key = chr(30) || v.unique_key
            ) is not null as superseded,
            not v.final and v.start_by is not null and v.start_by <= jobplatform.clock() as late
        from verdict v
    ) n
),
waiting as (
    update jobplatform.job_queue q
    set state = case when v.delay > 0 then 0 else 1 end,
        run_after = case
            when v.delay > 0 then jobplatform.clock() + make_interval(secs => v.delay)
            else q.run_after
        end,
        attempts = q.attempts - v.give_back,
        crash_count = q.crash_count + v.crash,
        worker_id = null,
        started_at = null,
        cancel_requested_at = null,
        resource = q.resource
    from settled v
    where q.workspace_id = v.workspace_id and q.id = v.id and not v.final
    returning
        q.workspace_id, q.id, q.run_after,
        v.delay > 0 and not v.recorded and q.attempts = 0 and q.crash_count = 0 as is_due_anew
),
gone as (
    delete from jobplatform.job_queue q
    using settled v
    where q.workspace_id = v.workspace_id and q.id = v.id and v.final
),
kept as (
    insert into jobplatform.job_attempts (
        workspace_id, job_id, epoch, attempt, worker_id, started_at, ended_at,
        outcome, final, error_type, error, traceback
    )
    select
        v.workspace_id, v.id, v.epoch, v.attempts, v.worker_id, v.started_at, jobplatform.clock(),
        v.outcome, v.final, v.error_type, v.error, v.traceback
    from settled v
    where v.recorded
),
written as (
    update jobplatform.job_records r
    set status = case when not v.final then null when v.cancelled then 5 else 4 end,
        outcome = case
            when not v.final then null
            when v.discarded then 'discarded'
            when v.cancelled then 'cancelled'
            else v.outcome
        end,
        error_type = case when v.late then '{TOO_LATE}' else coalesce(v.error_type, r.error_type) end,
        error = case when v.late then {why_too_late("v.start_by")} else coalesce(v.error, r.error) end,
        attempts = v.attempts - v.give_back,
        crash_count = v.crash_count + v.crash,
        epoch = v.epoch,
        started_at = case when not v.late then v.started_at end,
        worker_id = case when v.late then r.worker_id else v.worker_id end,
        completed_at = case when v.final then jobplatform.clock() end,
        progress = v.progress
    from settled v
    where r.workspace_id = v.workspace_id and r.id = v.id and (v.recorded or v.final)
),
due_anew as (
    update jobplatform.job_records r
    set run_after = w.run_after
    from waiting w
    where r.workspace_id = w.workspace_id and r.id = w.id and w.is_due_anew
),
{tell_ended("settled", "case when e.cancelled then 5 else 4 end", "e.final")}
select
    v.workspace_id::text,
    v.id::text,
    v.epoch,
    case when not v.final then 'pending' when v.cancelled then 'cancelled' else 'failed' end,
    exists (select from told)
from settled v
"""


def end_attempts(session: Session, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
    """Run a verb's statement: for each row its lease, and the status of its job now."""
    rows = run(session, sql, **parameters).all()
    if rows and rows[0][4]:
        ask_to_settle(session)
    return rows
