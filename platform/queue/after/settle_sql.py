"""The statements of :mod:`jobplatform.queue.after.settle`, in the order in which they run.

They ask `(select true … limit 1) is true` and not `exists`, which the planner may answer by hashing the whole table.

They take their locks with `skip locked`: what somebody else holds is left out, and looked at again in the next round.
Only BRING_BACK can meet somebody whom no lock tells of, a transaction that is still open and asks for the key of a job
that is brought back; it waits for no longer than PATIENCE says, and then that job is left out. So settling cannot
deadlock with anybody, and nobody's long transaction keeps others' jobs from being settled.
"""

from __future__ import annotations

from jobplatform.queue.after.notices import tell_ended
from jobplatform.queue.attempts.ending import AS_RECORDED, PAST_ENDINGS
from jobplatform.queue.end_waiting import end_waiting
from jobplatform.queue.hooks.told import told
from jobplatform.queue.start_by import start_by

#: Batches of one round, and notices: of jobs in no batch, and of all its batches.
MOST_BATCHES = 64
MOST_NOTICES = 500
MOST_OF_BATCHES = 2_000
#: Jobs of one round that may be let go or called off.
MOST_SUCCESSORS = 1_000

#: What a job that waits is called off with. Only these are brought back when what they waited for runs again.
PREDECESSOR_FAILED = "PredecessorFailed"
NOT_NEEDED = "NotNeeded"

# One index descent for each batch that has notices, however many it has.
SCAN_BATCHES = f"""
with recursive batch(workspace_id, batch_id, nth) as (
    (
        select workspace_id, batch_id, 1
        from jobplatform.notices
        where batch_id is not null
            and (workspace_id, batch_id) > (%(workspace_id)s::uuid, %(batch_id)s::uuid)
            and (%(only)s::uuid is null or workspace_id = %(only)s::uuid)
        order by workspace_id, batch_id
        limit 1
    )
    union all
    select next.workspace_id, next.batch_id, batch.nth + 1
    from batch
    cross join lateral (
        select n.workspace_id, n.batch_id
        from jobplatform.notices n
        where n.batch_id is not null
            and (n.workspace_id, n.batch_id) > (batch.workspace_id, batch.batch_id)
            and (%(only)s::uuid is null or n.workspace_id = %(only)s::uuid)
        order by n.workspace_id, n.batch_id
        limit 1
    ) next
    where batch.nth < {MOST_BATCHES}
)
select
    batch.workspace_id::text,
    batch.batch_id::text,
    (
        select true from jobplatform.batches b
        where b.workspace_id = batch.workspace_id and b.id = batch.batch_id
        limit 1
    ) is true
from batch
"""

# `no key update`, so that who is adding to a batch (`key share`) is in nobody's way. Who closes one is, for a moment.
LOCK_BATCHES = """
select b.workspace_id::text, b.id::text
from jobplatform.batches b
where (b.workspace_id, b.id) in (
    select * from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[])
    limit cardinality(%(ids)s::uuid[])
)
order by b.workspace_id, b.id
for no key update skip locked
"""

# Those of a batch only with the batch locked, and in their order: so that what is taken of one job is all that had
# happened to it by some moment, and no count is ever ahead of the truth. (Nobody else locks one, but who erases it.)
TAKE = """
with loose as materialized (
    select n.ctid as tid
    from jobplatform.notices n
    where n.batch_id is null and (%(only)s::uuid is null or n.workspace_id = %(only)s::uuid)
    order by n.id
    limit %(most)s
    for update skip locked
),
of_batches as materialized (
    select found.tid
    from unnest(%(workspace_ids)s::uuid[], %(batch_ids)s::uuid[]) as mine(workspace_id, batch_id)
    cross join lateral (
        select n.ctid as tid
        from jobplatform.notices n
        where n.workspace_id = mine.workspace_id and n.batch_id = mine.batch_id
        order by n.id
        limit %(most_of_each)s
        for update skip locked
    ) found
)
delete from jobplatform.notices
where ctid = any(array(select tid from loose union all select tid from of_batches))
returning workspace_id::text, id, kind, job_id::text, batch_id::text, status, amount
"""

