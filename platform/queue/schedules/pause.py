"""Pause a schedule, and resume it from now on. Never commits."""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule, ScheduleTick
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.schedules.find import time_now
from jobplatform.queue.schedules.row import await_next


@checks_arguments(InvalidScheduleError)
def pause_schedule(session: Session, schedule: Schedule, *, actor: str) -> bool:
    """Have no more ticks of it done, until it is resumed; says whether that is new. What was enqueued stays."""
    if schedule.paused_at is not None:
        return False
    schedule.paused_at, schedule.paused_by = time_now(session), actor
    schedule.next_tick_at = schedule.next_run_at = schedule.fan_tick_at = schedule.fan_after = None
    session.flush()
    return True


@checks_arguments(InvalidScheduleError)
def resume_schedule(session: Session, schedule: Schedule) -> bool:
    """Have its ticks done again, from now on: what was to be during the pause is not caught up with.

    A single moment that has passed meanwhile is done at once. Says whether it was paused.
    """
    if schedule.paused_at is None:
        return False
    schedule.paused_at = schedule.paused_by = schedule.paused_why = None
    await_next(schedule, time_now(session), done=_was_done(session, schedule))
    session.flush()
    return True


def _was_done(session: Session, schedule: Schedule) -> bool:
    if schedule.run_at is None:
        return False
    return session.get(ScheduleTick, (schedule.workspace_id, schedule.id, schedule.run_at)) is not None
