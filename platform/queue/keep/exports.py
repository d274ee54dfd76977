"""Exports whose time is over: who has some is told to delete them, by a job.

The files are in a store that the worker's own process does not reach; a handler of that workspace does. So an export
goes as everything goes: with attempts, and where people see it.
"""

from __future__ import annotations

import datetime

from sqlalchemy.orm import Session

from jobplatform.queue.enqueue import NewJob, enqueue_of_ours
from jobplatform.queue.statement import one_transaction, run
from jobplatform.queue.tasks.own import EXPIRE_EXPORTS
from jobplatform.queue.turns import leave_turn, take_turn

QUEUE = "export"
CHORE = "exports"
EVERY = datetime.timedelta(minutes=1)
#: Exports of one round.
MOST = 200

DUE = f"""
select distinct workspace_id
from (
    select workspace_id
    from jobplatform.exports
    where expires_at < jobplatform.clock()
    order by expires_at
    limit {MOST}
) due
"""


def expire_exports(session: Session, *, now: bool = True) -> int:
    """Enqueue a job of the task ``export.expire`` for each workspace with exports that are due, and say how many.

    One of a workspace at a time. With ``now=False`` nothing is done until a minute after the last round of any process.
    """
    with one_transaction(session):
        turn = take_turn(session, CHORE, now=now)
        if turn is None:
            return 0
        due = run(session, DUE).scalars().all()
        jobs = [
            NewJob(workspace_id=workspace_id, task=EXPIRE_EXPORTS, queue=QUEUE, unique_key=EXPIRE_EXPORTS)
            for workspace_id in due
        ]
        # Also where the workspace's quota is full: its own jobs are no reason to keep what was to be deleted.
        made = enqueue_of_ours(session, jobs)
        leave_turn(session, turn, 0, EVERY)
    return made
