"""What a claim asks the database: three statements, which see the same ring.

``CLAIM`` is for the usual case: nothing it looks at has a limit, nothing is paused, no workspace has jobs in several
lanes. ``LIMITED_CLAIM`` knows the limits and rates of workspaces, and the limit of the queue. Each of them notices when
there is more than that, and then takes nothing. ``WEIGHED_CLAIM`` weighs everything against everything; it takes twice
the server's time, which is why it is not the only one.

    lane     the workspaces ahead and, in each, its lanes: jobs of one task on one resource
    open     the lanes that may run at all: task and version known here, nothing about them paused, no bucket closed
    allowed  what limits leave free, counted under a lock; what rates leave, locked in buckets
    turn     each workspace's share of this claim by weight, those behind their fair share first
    best     its best jobs by priority, then ``run_after``, then age; locked, and what others have locked is skipped
    admitted those of them that the limits on tasks and resources admit together
    pick     as many as are wanted and the queue's own limit leaves free
    taken    the picked rows become running

A new kind of limit is named once, in the fragments below: the cheaper statements, and the claim of the one job that a
bell was rung for (``claim_rung``), leave whatever those say is limited to one that weighs it.

Placeholders are psycopg's. The literal 200 is ``LARGEST_CLAIM``: with a parameter there, the planner assumes a tenth of
the table and turns to a sequential scan (92 ms instead of 5 ms at 100,000 ready jobs).
"""

import enum

#: Lanes of one workspace that a claim looks at in a row.
STRETCH = 32
#: Lanes of a workspace whose jobs a claim locks besides those it needs: others may have locked all that those have.
SPARE_LANES = 8
#: Seconds after which to ask again about what somebody else is just claiming.
CONTENDED = 0.05


class Weighing(enum.IntEnum):
    """What a claim has to weigh: each more than the one before, and for a statement of its own."""

    NOTHING = 0
    #: How much may run in a workspace, or of the queue.
    WORKSPACES = 1
    #: The lanes of workspaces against each other, and what is limited or paused beyond a workspace.
    LANES = 2


COLUMNS = """
    u.workspace_id::text, u.id::text, u.epoch, u.queue, u.task, u.attempts, u.max_attempts, u.crash_count,
    u.timeout_ms, r.payload::text, r.payload_version, r.request_id, r.trace_parent, u.resource,
    extract(epoch from u.started_at - u.run_after)::float8
"""

# As many as these, the weight and the place.
_NO_JOB = ", ".join(["null"] * 17)

# The resource is set to what it is: see LANE in `models`.
TAKE = """
    update jobplatform.job_queue q
    set state = 2,
        epoch = q.epoch + 1,
        attempts = q.attempts + 1,
        worker_id = %(worker_id)s,
        started_at = jobplatform.clock(),
        progress = null,
        resource = q.resource
"""

# A payload that newer code has written waits for a worker with such code. Nearly all are of the first version, and then
# nothing is looked up.
READABLE = (
    "(l.payload_version = 1"
    " or l.payload_version <= (%(versions)s::integer[])[array_position(%(tasks)s::text[], l.task)])"
)