# Answers with the batches that have ended by this, or have ended otherwise than before: a retried job may have come and
# gone within one round. (What was before is read after the lock on the batch was taken.)
COUNT = """
with delta as materialized (
    select *
    from unnest(
        %(workspace_ids)s::uuid[], %(ids)s::uuid[],
        %(added)s::int[], %(completed)s::int[], %(failed)s::int[], %(cancelled)s::int[]
    ) as u(workspace_id, id, added, completed, failed, cancelled)
    limit cardinality(%(ids)s::uuid[])
)
update jobplatform.batches b
set total = b.total + d.added,
    completed = b.completed + d.completed,
    failed = b.failed + d.failed,
    cancelled = b.cancelled + d.cancelled,
    ended_at = case
        when b.closed_at is not null
            and b.completed + d.completed + b.failed + d.failed + b.cancelled + d.cancelled = b.total + d.added
        then coalesce(b.ended_at, jobplatform.clock())
    end
from delta d
join jobplatform.batches before on before.workspace_id = d.workspace_id and before.id = d.id
where b.workspace_id = d.workspace_id and b.id = d.id
returning
    b.workspace_id::text,
    b.id::text,
    b.ended_at is not null
    and (before.ended_at is null or (before.completed = before.total) <> (b.completed = b.total))
"""

# A job that runs or waits is asked to say when it ends. (Its row is locked only now and for a moment; whoever finishes
# it waits that long, and then sees the flag.)
FOLLOW = """
with looked as materialized (
    select * from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    limit cardinality(%(ids)s::uuid[])
),
live as materialized (
    select q.ctid as tid
    from looked l
    join jobplatform.job_queue q on q.workspace_id = l.workspace_id and q.id = l.id
    where not q.followed
    for update of q skip locked
)
update jobplatform.job_queue
set followed = true,
    resource = resource
where ctid = any(array(select tid from live))
"""

# With a snapshot of its own: somebody may have ended it meanwhile.
NOT_FOLLOWED = """
select l.workspace_id::text, l.id::text
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as l(workspace_id, id)
join jobplatform.job_queue q on q.workspace_id = l.workspace_id and q.id = l.id
where not q.followed
"""

#: How what an edge `e` waits for ended; null while it has not. What is not there any more has not gone well.
STATUS = """
nullif(
    case
        when e.of_batch then coalesce(
            (
                select case when b.ended_at is null then -1 when b.completed = b.total then 3 else 4 end
                from jobplatform.batches b
                where b.workspace_id = e.workspace_id and b.id = e.after_id
            ),
            5
        )
        else coalesce(
            (
                select coalesce(r.status, -1)
                from jobplatform.job_records r
                where r.workspace_id = e.workspace_id and r.id = e.after_id
            ),
            5
        )
    end,
    -1
)::smallint
"""

SUCCESSORS = f"""
select e.workspace_id::text, e.job_id::text, e.after_id::text
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as event(workspace_id, id)
join jobplatform.job_edges e on e.workspace_id = event.workspace_id and e.after_id = event.id
where e.after_status is distinct from {STATUS}
limit {MOST_SUCCESSORS}
"""

# Two who settle two ends of what one job waits for must not decide about it side by side: each would see the other
# edge undecided, and both would leave it blocked.
LOCK_SUCCESSORS = """
with wanted as materialized (
    select wanted.workspace_id, wanted.id, first.after_id
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as wanted(workspace_id, id)
    cross join lateral (
        select e.after_id
        from jobplatform.job_edges e
        where e.workspace_id = wanted.workspace_id and e.job_id = wanted.id
        order by e.after_id
        limit 1
    ) first
)
select e.workspace_id::text, e.job_id::text
from wanted w
join jobplatform.job_edges e on e.workspace_id = w.workspace_id and e.job_id = w.id and e.after_id = w.after_id
order by e.workspace_id, e.job_id
for update of e skip locked
"""

# Looked at anew, now that nobody else decides about these jobs.
MARK = f"""
update jobplatform.job_edges e
set after_status = {STATUS}
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(after_ids)s::uuid[]) as m(workspace_id, job_id, after_id)
where e.workspace_id = m.workspace_id and e.job_id = m.job_id and e.after_id = m.after_id
"""

DECIDE = f"""
select
    l.workspace_id::text,
    l.id::text,
    q.state,
    r.status = 5 and r.outcome = 'discarded' and r.error_type in ('{PREDECESSOR_FAILED}', '{NOT_NEEDED}'),
    (
        select true from jobplatform.job_edges e
        where e.workspace_id = l.workspace_id and e.job_id = l.id and e.after_status is null
        limit 1
    ) is true,
    against.run_if,
    against.of_batch,
    against.after_id::text,
    against.after_status
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as l(workspace_id, id)
join jobplatform.job_records r on r.workspace_id = l.workspace_id and r.id = l.id
left join jobplatform.job_queue q on q.workspace_id = l.workspace_id and q.id = l.id
left join lateral (
    select e.run_if, e.of_batch, e.after_id, e.after_status
    from jobplatform.job_edges e
    where e.workspace_id = l.workspace_id and e.job_id = l.id
        and (
            e.after_status in (4, 5) and e.run_if = 'completed'
            or e.after_status = 3 and e.run_if = 'failed'
        )
    limit 1
) against on true
"""

