"""Resources: what running jobs found out about the external things they use, for everybody else's benefit.

One that said "too often" is closed for as long as it asked for. One that fails again and again is paused by the circuit
breaker: after :data:`FAILURES_IN_A_ROW` infrastructure errors for 30 s, then for twice as long each time the first job
after a pause fails too. After a pause it is on trial: one job is started (see ``claim.weighed``), and the others wait
for what becomes of it. The first success ends all that.

Of a resource with an adaptive limit the same notes move its level: additive increase, multiplicative decrease, as TCP
has it. "Too often" and an infrastructure error lower it, once for all that was started before: what those jobs are told
is about the level that was. Successes raise it by one in two rounds of the jobs that run, and only while these are
about as many as it allows: how much more a resource takes nobody knows who does not ask it for more. Until it is
lowered for the first time it is raised by one for each success, which doubles it in a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from jobplatform.queue.statement import Lease, array, run, text_array

#: Infrastructure errors, with no success between them, that trip the breaker.
FAILURES_IN_A_ROW = 5
#: Seconds of the first pause, and of the longest that doubling makes of it.
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 900.0
#: That a job began to use a resource so lately that the others wait for what becomes of it. It may take an hour, and
#: has then not found the resource gone: one more is started each time this is over.
TRIES = "q.started_at > jobplatform.clock() - interval '30 s'"
#: Who paused, in the words of a pause.
BREAKER = "circuit-breaker"
#: A service that asks for more than a day is not closed but gone.
LONGEST_CLOSING = 86_400.0
#: What a level that was too high is multiplied with. Between two lowerings it swings by that, and by the job or two
#: that it takes to find out; with 0.9 that was a fifth where 20 run at a time.
LOWERED_TO = 0.92
#: What a round of successes adds, as many as run at a time. With 1 half as many requests again were refused.
RAISED_BY = 0.5
#: The part of a level that has to run for it to be in use: between the end of a job and the next claim fewer do.
IN_USE = 0.75
#: Why a level was lowered, where that was no error.
TOO_OFTEN = "too often"

# What a level is before it changes, and whether it does. `v` is its row, under its lock, and `h` what was heard.
_LEVEL = "least(h.max_running, greatest(h.min_running, v.level))"
_LOWERS = "coalesce(h.refused_from > coalesce(v.lowered_at, '-infinity'), false)"
# While more run than it allows, it was lowered a moment ago: what they say is not about this level.
_IS_IN_USE = f"h.jobs between {IN_USE} * floor({_LEVEL}) and floor({_LEVEL})"
_RAISES = f"(h.successes > 0 and {_LEVEL} < h.max_running and {_IS_IN_USE})"

# A resource of which anything worked in these notes works.
# Others note at the same moment, maybe the reverse, so what both may change is locked in one order: buckets by key, of
# what fails, is closed, or works again; the pause of a resource after its bucket; levels when all buckets are locked,
# which is what `levelled` counts them for. Of what works as before no bucket is locked: claims pass those over.
# A new bucket has all the tokens there can be: what it holds at most is decided when somebody takes from it.
# While a pause lasts, what had been started before it fails too, and tells nothing new. One that is over, whoever made
# it, is in nobody's way.
# Where no limit is adaptive, to see that is all there is to do about levels. A most below the least, which older code
# may set, is a plain limit.
NOTE = f"""
with said as materialized (
    select *
    from unnest(
        %(resources)s::text[], %(failed)s::boolean[], %(worked)s::boolean[], %(closed_for)s::float8[],
        %(errors)s::text[], %(too_often)s::boolean[], %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::integer[]
    ) as n(resource, failed, worked, closed_for, error, too_often, workspace_id, id, epoch)
),
told as materialized (
    select
        n.resource,
        bool_and(n.failed) and bool_or(n.failed) as failing,
        bool_or(n.worked) as working,
        count(*) filter (where n.failed) as failures,
        max(n.closed_for) as closed_for,
        max(n.error) as error
    from said n
    group by n.resource
),
standing as (
    insert into jobplatform.buckets as b (kind, key, tokens, filled_at, closed_until, failures)
    select
        'resource', t.resource, 'infinity', jobplatform.clock(),
        case when t.closed_for > 0 then jobplatform.clock() + make_interval(secs => t.closed_for) end,
        case when t.failing then t.failures else 0 end
    from told t
    where t.failing or t.closed_for > 0
        or (
            t.working
            and (
                (select h.failures > 0 from jobplatform.buckets h where h.kind = 'resource' and h.key = t.resource)
                or exists (
                    select
                    from jobplatform.pauses p
                    where p.kind = 'resource' and p.key = t.resource and p.actor = %(breaker)s
                )
            )
        )
    order by t.resource
    on conflict (kind, key) do update
    set closed_until = greatest(b.closed_until, excluded.closed_until),
        failures = case
            when excluded.failures = 0 and excluded.closed_until is null then 0
            else b.failures + excluded.failures
        end
    returning b.key, b.failures
),
tripped as (
    insert into jobplatform.pauses as p (kind, key, reason, actor, paused_at, until)
    select
        'resource', s.key,
        s.failures || ' infrastructure errors in a row, the last one: ' || coalesce(t.error, 'unknown'),
        %(breaker)s, jobplatform.clock(), jobplatform.clock() + make_interval(secs => %(first_pause)s)
    from standing s
    join told t on t.resource = s.key
    where t.failing and s.failures >= %(failures_in_a_row)s
    order by s.key
    on conflict (kind, key) do update
    set reason = excluded.reason,
        actor = excluded.actor,
        paused_at = excluded.paused_at,
        until = case
            when p.actor = excluded.actor
            then excluded.paused_at + least(2 * (p.until - p.paused_at), make_interval(secs => %(longest_pause)s))
            else excluded.until
        end
    where p.until <= excluded.paused_at
    returning p.key
),
resumed as (
    delete from jobplatform.pauses p
    using standing s
    join told t on t.resource = s.key
    where t.working and p.kind = 'resource' and p.key = s.key and p.actor = %(breaker)s
),
adaptive as materialized (
    select t.resource, l.min_running, l.max_running
    from told t
    cross join lateral (
        select r.min_running, r.max_running
        from jobplatform.resource_limits r
        where r.resource in (t.resource, split_part(t.resource, ':', 1) || ':*')
        order by r.resource = t.resource desc
        limit 1
    ) l
    where exists (select from jobplatform.resource_limits where min_running is not null)
        and l.min_running <= l.max_running
),
in_use as materialized (
    select q.resource, count(*) as jobs
    from jobplatform.job_queue q
    where exists (select from adaptive)
        and q.state = 2 and q.resource = any(array(select resource from adaptive))
    group by q.resource
),
answer as materialized (
    select
        s.resource, a.min_running, a.max_running, s.worked and not s.too_often as is_success,
        case when s.too_often or s.closed_for > 0 then '{TOO_OFTEN}' else coalesce(s.error, 'unknown') end as reason,
        case
            when s.too_often or s.closed_for > 0 or s.failed
            then (
                select q.started_at
                from jobplatform.job_queue q
                where q.workspace_id = s.workspace_id and q.id = s.id and q.epoch = s.epoch
            )
        end as refused_from
    from adaptive a
    join said s on s.resource = a.resource
),
heard as materialized (
    select
        a.resource, a.min_running, a.max_running,
        count(*) filter (where a.is_success) as successes,
        max(a.refused_from) as refused_from,
        (array_agg(a.reason order by a.refused_from desc) filter (where a.refused_from is not null))[1] as reason,
        coalesce((select u.jobs from in_use u where u.resource = a.resource), 0) as jobs
    from answer a
    group by a.resource, a.min_running, a.max_running
),
levelled as (
    insert into jobplatform.resource_levels as v (resource, level, lowered_at, lowered_for)
    select
        h.resource,
        least(h.max_running, h.min_running + case when h.refused_from is null then h.successes else 0 end),
        case when h.refused_from is not null then jobplatform.clock() end,
        case when h.refused_from is not null then h.reason end
    from heard h
    where (h.refused_from is not null or (h.successes > 0 and h.jobs >= {IN_USE} * h.min_running))
        and (select count(*) from standing) >= 0
    order by h.resource
    on conflict (resource) do update
    set (level, lowered_at, lowered_for, used_at) = (
            select
                case
                    when {_LOWERS} then least(h.max_running, greatest(h.min_running, {_LEVEL} * {LOWERED_TO}))
                    when {_RAISES} and v.lowered_at is null then least(h.max_running, {_LEVEL} + h.successes)
                    when {_RAISES} then least(h.max_running, {_LEVEL} + {RAISED_BY} * h.successes / {_LEVEL})
                    else v.level
                end,
                case when {_LOWERS} then jobplatform.clock() else v.lowered_at end,
                case when {_LOWERS} then h.reason else v.lowered_for end,
                jobplatform.clock()
            from heard h
            where h.resource = v.resource
        )
    where exists (
        select
        from heard h
        where h.resource = v.resource
            and ({_LOWERS} or {_RAISES} or v.used_at < jobplatform.clock() - interval '1 day')
    )
)
select key from tripped
"""


@dataclass(frozen=True, slots=True)
class ResourceNote:
    """What one attempt found: the resource ``worked``, it ``failed`` (with ``error``), or it said "too often" and is
    to be left alone for ``closed_for`` seconds. With ``too_often`` it worked, and said so without saying for how long.
    An attempt that was refused says by its ``lease`` when it was started; without one it lowers no level.
    """

    resource: str
    worked: bool = False
    failed: bool = False
    closed_for: float = 0.0
    error: str | None = None
    too_often: bool = False
    lease: Lease | None = None


def note_of(resource: str | None, ended: Mapping[str, Any], lease: Lease) -> ResourceNote | None:
    """What an attempt's end (an :class:`~jobplatform.queue.run.execute.Ended`, as a mapping) says about the
    ``resource`` of its job, or about the one that it names. None when it says nothing.
    """
    named = ended["closes"] or resource
    if ended["closed_for"] > 0:
        return ResourceNote(named, closed_for=ended["closed_for"], lease=lease) if named else None
    if ended["too_often"]:
        return ResourceNote(named, worked=True, too_often=True, lease=lease) if named else None
    if resource is None or ended["kind"] in ("snoozed", "interrupted"):
        return None
    if ended["infrastructure"]:
        return ResourceNote(resource, failed=True, error=ended["error_type"], lease=lease)
    # An error of the job's own was an answer too.
    return ResourceNote(resource, worked=True)


def note_resources(session: Session, notes: Sequence[ResourceNote]) -> list[str]:
    """Write down what running jobs found out. Returns the resources that were paused because of it."""
    if not notes:
        return []
    rows = run(
        session,
        NOTE,
        resources=text_array(note.resource for note in notes),
        failed=array(note.failed for note in notes),
        worked=array(note.worked for note in notes),
        closed_for=array(min(note.closed_for, LONGEST_CLOSING) for note in notes),
        errors=text_array(note.error for note in notes),
        too_often=array(note.too_often for note in notes),
        workspace_ids=array(note.lease.workspace_id if note.lease else "null" for note in notes),
        ids=array(note.lease.job_id if note.lease else "null" for note in notes),
        epochs=array(note.lease.epoch if note.lease else "null" for note in notes),
        breaker=BREAKER,
        first_pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
        failures_in_a_row=FAILURES_IN_A_ROW,
    )
    return [row[0] for row in rows]