# One row of `lane` is one lane of one workspace. A step goes to the workspace's next lane or, past the last one, to the
# next workspace: one index descent either way. A workspace with many lanes is looked at in two stretches, its first
# ones and those from a random point on, so that none of them is overlooked for ever. Newcomers come first, at negative
# places; their part of the recursion never leaves their workspace.
# `high` bounds the part of the ring still ahead: the last uuid before the wrap, the cursor after it. It has to be an
# index condition; as a filter the scan of the wrapped part would run to the end of the index. `wrapped` is not read
# off `high`: with the cursor on the last uuid of all, both parts have the same bound.
def _lane(*head: str) -> str:
    """The walk. ``head`` are columns to bring along of each lane's best job, the one that the index has first."""
    columns = ("lane", "task", "resource", "payload_version", *head)
    of, of_first, of_head, of_next = (
        ", ".join(prefix + column for column in columns) for prefix in ("", "first.", "head.", "next.")
    )
    best_first = ", priority desc, run_after, id" if head else ""
    return f"""
lane(workspace_id, {of}, high, wrapped, place, nth, entry) as (
    (
        select first.workspace_id, {of_first}, first.high, first.wrapped, 1, 1, 1
        from (
            (
                select workspace_id, {of}, %(last)s::uuid as high, false as wrapped
                from jobplatform.job_queue
                where state = 1 and queue = %(queue)s and workspace_id > %(cursor)s::uuid
                order by workspace_id, lane{best_first}
                limit 1
            )
            union all
            (
                select workspace_id, {of}, %(cursor)s::uuid, true
                from jobplatform.job_queue
                where state = 1 and queue = %(queue)s and workspace_id <= %(cursor)s::uuid
                order by workspace_id, lane{best_first}
                limit 1
            )
        ) first
        limit 1
    )
    union all
    (
        select newcomer.id, {of_head}, newcomer.id, true, -newcomer.nth::integer, 1, 1
        from unnest(%(newcomers)s::uuid[]) with ordinality as newcomer(id, nth)
        cross join lateral (
            select {of}
            from jobplatform.job_queue
            where state = 1 and queue = %(queue)s and workspace_id = newcomer.id
            order by lane{best_first}
            limit 1
        ) head
    )
    union all
    select
        next.workspace_id, {of_next}, next.high, next.wrapped,
        case when next.workspace_id = lane.workspace_id then lane.place else lane.place + 1 end,
        case when next.workspace_id = lane.workspace_id then lane.nth + 1 else 1 end,
        lane.entry + 1
    from lane
    cross join lateral (
        (
            select workspace_id, {of}, lane.high, lane.wrapped
            from jobplatform.job_queue
            where state = 1 and queue = %(queue)s
                and (workspace_id, lane) > (
                    lane.workspace_id,
                    case lane.nth
                        when {STRETCH} then greatest(lane.lane, %(pivot)s::bigint)
                        when {2 * STRETCH} then 9223372036854775807
                        else lane.lane
                    end
                )
                and workspace_id <= lane.high
            order by workspace_id, lane{best_first}
            limit 1
        )
        union all
        (
            select workspace_id, {of}, %(cursor)s::uuid, true
            from jobplatform.job_queue
            where not lane.wrapped
                and state = 1 and queue = %(queue)s and workspace_id <= %(cursor)s::uuid
            order by workspace_id, lane{best_first}
            limit 1
        )
        limit 1
    ) next
    where lane.entry < %(workspaces)s + {2 * STRETCH}
        and (lane.place < %(workspaces)s or next.workspace_id = lane.workspace_id)
)"""


# The rows are locked when their ctids are handed over, so they cannot move, and a TID scan is the one plan that no
# statistics can turn into something else.
_TAKEN = f"""
taken as (
    {TAKE}
    where q.ctid = any(array(select tid from pick))
    returning q.*
)
"""

# What has to be weighed, by what it costs. A claim that finds more of that than it weighs itself takes nothing.
LIMITS_OF_WORKSPACE = """
    left join jobplatform.workspace_limits w on w.workspace_id = l.workspace_id
    left join jobplatform.plans p on p.name = w.plan
"""
WORKSPACE_IS_LIMITED = "num_nonnulls(w.max_running, p.max_running, w.rate_units, p.rate_units) > 0"
QUEUE_IS_LIMITED = "exists (select from jobplatform.queue_limits where queue = %(queue)s)"
# Of a task that is met here: nearly every installation has one with a limit, and few jobs of it.
TASK_IS_LIMITED = (
    "l.task in (select task from jobplatform.task_limits"
    " where num_nonnulls(max_running, max_running_per_workspace) > 0)"
)
SOMETHING_IS_PAUSED = "exists (select from jobplatform.pauses)"
_WEIGHTS = f"""
        greatest(
            max(weighs),
            case
                when {SOMETHING_IS_PAUSED} then {Weighing.LANES:d}
                when {QUEUE_IS_LIMITED} then {Weighing.WORKSPACES:d}
                else {Weighing.NOTHING:d}
            end
        ) as weighs
"""

