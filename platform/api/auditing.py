"""The audit lines of requests: who is asking, by which token, in which request."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobplatform.api.access.guard import current_principal
from jobplatform.api.requests import current_request_id
from jobplatform.api.schemas.fields import camel
from jobplatform.queue import record


def audit(session: Session, action: str, target: str, workspace_id: UUID | None = None, **details: Any) -> None:
    """Write down what this request does, in the transaction that does it: once, and only when it is not refused.

    ``details`` are written under the names that the API has for them, and so are the names in ``changed``.
    """
    principal = current_principal()
    record(
        session,
        actor=principal.name,
        action=action,
        target=target,
        workspace_id=workspace_id,
        token_id=principal.token_id,
        request_id=current_request_id(),
        details={camel(name): _named(name, value) for name, value in details.items()},
    )


def _named(name: str, value: Any) -> Any:
    return [camel(one) for one in value] if name == "changed" else value
