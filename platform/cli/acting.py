"""The audit lines of commands: whoever is logged in here is the actor."""

from __future__ import annotations

import getpass
import os
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobplatform.queue import record


def actor() -> str:
    """``cli:`` and the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        # In a container the user may have a number and no name.
        return f"cli:{os.getuid()}"


def audit(session: Session, action: str, target: str, workspace_id: UUID | None = None, **details: Any) -> None:
    """Write down what this command does, in the transaction that does it: once, and only when it is not refused."""
    record(session, actor=actor(), action=action, target=target, workspace_id=workspace_id, details=details)
