"""Schedules of a connection: paused while it is of no use, with the reason, and resumed when it is of use again.

Those are meant whose payload names it (``connectionId``). One that an operator or somebody of the workspace has paused
is theirs: it is neither paused again nor resumed.
"""

from __future__ import annotations

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import Schedule
from jobplatform.queue.schedules.pause import resume_schedule
from jobplatform.queue.statement import run

PAUSE = """
update jobplatform.schedules s
set paused_at = jobplatform.clock(),
    paused_by = %(paused_by)s,
    paused_why = %(why)s,
    next_tick_at = null,
    next_run_at = null,
    fan_tick_at = null,
    fan_after = null
where s.workspace_id = %(workspace_id)s
    and s.paused_at is null
    and s.payload ->> 'connectionId' = %(connection_id)s
"""


def pause_schedules_of(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, why: str) -> int:
    """Have none of them done until the connection is of use again; how many that are. Never commits."""
    return run(
        session,
        PAUSE,
        workspace_id=workspace_id,
        connection_id=str(connection_id),
        paused_by=_paused_by(connection_id),
        why=why,
    ).rowcount


def resume_schedules_of(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> int:
    """Have those done again that were paused because of the connection, from now on; how many. Never commits."""
    paused = (
        select(Schedule)
        .where(Schedule.workspace_id == workspace_id, Schedule.paused_by == _paused_by(connection_id))
        .order_by(Schedule.id)
        .with_for_update()
    )
    found = session.scalars(paused, execution_options={"populate_existing": True}).all()
    return sum(resume_schedule(session, schedule) for schedule in found)


def _paused_by(connection_id: uuid.UUID) -> str:
    return f"connection:{connection_id}"
