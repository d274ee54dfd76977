"""Levels of resources: how many jobs may use each of those with an adaptive limit just now.

What moves them is what running jobs find out, see ``breaker``; a claim asks for the one it needs. This is for whoever
looks.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.statement import run

#: Levels that are listed at most: there may be one for each account of a source.
MOST_LEVELS: Final = 100
#: Adaptive limits of which there are gauges. Operators make them up, and may make up one for each account.
MOST_GAUGES: Final = 100

SOME_LIMIT_IS_ADAPTIVE = "exists (select from jobplatform.resource_limits where min_running is not null)"

LEVELS = f"""
with found as materialized (
    select resource, lowered_at, lowered_for
    from jobplatform.resource_levels
    where {SOME_LIMIT_IS_ADAPTIVE} and (%(resource)s::text is null or resource = %(resource)s::text)
    order by lowered_at desc nulls last, resource
    limit {MOST_LEVELS}
)
select
    f.resource,
    jobplatform.level_of_resource(f.resource, l.min_running, l.max_running),
    l.min_running, l.max_running,
    (
        select count(*)
        from jobplatform.job_queue q
        where q.state = 2 and q.resource = f.resource
    ),
    f.lowered_at, f.lowered_for
from found f
cross join lateral (
    select r.min_running, r.max_running
    from jobplatform.resource_limits r
    where r.resource in (f.resource, split_part(f.resource, ':', 1) || ':*')
    order by r.resource = f.resource desc
    limit 1
) l
where l.min_running is not null and l.max_running is not null
order by f.lowered_at desc nulls last, f.resource
"""

# Of a kind those count that have no line of their own; where there is none yet, it begins at the least.
EXTREMES = f"""
select
    l.resource,
    least(l.max_running, greatest(l.min_running, v.lowest)),
    least(l.max_running, greatest(l.min_running, v.highest))
from (
    select resource, min_running, max_running
    from jobplatform.resource_limits
    where min_running is not null and max_running is not null
    order by resource
    limit {MOST_GAUGES}
) l
left join lateral (
    select floor(min(v.level))::integer as lowest, floor(max(v.level))::integer as highest
    from jobplatform.resource_levels v
    where v.resource = l.resource
        or split_part(v.resource, ':', 1) || ':*' = l.resource
        and v.resource not in (select resource from jobplatform.resource_limits)
) v on true
"""


class LevelOfResource(NamedTuple):
    """``level`` jobs may use it at a time now, between ``min_running`` and ``max_running``, and ``running`` do. It was
    lowered last at ``lowered_at`` because of ``lowered_for``, if ever."""

    resource: str
    level: int
    min_running: int
    max_running: int
    running: int
    lowered_at: datetime.datetime | None
    lowered_for: str | None


@checks_arguments(InvalidLimitError)
def list_resource_levels(session: Session, resource: str | None = None) -> Sequence[LevelOfResource]:
    """The levels of resources with an adaptive limit that have been used, of this one or of all: at most a hundred,
    those first that were lowered last."""
    return [LevelOfResource(*row) for row in run(session, LEVELS, resource=resource)]


def extreme_levels(session: Session) -> dict[str, tuple[int, int]]:
    """The lowest and the highest level under each adaptive limit, by its name. For gauges."""
    return {row[0]: (row[1], row[2]) for row in run(session, EXTREMES)}
