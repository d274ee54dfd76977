"""Run now: what a tick would do, besides the ticks of the rule. Never commits."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule, ScheduleTick
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.schedules.find import time_now
from jobplatform.queue.schedules.plan import plan_of
from jobplatform.queue.schedules.row import outcome_of, request_id_of
from jobplatform.queue.vault import open_payload

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

_NOBODY = uuid.UUID(int=0)


@checks_arguments(InvalidScheduleError)
def run_schedule_now(session: Session, schedule: Schedule, task: Task[Any, Any]) -> ScheduleTick:
    """Enqueue what a tick would, besides the ticks of its rule; paused or not. The answer says what came of it.

    One for every workspace is enqueued by the workers, beginning at once. Raises :class:`QuotaExceededError` as any
    enqueue does.
    """
    now = time_now(session)
    if schedule.every_workspace:
        return _fan_out_now(session, schedule, now)
    plan = plan_of(schedule)
    answer = task.enqueue(
        session,
        open_payload(session, schedule.workspace_id, schedule.payload),
        workspace_id=schedule.workspace_id,
        request_id=request_id_of(schedule.id, now),
        **plan.job_options(),
    )
    tick = ScheduleTick(
        workspace_id=schedule.workspace_id,
        schedule_id=schedule.id,
        tick_at=now,
        outcome=outcome_of(answer),
        job_id=answer.job_id,
        manual=True,
        fired_at=now,
    )
    session.add(tick)
    session.flush()
    return tick


def _fan_out_now(session: Session, schedule: Schedule, now: datetime.datetime) -> ScheduleTick:
    """Leave it to the workers. While a tick is being enqueued for every workspace, that one is the answer."""
    if schedule.fan_tick_at is None:
        schedule.fan_tick_at, schedule.fan_after, schedule.next_run_at = now, _NOBODY, now
        tick = ScheduleTick(
            workspace_id=schedule.workspace_id,
            schedule_id=schedule.id,
            tick_at=now,
            outcome="fanned_out",
            manual=True,
            fired_at=now,
        )
        session.add(tick)
        session.flush()
        return tick
    return session.get_one(ScheduleTick, (schedule.workspace_id, schedule.id, schedule.fan_tick_at))