# It is as old as this moment to whoever asks how long something has been ready, and its record says that it was due
# then: it has waited for its turn since.
LET_GO = f"""
with waiting as materialized (
    select q.ctid as tid
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as l(workspace_id, id)
    join jobplatform.job_queue q on q.workspace_id = l.workspace_id and q.id = l.id
    where q.state + 0 = -1
    for update of q skip locked
),
let_go as (
    update jobplatform.job_queue
    set state = case when run_after > jobplatform.clock() then 0 else 1 end,
        run_after = greatest(run_after, jobplatform.clock()),
        start_by = {start_by("greatest(run_after, jobplatform.clock())", "start_within_ms")},
        resource = resource
    where ctid = any(array(select tid from waiting))
    returning workspace_id, id, queue, task, state, run_after
),
recorded as (
    update jobplatform.job_records r
    set run_after = l.run_after
    from let_go l
    where r.workspace_id = l.workspace_id and r.id = l.id and r.run_after <> l.run_after
)
select workspace_id::text, id::text, queue, task, state from let_go
"""

_AGAINST = "against a on a.workspace_id = gone.workspace_id and a.id = gone.id"
_CALLED_OFF = end_waiting("discarded", "a.error_type", "a.error", join=_AGAINST)
CALL_OFF = f"""
with against as materialized (
    select *
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(error_types)s::text[], %(errors)s::text[])
        as u(workspace_id, id, error_type, error)
    limit cardinality(%(ids)s::uuid[])
),
waiting as materialized (
    select q.ctid as tid
    from against a
    join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
    where q.state + 0 = -1
    for update of q skip locked
),
gone as (
    delete from jobplatform.job_queue
    where ctid = any(array(select tid from waiting))
    returning workspace_id, id, attempts, crash_count, epoch, progress, followed
),
ended as (
    {_CALLED_OFF}
),
{tell_ended("gone", "5")}
select workspace_id::text, id::text, followed from gone
"""

# Shorter than that of others (queue/patience.py): whatever this round has settled waits too, and it looks again soon.
PATIENCE = "select current_setting('lock_timeout'), set_config('lock_timeout', '20ms', true)"
PATIENT_AGAIN = "select set_config('lock_timeout', %(before)s, true)"
#: When somebody is in the way of one of several that are brought back: so many by themselves in one round.
MOST_SINGLY = 20

# As a retry by hand does it. A guard that somebody else holds by now keeps it as it is: it is answered with, and has no
# queue. Its room in a quota was its own before, and is not asked for again.
BRING_BACK = f"""
with back as materialized (
    select u.*
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(blocked)s::bool[]) as u(workspace_id, id, blocked)
    limit cardinality(%(ids)s::uuid[])
),
final as materialized (
    select r.*, back.blocked
    from back
    join jobplatform.job_records r on r.workspace_id = back.workspace_id and r.id = back.id
    where r.status = 5 and r.outcome = 'discarded' and r.error_type in ('{PREDECESSOR_FAILED}', '{NOT_NEEDED}')
    for update of r skip locked
),
queued as (
    insert into jobplatform.job_queue ({AS_RECORDED}, state, run_after, start_by, followed)
    select
        {AS_RECORDED},
        case when f.blocked then -1 when f.run_after > jobplatform.clock() then 0 else 1 end,
        greatest(f.run_after, jobplatform.clock()),
        case when not f.blocked then {start_by("greatest(f.run_after, jobplatform.clock())", "f.start_within_ms")} end,
        f.batch_id is not null
        or (
            select true from jobplatform.job_edges e
            where e.workspace_id = f.workspace_id and e.after_id = f.id
            limit 1
        ) is true
        or (
            select true from jobplatform.webhook_subscriptions s
            where {told("f.workspace_id", "f.task")}
            limit 1
        ) is true
    from final f
    on conflict do nothing
    returning workspace_id, id, queue, task, state, run_after, followed
),
reopened as (
    update jobplatform.job_records r
    set status = null,
        outcome = null,
        completed_at = null,
        run_after = queued.run_after,
        error_type = null,
        error = null,
        {PAST_ENDINGS}
    from queued
    where r.workspace_id = queued.workspace_id and r.id = queued.id
),
told as (
    insert into jobplatform.notices (workspace_id, kind, job_id, batch_id, status)
    select queued.workspace_id, 'reopened', queued.id, final.batch_id, 5
    from queued
    join final on final.workspace_id = queued.workspace_id and final.id = queued.id
    where queued.followed
    returning true
)
select final.workspace_id::text, final.id::text, queued.queue, queued.task, queued.state, queued.followed
from final
left join queued on queued.workspace_id = final.workspace_id and queued.id = final.id
"""
