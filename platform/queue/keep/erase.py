"""Erase: nothing of one workspace is left, a step at a time, each in a transaction of the caller's.

    1. :func:`begin_erasing`: its keys, its tokens and its waiting jobs' right to start are gone. *Commit this before
       anything else*: from then on nobody opens what is sealed, whatever happens to the rest.
    2. :func:`stop_running`, until nothing of it runs.
    3. :func:`erase_some`, until nothing of it is there.
    4. :func:`finish_erasing`: older lines of the audit log lose their details, and one says what was done.

Whatever is interrupted is begun again at the first step. A confined Session is best (:func:`confine`, as owner and for
this workspace): then the database itself sees to it that no row of another is touched.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import MetaData, Select, any_, delete, func, literal_column, select, update
from sqlalchemy.orm import Session

from jobplatform.models import (
    ApiToken,
    AuditEntry,
    Base,
    Pause,
    PauseKind,
    QueueRow,
    State,
    Workspace,
    WorkspaceKey,
    visit,
)
from jobplatform.queue.audit import record
from jobplatform.queue.by_hand.cancel_many import cancel_places, tell_cancelled
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.keep.belongings import Belonging, belongings
from jobplatform.queue.limits.pause import pause

#: Rows deleted by one statement.
BATCH = 1_000
#: Lines of the audit log stay; the row by which the workspace is known, and its pause, are the last to go.
KEPT = frozenset({AuditEntry.__tablename__})
LAST = frozenset({Workspace.__tablename__, Pause.__tablename__})


@checks_arguments()
def begin_erasing(session: Session, workspace_id: uuid.UUID, *, actor: str) -> dict[str, int]:
    """Destroy the workspace's keys and tokens, and start none of its jobs any more. Commit at once.

    Answers with how many there were.
    """
    visit(session, workspace_id)
    pause(session, PauseKind.WORKSPACE, str(workspace_id), reason="is being erased", actor=actor)
    return {
        model.__tablename__: _count(session, delete(model).where(model.workspace_id == workspace_id))
        for model in (WorkspaceKey, ApiToken)
    }


@checks_arguments()
def count_running(session: Session, workspace_id: uuid.UUID) -> int:
    """How many jobs of the workspace run."""
    return len(_running(session, workspace_id))


@checks_arguments()
def stop_running(session: Session, workspace_id: uuid.UUID) -> int:
    """Ask for the cancellation of every job of the workspace that runs, and say how many do.

    What somebody has locked is just ending, or is asked the next time: a worker ends several at once, in another order
    than this, and each would wait for the other.
    """
    running = _running(session, workspace_id)
    answers = cancel_places(session, [(str(workspace_id), str(job_id)) for job_id in running])
    tell_cancelled(session, answers)
    return len(running)


@checks_arguments()
def erase_some(session: Session, workspace_id: uuid.UUID, metadata: MetaData = Base.metadata) -> dict[str, int]:
    """Delete up to 1,000 rows of each table and say how many of which; an empty answer means that nothing is left.

    Rows that refer to others go before those, so that no delete takes others along. What somebody else has locked is
    left out: whoever settles, finishes or prunes takes its locks in another order than this, and each would wait for
    the other. When nothing but that is left, one row is waited for, with no lock in hand.
    """
    visit(session, workspace_id)
    found = [one for one in reversed(belongings(workspace_id, metadata)) if one.table.name not in KEPT | LAST]
    deleted = {one.table.name: _delete(session, one, BATCH, skip_locked=True) for one in found}
    if any(deleted.values()):
        return {name: count for name, count in deleted.items() if count}
    for one in found:
        if _delete(session, one, 1, skip_locked=False):
            return {one.table.name: 1}
    return {}


@checks_arguments()
def finish_erasing(
    session: Session,
    workspace_id: uuid.UUID,
    counts: Mapping[str, int],
    *,
    actor: str,
    metadata: MetaData = Base.metadata,
    **told: Any,
) -> None:
    """Take the last rows away and leave one line in the audit log, with ``counts``.

    Who did what to which thing, and when, stays to be counted; what else was written down of it does not.
    """
    visit(session, workspace_id)
    emptied = update(AuditEntry).where(AuditEntry.workspace_id == workspace_id, AuditEntry.details != {})
    forgotten = _count(session, emptied.values(details={}))
    for table, mine in belongings(workspace_id, metadata):
        if table.name in LAST:
            _count(session, delete(table).where(mine))
    record(
        session,
        actor=actor,
        action="workspace.erase",
        target=f"workspace:{workspace_id}",
        workspace_id=workspace_id,
        details={"rows": dict(counts), "auditLinesEmptied": forgotten},
        **told,
    )


def _delete(session: Session, belonging: Belonging, most: int, *, skip_locked: bool) -> int:
    """By the rows' addresses: a table need not have a key, and nothing is sorted."""
    table, mine = belonging
    rows: Select[Any] = select(literal_column("ctid")).select_from(table).where(mine).limit(most)
    held = rows.with_for_update(skip_locked=skip_locked).scalar_subquery()
    return _count(session, delete(table).where(literal_column("ctid") == any_(func.array(held))))


def _running(session: Session, workspace_id: uuid.UUID) -> list[uuid.UUID]:
    visit(session, workspace_id)
    statement = select(QueueRow.id).where(QueueRow.workspace_id == workspace_id, QueueRow.state == State.RUNNING)
    return list(session.scalars(statement))


def _count(session: Session, statement: Any) -> int:
    result: Any = session.execute(statement, execution_options={"synchronize_session": False})
    return int(result.rowcount)
