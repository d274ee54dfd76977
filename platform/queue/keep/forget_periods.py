"""Periods in which a key has no other job are forgotten when they are over."""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

# Whoever has one locked enqueues at this moment, and sees that it is over; to wait for that would hold up the chores.
FORGET = """
delete from jobplatform.unique_periods
where ctid = any(array(
    select ctid
    from jobplatform.unique_periods
    where until < jobplatform.clock()
    order by until
    limit 1000
    for update skip locked
))
"""


def forget_periods(session: Session) -> int:
    """Delete up to 1,000 periods that are over, and say how many."""
    return run(session, FORGET).rowcount