# `lead` is 0 for a workspace that has not had more than its fair share; the others come after those, in the order of
# their leads.
_PLACED = """
        coalesce(array_position(%(ahead)s::uuid[], l.workspace_id), 0) as lead,
        coalesce(w.weight, p.weight, 1) as weight,
"""
_LIMITS = """
        coalesce(w.max_running, p.max_running) as most,
        coalesce(w.rate_units, p.rate_units)::float8 as rate_size,
        coalesce(w.rate_units * 1000.0::float8 / w.rate_period_ms, p.rate_units * 1000.0::float8 / p.rate_period_ms)
            as per_second,
"""
_MAY_RUN = f"l.task = any(%(tasks)s) and {READABLE} and (l.place < 0 or l.workspace_id <> all(%(newcomers)s::uuid[]))"


def _workspaces(limits: str = "") -> str:
    """Those that have something for this worker: one row each, or there are lanes to weigh."""
    return f"""
open as materialized (
    select
        l.workspace_id, l.lane, l.place,
        {_PLACED.strip()}{limits.rstrip()}
        case
            when l.nth > 1 or l.resource is not null or {TASK_IS_LIMITED} then {Weighing.LANES:d}
            when {WORKSPACE_IS_LIMITED} then {Weighing.WORKSPACES:d}
            else {Weighing.NOTHING:d}
        end as weighs
    from lane l
    {LIMITS_OF_WORKSPACE.strip()}
    where {_MAY_RUN}
)"""


# A workspace's part of this claim by weight: of all of it for those whose lead is fair still, of what they leave for
# the rest, so that nobody far ahead gets what others want and no slot stands idle.
_QUOTAS = """
        ceil(%(limit)s / sum(weight) filter (where lead <= %(fair)s)::float8) as quota,
        ceil(%(limit)s / sum(weight) filter (where lead > %(fair)s)::float8) as heavy_quota,
        array_agg(lead) filter (where lead > 0) as leads
"""
_SHARE = "(o.weight * case when o.lead > %(fair)s then facts.heavy_quota else facts.quota end)::integer"


def _pick(turns: str, share: str, most: str) -> str:
    """The best jobs of each of these workspaces, as many as its share, until there are enough."""
    return f"""
pick as materialized (
    select best.tid
    from (
        select o.*, {share} as share
        from {turns}
        order by o.lead, o.place
    ) turn
    cross join lateral (
        select tid
        from (
            select q.ctid as tid
            from jobplatform.job_queue q
            where q.state = 1 and q.queue = %(queue)s and q.workspace_id = turn.workspace_id and q.lane = turn.lane
            order by q.priority desc, q.run_after, q.id
            limit 200
            for update skip locked
        ) locked
        limit turn.share
    ) best
    limit {most}
)"""


_PLAIN = f"""
{_workspaces().strip()},
facts as materialized (
    select
        {_QUOTAS.strip()},
        {_WEIGHTS.strip()}
    from open
),
{_pick(f"open o cross join facts where facts.weighs = {Weighing.NOTHING:d}", _SHARE, "%(limit)s").strip()}
"""

