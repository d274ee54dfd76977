"""Notices: what ends a job that others wait for says so, in the same statement; ``settle`` reads them.

A job that nobody waits for (``followed`` is false) writes no notice. Every job is named in ``endings``, one row for all
that end with it: what is not written down there would have to be found by its moment, and an index on that would be
paid for by every job.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobplatform.queue.doorbell import SETTLE, ring_after_commit

_UNSETTLED = "jobplatform.unsettled"
_SETTLES_ITSELF = "jobplatform.settles_itself"


def tell_ended(source: str, status: str, which: str = "true") -> str:
    """The CTEs ``told`` and ``counted`` for the ended jobs of ``source`` (as ``e``), which are those of ``which``.

    ``told``: a notice for each that somebody follows. The batch is looked up in the record, and only for those: a queue
    row does not have it. ``counted``: a row for each workspace that says which of its jobs have ended, for the charts;
    see numbers/count.py.
    """
    return f"""
told as (
    insert into jobplatform.notices (workspace_id, kind, job_id, batch_id, status)
    select
        e.workspace_id,
        'ended',
        e.id,
        (select r.batch_id from jobplatform.job_records r where r.workspace_id = e.workspace_id and r.id = e.id),
        {status}
    from {source} e
    where {which} and e.followed
    returning true
),
counted as (
    insert into jobplatform.endings (workspace_id, status, ids)
    select e.workspace_id, {status}, array_agg(e.id)
    from {source} e
    where {which}
    group by 1, 2
)"""


def ask_to_settle(session: Session) -> None:
    """Somebody should settle once this is committed. A hint: workers look at every poll anyway."""
    session.info[_UNSETTLED] = True
    if _SETTLES_ITSELF not in session.info:
        ring_after_commit(session, {SETTLE})


def settle_yourself(session: Session) -> None:
    """Never ring for notices of this Session: its owner asks :func:`is_unsettled`, and sees to it."""
    session.info[_SETTLES_ITSELF] = True


def is_unsettled(session: Session) -> bool:
    """Whether :func:`ask_to_settle` was called for this Session since this was last asked."""
    return bool(session.info.pop(_UNSETTLED, False))
