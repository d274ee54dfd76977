"""Schedules of a connection: paused while it is of no use, with the reason, and resumed when it is of use again.

Those are meant whose payload names it (``connectionId``), sealed or not: a sealed one is opened for that, and nothing
of it is written down. One that an operator or somebody of the workspace has paused is theirs: it is neither paused
again nor resumed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.errors import EncryptionError
from jobplatform.models import Schedule
from jobplatform.queue.schedules.pause import resume_schedule
from jobplatform.queue.statement import array, run
from jobplatform.queue.vault import seal_of

# Locked, in the order in which whoever resumes them does: what was read must not be another payload a moment later.
SEALED = """
select s.id::text, s.payload ->> '$sealed'
from jobplatform.schedules s
where s.workspace_id = %(workspace_id)s
    and s.paused_at is null
    and s.payload ->> '$sealed' is not null
order by s.id
for update
"""
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
    and (s.payload ->> 'connectionId' = %(connection_id)s or s.id = any(%(sealed)s::uuid[]))
"""


def pause_schedules_of(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, why: str) -> int:
    """Have none of them done until the connection is of use again; how many that are. Never commits.

    One that is sealed by a key that this process cannot use is left as it is: nobody here can say whose it is.
    """
    return run(
        session,
        PAUSE,
        workspace_id=workspace_id,
        connection_id=str(connection_id),
        paused_by=_paused_by(connection_id),
        why=why,
        sealed=array(_sealed_ones(session, workspace_id, connection_id)),
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


def _sealed_ones(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> Sequence[str]:
    """The ids of those whose sealed payload names the connection."""
    found = run(session, SEALED, workspace_id=workspace_id).all()
    return [schedule_id for schedule_id, form in found if _names(session, workspace_id, form, connection_id)]


def _names(session: Session, workspace_id: uuid.UUID, form: str, connection_id: uuid.UUID) -> bool:
    try:
        payload = json.loads(seal_of(session, workspace_id, None, form).open("payload", form))
    except EncryptionError:
        return False
    return isinstance(payload, dict) and payload.get("connectionId") == str(connection_id)


def _paused_by(connection_id: uuid.UUID) -> str:
    return f"connection:{connection_id}"
