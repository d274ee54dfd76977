"""Resources: what jobs use outside, how much of it they may, and what may not be asked just now."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from jobplatform.models import Pause, PauseKind, RateLimit
from jobplatform.queue.limits import list_rate_limits
from jobplatform.queue.pause import list_pauses
from jobplatform.queue.statement import run

#: Resources that are shown of those that are closed or fail: there may be one for each account of a source.
MOST_CLOSED: Final = 100

CLOSED: Final = f"""
select b.key, case when b.closed_until > jobplatform.clock() then b.closed_until end, b.failures
from jobplatform.buckets b
where b.kind = 'resource' and (b.closed_until > jobplatform.clock() or b.failures > 0)
order by b.closed_until desc nulls last, b.key
limit {MOST_CLOSED}
"""


@dataclass(frozen=True, slots=True)
class ResourceLine:
    """A resource that has a rate, a pause, failures in a row, or that said for how long it is not to be asked.

    ``resource`` with a star after its first colon (``hubspot:*``) is each of its kind by itself.
    """

    resource: str
    rate: RateLimit | None
    paused: Pause | None
    closed_until: datetime.datetime | None
    failures: int


def resource_lines(session: Session) -> tuple[ResourceLine, ...]:
    """By name, on a Session that sees all workspaces."""
    rates = {rate.resource: rate for rate in list_rate_limits(session)}
    pauses = {pause.key: pause for pause in list_pauses(session, PauseKind.RESOURCE)}
    closed = {row[0]: (row[1], row[2]) for row in run(session, CLOSED)}
    return tuple(
        ResourceLine(name, rates.get(name), pauses.get(name), *closed.get(name, (None, 0)))
        for name in sorted(rates.keys() | pauses.keys() | closed.keys())
    )