# `here`: how many may start in the workspace. What is being claimed by somebody else has no answer, and nothing starts.
_LIMITED = f"""
{_workspaces(_LIMITS).strip()},
weights as materialized (
    select {_WEIGHTS.strip()} from open
),
mine as materialized (
    select o.* from open o cross join weights where weights.weighs <= {Weighing.WORKSPACES:d} order by o.lead, o.place
),
counted as materialized (
    select f.*
    from (select array_agg(workspace_id) as ids, array_agg(most) as most from mine where most is not null) l
    cross join lateral jobplatform.free_in_workspaces(l.ids, l.most, %(limit)s::integer) f
    where l.ids is not null
),
metered as materialized (
    select f.*
    from (
        select array_agg(workspace_id::text) as keys, array_agg(rate_size) as sizes, array_agg(per_second) as per_second
        from mine
        where rate_size is not null
    ) l
    cross join lateral jobplatform.tokens_in_buckets('workspace', l.keys, l.sizes, l.per_second) f
    where l.keys is not null
),
allowed as materialized (
    select
        m.*, metered.tokens,
        least(
            %(limit)s::integer,
            case when m.most is not null then coalesce(counted.free, 0) end,
            case when m.rate_size is not null then coalesce(floor(metered.tokens), 0)::integer end
        ) as here,
        case
            when m.most is not null and counted.workspace_id is null then {CONTENDED}
            when m.rate_size is not null and metered.key is null then {CONTENDED}
            when metered.tokens < 1 then (1 - metered.tokens) / m.per_second
        end as wait
    from mine m
    left join counted on counted.workspace_id = m.workspace_id
    left join metered on metered.key = m.workspace_id::text
),
queue_limit as materialized (
    select case when most is null then %(limit)s::integer else jobplatform.free_in_queue(%(queue)s, most) end as free
    from (select (select max_running from jobplatform.queue_limits where queue = %(queue)s) as most) l
    where exists (select from mine)
),
facts as materialized (
    select
        {_QUOTAS.strip()}
    from allowed
    where here > 0
),
{
    _pick(
        "allowed o cross join facts where o.here > 0",
        f"least(o.here, {_SHARE})",
        "(select coalesce(free, 0) from queue_limit)",
    ).strip()
}
"""

