"""Find: schedules and their ticks, to look at or, locked, to change. Never commits."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule, ScheduleTick, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.seal import close
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.statement import array, run
from jobplatform.queue.vault import reveal_value

_NOBODY = uuid.UUID(int=0)

LAST_TICKS = """
select t.*
from unnest(%(ids)s::uuid[]) as wanted(id)
cross join lateral (
    select workspace_id, schedule_id, tick_at, outcome, reason, job_id, manual, fired_at
    from jobplatform.schedule_ticks
    where workspace_id = %(workspace_id)s and schedule_id = wanted.id
    order by tick_at desc
    limit 1
) t
"""
SERVED = """
select distinct unnest(w.tasks)
from jobplatform.workers w
where w.dead_at is null and w.heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
"""


@checks_arguments(InvalidScheduleError)
@says_what_it_cannot_see
def find_schedule(session: Session, workspace_id: uuid.UUID, schedule_id: uuid.UUID) -> Schedule | None:
    """A schedule of this workspace, locked: nobody does its ticks, or changes it, until the transaction's end."""
    visit(session, workspace_id)
    statement = select(Schedule).where(Schedule.workspace_id == workspace_id, Schedule.id == schedule_id)
    return session.scalars(statement.with_for_update(), execution_options={"populate_existing": True}).one_or_none()


@checks_arguments(InvalidScheduleError)
def get_schedule(session: Session, workspace_id: uuid.UUID, schedule_id: uuid.UUID) -> Schedule | None:
    """A schedule of this workspace, to look at."""
    visit(session, workspace_id)
    return session.get(Schedule, (workspace_id, schedule_id), populate_existing=True)


@checks_arguments(InvalidScheduleError)
def find_schedule_named(session: Session, workspace_id: uuid.UUID, name: str) -> Schedule | None:
    """The schedule of this workspace that has the name."""
    visit(session, workspace_id)
    statement = select(Schedule).where(Schedule.workspace_id == workspace_id, Schedule.name == name)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


@checks_arguments(InvalidScheduleError)
def list_schedules(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, after: uuid.UUID | None = None
) -> Sequence[Schedule]:
    """The schedules of a workspace, oldest first. ``after`` is the id of the last one seen."""
    visit(session, workspace_id)
    statement = select(Schedule).where(Schedule.workspace_id == workspace_id, Schedule.id > (after or _NOBODY))
    return session.scalars(statement.order_by(Schedule.id).limit(limit)).all()


@checks_arguments(InvalidScheduleError)
def list_ticks(
    session: Session,
    workspace_id: uuid.UUID,
    schedule_id: uuid.UUID,
    *,
    limit: int = 20,
    before: datetime.datetime | None = None,
) -> Sequence[ScheduleTick]:
    """The ticks of a schedule in a workspace, newest first. ``before`` is the moment of the last one seen."""
    visit(session, workspace_id)
    statement = select(ScheduleTick).where(
        ScheduleTick.workspace_id == workspace_id, ScheduleTick.schedule_id == schedule_id
    )
    if before is not None:
        statement = statement.where(ScheduleTick.tick_at < before)
    return session.scalars(statement.order_by(ScheduleTick.tick_at.desc()).limit(limit)).all()


@checks_arguments(InvalidScheduleError)
def last_ticks(session: Session, workspace_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ScheduleTick]:
    """The newest tick of each of these schedules that has one, by schedule."""
    found = run(session, LAST_TICKS, workspace_id=workspace_id, ids=array(ids))
    return {row.schedule_id: ScheduleTick(**row._mapping) for row in found}


@checks_arguments(InvalidScheduleError)
def shown_payload(session: Session, schedule: Schedule, *, to_reader: bool = True) -> Any:
    """The payload for whoever looks at a schedule: a sealed one is opened, or closed to those who may not see it."""
    return reveal_value(session, schedule.workspace_id, None, "payload", schedule.payload, to_reader=to_reader)


def closed_payload(schedule: Schedule) -> Any:
    """The same for whoever has no Session at hand: of a sealed one, that it is sealed."""
    return close(schedule.payload)


def tasks_served(session: Session) -> frozenset[str]:
    """The tasks that some live worker knows. What is due of others waits."""
    return frozenset(run(session, SERVED, lease=lease_seconds()).scalars())


def time_now(session: Session) -> datetime.datetime:
    """The moment by which schedules are done: the database's."""
    return session.execute(select(clock())).scalar_one()
