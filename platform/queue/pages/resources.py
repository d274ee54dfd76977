"""Resources: what jobs use outside, how much and how many they may, and what may not be asked just now."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from jobplatform.models import Pause, PauseKind, RateLimit, ResourceLimits
from jobplatform.queue.limits.pause import list_pauses
from jobplatform.queue.limits.rates import list_rate_limits
from jobplatform.queue.limits.resource_levels import LevelOfResource, list_resource_levels
from jobplatform.queue.limits.resources import list_resource_limits
from jobplatform.queue.statement import run, text_array

#: Resources that are shown of those that are closed or fail: there may be one for each account of a source.
MOST_CLOSED: Final = 100

CLOSED: Final = f"""
select b.key, case when b.closed_until > jobplatform.clock() then b.closed_until end, b.failures
from jobplatform.buckets b
where b.kind = 'resource' and (b.closed_until > jobplatform.clock() or b.failures > 0)
order by b.closed_until desc nulls last, b.key
limit {MOST_CLOSED}
"""
#: Of a kind, how many run on all of them together.
RUNNING: Final = """
select name, count(*)
from jobplatform.job_queue q
cross join lateral (
    select q.resource as name
    union
    select split_part(q.resource, ':', 1) || ':*'
) names
where q.state = 2 and q.resource is not null and name = any(%(names)s::text[])
group by name
"""


@dataclass(frozen=True, slots=True)
class ResourceLine:
    """A resource that has a rate, a limit, a pause, failures in a row, or that said for how long it is not to be asked;
    or whose limit is adaptive and has a ``level``.

    ``resource`` with a star after its first colon (``hubspot:*``) is each of its kind by itself; ``running`` counts the
    jobs that use any of them.
    """

    resource: str
    rate: RateLimit | None
    limit: ResourceLimits | None
    running: int
    paused: Pause | None
    closed_until: datetime.datetime | None
    failures: int
    level: LevelOfResource | None


def resource_lines(session: Session) -> tuple[ResourceLine, ...]:
    """By name, on a Session that sees all workspaces."""
    rates = {rate.resource: rate for rate in list_rate_limits(session)}
    limits = {limit.resource: limit for limit in list_resource_limits(session)}
    pauses = {pause.key: pause for pause in list_pauses(session, PauseKind.RESOURCE)}
    closed = {row[0]: (row[1], row[2]) for row in run(session, CLOSED)}
    levels = {level.resource: level for level in list_resource_levels(session)}
    names = sorted(rates.keys() | limits.keys() | pauses.keys() | closed.keys() | levels.keys())
    running = {row[0]: row[1] for row in run(session, RUNNING, names=text_array(names))}
    return tuple(
        ResourceLine(
            name,
            rates.get(name),
            limits.get(name),
            running.get(name, 0),
            pauses.get(name),
            *closed.get(name, (None, 0)),
            levels.get(name),
        )
        for name in names
    )
