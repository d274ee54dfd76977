"""Schedules of a connection: paused while it is of no use, with the reason, and resumed when it is of use again.

Those are meant whose payload names it (``connectionId``), sealed or not: a sealed one is opened for that, and nothing
of it is written down. One that an operator or somebody of the workspace has paused is theirs: it is neither paused
again nor resumed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.errors import EncryptionError
from jobplatform.models import Schedule, as_a_handler
from jobplatform.queue.schedules.declare import Declared
from jobplatform.queue.schedules.pause import resume_schedule
from jobplatform.queue.statement import array, one_transaction, run, text_array
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

# What of all that is declared is in one workspace, and is not there.
MISSING = """
select u.name
from unnest(%(names)s::text[], %(connection_ids)s::uuid[]) as u(name, connection_id)
where not exists (
    select
    from jobplatform.connections c
    where c.workspace_id = %(workspace_id)s and c.id = u.connection_id
)
order by u.name
"""


def find_unconnected(session: Session, declared: Iterable[Declared]) -> list[str]:
    """The names of those schedules of the code whose payload names a connection that its workspace does not have.

    They are written down all the same: whoever declares them has no say in what a workspace connects, and neither the
    others nor the worker are to wait for it. For a worker's login, or a superuser's.
    """
    by_workspace: dict[uuid.UUID, list[Declared]] = {}
    for one in declared:
        if one.connection_id is not None:
            by_workspace.setdefault(one.workspace_id, []).append(one)
    missing: list[str] = []
    for workspace_id, named in by_workspace.items():
        with one_transaction(session), as_a_handler(session, workspace_id):
            found = run(
                session,
                MISSING,
                workspace_id=workspace_id,
                names=text_array(one.name for one in named),
                connection_ids=array(one.connection_id for one in named),
            )
            missing += found.scalars()
    return missing


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
