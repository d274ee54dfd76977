"""Ticks are kept for longer than any job, and then forgotten, a small batch at a time."""

from __future__ import annotations

import datetime

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

# In insert order, so the BRIN index leads to the old end. Two that do this at once share the work.
FORGET = """
with old as materialized (
    select t.ctid as tid
    from jobplatform.schedule_ticks t
    where t.fired_at < jobplatform.clock() - make_interval(secs => %(after)s)
    limit 1000
    for update skip locked
)
delete from jobplatform.schedule_ticks
where ctid = any(array(select tid from old))
"""


def forget_ticks(session: Session, *, after: datetime.timedelta) -> int:
    """Delete up to 1,000 ticks that were done longer ago, and say how many; 1,000 means that there may be more."""
    return run(session, FORGET, after=after.total_seconds()).rowcount