_WEIGHED = f"""
pause as materialized (
    select kind, key, until from jobplatform.pauses where until is null or until > jobplatform.clock()
),
closed as materialized (
    select key, closed_until
    from jobplatform.buckets
    where kind = 'resource' and key = any(array(select resource from lane)) and closed_until > jobplatform.clock()
),
open as materialized (
    select
        l.workspace_id, l.lane, l.place, l.nth, l.task, l.resource, l.priority, l.run_after, l.id,
        {_PLACED.strip()}
        {_LIMITS.strip()}
        t.max_running as task_most,
        t.max_running_per_workspace as task_most_here
    from lane l
    {LIMITS_OF_WORKSPACE.strip()}
    left join jobplatform.task_limits t on t.task = l.task
    where {_MAY_RUN}
        and not exists (select from pause where kind = 'queue' and key = %(queue)s)
        and l.task not in (select key from pause where kind = 'task')
        and l.workspace_id::text not in (select key from pause where kind = 'workspace')
        and (
            l.resource is null
            or l.resource not in (select key from pause where kind = 'resource' union all select key from closed)
        )
),
facts as materialized (
    select
        coalesce(bool_or(num_nonnulls(most, rate_size, resource, task_most, task_most_here) > 0), false) as limited,
        coalesce(bool_or(num_nonnulls(resource, task_most, task_most_here) > 0), false) as shared,
        coalesce(max(nth) > 1, false) as mixed
    from open
),
allowance as materialized (
    select f.*
    from (
        select
            array_agg(workspace_id order by lead, place) as workspaces,
            array_agg(lane order by lead, place) as lanes,
            array_agg(task order by lead, place) as tasks,
            array_agg(resource order by lead, place) as resources,
            array_agg(most order by lead, place) as most,
            array_agg(rate_size order by lead, place) as sizes,
            array_agg(per_second order by lead, place) as rates,
            array_agg(task_most order by lead, place) as tasks_most,
            array_agg(task_most_here order by lead, place) as tasks_most_here
        from open
        where (select limited from facts)
    ) l
    cross join lateral jobplatform.allowance(
        %(limit)s::integer, l.workspaces, l.lanes, l.tasks, l.resources, l.most, l.sizes, l.rates, l.tasks_most,
        l.tasks_most_here
    ) f
    where l.workspaces is not null
),
allowed as materialized (
    select
        o.workspace_id, o.lane, o.place, o.lead, o.weight, o.task, o.resource, o.priority, o.run_after, o.id, a.burst,
        coalesce(a.here, %(limit)s) as here,
        coalesce(a.of_task, %(limit)s) as of_task,
        coalesce(a.of_task_here, %(limit)s) as of_task_here,
        coalesce(a.tokens, 'infinity') as tokens,
        a.wait
    from open o
    left join allowance a on a.workspace_id = o.workspace_id and a.lane = o.lane
),
queue_limit as materialized (
    select case when most is null then %(limit)s::integer else jobplatform.free_in_queue(%(queue)s, most) end as free
    from (select (select max_running from jobplatform.queue_limits where queue = %(queue)s) as most) l
    where exists (select from open)
),
-- The best jobs of a workspace are in the lanes whose first jobs are best: `rank` says in which. Others' jobs need not
-- be locked, which would be most of what a claim costs where somebody has spread a backlog over many resources.
turn as materialized (
    select
        t.*,
        round(sum(t.take::float8 / t.lanes) over (order by t.lead, t.place)) - t.take as before
    from (
        select
            w.*,
            least(
                w.here,
                -- Thirds of a weight do not add up to a whole one, and must not be worth another job.
                w.weight * ceil(
                    (%(limit)s / sum(w.weight / w.lanes) over (partition by w.lead > %(fair)s))::numeric(20, 6)
                )
            )::integer as take
        from (
            select *, count(*) over of_workspace::float8 as lanes, row_number() over of_workspace as rank
            from allowed
            where here > 0 and of_task > 0 and of_task_here > 0 and tokens >= 1
            window of_workspace as (
                partition by lead, place
                order by priority desc, run_after, id
                rows between unbounded preceding and unbounded following
            )
        ) w
    ) t
),
best as materialized (
    select
        turn.lead, turn.place, turn.task, turn.resource, turn.of_task, turn.of_task_here, turn.tokens,
        job.tid, turn.take,
        row_number() over (
            partition by turn.lead, turn.place
            order by job.priority desc, job.run_after, job.id
        ) as nth,
        least(job.units, turn.burst) as price
    from (select * from turn where before < %(limit)s and rank <= take + {SPARE_LANES}) turn
    cross join lateral (
        select *
        from (
            select q.ctid as tid, q.priority, q.run_after, q.id, q.units
            from jobplatform.job_queue q
            where q.state = 1 and q.queue = %(queue)s and q.workspace_id = turn.workspace_id and q.lane = turn.lane
            order by q.priority desc, q.run_after, q.id
            limit 200
            for update skip locked
        ) locked
        limit least(greatest(turn.take - turn.rank + 1, 1), turn.of_task, turn.of_task_here)
    ) job
),
admitted as materialized (
    select lead, place, nth, tid
    from best
    where nth <= take and not (select shared from facts)
    union all
    select lead, place, nth, tid
    from (
        select *, sum(price) over (partition by resource order by lead, place, nth) as of_resource
        from (
            select
                *,
                row_number() over (partition by task order by lead, place, nth) as nth_of_task,
                row_number() over (partition by lead, place, task order by nth) as nth_of_task_here
            from best
            where nth <= take and (select shared from facts)
        ) b
        where nth_of_task <= of_task and nth_of_task_here <= of_task_here
    ) b
    where of_resource is null or of_resource <= tokens
),
pick as materialized (
    select tid
    from admitted
    order by lead, place, nth
    limit (select coalesce(free, 0) from queue_limit)
)
"""

# The buckets are told what is left in them, by functions: an update here would not see a bucket that was made a moment
# ago. A SELECT runs only as far as it is read, so the answer has a column for this that nobody needs.
_PAID = """
paid as (
    select
        (
            select jobplatform.leave_in_buckets('workspace', array_agg(b.key), array_agg(b.left_over))
            from (
                select t.workspace_id::text as key, min(a.workspace_tokens) - count(*) as left_over
                from taken t
                join allowance a on a.workspace_id = t.workspace_id and a.lane = t.lane
                where a.workspace_tokens is not null
                group by t.workspace_id
            ) b
            having count(*) > 0
        ) as to_workspaces,
        (
            select jobplatform.leave_in_buckets('resource', array_agg(b.key), array_agg(b.left_over))
            from (
                select t.resource as key, min(a.tokens) - sum(least(t.units, a.burst)) as left_over
                from taken t
                join allowance a on a.workspace_id = t.workspace_id and a.lane = t.lane
                where a.burst is not null
                group by t.resource
            ) b
            having count(*) > 0
        ) as to_resources
)
"""

