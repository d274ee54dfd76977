"""The chores that every worker does beside running jobs, once each: what a drain does between its rounds.

A worker's keeper has a rhythm for each of them; a test does all of them whenever nothing is ready.
"""

from __future__ import annotations

import datetime

from sqlalchemy.orm import Session

from jobplatform.queue import bury_workers, promote_jobs, rescue_jobs
from jobplatform.settings import Settings


def do_chores(session: Session) -> bool:
    """Do them all, on a Session that commits each statement. Whether any of them may have made a job ready."""
    return any([_sweep(session), _promote(session)])


def _promote(session: Session) -> bool:
    return bool(promote_jobs(session).queues)


def _sweep(session: Session) -> bool:
    """What is rescued must be seen to belong to a dead worker, hence in this order."""
    settings = Settings()
    bury_workers(session, datetime.timedelta(seconds=settings.lease_seconds))
    return bool(rescue_jobs(session, crash_limit=settings.crash_limit))
