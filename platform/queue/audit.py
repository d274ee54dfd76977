"""Audit: who did what to whom, written in the transaction of what was done. Lines are added and read, never changed."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import AuditEntry, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.kinds import AnyText
from jobplatform.queue.safe_json import safe_json, safe_text
from jobplatform.queue.statement import run

#: Longer names are cut: an actor is whatever a host application calls its users.
LONGEST_TEXT = 500

# Every enqueue over HTTP pays for this: a statement on the driver, no entity, nothing to return.
RECORD = """
insert into jobplatform.audit_log (actor, token_id, workspace_id, action, target, request_id, details)
values (
    %(actor)s, %(token_id)s, %(workspace_id)s, %(action)s, %(target)s, %(request_id)s, %(details)s::jsonb
)
"""


@checks_arguments()
def record(
    session: Session,
    *,
    actor: AnyText,
    action: str,
    target: AnyText,
    workspace_id: uuid.UUID | None = None,
    token_id: str | None = None,
    request_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add a line in the caller's transaction: it is there exactly when what it tells of has happened.

    ``action`` is a word for the thing and one for the deed (``job.cancel``), ``target`` the thing as ``kind:id``,
    ``details`` what else a reader will want to know; no secrets, no payloads.
    """
    if workspace_id is not None:
        visit(session, workspace_id)
    run(
        session,
        RECORD,
        actor=safe_text(actor, LONGEST_TEXT),
        token_id=token_id,
        workspace_id=workspace_id,
        action=action,
        target=safe_text(target, LONGEST_TEXT),
        request_id=request_id,
        details=_as_json(details) if details else "{}",
    )


@checks_arguments()
def list_audit(
    session: Session,
    *,
    workspace_id: uuid.UUID | None = None,
    actor: str | None = None,
    action: str | None = None,
    limit: int = 20,
    before: int | None = None,
) -> Sequence[AuditEntry]:
    """The newest lines, newest first. ``before`` is the id of the last line seen."""
    statement = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(AuditEntry.id < before)
    if workspace_id is not None:
        statement = statement.where(AuditEntry.workspace_id == workspace_id)
    if actor is not None:
        statement = statement.where(AuditEntry.actor == actor)
    if action is not None:
        statement = statement.where(AuditEntry.action == action)
    return session.scalars(statement).all()


def _as_json(details: Mapping[str, Any]) -> str:
    try:
        return safe_json({name: _plain(value) for name, value in details.items()})
    except TypeError as error:
        raise InvalidJobError([Problem("/details", str(error))]) from error


def _plain(value: Any) -> Any:
    """Ids and moments as text, and only at the top: what is deeper comes from JSON."""
    return str(value) if isinstance(value, uuid.UUID | datetime.datetime) else value
