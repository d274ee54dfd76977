"""Resources: what running jobs found out about the external things they use, for everybody else's benefit.

One that said "too often" is closed for as long as it asked for. One that fails again and again is paused by the circuit
breaker: after :data:`FAILURES_IN_A_ROW` infrastructure errors for 30 s, then for twice as long each time the first job
after a pause fails too. After a pause it is on trial: one job is started (see ``claim.weighed``), and the others wait
for what becomes of it. The first success ends all that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from jobplatform.queue.statement import array, run, text_array

#: Infrastructure errors, with no success between them, that trip the breaker.
FAILURES_IN_A_ROW = 5
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 900.0
#: That a job began to use a resource so lately that the others wait for what becomes of it. It may take an hour, and
#: has then not found the resource gone: one more is started each time this is over.
TRIES = "q.started_at > jobplatform.clock() - interval '30 s'"
#: Who paused, in the words of a pause.
BREAKER = "circuit-breaker"
#: A service that asks for more than a day is not closed but gone.
LONGEST_CLOSING = 86_400.0

# A resource of which anything worked in these notes works; the two halves of the statement share no row.
# A new bucket has all the tokens there can be: what it holds at most is decided when somebody takes from it.
# While a pause lasts, what had been started before it fails too, and tells nothing new. One that is over, whoever made
# it, is in nobody's way.
NOTE = """
with told as materialized (
    select
        n.resource,
        bool_and(n.failed) and bool_or(n.failed) as failing,
        bool_or(n.worked) as working,
        count(*) filter (where n.failed) as failures,
        max(n.closed_for) as closed_for,
        max(n.error) as error
    from unnest(
        %(resources)s::text[], %(failed)s::boolean[], %(worked)s::boolean[], %(closed_for)s::float8[],
        %(errors)s::text[]
    ) as n(resource, failed, worked, closed_for, error)
    group by n.resource
),
worse as (
    insert into jobplatform.buckets as b (kind, key, tokens, filled_at, closed_until, failures)
    select
        'resource', t.resource, 'infinity', jobplatform.clock(),
        case when t.closed_for > 0 then jobplatform.clock() + make_interval(secs => t.closed_for) end,
        case when t.failing then t.failures else 0 end
    from told t
    where t.failing or t.closed_for > 0
    order by t.resource
    on conflict (kind, key) do update
    set closed_until = greatest(b.closed_until, excluded.closed_until),
        failures = b.failures + excluded.failures
    returning b.key, b.failures
),
tripped as (
    insert into jobplatform.pauses as p (kind, key, reason, actor, paused_at, until)
    select
        'resource', w.key,
        w.failures || ' infrastructure errors in a row, the last one: ' || coalesce(t.error, 'unknown'),
        %(breaker)s, jobplatform.clock(), jobplatform.clock() + make_interval(secs => %(first_pause)s)
    from worse w
    join told t on t.resource = w.key
    where t.failing and w.failures >= %(failures_in_a_row)s
    order by w.key
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
better as (
    update jobplatform.buckets b
    set failures = 0
    from told t
    where t.working and not t.failing and not coalesce(t.closed_for > 0, false)
        and b.kind = 'resource' and b.key = t.resource and b.failures > 0
),
resumed as (
    delete from jobplatform.pauses p
    using told t
    where t.working and p.kind = 'resource' and p.key = t.resource and p.actor = %(breaker)s
)
select key from tripped
"""


@dataclass(frozen=True, slots=True)
class ResourceNote:
    """What one attempt found: the resource ``worked``, it ``failed`` (with ``error``), or it said "too often" and is
    to be left alone for ``closed_for`` seconds.
    """

    resource: str
    worked: bool = False
    failed: bool = False
    closed_for: float = 0.0
    error: str | None = None


def note_of(resource: str | None, ended: Mapping[str, Any]) -> ResourceNote | None:
    """What an attempt's end (an :class:`~jobplatform.queue.execute.Ended`, as a mapping) says about the ``resource``
    of its job, or about the one that it names. None when it says nothing.
    """
    if ended["closed_for"] > 0:
        named = ended["closes"] or resource
        return ResourceNote(named, closed_for=ended["closed_for"]) if named else None
    if resource is None or ended["kind"] in ("snoozed", "interrupted"):
        return None
    if ended["infrastructure"]:
        return ResourceNote(resource, failed=True, error=ended["error_type"])
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
        breaker=BREAKER,
        first_pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
        failures_in_a_row=FAILURES_IN_A_ROW,
    )
    return [row[0] for row in rows]
