"""Schedules: what enqueues jobs by itself, what comes next and what came of it last."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule, ScheduleTick, Status, visit
from jobplatform.queue.find import status_of
from jobplatform.queue.schedules import preview, rule_of, tasks_served, time_now
from jobplatform.queue.statement import array, run

NEXT_RUNS: Final = 5
#: Due for longer than this, and nobody has done it.
OVERDUE: Final = datetime.timedelta(minutes=1)

# By key, so that a page costs as many descents as it has schedules, however many ticks each has.
LAST_TICKS: Final = """
select t.*, j.status, j.state
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as asked(workspace_id, id)
cross join lateral (
    select *
    from jobplatform.schedule_ticks t
    where t.workspace_id = asked.workspace_id and t.schedule_id = asked.id
    order by t.tick_at desc
    limit 1
) t
left join lateral (
    select r.status, (
        select q.state
        from jobplatform.job_queue q
        where r.status is null and q.workspace_id = r.workspace_id and q.id = r.id
    ) as state
    from jobplatform.job_records r
    where r.workspace_id = t.workspace_id and r.id = t.job_id
    limit 1
) j on true
"""


class Foreseen(NamedTuple):
    """A rule in plain words, and the moments at which its next runs are; why there are none where it ``is_unknown``."""

    words: str
    runs: tuple[datetime.datetime, ...]
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """A schedule in plain words, with its next runs and what came of its last tick.

    ``next_runs`` of a paused one is what would be. ``last_status`` is that of the job of ``last``, while it is kept.
    ``served``: some live worker knows its task.
    """

    schedule: Schedule
    words: str
    next_runs: tuple[datetime.datetime, ...]
    last: ScheduleTick | None
    last_status: Status | None
    served: bool
    overdue: bool


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """Schedules by workspace and id. ``next`` is what the next page is ``after``."""

    lines: tuple[ScheduleLine, ...]
    next: tuple[uuid.UUID, uuid.UUID] | None


def schedule_lines(
    session: Session,
    *,
    workspace_id: uuid.UUID | None = None,
    limit: int = 50,
    after: tuple[uuid.UUID, uuid.UUID] | None = None,
) -> SchedulePage:
    """A page of the schedules of a workspace, or of all of them: platform-wide ones come first.

    Times are by the database's clock. Without a workspace on a Session that sees all of them.
    """
    if workspace_id is not None:
        visit(session, workspace_id)
    found = _find(session, workspace_id, limit + 1, after)
    page = found[:limit]
    following = (page[-1].workspace_id, page[-1].id) if len(found) > limit else None
    return SchedulePage(_lines(session, page), following)


def foresee(schedule: Schedule, *, count: int = NEXT_RUNS, after: datetime.datetime) -> Foreseen:
    """What its rule means. Its time zone may be unknown here: then that is said, and other schedules are shown."""
    try:
        runs = tuple(run_at for _, run_at in preview(schedule, count=count, after=after))
        return Foreseen(rule_of(schedule).words, runs)
    except InvalidScheduleError as error:
        return Foreseen(f"The rule cannot be read: {error}", (), is_unknown=True)


def _find(
    session: Session, workspace_id: uuid.UUID | None, limit: int, after: tuple[uuid.UUID, uuid.UUID] | None
) -> Sequence[Schedule]:
    statement = select(Schedule).order_by(Schedule.workspace_id, Schedule.id).limit(limit)
    if workspace_id is not None:
        statement = statement.where(Schedule.workspace_id == workspace_id)
    if after is not None:
        statement = statement.where(tuple_(Schedule.workspace_id, Schedule.id) > after)
    return session.scalars(statement, execution_options={"populate_existing": True}).all()


def _lines(session: Session, schedules: Sequence[Schedule]) -> tuple[ScheduleLine, ...]:
    now, served = time_now(session), tasks_served(session)
    last = _last_ticks(session, schedules)
    foreseen = [foresee(schedule, after=now) for schedule in schedules]
    return tuple(
        ScheduleLine(
            schedule=schedule,
            words=one.words,
            next_runs=one.runs,
            last=last.get(schedule.id, (None, None))[0],
            last_status=last.get(schedule.id, (None, None))[1],
            served=schedule.task in served,
            overdue=schedule.next_run_at is not None and schedule.next_run_at < now - OVERDUE,
        )
        for schedule, one in zip(schedules, foreseen, strict=True)
    )


def _last_ticks(session: Session, schedules: Sequence[Schedule]) -> dict[uuid.UUID, tuple[ScheduleTick, Status | None]]:
    rows = run(
        session,
        LAST_TICKS,
        workspace_ids=array(schedule.workspace_id for schedule in schedules),
        ids=array(schedule.id for schedule in schedules),
    )
    found = {}
    for row in rows:
        facts = dict(row._mapping)
        status, state = facts.pop("status"), facts.pop("state")
        found[row.schedule_id] = (ScheduleTick(**facts), status_of(status, state))
    return found