# Where the next claim goes on from, if this one took all it was let.
_SEEN = """
        (select workspace_id from lane order by place desc limit 1) as last_workspace,
        (select max(place) from lane) as workspaces,
"""


def _answer(seen: str, same_lane: str = "") -> str:
    """A row with what there is to say of the claim, then the claimed jobs in the order of their turns.

    What is said of the claim in each job's row has to be written and read that often, which was a thirtieth of a claim.
    PostgreSQL gives the branches of a ``union all`` one after the other where nothing runs in parallel, and in a
    statement that writes nothing does.
    """
    return f"""
select
    seen.last_workspace::text, seen.workspaces, seen.weighs, seen.leads, seen.wait, seen.held_back, seen.paid,
    {_NO_JOB}
from ({seen}) seen
union all
(
    select
        null, null, null, null, null, null, null,
        {COLUMNS}, open.weight, open.place
    from taken u
    join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
    join open on open.workspace_id = u.workspace_id{same_lane}
    order by open.lead, open.place, u.priority desc, u.run_after, u.id
)
"""


_PLAIN_SEEN = f"""
select
    {_SEEN.strip()}
    facts.weighs, facts.leads, null::float8 as wait, false as held_back, null::integer as paid
from facts
"""

CLAIM = f"""
with recursive
{_lane().strip()},
{_PLAIN.strip()},
{_TAKEN.strip()}
{_answer(_PLAIN_SEEN).strip()}
"""

_LIMITED_SEEN = f"""
select
    {_SEEN.strip()}
    (select weighs from weights),
    (select leads from facts),
    least((select min(wait) from allowed), (select {CONTENDED} from queue_limit where free is null)) as wait,
    exists (select from allowed where here <= 0) or exists (select from queue_limit where free = 0) as held_back,
    (select nothing from paid) as paid
"""

LIMITED_CLAIM = f"""
with recursive
{_lane().strip()},
{_LIMITED.strip()},
{_TAKEN.strip()},
paid as (
    select jobplatform.leave_in_buckets('workspace', array_agg(b.key), array_agg(b.left_over)) as nothing
    from (
        select t.workspace_id::text as key, min(a.tokens) - count(*) as left_over
        from taken t
        join allowed a on a.workspace_id = t.workspace_id
        where a.tokens is not null
        group by t.workspace_id
    ) b
    having count(*) > 0
)
{_answer(_LIMITED_SEEN).strip()}
"""

_WEIGHED_SEEN = f"""
select
    {_SEEN.strip()}
    case
        when (select shared or mixed from facts) or {SOMETHING_IS_PAUSED} then {Weighing.LANES:d}
        when (select limited from facts) or {QUEUE_IS_LIMITED} then {Weighing.WORKSPACES:d}
        else {Weighing.NOTHING:d}
    end as weighs,
    (select array_agg(lead) filter (where lead > 0) from turn) as leads,
    exists (select from allowed where least(here, of_task, of_task_here) <= 0)
        or exists (select from queue_limit where free = 0) as held_back,
    (select num_nonnulls(to_workspaces, to_resources) from paid) as paid,
    least(
        (select min(wait) from allowance where wait > 0),
        (select extract(epoch from min(until) - jobplatform.clock())::float8 from pause),
        (select extract(epoch from min(closed_until) - jobplatform.clock())::float8 from closed),
        (select {CONTENDED} from queue_limit where free is null),
        (select {CONTENDED} where exists (select from turn) and not exists (select from best))
    ) as wait
"""

WEIGHED_CLAIM = f"""
with recursive
{_lane("priority", "run_after", "id").strip()},
{_WEIGHED.strip()},
{_TAKEN.strip()},
{_PAID.strip()}
{_answer(_WEIGHED_SEEN, same_lane=" and open.lane = u.lane").strip()}
"""

CLAIM_ONE = f"""
with u as (
    {TAKE}
    where q.workspace_id = %(workspace_id)s and q.id = %(id)s and q.state = 1
    returning q.*
)
select {COLUMNS}, 1, 1
from u
join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
"""
