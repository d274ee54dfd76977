"""The audit lines of commands: whoever is logged in here is the actor."""

from __future__ import annotations

import getpass
import os
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobplatform.cli.show import camel
from jobplatform.queue import record

#: What the API calls otherwise than the options of commands and the verbs behind them.
OTHERWISE_NAMED = {"base_url": "public_url", "task": "job_type", "tasks": "job_types"}


def actor() -> str:
    """``cli:`` and the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        # In a container the user may have a number and no name.
        return f"cli:{os.getuid()}"


def audit(session: Session, action: str, target: str, workspace_id: UUID | None = None, **details: Any) -> None:
    """Write down what this command does, in the transaction that does it: once, and only when it is not refused.

    ``details`` are written under the names that the API has for them, and so are the names in ``changed``.
    """
    told = {camel(name): _named(name, value) for name, value in details.items()}
    record(session, actor=actor(), action=action, target=target, workspace_id=workspace_id, details=told)


def _named(name: str, value: Any) -> Any:
    return [camel(OTHERWISE_NAMED.get(one, one)) for one in value] if name == "changed" else value
