"""The chores that every worker does beside running jobs, once each: what a drain does between its rounds.

A worker's keeper has a rhythm for each of them; a test does all of them whenever nothing is ready.
"""

from __future__ import annotations

import datetime

from sqlalchemy.orm import Session

from jobplatform.queue import (
    TaskDefaults,
    Tasks,
    bury_workers,
    end_late_jobs,
    fire_schedules,
    promote_jobs,
    rescue_jobs,
    settle_endings,
    settle_schedules,
    succeed_jobs,
)
from jobplatform.settings import Settings

#: Whose the schedules are that a test writes down.
SOURCE = "jobplatform.testing:drain"


def do_chores(session: Session, tasks: Tasks) -> bool:
    """Do them all, on a Session that commits each statement. Whether any of them may have made a job ready."""
    _end_late(session)
    return any([_sweep(session), _settle(session), _fire(session, tasks), _succeed(session), _promote(session)])


def declare_schedules(session: Session, tasks: Tasks) -> None:
    """Write down the schedules that the code declares, as a worker does when it starts."""
    settle_schedules(session, SOURCE, tasks.schedules, starting=True)


def _sweep(session: Session) -> bool:
    """What is rescued must be seen to belong to a dead worker, hence in this order."""
    settings = Settings()
    bury_workers(session, datetime.timedelta(seconds=settings.lease_seconds))
    return bool(rescue_jobs(session, crash_limit=settings.crash_limit))


def _end_late(session: Session) -> None:
    """First, so that what waited for such a job is settled with the rest."""
    while end_late_jobs(session).more:
        pass


def _settle(session: Session) -> bool:
    """Until nothing is left but what somebody else has locked."""
    released = False
    while True:
        settled = settle_endings(session)
        released = released or bool(settled.released)
        if not settled.notices or settled.wait is not None:
            return released


def _fire(session: Session, tasks: Tasks) -> bool:
    known = {task["name"]: TaskDefaults.of(task) for task in tasks.catalogue()}
    return bool(fire_schedules(session, known).workspaces)


def _succeed(session: Session) -> bool:
    return bool(succeed_jobs(session).queues)


def _promote(session: Session) -> bool:
    return bool(promote_jobs(session).queues)
